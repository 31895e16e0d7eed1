"""Stable-Baselines3 side of tt_gym: VecEnv, policies, training, evaluation."""

import os

# Spinning OpenMP threads slow small networks down a hundredfold on few cores; this must be set
# before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

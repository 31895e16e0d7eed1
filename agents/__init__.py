"""Stable-Baselines3 side of tt_gym: VecEnv, policies, training, evaluation."""

from tt_gym.openmp import choose_waiting

choose_waiting()

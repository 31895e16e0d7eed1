"""Long runs with random actions: no crash, nothing that is not finite, no memory that grows.

    TT_GYM_SOAK_STEPS=1000000 python -m pytest tests/test_soak.py

makes as many environment steps per id and control; the default is a short run.
"""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from test_agents import IDS

STEPS = int(float(os.environ.get("TT_GYM_SOAK_STEPS", "20000")))
NUM_ENVS = 128
MAX_GROWTH = 0.05
STATM = Path("/proc/self/statm")


def resident_mb() -> float:
    """Memory of this process, after a collection."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("control", ["token", "joint"])
@pytest.mark.parametrize("env_id", IDS)
def test_random_actions_do_no_harm(env_id, control, bfm):
    env: Any = gymnasium.make_vec(env_id, num_envs=NUM_ENVS, control=control, bfm=bfm)
    env.reset(seed=0)
    env.action_space.seed(0)
    batches, ends, diverged = max(STEPS // NUM_ENVS, 2), 0, 0
    warm = batches // 2
    for step in range(batches):
        if step == warm:
            before = resident_mb()
        observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(rewards).all(), step
        for name, value in observations.items():
            assert np.isfinite(value).all(), (step, name)
        done = terminated | truncated
        if done.any():
            final = info["final_info"]
            ends, diverged = ends + done.sum(), diverged + final["diverged"][done].sum()
            for name, value in final.items():
                assert np.isfinite(value[done]).all(), (step, name)
            for index in np.flatnonzero(done):
                for name, value in info["final_obs"][index].items():
                    assert np.isfinite(value).all() or final["diverged"][index], (step, name)
    growth = resident_mb() / before - 1.0
    env.close()
    assert ends > 0
    assert diverged <= 0.01 * ends
    assert growth < MAX_GROWTH, f"{before:.0f} MB grew by {100 * growth:.1f} %"

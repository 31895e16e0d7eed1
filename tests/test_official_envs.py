"""Environments around the published models, on the SMPL humanoid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import tt_gym  # noqa: F401
from tt_gym.humanoids import SMPL

DATA = Path(__file__).parent / "data"
V1, V3 = (str(DATA / f"maskedmimic_{version}" / "tiny.ckpt") for version in ("v1", "v3"))


def make(bfm: str, task: str = "Direction", **kwargs: Any) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(
        f"TT{task}-v0", num_envs=3, vectorization_mode="vector_entry_point", bfm=bfm, **kwargs
    )


def actions(env: gymnasium.vector.VectorEnv, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)


@pytest.mark.parametrize("task", ["Direction", "Strike"])
@pytest.mark.parametrize("bfm", [V1, V3])
def test_a_published_model_takes_tokens_in_an_environment(bfm, task):
    env = make(bfm, task, max_episode_steps=20)
    assert env.unwrapped.humanoid is SMPL
    assert env.single_action_space.shape == (32,)  # the token's width in the reduced models
    observations, _ = env.reset(seed=0)
    ended = 0
    for step in range(50):
        assert env.observation_space.contains(observations)
        observations, rewards, terminated, truncated, info = env.step(actions(env, step))
        assert not info["diverged"].any()
        assert np.isfinite(rewards).all()
        ended += int((terminated | truncated).sum())
    assert ended >= 3


@pytest.mark.parametrize("task", ["Reach", "LongJump", "PathFollowing"])
def test_tasks_that_know_other_bodies_are_refused(task):
    with pytest.raises(ValueError, match="is not written for the SMPL humanoid"):
        make(V1, task)


def test_an_episode_begins_with_a_drop_in_the_t_pose():
    env = make(V1)
    env.reset(seed=0)
    state = env.unwrapped.simulator.state
    np.testing.assert_allclose(state.pos[:, 0], [[0, 0, 1.14]] * 3, atol=1e-6)
    assert state.contact_force.abs().max() == 0


@pytest.mark.parametrize("bfm", [V1, V3])
def test_history_survives_saving_and_restoring(bfm):
    env = make(bfm)
    env.reset(seed=0)
    for step in range(10):
        env.step(actions(env, step))
    saved = env.unwrapped.get_state()
    first = [env.step(actions(env, step))[0]["state"] for step in range(5)]
    env.unwrapped.set_state(saved)
    again = [env.step(actions(env, step))[0]["state"] for step in range(5)]
    np.testing.assert_array_equal(first, again)


def test_v1_takes_heading_and_speed_as_a_prompt_beside_the_token():
    results = []
    for prompt in (None, "heading_speed"):
        env = make(V1, prompt=prompt)
        env.reset(seed=0)
        results.append(env.step(np.zeros(env.action_space.shape, np.float32))[0]["state"])
    assert np.abs(results[0] - results[1]).max() > 1e-3

"""The wrappers and callbacks of Stable-Baselines3 and Gymnasium on our batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.vector import (
    FlattenObservation,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RecordVideo,
)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, VecVideoRecorder

import tt_gym  # noqa: F401
from agents.callbacks import BestBySuccess
from agents.vec_env import TaskTokenVecEnv
from tt_gym.checkpoint import load_checkpoint, save_checkpoint
from tt_gym.envs.rendering import RenderingError

ENV_ID = "TTDirection-v0"
STEPS = 6  # of an episode


def make_batch(bfm: str, num_envs: int = 3, **settings: Any) -> Any:
    settings = {"max_episode_steps": STEPS, **settings}
    return gymnasium.make_vec(ENV_ID, num_envs=num_envs, bfm=bfm, **settings)


def make_sb3(bfm: str, **settings: Any) -> VecMonitor:
    return VecMonitor(TaskTokenVecEnv(make_batch(bfm, **settings)))


def need_opengl(bfm: str) -> None:
    env = make_batch(bfm, num_envs=1, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        env.render()
    except RenderingError as error:
        pytest.skip(str(error))
    finally:
        env.close()


def idle(env: Any) -> np.ndarray:
    return np.zeros((env.num_envs, 32), np.float32)


# ---- Stable-Baselines3 --------------------------------------------------------------------------


def test_vec_monitor_reports_return_and_length(bfm):
    env = make_sb3(bfm)
    env.seed(0)
    env.reset()
    total = np.zeros(3, np.float32)
    for _ in range(STEPS):
        _, rewards, dones, infos = env.step(idle(env))
        total += rewards
    assert dones.all()
    for index, info in enumerate(infos):
        assert info["episode"]["l"] == STEPS
        assert info["episode"]["r"] == pytest.approx(total[index], abs=1e-5)


def test_vec_normalize_normalises_chosen_entries_and_terminal_observations(bfm):
    env = VecNormalize(make_sb3(bfm), norm_obs_keys=["task"])
    env.seed(0)
    env.reset()
    for _ in range(STEPS):
        observations, _, dones, infos = env.step(idle(env))
    assert dones.all()
    original = env.get_original_obs()
    assert np.array_equal(observations["state"], original["state"])
    assert np.allclose(observations["task"], env.normalize_obs(original)["task"])
    assert not np.allclose(observations["task"], original["task"])
    assert infos[0]["terminal_observation"]["task"].shape == (3,)


def test_vec_video_recorder_writes_a_video(bfm, tmp_path):
    need_opengl(bfm)
    batch = make_sb3(bfm, render_mode="rgb_array")
    env = VecVideoRecorder(batch, str(tmp_path), lambda step: step == 0, video_length=4)
    env.seed(0)
    env.reset()
    for _ in range(STEPS):
        env.step(idle(env))
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 1000


@pytest.mark.parametrize("normalized", [False, True])
def test_eval_callback_measures_success_and_keeps_the_best(bfm, tmp_path, normalized):
    train_env, eval_env = (make_sb3(bfm, num_envs=count) for count in (4, 2))
    if normalized:
        train_env = VecNormalize(train_env)
        eval_env = VecNormalize(eval_env, training=False, norm_reward=False)
    folder = str(tmp_path)
    callback = EvalCallback(
        eval_env, n_eval_episodes=4, eval_freq=8, log_path=folder, best_model_save_path=folder
    )
    model = PPO("MultiInputPolicy", train_env, n_steps=8, batch_size=16, seed=0, device="cpu")
    model.learn(64, callback)
    results = np.load(tmp_path / "evaluations.npz")
    assert results["timesteps"].tolist() == [32, 64]
    assert results["results"].shape == results["successes"].shape == (2, 4)
    assert (results["ep_lengths"] == STEPS).all()
    assert (tmp_path / "best_model.zip").exists()


def test_evaluations_before_a_resume_are_not_forgotten(bfm, tmp_path):
    settings = {"seed": 0, "folder": tmp_path, "eval_freq": 8, "n_eval_episodes": 2}

    def callback() -> BestBySuccess:
        return BestBySuccess(make_sb3(bfm, num_envs=2), **settings)

    model = PPO("MultiInputPolicy", make_sb3(bfm), n_steps=8, batch_size=16, device="cpu")
    first, second = callback(), callback()
    model.learn(8 * model.n_envs, first)
    save_checkpoint(tmp_path / "saved.safetensors", kind="test", content=first.get_state())
    second.set_state(load_checkpoint(tmp_path / "saved.safetensors", kind="test"))
    model.learn(8 * model.n_envs, second, reset_num_timesteps=False)
    results = np.load(tmp_path / "evaluations.npz")
    assert results["timesteps"].tolist() == [8 * model.n_envs, 16 * model.n_envs]
    assert results["results"].shape == results["successes"].shape == (2, 2)


# ---- Gymnasium ----------------------------------------------------------------------------------


def test_record_episode_statistics_counts_every_episode(bfm):
    env = RecordEpisodeStatistics(make_batch(bfm))
    env.reset(seed=0)
    total = np.zeros(3)
    for _ in range(STEPS):
        _, rewards, _, truncations, info = env.step(idle(env))
        total += rewards
    assert truncations.all()
    assert info["episode"]["l"].tolist() == [STEPS] * 3
    assert np.allclose(info["episode"]["r"], total)


# of this wrapper with same-step autoreset
@pytest.mark.filterwarnings("ignore:.*last frame:UserWarning")
def test_record_video_writes_a_video(bfm, tmp_path):
    need_opengl(bfm)
    batch = make_batch(bfm, num_envs=2, render_mode="rgb_array")
    env = RecordVideo(batch, str(tmp_path), episode_trigger=lambda episode: episode == 0)
    env.reset(seed=0)
    for _ in range(STEPS + 2):
        env.step(idle(env))
    env.close()
    videos = list(Path(tmp_path).glob("*.mp4"))
    assert videos
    assert all(video.stat().st_size > 1000 for video in videos)


def test_normalize_observation_works_on_single_environments_in_a_row(bfm):
    """It wants next-step autoreset, which the native batch has not, and knows no dictionaries."""
    with pytest.raises(ValueError, match=r"to be NEXT_STEP or DISABLED, got .*SAME_STEP"):
        NormalizeObservation(make_batch(bfm))
    env: Any = gymnasium.make_vec(
        ENV_ID, num_envs=2, vectorization_mode="sync", bfm=bfm, max_episode_steps=STEPS
    )
    env = NormalizeObservation(FlattenObservation(env))
    env.reset(seed=0)
    for _ in range(STEPS + 2):
        observations, *_ = env.step(idle(env))
    assert observations.shape == (2, 226)
    assert np.isfinite(observations).all()


def test_normalize_reward_scales_rewards(bfm):
    env = NormalizeReward(make_batch(bfm))
    env.reset(seed=0)
    for _ in range(STEPS + 1):
        _, rewards, *_ = env.step(idle(env))
    assert rewards.shape == (3,)
    assert np.isfinite(rewards).all()

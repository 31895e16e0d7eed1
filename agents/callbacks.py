"""What people see of a training run: TensorBoard curves, a progress line, the best policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv
from tensorboard.compat.proto.summary_pb2 import Summary

from agents.policies import ThroughBFMPolicy
from agents.vec_env import native_env
from tt_gym.envs.rendering import RenderingError

_FRAME_STRIDE = 2  # the pictures of a video that are kept, in time and in both directions


class Curves(BaseCallback):
    """Per-episode means of reward terms and task metrics, falls, divergence, token norm, speed.

    Success rate and episode length come from SB3 itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.diverged = 0
        self._since, self._steps = 0.0, 0

    def _on_training_start(self) -> None:
        self._since, self._steps = time.monotonic(), self.num_timesteps

    def _on_step(self) -> bool:
        env = native_env(self.training_env)
        if env.control == "token":
            actions = self.locals.get("clipped_actions", self.locals["actions"])
            norm = env.bfm.task_token(torch.from_numpy(actions)).norm(dim=1).mean()
            self.logger.record_mean("rollout/token_norm", float(norm))
        for index in np.flatnonzero(self.locals["dones"]):
            info = self.locals["infos"][index]
            self.diverged += int(info["diverged"])
            self.logger.record_mean("rollout/fall_rate", float(info["fallen"]))
            self.logger.record_mean("rollout/divergence_rate", float(info["diverged"]))
            for key, value in info.items():
                if key.startswith(("reward/", "task/")):
                    self.logger.record_mean(key, value)
        return True

    def _on_rollout_end(self) -> None:
        now = time.monotonic()
        # from rollout end to rollout end, so that the update's time counts too
        speed = (self.num_timesteps - self._steps) / max(now - self._since, 1e-9)
        self._since, self._steps = now, self.num_timesteps
        self.logger.record("rollout/diverged", self.diverged)
        self.logger.record("time/env_steps_per_s", speed)
        if isinstance(self.model.policy, ThroughBFMPolicy):
            self.logger.record("train/bounds_loss", self.model.policy.last_bounds_loss)

    def get_state(self) -> dict[str, Any]:
        """As checkpoint content."""
        return {"diverged": self.diverged}

    def set_state(self, saved: dict[str, Any]) -> None:
        """Inverse of :meth:`get_state`."""
        self.diverged = saved["diverged"]


def comparable(hyperparams: dict[str, Any]) -> HParam:
    """Settings of a run for TensorBoard's HPARAMS page, beside the curves they are judged by.

    Args:
        hyperparams: by name; what is neither number nor text is written as Python would.
    """
    settings = {
        key: value if isinstance(value, bool | int | float | str) else repr(value)
        for key, value in hyperparams.items()
    }
    curves = ("rollout/success_rate", "rollout/ep_rew_mean", "time/env_steps_per_s")
    return HParam(settings, dict.fromkeys(curves, 0.0))


class Films(BaseCallback):
    """A video of one episode now and then, as ``rollout/video``.

    It has an environment of its own and leaves every generator as it was: training goes on as if
    nothing had been filmed. Without OpenGL it says so, once, and films nothing.

    Args:
        env_id: registered id.
        env_kwargs: for ``gymnasium.make_vec``.
        seed: of the episode, the same one every time.
        every_steps: environment steps between videos; taken at the end of a rollout.
    """

    def __init__(
        self, env_id: str, env_kwargs: dict[str, Any], *, seed: int, every_steps: int
    ) -> None:
        super().__init__()
        self.env_id, self.env_kwargs, self.seed = env_id, env_kwargs, seed
        self.every_steps, self.possible = every_steps, True
        self._due = 0

    def _on_training_start(self) -> None:
        # a resumed run films at the same steps as one that was never stopped
        self._due = (self.num_timesteps // self.every_steps + 1) * self.every_steps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < self._due or not self.possible:
            return
        self._due = (self.num_timesteps // self.every_steps + 1) * self.every_steps
        numpy_state = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                frames = self._film()
        except RenderingError as error:
            self.possible = False
            print(f"no videos: {error}")
            return
        finally:
            np.random.set_state(numpy_state)
        self._write(frames[::_FRAME_STRIDE, ::_FRAME_STRIDE, ::_FRAME_STRIDE])

    def _write(self, frames: np.ndarray) -> None:
        # SB3's `Video` needs a moviepy older than 2: torch cannot use a later one
        duration_ms = 1000 * _FRAME_STRIDE / self._fps
        gif = imageio.mimwrite("<bytes>", list(frames), format="gif", duration=duration_ms, loop=0)
        height, width = frames.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        summary = Summary(value=[Summary.Value(tag="rollout/video", image=image)])
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                assert output.writer.file_writer is not None
                output.writer.file_writer.add_summary(summary, self.num_timesteps)

    def _film(self) -> np.ndarray:
        """Pictures of one episode, (T, H, W, 3) uint8."""
        settings = {**self.env_kwargs, "render_mode": "rgb_array"}
        env: Any = gymnasium.make_vec(self.env_id, num_envs=1, **settings)
        try:
            self._fps = env.metadata["render_fps"]
            observations, _ = env.reset(seed=self.seed)
            frames, memory, starts, over = [env.render()[0]], None, np.ones(1, dtype=bool), False
            while not over:
                actions, memory = self.model.predict(observations, memory, starts, True)
                observations, _, terminated, truncated, _ = env.step(actions)
                starts, over = np.zeros(1, dtype=bool), bool(terminated[0] or truncated[0])
                if not over:  # then it would show the next start
                    frames.append(env.render()[0])
        finally:
            env.close()
        return np.stack(frames)


class ProgressLine(BaseCallback):
    """Prints one short line every few seconds.

    Args:
        total_steps: of the whole run.
        every_s: seconds between lines.
    """

    def __init__(self, total_steps: int, every_s: float = 10.0) -> None:
        super().__init__()
        self.total_steps, self.every_s = total_steps, every_s
        self._rewards: list[float] = []
        self._since, self._steps = 0.0, 0

    def _on_training_start(self) -> None:
        self._since, self._steps = time.monotonic(), self.num_timesteps

    def _on_step(self) -> bool:
        self._rewards.append(float(self.locals["rewards"].mean()))
        return True

    def _on_rollout_end(self) -> None:
        if time.monotonic() - self._since >= self.every_s:
            self._print()

    def _on_training_end(self) -> None:
        if self._rewards:
            self._print()

    def _print(self) -> None:
        now = time.monotonic()
        speed = (self.num_timesteps - self._steps) / max(now - self._since, 1e-9)
        episodes, successes = self.model.ep_info_buffer, self.model.ep_success_buffer
        success = f"{100 * safe_mean(successes):3.0f} %" if successes else "  -"
        length = f"{safe_mean([item['l'] for item in episodes]):3.0f}" if episodes else "  -"
        print(
            f"{self.num_timesteps:>11,} / {self.total_steps:,} steps  {speed:7,.0f}/s  "
            f"reward {np.mean(self._rewards):.3f} per step  success {success}  "
            f"episode {length} steps",
            flush=True,
        )
        self._rewards.clear()
        self._since, self._steps = now, self.num_timesteps


_HISTORY = (
    "evaluations_timesteps", "evaluations_results", "evaluations_length", "evaluations_successes",
)  # fmt: skip


class BestBySuccess(EvalCallback):
    """Evaluates on the same episodes every time and keeps the policy with the highest success.

    Args:
        eval_env: not shared with training.
        seed: of the episodes.
        folder: receives ``best_model.zip`` and ``evaluations.npz``.
        eval_freq: vector steps between evaluations.
        n_eval_episodes: episodes per evaluation.
        on_best: called after ``best_model.zip`` was written.
    """

    def __init__(
        self,
        eval_env: VecEnv,
        *,
        seed: int,
        folder: Path,
        eval_freq: int,
        n_eval_episodes: int,
        on_best: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            eval_env,
            log_path=str(folder),
            eval_freq=eval_freq,
            n_eval_episodes=n_eval_episodes,
            verbose=0,
        )
        self.seed, self.folder, self.on_best = seed, folder, on_best
        self.best_success = -1.0

    def _on_training_start(self) -> None:
        # a resumed run evaluates at the same steps as one that was never stopped
        self.n_calls = self.num_timesteps // self.training_env.num_envs

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq:
            return True
        self.eval_env.seed(self.seed)
        going = super()._on_step()
        success = float(np.mean(self._is_success_buffer))
        if success > self.best_success:
            self.best_success = success
            self.model.save(self.folder / "best_model")
            self.on_best()
        return going

    def get_state(self) -> dict[str, Any]:
        """As checkpoint content."""
        history = {name: np.array(getattr(self, name)).tolist() for name in _HISTORY}
        return {"best_success": self.best_success, **history}

    def set_state(self, saved: dict[str, Any]) -> None:
        """Inverse of :meth:`get_state`."""
        self.best_success = saved["best_success"]
        for name in _HISTORY:  # of which SB3 writes evaluations.npz; older files have none
            setattr(self, name, saved.get(name, []))

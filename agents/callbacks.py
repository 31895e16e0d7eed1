"""What people see of a training run: TensorBoard curves, a progress line, the best policy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from agents.policies import ThroughBFMPolicy


class Curves(BaseCallback):
    """Per-episode means of reward terms and task metrics, diverged environments, speed.

    Success rate and episode length come from SB3 itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.diverged = 0
        self._since, self._steps = 0.0, 0

    def _on_training_start(self) -> None:
        self._since, self._steps = time.monotonic(), self.num_timesteps

    def _on_step(self) -> bool:
        for index in np.flatnonzero(self.locals["dones"]):
            info = self.locals["infos"][index]
            self.diverged += int(info["diverged"])
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


class BestBySuccess(EvalCallback):
    """Evaluates on the same episodes every time and keeps the policy with the highest success.

    Args:
        eval_env: not shared with training.
        seed: of the episodes.
        folder: receives ``best_model.zip`` and ``evaluations.npz``.
        eval_freq: vector steps between evaluations.
        n_eval_episodes: episodes per evaluation.
    """

    def __init__(
        self, eval_env: VecEnv, *, seed: int, folder: Path, eval_freq: int, n_eval_episodes: int
    ) -> None:
        super().__init__(
            eval_env,
            log_path=str(folder),
            eval_freq=eval_freq,
            n_eval_episodes=n_eval_episodes,
            verbose=0,
        )
        self.seed, self.folder = seed, folder
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
        return going

    def get_state(self) -> dict[str, Any]:
        """As checkpoint content."""
        return {"best_success": self.best_success}

    def set_state(self, saved: dict[str, Any]) -> None:
        """Inverse of :meth:`get_state`."""
        self.best_success = saved["best_success"]

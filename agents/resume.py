"""Checkpoints from which a killed run continues as if nothing had happened."""

from __future__ import annotations

import math
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecMonitor,
    VecNormalize,
    unwrap_vec_wrapper,
)

from agents.export import describe, encoder_of, has_token
from agents.policies import FINGERPRINT
from agents.vec_env import native_env
from tt_gym.checkpoint import CheckpointError, load_checkpoint, restore_optimizer, save_checkpoint
from tt_gym.pretraining.ppo_state import ppo_state, restore_ppo
from tt_gym.tokens import save_token

CHECKPOINT_FILE = "checkpoint.safetensors"
TOKEN_FILE = "token.safetensors"
BEST_TOKEN_FILE = "best_token.safetensors"
_KIND = "ppo"


class ResumableRun(BaseCallback):
    """Saves ``checkpoint.safetensors`` (everything) and ``token.safetensors`` (the actor).

    Only at the start of a rollout, where networks, last observation and simulators agree, and at
    the end of training. No token is written where there is none
    (:func:`agents.export.has_token`).

    Args:
        run_dir: where the files go.
        command: that started the run, for the token's record.
        every_rollouts: rollouts between checkpoints.
        max_minutes: training time after which to stop, time before a resume included; None: no end.
        others: callbacks with ``get_state`` and ``set_state`` that count something.
        init: folder of another run, whose networks and counters this one begins with.
        scale_noise: by which the exploration noise of ``init`` is multiplied then.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        command: str,
        every_rollouts: int,
        max_minutes: float | None,
        others: list[Any],
        init: Path | None = None,
        scale_noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.run_dir, self.checkpoint = run_dir, run_dir / CHECKPOINT_FILE
        self.command, self.every_rollouts = command, every_rollouts
        self.init, self.scale_noise = init, scale_noise
        self.limit_s = float("inf") if max_minutes is None else 60.0 * max_minutes
        self.others = {type(item).__name__: item for item in others}
        self.rollouts, self.out_of_time = 0, False
        self._before_s, self._started = 0.0, time.monotonic()

    @property
    def trained_s(self) -> float:
        """Time spent in training, in all processes together."""
        return self._before_s + time.monotonic() - self._started

    def _on_training_start(self) -> None:
        self._started = time.monotonic()

    def _on_rollout_start(self) -> None:
        begun = self.rollouts > 0
        self.out_of_time = begun and self.trained_s > self.limit_s
        if begun and (self.rollouts % self.every_rollouts == 0 or self.out_of_time):
            self.save()
        self.rollouts += 1

    def _on_step(self) -> bool:
        # SB3 drops the rollout that this ends; what counts was saved at its start
        return not self.out_of_time

    def _on_training_end(self) -> None:
        if not self.out_of_time:
            self.save()

    def save(self) -> None:
        """Write both files, each in one step."""
        assert isinstance(self.model, OnPolicyAlgorithm)
        content = {
            **run_state(self.model),
            "callbacks": {name: item.get_state() for name, item in self.others.items()},
            "trained_s": self.trained_s,
        }
        save_checkpoint(self.checkpoint, kind=_KIND, content=content)
        self.save_token(TOKEN_FILE)

    def save_token(self, name: str) -> None:
        """Write the actor of now as a token file into the run's folder, if it is a token."""
        if has_token(self.model):
            metadata = describe(self.model, command=self.command, wall_clock_s=self.trained_s)
            save_token(self.run_dir / name, encoder_of(self.model.policy), metadata)

    def restore(self, model: OnPolicyAlgorithm) -> None:
        """Continue from the checkpoint; without one yet, begin from ``init``.

        Raises:
            CheckpointError: corrupt or foreign file.
            ValueError: the checkpoint is of another number of environments or another frozen model.
        """
        if not self.checkpoint.exists():
            if self.init is not None:
                self._before_s = begin_from(model, self.init)
                with torch.no_grad():
                    model.policy.get_parameter("log_std").add_(math.log(self.scale_noise))
            return
        saved = load_checkpoint(self.checkpoint, kind=_KIND)
        restore_run(model, saved)
        for name, item in self.others.items():
            if name in saved["callbacks"]:
                item.set_state(saved["callbacks"][name])
        self._before_s = saved["trained_s"]


def begin_from(model: OnPolicyAlgorithm, run_dir: Path) -> float:
    """Take networks, optimiser and counters of another run; environments begin anew.

    The other run may have been one with another frozen model.

    Returns:
        How long that run was trained, s.

    Raises:
        CheckpointError: it is no run of ``agents.train``, or its networks have other sizes.
    """
    path = run_dir / CHECKPOINT_FILE
    if not path.is_file():
        raise CheckpointError(f"{run_dir}: --init needs a run of agents.train (no {path.name})")
    saved = load_checkpoint(path, kind=_KIND)
    trained, own = saved["ppo"], model.policy.state_dict()
    weights = {
        name: own[name] if name == FINGERPRINT else item for name, item in trained["policy"].items()
    }
    try:
        model.policy.load_state_dict(weights)
        restore_optimizer(model.policy.optimizer, trained["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its networks are others than this run's: {error}"
        ) from error
    model.num_timesteps, model._n_updates = int(trained["num_timesteps"]), int(trained["n_updates"])
    return float(saved["trained_s"])


def run_state(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Model, environments, running episode statistics: content for ``save_checkpoint``."""
    env, monitor = _env_and_monitor(model)
    assert model.ep_info_buffer is not None and model.ep_success_buffer is not None
    state = {
        "ppo": ppo_state(model),
        "env": native_env(env).get_state(),
        "monitor": {
            "returns": torch.from_numpy(monitor.episode_returns),
            "lengths": torch.from_numpy(monitor.episode_lengths),
        },
        "episodes": [
            {key: float(item[key]) for key in ("r", "l", "t")} for item in model.ep_info_buffer
        ],
        "successes": [bool(item) for item in model.ep_success_buffer],
    }
    if isinstance(model, RecurrentPPO):
        assert model._last_lstm_states is not None
        state["memory"] = [list(part) for part in model._last_lstm_states]
    if isinstance(env, VecNormalize):
        state["reward_scale"] = {
            "returns": torch.from_numpy(env.returns),
            "mean": float(env.ret_rms.mean),
            "var": float(env.ret_rms.var),
            "count": float(env.ret_rms.count),
        }
    return state


def restore_run(model: OnPolicyAlgorithm, saved: dict[str, Any]) -> None:
    """Inverse of :func:`run_state`; continue with ``learn(..., reset_num_timesteps=False)``."""
    env, monitor = _env_and_monitor(model)
    native_env(env).set_state(saved["env"])
    restore_ppo(model, saved["ppo"])
    monitor.episode_returns = saved["monitor"]["returns"].numpy().copy()
    monitor.episode_lengths = saved["monitor"]["lengths"].numpy().copy()
    window = model._stats_window_size
    model.ep_info_buffer = deque(saved["episodes"], maxlen=window)
    model.ep_success_buffer = deque(saved["successes"], maxlen=window)
    if isinstance(model, RecurrentPPO):
        actor, critic = (tuple(part) for part in saved["memory"])
        model._last_lstm_states = RNNStates(actor, critic)  # type: ignore[assignment]
    if isinstance(env, VecNormalize):
        scale = saved["reward_scale"]
        env.returns = scale["returns"].numpy().copy()
        env.ret_rms.mean, env.ret_rms.var = scale["mean"], scale["var"]
        env.ret_rms.count = scale["count"]


def _env_and_monitor(model: OnPolicyAlgorithm) -> tuple[VecEnv, VecMonitor]:
    env = model.get_env()
    assert env is not None
    monitor = unwrap_vec_wrapper(env, VecMonitor)
    assert isinstance(monitor, VecMonitor)
    return env, monitor

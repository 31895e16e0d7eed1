"""What an environment may be made with and what its ``step`` may be given."""

from __future__ import annotations

from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import torch
from torch import Tensor

Control = Literal["token", "joint", "prompt"]


def check_arguments(
    *,
    control: str,
    num_threads: int,
    render_mode: str | None,
    max_episode_steps: int | None,
    flags: dict[str, Any],
) -> None:
    """Refuse values that are not allowed; ``flags`` must be True or False.

    Raises:
        ValueError: names the argument, the value and what is allowed.
    """
    if control not in get_args(Control):
        raise ValueError(f"unknown control {control!r}; known: {', '.join(get_args(Control))}")
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    if num_threads < 0 or num_threads != int(num_threads):
        raise ValueError(f"num_threads must be a whole number from 0 on, got {num_threads}")
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"unknown render_mode {render_mode!r}; known: 'rgb_array', None")
    if max_episode_steps not in (None, -1) and (max_episode_steps < 1 or max_episode_steps % 1):
        raise ValueError(
            f"max_episode_steps must be whole and at least 1, or -1 or None for no limit, "
            f"got {max_episode_steps}"
        )


def checked_actions(actions: np.ndarray, space: gymnasium.Space[Any]) -> Tensor:
    """The actions as float32, clipped to [-1, 1].

    Raises:
        ValueError: wrong shape, NaN or infinity.
    """
    actions = np.asarray(actions, dtype=np.float32)
    if actions.shape != space.shape:
        raise ValueError(
            f"action must have shape {space.shape}, got {actions.shape}: "
            "build the policy from env.single_action_space"
        )
    finite = np.isfinite(actions).all(axis=1)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        values = actions[bad][~np.isfinite(actions[bad])]
        raise ValueError(
            f"action must be finite and in [-1, 1], got {values[0]} in environment {bad}"
        )
    return torch.from_numpy(actions).clamp(-1.0, 1.0)


def observation_space(
    bounds: dict[str, float], shapes: dict[str, tuple[int, ...]]
) -> gymnasium.spaces.Dict:
    """Entries of these shapes within +-``bounds``, where there is one."""
    return gymnasium.spaces.Dict(
        {
            name: gymnasium.spaces.Box(
                -bounds.get(name, np.inf), bounds.get(name, np.inf), shape, np.float32
            )
            for name, shape in shapes.items()
        }
    )

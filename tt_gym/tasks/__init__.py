"""Tasks: goals, observations, rewards and success; no simulator, no learner."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from tt_gym.humanoids import DEEPMIMIC, Humanoid
from tt_gym.names import unknown
from tt_gym.tasks import direction, long_jump, path_following, reach, steering
from tt_gym.tasks.direction import Direction
from tt_gym.tasks.long_jump import LongJump
from tt_gym.tasks.path_following import PathFollowing
from tt_gym.tasks.reach import Reach
from tt_gym.tasks.steering import Steering
from tt_gym.tasks.strike import Strike
from tt_gym.tasks.task import Goal, Task, Transition, parameters_of

TASKS: dict[str, type] = {
    "direction": Direction,
    "steering": Steering,
    "reach": Reach,
    "strike": Strike,
    "long_jump": LongJump,
    "path_following": PathFollowing,
}
PAPER: dict[str, dict[str, Any]] = {
    "direction": {"speed_range": direction.PAPER_SPEED_RANGE},
    "steering": {
        "speed_range": direction.PAPER_SPEED_RANGE,
        "facing_offset": steering.PAPER_FACING_OFFSET,
    },
    "reach": {"side": reach.PAPER_SIDE, "height_range": reach.PAPER_HEIGHT_RANGE},
    "long_jump": {"run_up": long_jump.PAPER_RUN_UP},
    "path_following": {
        "max_speed": path_following.PAPER_MAX_SPEED,
        "height_range": path_following.PAPER_HEIGHT_RANGE,
    },
}
"""Ranges of goals in the paper where the defaults, made for the shipped model, are others."""

__all__ = [
    "PAPER",
    "TASKS",
    "Direction",
    "Goal",
    "LongJump",
    "PathFollowing",
    "Reach",
    "Steering",
    "Strike",
    "Task",
    "Transition",
    "build_task",
    "parameters_of",
]


def build_task(
    name: str, *, preset: str | None = None, humanoid: Humanoid = DEEPMIMIC, **parameters: Any
) -> Task:
    """A task by name with some parameters changed.

    Args:
        name: one of ``TASKS``.
        preset: ``default`` (also None) or ``paper`` (the paper's ranges of goals).
        humanoid: that does the task.
        parameters: go before the preset's.

    Raises:
        ValueError: unknown task, preset or parameter (the nearest known one is named), or a bad
            value.
    """
    if name not in TASKS:
        raise ValueError(unknown("task", name, list(TASKS)))
    presets: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER.get(name, {})}
    preset = "default" if preset is None else preset
    if preset not in presets:
        raise ValueError(unknown("preset", preset, list(presets)))
    cls, parameters = TASKS[name], {**presets[preset], **parameters}
    defaults = parameters_of(cls)
    parameters = {key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()}
    for key, value in parameters.items():
        if key not in defaults:
            raise ValueError(unknown(f"parameter of task {name!r}", key, list(defaults)))
        if not _is_like(defaults[key], value):
            raise ValueError(
                f"parameter {key} of task {name!r} must be of the kind of its default "
                f"{defaults[key]!r}, got {value!r}"
            )
    if "humanoid" in {field.name for field in dataclasses.fields(cls)}:
        parameters["humanoid"] = humanoid
    return cls(**parameters)


def _is_like(default: Any, value: Any) -> bool:
    """Both are tuples of equal length, or whole numbers, or finite numbers."""
    if isinstance(default, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(default)
            and all(map(_is_like, default, value))
        )
    kind = numbers.Integral if isinstance(default, int) else numbers.Real
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)

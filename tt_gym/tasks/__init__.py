"""Tasks: goals, observations, rewards and success; no simulator, no learner."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from typing import Any

from tt_gym.tasks.direction import Direction
from tt_gym.tasks.strike import Strike
from tt_gym.tasks.task import Goal, Task, Transition

TASKS: dict[str, type] = {"direction": Direction, "strike": Strike}

__all__ = ["TASKS", "Direction", "Goal", "Strike", "Task", "Transition", "build_task"]


def build_task(name: str, **parameters: Any) -> Task:
    """A task by name with some parameters changed.

    Raises:
        ValueError: unknown task or parameter (the nearest known one is named), or a bad value.
    """
    if name not in TASKS:
        raise ValueError(_unknown("task", name, list(TASKS)))
    cls = TASKS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    parameters = {key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()}
    for key, value in parameters.items():
        if key not in defaults:
            raise ValueError(_unknown(f"parameter of task {name!r}", key, list(defaults)))
        if not _is_like(defaults[key], value):
            raise ValueError(
                f"parameter {key} of task {name!r} must be of the kind of its default "
                f"{defaults[key]!r}, got {value!r}"
            )
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


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(known)}"

"""Tasks: goals, observations, rewards and success; no simulator, no learner."""

from __future__ import annotations

import dataclasses
import difflib
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
    known = [field.name for field in dataclasses.fields(cls)]
    for key in parameters:
        if key not in known:
            raise ValueError(_unknown(f"parameter of task {name!r}", key, known))
    lists = {key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()}
    return cls(**lists)


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} Known: {', '.join(known)}"

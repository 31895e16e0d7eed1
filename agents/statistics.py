"""Numbers of an evaluation: rates with their uncertainty, in all and by condition."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_MAX_BINS = 8


@dataclasses.dataclass(frozen=True)
class Judged:
    """A goal that was measured.

    Attributes:
        condition: how hard it was, by name.
        reached: or not.
    """

    condition: dict[str, float]
    reached: bool


def summarise(played: list[dict[str, float]]) -> dict[str, Any]:
    """Rates and means over episodes; see :func:`agents.evaluate.evaluate`.

    Args:
        played: final infos, with ``terminated``, ``length`` and ``reward_per_step``.
    """

    def total(key: str) -> float:
        return sum(row[key] for row in played)

    count, goals = len(played), int(total("goals"))
    metrics = [key for key in played[0] if key.startswith(("reward/", "task/"))]
    return {
        "success_rate": total("goals_succeeded") / goals if goals else None,
        "n": goals,
        "ci95": list(wilson_interval(int(total("goals_succeeded")), goals)),
        "episodes": count,
        "episode_success_rate": total("is_success") / count,
        "episode_ci95": list(wilson_interval(int(total("is_success")), count)),
        "terminated_rate": total("terminated") / count,
        "diverged": int(total("diverged")),
        "reward_per_step": total("reward_per_step") / count,
        "episode_length": total("length") / count,
        "metrics": {key: total(key) / count for key in metrics},
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927), (0, 1) without any trial."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def breakdown(goals: list[Judged]) -> dict[str, list[dict[str, Any]]]:
    """Success by condition.

    Returns:
        Per condition the bins with a goal in them, of equal round width and rising: ``low``
        (within), ``high`` (beyond, but for the last), ``n``, ``success_rate`` and ``ci95``.
    """
    names = goals[0].condition if goals else {}
    return {
        name: _binned([(goal.condition[name], goal.reached) for goal in goals]) for name in names
    }


def _binned(judged: list[tuple[float, bool]]) -> list[dict[str, Any]]:
    values = [value for value, _ in judged]
    width = round_width(max(values) - min(values))
    # the last bin has its upper edge too, or the highest values may get one of their own
    last = max(math.ceil(max(values) / width) - 1, math.floor(min(values) / width))
    bins: dict[int, list[bool]] = {}
    for value, reached in judged:
        bins.setdefault(min(math.floor(value / width), last), []).append(reached)
    return [
        {
            "low": round(index * width, 9),
            "high": round((index + 1) * width, 9),
            "n": len(reached),
            "success_rate": sum(reached) / len(reached),
            "ci95": list(wilson_interval(sum(reached), len(reached))),
        }
        for index, reached in sorted(bins.items())
    ]


def round_width(span: float) -> float:
    """Smallest 1, 2, 2.5 or 5 times a power of ten that fits 8 times into ``span`` at most.

    1 for a span of 0.
    """
    if span <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / _MAX_BINS))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if span <= power * k * _MAX_BINS * (1 + 1e-9))

"""What can be made harder than in training: physics, delays, noise, pushes.

    gymnasium.make("TTDirection-v0", perturbations=Perturbations(friction=0.4))
    gymnasium.make_vec("TTStrike-v0", num_envs=64, perturbations={"gravity": (0.8, 1.5)})

A value is a number, or a range ``(low, high)`` from which every episode of every environment draws
its own.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from tt_gym.names import unknown
from tt_gym.simulation.state import CONTROL_DT
from tt_gym.simulation.terrain import SHAPES, Terrain

Range = tuple[float, float]
Value = float | Range
"""A number, or the lowest and highest of a uniform draw."""

LIMITS: dict[str, Range] = {
    "gravity": (0.0, 10.0),
    "friction": (0.0, 10.0),
    "mass": (0.1, 10.0),
    "push_speed": (0.0, 20.0),
    "push_rate": (0.0, 1.0 / CONTROL_DT),
    "latency_steps": (0, 30),
    "observation_noise": (0.0, 10.0),
    "slope_deg": (-30.0, 30.0),
    "roughness": (0.0, 0.5),
    "stair_height": (0.0, 0.3),
}
"""What is allowed; most bounds only catch mistaken units."""
GROUND = ("slope_deg", *SHAPES)
"""Kinds of ground, of which there is one at a time."""
_LEVELS = 9


@dataclasses.dataclass(frozen=True)
class Perturbations:
    """How an environment differs from the usual one; the defaults change nothing.

    Attributes:
        gravity: factor of 9.81 m/s^2.
        friction: factor of the friction of everything with everything (ground, feet, boxes). All
            sliding coefficients are 1, so it is the coefficient itself. Below 0.01 there is none.
        mass: factor of mass and inertia of all bodies of the humanoid, or of some by name:
            ``{"chest": 2.0}``.
        push_speed: pushes add a velocity of this size to the whole humanoid, in a random
            horizontal direction, m/s.
        push_rate: mean number of pushes per second, drawn anew in every control step.
        latency_steps: control steps from the decision to the motors. Until the first decision
            arrives the motors hold the pose of the start.
        observation_noise: standard deviation of Gaussian noise on position (m), rotation (rad),
            velocity (m/s) and angular velocity (rad/s) of every body and object as the policy *and*
            the frozen model see them; reward and success see the truth.
        slope_deg: the ground rises along world +x, where the humanoid faces at the start. Heights
            count from the ground under the root; objects stand upright on the slope.
        roughness: bumps 0.3 m apart, each of random height up to this, m.
        stair_height: of the steps of flights up and down along world x, m. On bumps and stairs
            heights count from the mean ground around the root; a range is drawn from in nine
            levels, the frozen model does not see what is ahead, and there is only one of slope,
            bumps and stairs.

    Raises:
        ValueError: a value that is no finite number or range of such, or beyond its limits; a
            ``push_rate`` without ``push_speed``; two kinds of ground.
    """

    gravity: Value = 1.0
    friction: Value = 1.0
    mass: Value | Mapping[str, Value] = 1.0
    push_speed: Value = 0.0
    push_rate: Value = 0.5
    latency_steps: Value = 0
    observation_noise: Value = 0.0
    slope_deg: Value = 0.0
    roughness: Value = 0.0
    stair_height: Value = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given, whole = getattr(self, field.name), isinstance(field.default, int)
            if field.name == "mass" and isinstance(given, Mapping):
                for body, factor in given.items():
                    _check(f"mass of {body!r}", factor, LIMITS["mass"])
            else:
                _check(field.name, given, LIMITS[field.name], whole=whole)
        if self.push_rate != Perturbations.push_rate and not any(_range(self.push_speed)):
            raise ValueError(f"perturbations: push_rate={self.push_rate!r} needs a push_speed")
        ground = [name for name in self.ranges() if name in GROUND]
        if len(ground) > 1:
            raise ValueError(f"perturbations: only one of {', '.join(GROUND)}, got {ground}")

    def ranges(self) -> dict[str, Range]:
        """Lowest and highest value of what is perturbed at all; ``mass/NAME`` for single bodies."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.mass, Mapping):
            del given["mass"]
            given |= {f"mass/{body}": value for body, value in self.mass.items()}
        neutral = {field.name: field.default for field in dataclasses.fields(self)}
        ranges = {name: _range(value) for name, value in given.items()}
        changed = {
            name: bounds
            for name, bounds in ranges.items()
            # a body's name is checked later on, whatever its value
            if "/" in name or bounds != _range(neutral[name])
        }
        changed.pop("push_rate", None)
        if "push_speed" in changed:  # which says nothing without the other
            changed["push_rate"] = ranges["push_rate"]
        return changed

    def terrain(self) -> Terrain | None:
        """What lies on the floor, at the levels that episodes draw from."""
        for kind, (low, high) in self.ranges().items():
            if kind in SHAPES:
                count = _LEVELS if low < high else 1
                share = [level / max(count - 1, 1) for level in range(count)]
                return Terrain(kind, tuple(low + (high - low) * part for part in share))
        return None


def build_perturbations(given: Perturbations | Mapping[str, Any] | None) -> Perturbations:
    """Perturbations from what may stand in code or in a configuration file.

    Raises:
        ValueError: unknown name (the nearest is given), or a value that is not allowed.
    """
    if isinstance(given, Perturbations):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"perturbations must be Perturbations, a dict or None, got {given!r}")
    known = [field.name for field in dataclasses.fields(Perturbations)]
    for name in given or {}:
        if name not in known:
            raise ValueError(unknown("perturbation", str(name), known))
    return Perturbations(**(given or {}))


def _check(name: str, given: Any, limits: Range, *, whole: bool = False) -> None:
    low, high = limits
    kind = "a whole number" if whole else "a number"
    values = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    fits = len(values) == 2 and all(_is_number(value, whole=whole) for value in values)
    if not fits or not low <= values[0] <= values[1] <= high:
        raise ValueError(
            f"perturbations: {name} must be {kind} from {low:g} to {high:g}, or a range "
            f"(low, high) of such, got {given!r}"
        )


def _is_number(value: Any, *, whole: bool) -> bool:
    kind = numbers.Integral if whole else numbers.Real
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _range(given: Any) -> Range:
    low, high = given if isinstance(given, (tuple, list)) else (given, given)
    return float(low), float(high)

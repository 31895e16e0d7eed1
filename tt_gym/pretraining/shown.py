"""Whether a motion shows a behaviour: a kinematic test for each that has words."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState
from tt_gym.text.captions import BEHAVIOURS


@dataclasses.dataclass(frozen=True)
class Motion:
    """S + 1 states of N humanoids, one after the other.

    Attributes:
        pos, vel: (S + 1, N, B, 3), m and m/s, world.
        rot: (S + 1, N, B, 4).
        humanoid: whose bodies they are.
    """

    pos: Tensor
    vel: Tensor
    rot: Tensor
    humanoid: Humanoid

    @classmethod
    def of(cls, states: Sequence[BodyState], humanoid: Humanoid) -> Motion:
        """From the states."""
        pos, vel, rot = (
            torch.stack([getattr(state, name) for state in states])
            for name in ("pos", "vel", "rot")
        )
        return cls(pos, vel, rot, humanoid)

    def bodies(self, *names: str) -> list[int]:
        """Indices of bodies."""
        return [self.humanoid.body_index(name) for name in names]

    def last(self, seconds: float) -> slice:
        """The states of the last seconds."""
        return slice(-1 - round(seconds / CONTROL_DT), None)

    def speed(self, seconds: float) -> Tensor:
        """Distance covered by the root in the last seconds by their number, (N,), m/s."""
        root = self.pos[self.last(seconds), :, 0, :2]
        return (root[-1] - root[0]).norm(dim=-1) / (CONTROL_DT * (len(root) - 1))

    def turned(self) -> Tensor:
        """Angle turned to the left from the first state to the last, (N,), rad."""
        heading = rotations.heading(self.rot[:, :, 0].flatten(0, 1)).view(len(self.rot), -1)
        return rotations.wrap_angle(heading.diff(dim=0)).sum(dim=0)

    def hands(self) -> tuple[Tensor, Tensor]:
        """Both wrists around the root in its heading frame and their speed relative to it.

        Returns:
            (S + 1, N, 2, 3), m; (S + 1, N, 2), m/s.
        """
        wrists = self.bodies("left_wrist", "right_wrist")
        place = (self.pos[:, :, wrists] - self.pos[:, :, :1]).flatten(0, 1)
        local = rotations.to_heading_frame(self.rot[:, :, 0].flatten(0, 1), place)
        speed = (self.vel[:, :, wrists] - self.vel[:, :, :1]).norm(dim=-1)
        return local.view(*self.pos.shape[:2], 2, 3), speed


_LUNGE = 2.6
"""m/s; the recorded punch's pelvis stays below it, runners, whose arms swing too, do not."""


def _pace(motion: Motion, low: float, high: float) -> Tensor:
    speed = motion.speed(1.5)
    return (speed >= low) & (speed <= high)


def _turn(motion: Motion, sign: float) -> Tensor:
    return sign * motion.turned() > torch.pi / 4


def _jump(motion: Motion) -> Tensor:
    feet = motion.pos[:, :, list(motion.humanoid.feet), 2]
    return (feet.amin(dim=-1) > 0.26).any(dim=0)


def _kick(motion: Motion) -> Tensor:
    feet = list(motion.humanoid.feet)
    fast = motion.vel[:, :, feet].norm(dim=-1) > 2.0
    return ((motion.pos[:, :, feet, 2] > 0.7) & fast).flatten(2).any(dim=-1).any(dim=0)


def _punch(motion: Motion) -> Tensor:
    place, speed = motion.hands()
    slow = motion.vel[:, :, 0, :2].norm(dim=-1) < _LUNGE
    hit = (place[..., 0] > 0.35) & (place[..., 2] > 0.1) & (speed > 3.0)
    return (hit.any(dim=-1) & slow).any(dim=0)


def _sneak(motion: Motion) -> Tensor:
    late = motion.last(1.5)
    head = motion.pos[late, :, motion.humanoid.head, 2].mean(dim=0)
    return (head > 0.9) & (head < 1.23) & (motion.speed(1.5) > 0.1)


def _raise(motion: Motion, wrist: str, other: str) -> Tensor:
    head = motion.pos[:, :, motion.humanoid.head, 2]
    up, down = (motion.pos[:, :, motion.bodies(name)[0], 2] for name in (wrist, other))
    return ((up > head) & (down < head)).any(dim=0)


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What a motion must show.

    Attributes:
        says: it in words.
        shown: whether motions show it, (N,) bool.
    """

    says: str
    shown: Callable[[Motion], Tensor]


def _at(low: float, high: float) -> Criterion:
    says = f"{low:g} to {high:g} m/s" if low else f"slower than {high:g} m/s"
    return Criterion(says, functools.partial(_pace, low=low, high=high))


def _turned(sign: float) -> Criterion:
    return Criterion("turned by more than 45 degrees", functools.partial(_turn, sign=sign))


def _raised(side: str, other: str) -> Criterion:
    says = f"the {side} wrist above the head, the {other} one not"
    return Criterion(says, functools.partial(_raise, wrist=f"{side}_wrist", other=f"{other}_wrist"))


CRITERIA: dict[str, Criterion] = {
    "stand": _at(0.0, 0.15),
    "walk slowly": _at(0.25, 0.8),
    "walk": _at(0.7, 1.45),
    "walk fast": _at(1.4, 2.2),
    "jog": _at(2.0, 3.3),
    "run": _at(2.8, 5.0),
    "turn left": _turned(1.0),
    "turn right": _turned(-1.0),
    "jump": Criterion("both ankles above 0.26 m at once", _jump),
    "kick": Criterion("an ankle above 0.7 m, faster than 2 m/s", _kick),
    "punch": Criterion(
        "a wrist 0.35 m ahead of the pelvis and above it, faster than 3 m/s", _punch
    ),
    "sneak": Criterion("the head at 0.9 to 1.23 m on average, faster than 0.1 m/s", _sneak),
    "raise the right hand": _raised("right", "left"),
    "raise the left hand": _raised("left", "right"),
}
"""By behaviour. Speeds, poses and paces are those of the last 1.5 s."""
assert CRITERIA.keys() == BEHAVIOURS.keys()

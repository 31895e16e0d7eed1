"""Steering: walk along one direction while facing another (paper, section 4)."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets, heading_speed_targets
from tt_gym.simulation.state import BodyState
from tt_gym.tasks.direction import Direction, asked_velocity
from tt_gym.tasks.task import (
    ABOVE_ZERO,
    FAR_STEPS,
    NEAR_STEPS,
    Goal,
    Transition,
    check_parameters,
    walking_targets,
)

PAPER_FACING_OFFSET = math.pi
"""In the paper the asked facing is free of the direction, rad; the shipped clips walk forwards."""

_NEARLY = math.radians(32.0)


@dataclasses.dataclass(frozen=True)
class Steering(Direction):
    """:class:`Direction`, and the root faces ``f``, which changes at the same instants.

    Observation (5): direction ``d`` in the heading frame (2), ``v*`` in m/s (1), ``f`` in the
    heading frame (2).

    Reward: ``(1 - facing_weight)`` times that of Direction, plus ``facing_weight max(0, f . h)``
    with ``h`` the direction the root faces.

    Success of a goal: as in Direction, and the angle between ``h`` and ``f`` is at most
    ``facing_tolerance``, in every step from ``grace_steps`` after its beginning.

    Termination: a fall.

    Attributes:
        facing_offset: largest angle between ``f`` and ``d``, rad.
        facing_tolerance: rad.
    """

    grace_steps: int = 80
    facing_offset: float = 1.0
    facing_tolerance: float = math.pi / 4
    facing_weight: float = 0.3

    observation_size = 5
    prompts = ("heading_speed", "nearly", "ahead", "joint_conditioning")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(
            self,
            facing_offset=(self.facing_offset <= math.pi, "at most pi"),
            facing_tolerance=(self.facing_tolerance > 0.0, ABOVE_ZERO),
            facing_weight=(self.facing_weight <= 1.0, "at most 1"),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """A goal of Direction, and a facing (rad, world) near the last one or now and then any."""
        goal = super().sample_goal(state, previous, generator)
        count = len(state.pos)
        last = rotations.heading(state.rot[:, 0]) if previous is None else previous["facing"]
        jump = torch.rand(count, generator=generator) < self.jump_probability
        turn = self.turn * (2.0 * torch.rand(count, generator=generator) - 1.0)
        anywhere = math.pi * (2.0 * torch.rand(count, generator=generator) - 1.0)
        facing = torch.where(jump, anywhere, last + turn)
        # squeezed from all angles into those allowed, so that the limit is no frequent case
        offset = rotations.wrap_angle(facing - goal["angle"]) * (self.facing_offset / math.pi)
        return {**goal, "facing": rotations.wrap_angle(goal["angle"] + offset)}

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 5)."""
        local = goal["facing"] - rotations.heading(state.rot[:, 0])
        return torch.cat((super().observe(state, goal), rotations.direction_xy(local)), dim=-1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``direction`` and ``facing``, together in [0, 1], and ``miss``, if it costs anything."""
        terms = super().reward_terms(transition, goal)
        facing = facing_error(transition.after, goal).cos().clamp(min=0.0)
        terms["direction"] *= 1.0 - self.facing_weight
        return {**terms, "facing": self.facing_weight * facing}

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Measured after the grace period; good if speed and facing are within tolerance."""
        measured, fast_enough = super().step_is_good(transition, goal)
        return measured, fast_enough & (
            facing_error(transition.after, goal) <= self.facing_tolerance
        )

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``speed_error``: relative, absolute value. ``facing_error``: rad."""
        facing = facing_error(transition.after, goal)
        return {**super().metrics(transition, goal), "facing_error": facing}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """Those of Direction, and ``facing_offset_deg``: angle between ``f`` and ``d``."""
        offset = rotations.wrap_angle(goal["facing"] - goal["angle"]).abs()
        return {**super().condition(state, goal), "facing_offset_deg": torch.rad2deg(offset)}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """``heading_speed``: face ``f`` and walk along the direction at ``prompt_pace v*``.

        ``ahead``: face the direction instead; how far to turn from it is left to the token.

        ``nearly``: face and walk along a way beside the direction that brings ``f`` within 32
        degrees, with ``prompt_pace v*`` along the direction. No step sideways is asked for.

        ``joint_conditioning``, as in the paper's code: in 5 to 10 control steps the root faces
        ``f`` and moves with ``v* d``; in 10 it is also where that leads; in 1 s so is the head,
        turned to ``f``. Corrected: theirs takes that turn from a walking clip.
        """
        if name == "joint_conditioning":
            return self._joint_conditioning(state, goal)
        offset = rotations.wrap_angle(goal["facing"] - goal["angle"])
        spared = {"heading_speed": 0.0, "nearly": _NEARLY, "ahead": math.pi}[name]
        turned = offset.sign() * (offset.abs() - spared).clamp(min=0.0)
        heading = goal["angle"] + turned
        way, speed = goal["angle"], self.prompt_pace * goal["speed"]
        if name == "nearly":
            # more than twice as fast is not asked for, however far beside the way is
            way, speed = heading, speed / turned.cos().clamp(min=0.5)
        return heading_speed_targets(
            state, heading=heading, direction=rotations.direction_xy(way), speed=speed
        )

    def _joint_conditioning(self, state: BodyState, goal: Goal) -> Targets:
        targets = walking_targets(
            state,
            self.humanoid,
            (*range(5, NEAR_STEPS + 1), FAR_STEPS),
            velocity=asked_velocity(goal),
            facing=goal["facing"],
        )
        targets.heading_visible[:, :-1] = True
        targets.velocity_visible[:, :-1] = True
        for token, body in ((-2, 0), (-1, self.humanoid.head)):
            targets.pos_visible[:, token, body] = True
            targets.rot_visible[:, token, body] = True
        return targets


def facing_error(state: BodyState, goal: Goal) -> Tensor:
    """Angle between where the root faces and where it is to, (N,), rad in [0, pi]."""
    return rotations.wrap_angle(goal["facing"] - rotations.heading(state.rot[:, 0])).abs()

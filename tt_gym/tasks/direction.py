"""Direction: walk along a given direction at a given speed (paper, section 4)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets, heading_speed_targets
from tt_gym.humanoids import DEEPMIMIC, Humanoid
from tt_gym.simulation.state import BodyState, BoxObject
from tt_gym.tasks.task import (
    ABOVE_ZERO,
    FAR_STEPS,
    NEAR_STEPS,
    Goal,
    Task,
    Transition,
    check_parameters,
    walking_targets,
)

PAPER_SPEED_RANGE = (1.2, 6.0)
"""Speeds of the paper, m/s; the default range is within what the shipped model's clips cover."""
_LEAST_PACE = 0.85  # share of v*: a slower root is asked for what it lacks on top
_AHEAD = math.radians(40.0)  # unless it has farther to turn: who turns fast at speed falls


@dataclasses.dataclass(frozen=True)
class Direction(Task):
    """Move along a direction ``d`` at a speed ``v*``; both change every ``interval_steps``.

    Observation (3): ``d`` in the heading frame (2), ``v*`` in m/s (1).

    Reward: ``exp(-(speed_weight e^2 + tangent_weight t^2))``, zero when moving backwards faster
    than 0.5 m/s, where ``e = (v* - v_d) / v*`` (``v* - v_d`` at a stop), ``v_d`` is the root
    velocity along ``d`` and ``t`` the sum of the components of the rest. A step that
    success asks for and that is not good costs ``miss_penalty``.

    Success of a goal: ``|e| <= tolerance`` in every step from ``grace_steps`` after its beginning.

    Termination: a fall.

    Attributes:
        speed_range: m/s.
        speed_change: largest change of the asked speed between goals, m/s.
        turn: largest change of direction between goals, rad.
        jump_probability: chance that a new goal is drawn afresh, any direction and speed.
        stop_probability: chance that the asked speed is zero.
        interval_steps: control steps a goal lasts.
        grace_steps: control steps before success is measured.
        tolerance: allowed relative speed error.
        prompt_pace: share of the asked speed that prompts of heading and speed ask for. The root's
            speed swings within every step; the reward prefers a mean at ``v*``, but at its fastest
            moment the root is then more than ``tolerance`` too fast.
        miss_penalty: cost of a step that fails the goal. The paper has none; with it a token
            learns what is measured: the mean speed that the rest prefers is too fast at times.
        humanoid: that does the task; ``build_task`` fills it.
    """

    speed_range: tuple[float, float] = (1.2, 2.0)
    speed_change: float = 0.3
    turn: float = 1.57
    jump_probability: float = 0.2
    stop_probability: float = 0.05
    interval_steps: int = 199
    grace_steps: int = 60
    tolerance: float = 0.2
    prompt_pace: float = 0.9
    speed_weight: float = 10.0
    tangent_weight: float = 0.1
    miss_penalty: float = 0.0
    humanoid: Humanoid = dataclasses.field(default=DEEPMIMIC, kw_only=True, repr=False)

    observation_size: ClassVar[int] = 3
    objects: ClassVar[tuple[BoxObject, ...]] = ()
    prompts: ClassVar[tuple[str, ...]] = ("heading_speed", "joint_conditioning")
    success_at_end: ClassVar[bool] = False

    def __post_init__(self) -> None:
        longer = f"more than grace_steps={self.grace_steps}"
        check_parameters(
            self,
            interval_steps=(self.interval_steps > self.grace_steps, longer),
            tolerance=(self.tolerance > 0.0, ABOVE_ZERO),
            prompt_pace=(self.prompt_pace > 0.0, ABOVE_ZERO),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """Direction (rad, world) and speed near the previous ones, or now and then anything."""
        count = len(state.pos)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        low, high = self.speed_range
        if previous is None:
            angle, speed = rotations.heading(state.rot[:, 0]), uniform(low, high)
            start = torch.zeros(count, dtype=torch.long)
        else:
            angle, speed, start = previous["angle"], previous["last_speed"], previous["end"]
        jump = torch.rand(count, generator=generator) < self.jump_probability
        near_angle = angle + uniform(-self.turn, self.turn)
        near_speed = (speed + uniform(-self.speed_change, self.speed_change)).clamp(low, high)
        angle = torch.where(jump, uniform(-math.pi, math.pi), near_angle)
        speed = torch.where(jump, uniform(low, high), near_speed)
        stop = torch.rand(count, generator=generator) < self.stop_probability
        return {
            "angle": rotations.wrap_angle(angle),
            "speed": torch.where(stop, 0.0, speed),
            "last_speed": speed,
            "start": start,
            "end": start + self.interval_steps,
        }

    def goal_is_over(self, goal: Goal, steps: Tensor) -> Tensor:
        """After ``interval_steps``."""
        return steps >= goal["end"]

    def goals_left(self, goal: Goal, max_steps: int) -> Tensor:
        """The goal of now and those to come that ``max_steps`` leave time to measure, (N,) long."""
        # a goal is drawn after the step in which it begins: it is measured in the next one at best
        room = max_steps - max(self.grace_steps, 1) - goal["start"]
        return (room // self.interval_steps + 1).clamp(min=0)

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 3)."""
        local = rotations.direction_xy(goal["angle"] - rotations.heading(state.rot[:, 0]))
        return torch.cat((local, goal["speed"].unsqueeze(-1)), dim=-1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``direction``, in [0, 1], and ``miss``, if it costs anything."""
        direction = rotations.direction_xy(goal["angle"])
        velocity = transition.velocity
        along = (velocity * direction).sum(dim=-1)
        # the sum of components, not the norm, as in the paper's code
        tangent = (velocity - along.unsqueeze(-1) * direction).sum(dim=-1)
        error = relative_speed_error(goal["speed"], along)
        reward = torch.exp(
            -(self.speed_weight * error.square() + self.tangent_weight * tangent.square())
        )
        terms = {"direction": torch.where(along < -0.5, 0.0, reward)}
        if self.miss_penalty > 0.0:
            measured, good = self.step_is_good(transition, goal)
            terms["miss"] = -self.miss_penalty * (measured & ~good)
        return terms

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Measured after the grace period; good within the tolerance."""
        measured = transition.steps >= goal["start"] + self.grace_steps
        return measured, self._speed_error(transition, goal).abs() <= self.tolerance

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``speed_error``: relative, absolute value."""
        return {"speed_error": self._speed_error(transition, goal).abs()}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """``asked_speed``, m/s; ``turn_deg``: angle from where the root faces to ``d``."""
        turn = rotations.wrap_angle(goal["angle"] - rotations.heading(state.rot[:, 0]))
        return {"asked_speed": goal["speed"], "turn_deg": torch.rad2deg(turn.abs())}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """``heading_speed``: face and walk along the direction at ``prompt_pace`` of the speed.

        Once it faces the direction, a root slower than 0.85 of the speed is asked for what it lacks
        on top, to be in time after a start or a turn. At a stop it stays.

        ``joint_conditioning``, as in the paper's code: in 1/3 s the root is where ``v* d`` leads,
        faces ``d`` and moves with ``v* d``; in 1 s it is where that leads.
        """
        if name == "joint_conditioning":
            return self._joint_conditioning(state, goal)
        here = rotations.heading(state.rot[:, 0])
        angle = torch.where(goal["speed"] > 0.0, goal["angle"], here)
        direction = rotations.direction_xy(angle)
        along = (state.vel[:, 0, :2] * direction).sum(dim=-1)
        ahead = rotations.wrap_angle(angle - here).abs() < _AHEAD
        lacking = (_LEAST_PACE * goal["speed"] - along).clamp(min=0.0).minimum(goal["speed"])
        return heading_speed_targets(
            state,
            heading=angle,
            direction=direction,
            speed=self.prompt_pace * goal["speed"] + torch.where(ahead, lacking, 0.0),
        )

    def _joint_conditioning(self, state: BodyState, goal: Goal) -> Targets:
        targets = walking_targets(
            state,
            self.humanoid,
            (NEAR_STEPS, FAR_STEPS),
            velocity=asked_velocity(goal),
            facing=goal["angle"],
        )
        targets.pos_visible[:, :, 0] = True
        targets.rot_visible[:, 0, 0] = True
        targets.velocity_visible[:, 0] = True
        return targets

    @staticmethod
    def _speed_error(transition: Transition, goal: Goal) -> Tensor:
        direction = rotations.direction_xy(goal["angle"])
        along = (transition.velocity * direction).sum(dim=-1)
        return relative_speed_error(goal["speed"], along)


def asked_velocity(goal: Goal) -> Tensor:
    """``v* d``, (N, 2), m/s, world."""
    return goal["speed"].unsqueeze(-1) * rotations.direction_xy(goal["angle"])


def relative_speed_error(asked: Tensor, actual: Tensor) -> Tensor:
    """``(asked - actual) / asked``, or the difference itself when asked to stand, (N,)."""
    moving = asked > 1e-4
    return (asked - actual) / torch.where(moving, asked, 1.0)

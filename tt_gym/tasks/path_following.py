"""Path Following: the head follows a moving point (paper's code, beside the paper's tasks)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import TARGET_STEPS, Targets, heading_speed_targets, hidden_targets
from tt_gym.humanoids import DEEPMIMIC, Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject
from tt_gym.tasks.task import (
    ABOVE_ZERO,
    Goal,
    Task,
    Transition,
    check_parameters,
    fallen,
    position_targets,
)

PAPER_MAX_SPEED = 5.0
"""Largest speed of the paper's paths, m/s; the default is what the shipped clips cover."""
PAPER_HEIGHT_RANGE = (0.7, 1.5)
"""Head heights of the paper's (taller) humanoid, m; the default range is that of upright gaits."""
VERTICES = 101
VERTEX_S = 0.1
"""Time between vertices of a path, s."""
_MAX_CLIMB = 0.5  # m/s
_MOVES = 1e-3  # m between vertices, less is rest
_SAMPLES_S = torch.arange(11) * 0.5
_PROMPT_STEPS = (6, 15)  # control steps ahead of the joint conditioning's two targets
_PROMPT_DISTANCE = 0.4  # m, of root and path, beyond which the nearer one is hidden
_AHEAD_S, _CATCH_UP_S = 1.0, 1.5  # of the prompted walk: with the point of then, in that time
_START, _STOP, _SLOWEST = 0.9, 0.3, 0.7  # m/s, asked for: from a stand above, from a walk below
_STANDING = 0.2  # m/s


@dataclasses.dataclass(frozen=True)
class PathFollowing(Task):
    """The head follows a point that moves along a path of 10 s and then rests.

    Observation (33): where the point will be in 0, 0.5, ..., 5 s, relative to the head, in the
    heading frame, m.

    Reward: ``a b / (0.5 a + 0.5 b + 1e-6)`` (a harmonic mean), with ``a = exp(-2 |D_xy|^2)`` and
    ``b = exp(-10 D_z^2)`` of the offset ``D`` of the point from the head.

    Success: ``|D| <= tolerance`` in every step later than ``grace_steps``.

    Termination: a fall; ``|D| > stray_distance``; or, later than ``height_grace_steps``,
    ``|D_z| > height_tolerance``.

    Attributes:
        max_speed: of the point in the plane, m/s; when low it is slower yet, see :func:`top_speed`.
        start_speed: largest first speed, m/s.
        height_range: of the point, m.
        speed_change: largest change of speed between vertices, m/s.
        climb_change: largest change of vertical speed between vertices, m/s; it stays within
            +-0.5 m/s.
        turn: largest change of direction between vertices, rad.
        sharp_turn_probability: chance that it is any angle instead.
        grace_steps: control steps before success is measured.
        tolerance: m.
        stray_distance: m.
        height_grace_steps: control steps before the height may end the episode.
        height_tolerance: m.
        humanoid: that does the task; ``build_task`` fills it.
    """

    max_speed: float = 1.3
    start_speed: float = 1.5
    height_range: tuple[float, float] = (1.2, 1.35)
    speed_change: float = 0.1
    climb_change: float = 0.02
    turn: float = 0.2
    sharp_turn_probability: float = 0.02
    grace_steps: int = 10
    tolerance: float = 2.0
    stray_distance: float = 4.0
    height_grace_steps: int = 20
    height_tolerance: float = 0.5
    humanoid: Humanoid = dataclasses.field(default=DEEPMIMIC, kw_only=True, repr=False)

    observation_size: ClassVar[int] = 33
    objects: ClassVar[tuple[BoxObject, ...]] = ()
    prompts: ClassVar[tuple[str, ...]] = ("heading_speed", "head_position", "joint_conditioning")
    success_at_end: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_parameters(
            self,
            height_range=(self.height_range[0] > 0.0, ABOVE_ZERO),
            tolerance=(self.tolerance > 0.0, ABOVE_ZERO),
            stray_distance=(self.stray_distance > 0.0, ABOVE_ZERO),
            height_tolerance=(self.height_tolerance > 0.0, ABOVE_ZERO),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """A path (m, world) from where the head is; it lasts for the whole episode."""
        if previous is not None:
            return previous
        head = state.pos[:, self.humanoid.head]
        return {
            "path": self._draw_path(head, generator),
            "target": head.clone(),
            "steps": torch.zeros(len(head), dtype=torch.long),
        }

    def _draw_path(self, start: Tensor, generator: torch.Generator) -> Tensor:
        """Random walks of direction, speed and height: (N, V, 3)."""
        shape = (len(start), VERTICES - 1)

        def within(limit: float, *size: int) -> Tensor:
            return limit * (2.0 * torch.rand(*size, generator=generator) - 1.0)

        first_angle = within(math.pi, len(start), 1)
        sharp = torch.rand(*shape, generator=generator) < self.sharp_turn_probability
        turns = torch.where(sharp, within(math.pi, *shape), within(self.turn, *shape))
        angles = first_angle + turns.cumsum(dim=1)
        still = torch.zeros(len(start))
        limit = torch.full(shape, _MAX_CLIMB)
        climbs = bounded_walk(still, within(self.climb_change, *shape), -limit, limit)
        low, high = (torch.full(shape, height) for height in self.height_range)
        heights = bounded_walk(start[:, 2], VERTEX_S * climbs, low, high)
        first_speed = self.start_speed * torch.rand(len(start), generator=generator)
        fastest = top_speed(heights, self.max_speed)
        speed_changes = within(self.speed_change, *shape)
        speeds = bounded_walk(first_speed, speed_changes, torch.zeros(shape), fastest)
        moves = VERTEX_S * speeds.unsqueeze(-1) * rotations.direction_xy(angles)
        plane = start[:, None, :2] + moves.cumsum(dim=1)
        vertices = torch.cat((plane, heights.unsqueeze(-1)), dim=-1)
        return torch.cat((start.unsqueeze(1), vertices), dim=1)

    def advance_goal(self, transition: Transition, goal: Goal) -> Goal:
        """The point moves on."""
        time_s = CONTROL_DT * transition.steps.unsqueeze(-1)
        target = position_at(goal["path"], time_s).squeeze(1)
        return {**goal, "target": target, "steps": transition.steps}

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 33)."""
        head = state.pos[:, self.humanoid.head].unsqueeze(1)
        samples = self._ahead(goal, _SAMPLES_S) - head
        return rotations.to_heading_frame(state.rot[:, 0], samples).flatten(1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``path``, in [0, 1]."""
        offset = self._offset(transition.after, goal)
        beside = torch.exp(-2.0 * offset[:, :2].square().sum(dim=-1))
        above = torch.exp(-10.0 * offset[:, 2].square())
        return {"path": beside * above / (0.5 * beside + 0.5 * above + 1e-6)}

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Measured after the grace period; good within the tolerance."""
        distance = self._offset(transition.after, goal).norm(dim=-1)
        return transition.steps > self.grace_steps, distance <= self.tolerance

    def terminated(self, transition: Transition, goal: Goal, humanoid: Humanoid) -> Tensor:
        """A fall, or far from the point."""
        offset = self._offset(transition.after, goal)
        late = transition.steps > self.height_grace_steps
        wrong_height = late & (offset[:, 2].abs() > self.height_tolerance)
        astray = offset.norm(dim=-1) > self.stray_distance
        return fallen(transition, humanoid) | astray | wrong_height

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``head_distance`` to the point, m."""
        return {"head_distance": self._offset(transition.after, goal).norm(dim=-1)}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """``path_speed``: mean speed of the point in the plane, m/s."""
        moves = goal["path"][:, 1:, :2] - goal["path"][:, :-1, :2]
        return {"path_speed": moves.norm(dim=-1).mean(dim=-1) / VERTEX_S}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """What a named prompt shows.

        ``heading_speed``: walk with the point and catch up with it, facing that way, or stand.
        Steps that are broken off end in falls: a walk begins when there is some way to go, is not
        slow, and ends near the point.

        ``head_position``: the head is where the point will be.

        ``joint_conditioning``, as in the paper's code: the same in 0.2 s, where the root is within
        0.4 m of the path, and in 0.5 s, then also turned along the path (unless the point rests).
        Corrected: theirs is said to be in 0.5 s but lies 0.37 s farther on the path.
        """
        if name == "joint_conditioning":
            return self._joint_conditioning(state, goal)
        if name == "head_position":
            samples = self._ahead(goal, CONTROL_DT * torch.tensor(TARGET_STEPS[-2:]))
            return position_targets(state, self.humanoid.head, samples)
        now, soon = self._ahead(goal, torch.tensor([0.0, _AHEAD_S])).unbind(dim=1)
        behind = now - state.pos[:, self.humanoid.head]
        velocity = ((soon - now) / _AHEAD_S + behind / _CATCH_UP_S)[:, :2]
        speed = velocity.norm(dim=-1)
        stands = state.vel[:, 0, :2].norm(dim=-1) < _STANDING
        walks = speed > torch.where(stands, _START, _STOP)
        here = rotations.heading(state.rot[:, 0])
        angle = torch.where(walks, torch.atan2(velocity[:, 1], velocity[:, 0]), here)
        return heading_speed_targets(
            state,
            heading=angle,
            direction=rotations.direction_xy(angle),
            speed=torch.where(walks, speed.clamp(min=_SLOWEST), 0.0),
        )

    def _joint_conditioning(self, state: BodyState, goal: Goal) -> Targets:
        head = self.humanoid.head
        time_s = CONTROL_DT * torch.tensor(_PROMPT_STEPS)
        next_, beyond = torch.tensor([CONTROL_DT]), time_s[-1:] + VERTEX_S
        samples = self._ahead(goal, torch.cat((next_, time_s, beyond)))
        along = (samples[:, 3] - samples[:, 2])[:, :2]
        beside = (samples[:, 0] - state.pos[:, 0])[:, :2].norm(dim=-1)
        targets = hidden_targets(state, time_s.expand(len(samples), -1))
        targets.pos[:, :, head] = samples[:, 1:3]
        targets.rot[:, 1, head] = rotations.yaw_quat(torch.atan2(along[:, 1], along[:, 0]))
        targets.pos_visible[:, 0, head] = beside <= _PROMPT_DISTANCE
        targets.pos_visible[:, 1, head] = True
        targets.rot_visible[:, 1, head] = along.norm(dim=-1) > _MOVES
        return targets

    def _ahead(self, goal: Goal, ahead_s: Tensor) -> Tensor:
        """Where the point will be in ``ahead_s`` (T,): (N, T, 3)."""
        return position_at(goal["path"], CONTROL_DT * goal["steps"].unsqueeze(-1) + ahead_s)

    def _offset(self, state: BodyState, goal: Goal) -> Tensor:
        return goal["target"] - state.pos[:, self.humanoid.head]


def top_speed(height: Tensor, max_speed: float) -> Tensor:
    """Largest speed of the point by its height: 1 m/s at 0.7 m, 5 m/s from 1.2 m on."""
    return (1.0 + 4.0 * (height - 0.7) / 0.5).clamp(0.0, max_speed)


def position_at(path: Tensor, time_s: Tensor) -> Tensor:
    """Points of paths (N, V, 3) at times (N, T), linear in between: (N, T, 3)."""
    last = path.shape[1] - 1
    phase = (time_s / VERTEX_S).clamp(0.0, last)
    left = phase.long().clamp(max=last - 1)
    rows = torch.arange(len(path)).unsqueeze(-1)
    return torch.lerp(path[rows, left], path[rows, left + 1], (phase - left).unsqueeze(-1))


def bounded_walk(start: Tensor, changes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``x[t] = clip(x[t - 1] + changes[t], low[t], high[t])`` for all T steps at once.

    Two such steps are one of the same kind, so spans of 1, 2, 4, ... steps are put together.

    Args:
        start: value before the first step, (N,).
        changes: (N, T).
        low: (N, T).
        high: (N, T), not below ``low``.

    Returns:
        (N, T).
    """
    span = 1
    while span < changes.shape[1]:
        first, then = slice(None, -span), slice(span, None)
        bounds = [
            (bound[:, first] + changes[:, then]).clamp(low[:, then], high[:, then])
            for bound in (low, high)
        ]
        changes, low, high = (
            torch.cat((whole[:, :span], longer), dim=1)
            for whole, longer in zip(
                (changes, low, high), (changes[:, first] + changes[:, then], *bounds), strict=True
            )
        )
        span *= 2
    return (start.unsqueeze(1) + changes).clamp(low, high)

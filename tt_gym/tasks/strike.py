"""Strike: walk up to a box and knock it over (paper, section 4)."""

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
    fallen,
    walking_targets,
)

BOX = BoxObject("box", half_size=(0.2, 0.2, 0.9), density=30.0)
# of the prompt ``push``, found by trial with the shipped model
_APPROACH_SPEED, _PASS_SPEED = 1.2, 0.7  # m/s, far from the box and near it
_PASS_BESIDE = 0.65  # m, to the left of the box's middle
_PUSH_FROM = 1.0  # m, of root and box
_PUSH_BEARING = math.radians(100.0)  # of the box, from ahead
_PUSH_BEYOND, _PUSH_HEIGHT = 0.1, 1.4  # m, of the hand: beyond the box's middle, above the ground
_TILTS = 0.95  # cosine
_PROMPT_DISTANCE = 2.0  # m, of head and box, from which on joint conditioning shows nothing


@dataclasses.dataclass(frozen=True)
class Strike(Task):
    """Knock over a standing box of 8.64 kg.

    Observation (15): box position relative to the root in the heading frame, its z entry replaced
    by the box's height (3), rot6 of the box in that frame (6), its linear (3) and angular velocity
    (3).

    Reward: ``0.6 max(1 - c, 0) + 0.4 exp(-4 e^2)``, where ``c`` is the cosine of the box's tilt and
    ``e`` how far the root's speed towards the box falls short of ``target_speed``, as a share of it
    (the second term is zero when moving away); 1 once the box is down (``c < down_cosine``).

    Success: the box is down at the end of the episode.

    Termination: a fall, or the box is hit by a body that is neither a foot nor a strike body.

    Attributes:
        near_distance, far_distance: the box stands between ``min_distance`` and one of these, m.
        near_probability: chance of the near one.
        target_speed: towards the box, m/s.
        down_cosine: tilt at which the box counts as down.
        hit_force: force of the box on a body that counts as a hit, N.
        humanoid: that does the task; ``build_task`` fills it.
    """

    min_distance: float = 0.5
    near_distance: float = 1.5
    far_distance: float = 10.0
    near_probability: float = 0.5
    target_speed: float = 1.0
    down_cosine: float = 0.2
    hit_force: float = 1.0
    humanoid: Humanoid = dataclasses.field(default=DEEPMIMIC, kw_only=True, repr=False)

    observation_size: ClassVar[int] = 15
    objects: ClassVar[tuple[BoxObject, ...]] = (BOX,)
    prompts: ClassVar[tuple[str, ...]] = ("heading_speed", "push", "joint_conditioning")
    success_at_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        farther = f"at least min_distance={self.min_distance}"
        check_parameters(
            self,
            near_distance=(self.min_distance <= self.near_distance, farther),
            far_distance=(self.min_distance <= self.far_distance, farther),
            target_speed=(self.target_speed > 0.0, ABOVE_ZERO),
            down_cosine=(self.down_cosine <= 1.0, "at most 1"),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """The box is the goal; nothing else is drawn."""
        return {}

    def sample_objects(self, state: BodyState, generator: torch.Generator) -> Tensor:
        """The box upright around the humanoid, any bearing and yaw: (N, 1, 7)."""
        count = len(state.pos)
        near = torch.rand(count, generator=generator) < self.near_probability
        reach = torch.where(near, self.near_distance, self.far_distance) - self.min_distance
        distance = self.min_distance + reach * torch.rand(count, generator=generator)
        bearing = 2 * math.pi * torch.rand(count, generator=generator)
        yaw = 2 * math.pi * torch.rand(count, generator=generator)
        pose = torch.zeros(count, 1, 7)
        offset = distance.unsqueeze(-1) * rotations.direction_xy(bearing)
        pose[:, 0, :2] = state.pos[:, 0, :2] + offset
        pose[:, 0, 2] = BOX.half_size[2]
        pose[:, 0, 3:] = rotations.yaw_quat(yaw)
        return pose

    def advance_goal(self, transition: Transition, goal: Goal) -> Goal:
        """The box is the goal and moves by itself."""
        return goal

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 15)."""
        root = state.rot[:, 0]
        vectors = torch.cat(
            (
                state.object_pos - state.pos[:, :1],
                rotations.rot6(state.object_rot).unflatten(-1, (2, 3)).flatten(1, 2),
                state.object_vel,
                state.object_ang_vel,
            ),
            dim=1,
        )
        local = rotations.to_heading_frame(root, vectors)
        local[:, 0, 2] = state.object_pos[:, 0, 2]
        return local.flatten(1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``tilt`` and ``approach``; together 1 once the box is down."""
        state, cosine = transition.after, self._tilt_cosine(transition.after)
        towards = state.object_pos[:, 0, :2] - state.pos[:, 0, :2]
        towards = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        speed = (transition.velocity * towards).sum(dim=-1)
        shortfall = ((self.target_speed - speed) / self.target_speed).clamp(min=0.0)
        approach = torch.where(speed > 0.0, torch.exp(-4.0 * shortfall.square()), 0.0)
        down = cosine < self.down_cosine
        return {
            "tilt": torch.where(down, 1.0, 0.6 * (1.0 - cosine).clamp(min=0.0)),
            "approach": torch.where(down, 0.0, 0.4 * approach),
        }

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Every step is measured anew: only the last one counts."""
        down = self._tilt_cosine(transition.after) < self.down_cosine
        return torch.ones_like(down), down

    def terminated(self, transition: Transition, goal: Goal, humanoid: Humanoid) -> Tensor:
        """A fall, or an illegal hit."""
        legal = [*humanoid.feet, *humanoid.strike_bodies]
        illegal = torch.ones(humanoid.num_bodies, dtype=torch.bool)
        illegal[legal] = False
        forces = transition.after.object_contact_force[:, 0, illegal]
        hit = (forces.abs() > self.hit_force).any(dim=-1).any(dim=-1) & (transition.steps > 1)
        return fallen(transition, humanoid) | hit

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``tilt_cosine`` of the box and root ``distance`` to it in m."""
        state = transition.after
        distance = (state.object_pos[:, 0] - state.pos[:, 0]).norm(dim=-1)
        return {"tilt_cosine": self._tilt_cosine(state), "distance": distance}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """``box_distance`` from the root in the plane, m."""
        offset = state.object_pos[:, 0, :2] - state.pos[:, 0, :2]
        return {"box_distance": offset.norm(dim=-1)}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """``heading_speed``: face the box and walk to it.

        ``push``: walk past the box with it on the right, and near it with the right hand at its
        upper half, but stand as soon as it tilts: what knocks it over is the hand.

        ``joint_conditioning``, as in the paper's code: in 1/3 s root and head, one above the other,
        are where ``target_speed`` towards the box leads, the root moves with it and both face the
        box; in 1 s both still do. Hidden once the head is within 2 m of the box, or the box is
        down. Corrected: their heading has the wrong sign.
        """
        towards = state.object_pos[:, 0, :2] - state.pos[:, 0, :2]
        if name == "joint_conditioning":
            return self._joint_conditioning(state, towards)
        if name == "push":
            return self._push(state, towards)
        angle = torch.atan2(towards[:, 1], towards[:, 0])
        speed = torch.full_like(angle, self.target_speed)
        return heading_speed_targets(
            state, heading=angle, direction=rotations.direction_xy(angle), speed=speed
        )

    def _push(self, state: BodyState, towards: Tensor) -> Targets:
        facing = rotations.heading(state.rot[:, 0])
        bearing = rotations.wrap_angle(torch.atan2(towards[:, 1], towards[:, 0]) - facing)
        upright = self._tilt_cosine(state) > _TILTS
        near = upright & (towards.norm(dim=-1) < _PUSH_FROM)
        ahead = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        left = torch.stack((-ahead[:, 1], ahead[:, 0]), dim=-1)
        way = towards + _PASS_BESIDE * left
        angle = torch.where(upright, torch.atan2(way[:, 1], way[:, 0]), facing)
        targets = heading_speed_targets(
            state,
            heading=angle,
            direction=rotations.direction_xy(angle),
            speed=torch.where(near, _PASS_SPEED, _APPROACH_SPEED) * upright,
        )
        hand, pushed = self.humanoid.right_hand, state.object_pos[:, 0, :2] + _PUSH_BEYOND * ahead
        targets.pos[:, :, hand, :2] = pushed.unsqueeze(1)
        targets.pos[:, :, hand, 2] = _PUSH_HEIGHT
        targets.pos_visible[:, :, hand] = (near & (bearing.abs() < _PUSH_BEARING)).unsqueeze(-1)
        return targets

    def _joint_conditioning(self, state: BodyState, towards: Tensor) -> Targets:
        root, head = 0, self.humanoid.head
        way = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        from_head = state.object_pos[:, 0, :2] - state.pos[:, head, :2]
        targets = walking_targets(
            state,
            self.humanoid,
            (NEAR_STEPS, FAR_STEPS),
            velocity=self.target_speed * way,
            facing=torch.atan2(from_head[:, 1], from_head[:, 0]),
        )
        targets.pos[:, :, head, :2] = targets.pos[:, :, root, :2]
        upright = self._tilt_cosine(state) >= self.down_cosine
        approaching = upright & (from_head.norm(dim=-1) >= _PROMPT_DISTANCE)
        for body in (root, head):
            targets.pos_visible[:, 0, body] = approaching
            targets.rot_visible[:, :, body] = approaching.unsqueeze(-1)
        targets.heading_visible[:, 0] = approaching
        targets.velocity_visible[:, 0] = approaching
        return targets

    @staticmethod
    def _tilt_cosine(state: BodyState) -> Tensor:
        """Cosine between the box's axis and the vertical, (N,)."""
        return rotations.rot6(state.object_rot[:, 0])[:, 5]

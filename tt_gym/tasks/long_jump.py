"""Long Jump: run up to a line and jump far beyond it (paper, section 4)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets, heading_speed_targets
from tt_gym.humanoids import DEEPMIMIC, Humanoid
from tt_gym.simulation.state import BodyState, BoxObject
from tt_gym.tasks.task import ABOVE_ZERO, Goal, Task, Transition, check_parameters, is_low, not_feet
from tt_gym.text import BEHAVIOURS
from tt_gym.text.embeddings import embed

PAPER_RUN_UP = 20.0
"""Run-up of the paper, m: 2 m/s from the first step on to be there in 10 s."""
_BEYOND = 10.0  # m from the line to the point that the run is rewarded for approaching
_POINT_HEIGHT = 1.0  # m
_JUMP = BEHAVIOURS["jump"].captions[0]
_LOOK_AHEAD = 2.0  # m: a prompted run turns towards the middle of the track that far ahead


@dataclasses.dataclass(frozen=True)
class LongJump(Task):
    """Run along a track, take off before a line and land beyond it.

    The track begins at the root's first position and runs along its first heading; ``x`` is the
    position along it, ``y`` beside it, the line is at ``run_up`` and ``G`` is a point 10 m beyond
    the line and 1 m high. The line is *crossed* while a foot is beyond it. The *landing* is the
    first step in which it is crossed and the ground pushes: the Frobenius norm of all contact
    forces is above ``landing_force``. The *length* is the mean of all bodies' ``x`` at the landing,
    measured from the line.

    Observation (4): ``G`` relative to the root in the heading frame (3) and the distance left to
    the line (1), m.

    Reward: ``clip(|G - x_root|(p - 1) - |G - x_root|(p), 0, 1)``, plus ``0.01`` times the root's
    speed along the track, plus ``0.1`` times its height while the line is crossed, plus ``30``
    times the length at the landing (which may be negative), plus ``far_bonus`` there after a
    success.

    Success: the length is more than ``min_length``. Whatever comes after the landing does not
    count, and running through the line lands on its first step.

    Termination: the landing; the ground pushes the bodies other than feet with more than
    ``fall_force`` in all; one of them is low; or the root leaves the track.

    Attributes:
        run_up: distance from the start to the line, m.
        min_length: m.
        corridor: allowed distance of the root from the middle of the track, m.
        landing_force: N.
        fall_force: N.
        prompt_speed: of the run that the prompts show, m/s.
        told_before: how far before the line ``run_and_jump`` says to jump, m.
        far_bonus: reward of a success. The paper has none; with it a token learns what is measured:
            the length alone rewards the rare far jump as much as the reliable one.
        humanoid: that does the task; ``build_task`` fills it.
    """

    run_up: float = 6.0
    min_length: float = 1.5
    corridor: float = 0.5
    landing_force: float = 50.0
    fall_force: float = 50.0
    prompt_speed: float = 3.5
    told_before: float = 1.25
    far_bonus: float = 0.0
    humanoid: Humanoid = dataclasses.field(default=DEEPMIMIC, kw_only=True, repr=False)

    observation_size: ClassVar[int] = 4
    objects: ClassVar[tuple[BoxObject, ...]] = ()
    prompts: ClassVar[tuple[str, ...]] = ("heading_speed", "run_and_jump")
    success_at_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(
            self,
            run_up=(self.run_up > 0.0, ABOVE_ZERO),
            corridor=(self.corridor > 0.0, ABOVE_ZERO),
            told_before=(self.told_before > 0.0, ABOVE_ZERO),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """A track where the root is and faces; nothing is drawn."""
        origin, heading = state.pos[:, 0, :2].clone(), rotations.heading(state.rot[:, 0])
        ends = torch.tensor([[self.run_up, -self.corridor], [self.run_up, self.corridor]])
        line = origin.unsqueeze(1) + rotations.rotate_xy(heading.unsqueeze(1), ends)
        return {
            "origin": origin,
            "heading": heading,
            "line": line,
            "landing_step": torch.zeros(len(origin), dtype=torch.long),
            "length": torch.zeros(len(origin)),
        }

    def advance_goal(self, transition: Transition, goal: Goal) -> Goal:
        """Remember the landing: its step, counted from 1, and the length of the jump."""
        state = transition.after
        beyond = self._on_track(state.pos, goal)[..., 0] - self.run_up
        force = state.contact_force.flatten(1).norm(dim=-1)
        landed = self._crossed(state, goal) & (force > self.landing_force)
        now = landed & (goal["landing_step"] == 0)
        return {
            **goal,
            "landing_step": torch.where(now, transition.steps, goal["landing_step"]),
            "length": torch.where(now, beyond.mean(dim=-1), goal["length"]),
        }

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 4)."""
        offset = (self._point(goal) - state.pos[:, 0]).unsqueeze(1)
        local = rotations.to_heading_frame(state.rot[:, 0], offset).squeeze(1)
        left = self.run_up - self._on_track(state.pos[:, :1], goal)[..., 0]
        return torch.cat((local, left), dim=-1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``progress``, ``speed``, ``height`` and ``landing``, and ``far``, if it is rewarded."""
        before, after = transition.before, transition.after
        gained = self._distance(before, goal) - self._distance(after, goal)
        track = rotations.direction_xy(goal["heading"])
        speed = (after.vel[:, 0, :2] * track).sum(dim=-1)
        lands = goal["landing_step"] == transition.steps
        terms = {
            "progress": gained.clamp(0.0, 1.0),
            "speed": 0.01 * speed,
            "height": torch.where(self._crossed(after, goal), 0.1 * after.pos[:, 0, 2], 0.0),
            "landing": torch.where(lands, 30.0 * goal["length"], 0.0),
        }
        if self.far_bonus > 0.0:
            terms["far"] = self.far_bonus * (lands & (goal["length"] > self.min_length))
        return terms

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Every step is measured anew, only the last one counts; good after a long jump."""
        far = goal["length"] > self.min_length
        return torch.ones_like(far), far

    def terminated(self, transition: Transition, goal: Goal, humanoid: Humanoid) -> Tensor:
        """The landing, a fall, or a step off the track."""
        state = transition.after
        push = state.contact_force.index_select(1, not_feet(humanoid)).sum(dim=1).norm(dim=-1)
        beside = self._on_track(state.pos[:, 0], goal)[..., 1].abs()
        failed = (push > self.fall_force) | is_low(state, humanoid) | (beside > self.corridor)
        return (goal["landing_step"] > 0) | (failed & (transition.steps > 1))

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``jump_length``, whose mean over the episode is the length, and ``distance`` to G, m."""
        steps, length = transition.steps, goal["length"]
        # that much on top of the zeros before makes the mean of all steps so far the length
        lands = goal["landing_step"] == steps
        return {
            "jump_length": torch.where(lands, steps * length, length),
            "distance": self._distance(transition.after, goal),
        }

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """``start_speed`` of the root along the track, m/s."""
        track = rotations.direction_xy(goal["heading"])
        return {"start_speed": (state.vel[:, 0, :2] * track).sum(dim=-1)}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """Run at ``prompt_speed`` along the middle of the track.

        ``run_and_jump``: that until ``told_before`` the line, then to jump, in words alone.

        Raises:
            ValueError: ``run_and_jump`` for another humanoid than ours, whose words are others.
        """
        beside = self._on_track(state.pos[:, 0], goal)[..., 1]
        angle = goal["heading"] - torch.atan2(beside, torch.full_like(beside, _LOOK_AHEAD))
        run = heading_speed_targets(
            state,
            heading=angle,
            direction=rotations.direction_xy(angle),
            speed=torch.full_like(angle, self.prompt_speed),
        )
        return self._then_jump(run, state, goal) if name == "run_and_jump" else run

    def _then_jump(self, run: Targets, state: BodyState, goal: Goal) -> Targets:
        if self.humanoid is not DEEPMIMIC:
            raise ValueError("prompt 'run_and_jump' needs a model of our own humanoid")
        told = self.run_up - self._on_track(state.pos[:, :1], goal)[..., 0] < self.told_before
        shown = run.heading_visible & ~told
        return dataclasses.replace(
            run,
            heading_visible=shown,
            velocity_visible=shown,
            text=embed(_JUMP).expand(len(told), 1, -1),
            text_visible=told,
        )

    def _on_track(self, pos: Tensor, goal: Goal) -> Tensor:
        """Position along and beside the track of world points (N, ..., 3): (N, ..., 2), m."""
        shape = (-1, *[1] * (pos.dim() - 2))
        origin = goal["origin"].view(*shape, 2)
        return rotations.rotate_xy(-goal["heading"].view(shape), pos[..., :2] - origin)

    def _crossed(self, state: BodyState, goal: Goal) -> Tensor:
        feet = self._on_track(state.pos[:, list(self.humanoid.feet)], goal)
        return feet[..., 0].amax(dim=-1) > self.run_up

    def _point(self, goal: Goal) -> Tensor:
        """G, (N, 3), world."""
        away = (self.run_up + _BEYOND) * rotations.direction_xy(goal["heading"])
        height = torch.full_like(away[:, :1], _POINT_HEIGHT)
        return torch.cat((goal["origin"] + away, height), dim=-1)

    def _distance(self, state: BodyState, goal: Goal) -> Tensor:
        return (self._point(goal) - state.pos[:, 0]).norm(dim=-1)

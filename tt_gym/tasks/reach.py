"""Reach: bring the right hand to a point and keep it there (paper, section 4)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets, hidden_targets
from tt_gym.humanoids import DEEPMIMIC, Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject
from tt_gym.tasks.task import ABOVE_ZERO, Goal, Task, Transition, check_parameters, position_targets

PAPER_SIDE = 0.75
"""Goals of the paper lie in a square of twice this side around the root, m."""
PAPER_HEIGHT_RANGE = (0.05, 1.6)
"""Heights of the paper, m; the default range is what can be reached standing."""
_EARLY_STEPS, _HOLD_STEPS = 10, 3  # of the joint conditioning, control steps


@dataclasses.dataclass(frozen=True)
class Reach(Task):
    """Bring the right hand to a point ``g``, which moves now and then.

    Observation (3): ``g`` relative to the root, in the heading frame, m.

    Reward: ``exp(-distance_weight |g - x_hand|^2)``.

    Success of a goal: ``|g - x_hand| <= tolerance`` in every step later than ``grace_steps`` after
    its beginning.

    Termination: a fall.

    Attributes:
        side: largest distance of a new goal from the root along world x and along world y, m.
        height_range: of goals above the ground, m.
        interval_steps: control steps a goal lasts, at least and at most.
        grace_steps: control steps before success is measured.
        tolerance: allowed distance, m.
        distance_weight: 1/m^2.
        humanoid: that does the task; ``build_task`` fills it.
    """

    side: float = 0.5
    height_range: tuple[float, float] = (0.7, 1.4)
    interval_steps: tuple[int, int] = (90, 119)
    grace_steps: int = 60
    tolerance: float = 0.2
    distance_weight: float = 4.0
    humanoid: Humanoid = dataclasses.field(default=DEEPMIMIC, kw_only=True, repr=False)

    observation_size: ClassVar[int] = 3
    objects: ClassVar[tuple[BoxObject, ...]] = ()
    prompts: ClassVar[tuple[str, ...]] = ("hand_position", "joint_conditioning")
    success_at_end: ClassVar[bool] = False

    def __post_init__(self) -> None:
        longer = f"more than grace_steps={self.grace_steps}"
        check_parameters(
            self,
            interval_steps=(self.interval_steps[0] > self.grace_steps, longer),
            tolerance=(self.tolerance > 0.0, ABOVE_ZERO),
        )

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """A point (m, world) around the root, and how long it stays."""
        count = len(state.pos)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        x, y = state.pos[:, 0, 0], state.pos[:, 0, 1]
        target = torch.stack(
            (
                x + uniform(-self.side, self.side),
                y + uniform(-self.side, self.side),
                uniform(*self.height_range),
            ),
            dim=-1,
        )
        start = torch.zeros(count, dtype=torch.long) if previous is None else previous["end"]
        shortest, longest = self.interval_steps
        lasts = torch.randint(shortest, longest + 1, (count,), generator=generator)
        return {"target": target, "start": start, "end": start + lasts, "steps": start.clone()}

    def advance_goal(self, transition: Transition, goal: Goal) -> Goal:
        """Only the clock moves on."""
        return {**goal, "steps": transition.steps}

    def goal_is_over(self, goal: Goal, steps: Tensor) -> Tensor:
        """At the step drawn with the goal."""
        return steps >= goal["end"]

    def goals_left(self, goal: Goal, max_steps: int) -> Tensor:
        """The goal of now and those to come, each lasting as long as it may, (N,) long."""
        latest = max_steps - self.grace_steps - 1  # that a goal may begin and still be measured
        to_come = ((latest - goal["end"]) // self.interval_steps[1] + 1).clamp(min=0)
        return (goal["start"] <= latest) + to_come

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """(N, 3)."""
        offset = (goal["target"] - state.pos[:, 0]).unsqueeze(1)
        return rotations.to_heading_frame(state.rot[:, 0], offset).squeeze(1)

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``reach``, in [0, 1]."""
        distance = self._hand_distance(transition.after, goal)
        return {"reach": torch.exp(-self.distance_weight * distance.square())}

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Measured after the grace period; good within the tolerance."""
        measured = transition.steps > goal["start"] + self.grace_steps
        return measured, self._hand_distance(transition.after, goal) <= self.tolerance

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """``hand_distance`` to the goal, m."""
        return {"hand_distance": self._hand_distance(transition.after, goal)}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """``goal_height`` above the ground, m; ``goal_bearing_deg`` from ahead, left positive."""
        ahead, left, _ = self.observe(state, goal).unbind(dim=-1)
        bearing = torch.rad2deg(torch.atan2(left, ahead))
        return {"goal_height": goal["target"][:, 2], "goal_bearing_deg": bearing}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """``hand_position``: the right hand is at the goal soon, and stays.

        ``joint_conditioning``, as in the paper's code: it is there 10 control steps before success
        is first measured, and from 13 steps before that on always in 3 steps.
        """
        if name == "joint_conditioning":
            left = goal["start"] + self.grace_steps - goal["steps"]
            time_s = CONTROL_DT * (left - _EARLY_STEPS).clamp(min=_HOLD_STEPS)
            targets = hidden_targets(state, time_s.unsqueeze(-1))
            targets.pos[:, 0, self.humanoid.right_hand] = goal["target"]
            targets.pos_visible[:, 0, self.humanoid.right_hand] = True
            return targets
        stays = goal["target"].unsqueeze(1).expand(-1, 2, -1)
        return position_targets(state, self.humanoid.right_hand, stays)

    def _hand_distance(self, state: BodyState, goal: Goal) -> Tensor:
        return (goal["target"] - state.pos[:, self.humanoid.right_hand]).norm(dim=-1)

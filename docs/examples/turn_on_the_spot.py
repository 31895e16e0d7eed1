"""Turn on the spot: a task of your own in one file, see docs/new_task.md."""

import dataclasses

import gymnasium
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.simulation.state import BodyState
from tt_gym.tasks import TASKS, Goal, Task, Transition


@dataclasses.dataclass(frozen=True)
class Turn(Task):
    """Face a direction and stay on the spot."""

    largest_turn: float = 2.0  # rad
    speed_weight: float = 2.0  # s/m
    grace_steps: int = 60
    tolerance: float = 0.5  # rad

    observation_size = 2

    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        turn = self.largest_turn * (2.0 * torch.rand(len(state.pos), generator=generator) - 1.0)
        return {"facing": rotations.heading(state.rot[:, 0]) + turn}

    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        return rotations.direction_xy(self._left_to_turn(state, goal))

    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        facing = 0.5 + 0.5 * self._left_to_turn(transition.after, goal).cos()
        speed = transition.velocity.norm(dim=-1)
        return {"turn": facing * torch.exp(-self.speed_weight * speed)}

    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        left = self._left_to_turn(transition.after, goal).abs()
        return transition.steps > self.grace_steps, left <= self.tolerance

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        return {"turn_deg": torch.rad2deg(self._left_to_turn(state, goal)).abs()}

    def _left_to_turn(self, state: BodyState, goal: Goal) -> Tensor:
        return rotations.wrap_angle(goal["facing"] - rotations.heading(state.rot[:, 0]))


TASKS["turn"] = Turn
gymnasium.register(
    "TTTurn-v0",
    entry_point="tt_gym.envs:TaskTokenEnv",
    vector_entry_point="tt_gym.envs:TaskTokenVectorEnv",
    max_episode_steps=300,
    kwargs={"task": "turn"},
)

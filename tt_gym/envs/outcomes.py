"""What an episode has achieved so far, per environment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Outcomes:
    """Success of goals and means of reward terms and metrics over the running episode.

    Args:
        num_envs: N.
        at_end: judge success by the last step instead of every measured one.
    """

    def __init__(self, num_envs: int, *, at_end: bool) -> None:
        self.at_end = at_end
        self.good = torch.ones(num_envs, dtype=torch.bool)  # of the current goal
        self.measured = torch.zeros(num_envs, dtype=torch.bool)
        self.goals = torch.zeros(num_envs, dtype=torch.long)  # closed and measured
        self.succeeded = torch.zeros(num_envs, dtype=torch.long)
        self.steps = torch.zeros(num_envs)
        self.sums: dict[str, Tensor] = {}

    def restart(self, ids: Tensor) -> None:
        """Forget the episode of some environments."""
        self.good[ids], self.measured[ids] = True, False
        self.goals[ids], self.succeeded[ids] = 0, 0
        self.steps[ids] = 0.0
        for total in self.sums.values():
            total[ids] = 0.0

    def add(
        self,
        terms: dict[str, Tensor],
        metrics: dict[str, Tensor],
        measured: Tensor,
        good: Tensor,
        *,
        valid: Tensor,
    ) -> None:
        """Take in one step; all (N,). Where it is not ``valid`` the means leave it out."""
        self.good = good.clone() if self.at_end else self.good & (good | ~measured)
        self.measured = self.measured | measured
        self.steps = self.steps + valid
        named = {f"reward/{key}": value for key, value in terms.items()}
        named |= {f"task/{key}": value for key, value in metrics.items()}
        for key, value in named.items():
            self.sums[key] = self.sums.get(key, torch.zeros_like(value)) + torch.where(
                valid, value, 0.0
            )

    def close_goals(self, over: Tensor) -> None:
        """Count the goals of environments where a new one is due, (N,) bool."""
        counted = over & self.measured
        self.goals = self.goals + counted
        self.succeeded = self.succeeded + (counted & self.good)
        self.good = self.good | over
        self.measured = self.measured & ~over

    def summary(
        self, terminated: Tensor, goals_left: Tensor, diverged: Tensor
    ) -> dict[str, Tensor]:
        """The episode as if it ended now.

        A termination fails the current goal and all that would still have come, as far as they
        would have been measured, except where success is judged by the last step alone.

        Args:
            terminated: (N,) bool.
            goals_left: the current goal and those to come that a full episode would measure, (N,)
                or scalar.
            diverged: (N,) bool.

        Returns:
            ``goals``, ``goals_succeeded``, ``is_success``, ``diverged`` and the means, (N,) each.
        """
        lost = terminated & ~torch.tensor(self.at_end)
        counted = self.measured.long()
        goals = self.goals + torch.where(lost, torch.maximum(goals_left, counted), counted)
        succeeded = self.succeeded + (self.measured & self.good & ~lost & ~diverged)
        means = {key: total / self.steps.clamp(min=1.0) for key, total in self.sums.items()}
        return {
            "goals": goals,
            "goals_succeeded": succeeded,
            "is_success": (goals > 0) & (succeeded == goals),
            "diverged": diverged.clone(),
            **means,
        }

    def get_state(self) -> dict[str, Any]:
        """As checkpoint content."""
        names = ("good", "measured", "goals", "succeeded", "steps")
        sums = {key: total.clone() for key, total in self.sums.items()}
        return {**{name: getattr(self, name).clone() for name in names}, "sums": sums}

    def set_state(self, saved: dict[str, Any]) -> None:
        """Inverse of :meth:`get_state`."""
        for name, value in saved.items():
            if name == "sums":
                self.sums = {key: total.clone() for key, total in value.items()}
            else:
                setattr(self, name, value.clone())

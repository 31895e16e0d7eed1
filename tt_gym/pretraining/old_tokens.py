"""What shipped tokens make of the shipped model: samples that keep them useful on the next one.

Distillation from clips shows tokens that mean nothing, so each new model would answer trained
tokens in a way of its own. Here their tasks are done by the student, and the model for which they
were trained says what it would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.nn.functional import pad

import tt_gym  # noqa: F401  registers the environments
from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.bfm.targets import TARGET_STEPS, TARGETS, TEXT
from tt_gym.tokens import Token, load

NUM_ENVS = 96  # of each task
_NOISE = 0.15  # largest standard deviation of actions beside the token's: training on explores


class OldTokens:
    """The tasks of shipped tokens, one after the other for some steps each.

    Args:
        names: of :func:`tt_gym.tokens.shipped_tokens`, at least one.
        student: with what the shipped model has, too, between tokens and their meaning.
        seed: of start states and goals.

    Raises:
        ValueError: a token is unknown, or the student has other axes or another normalization.
    """

    def __init__(self, names: Sequence[str], student: MaskedMimic, *, seed: int) -> None:
        self.teacher = load_bfm(None)
        kept, own = self.teacher.state_dict(), student.state_dict()
        for name in ("token_basis", *(name for name in kept if name.startswith("normalizers"))):
            if not torch.allclose(kept[name], own[name], atol=1e-5):
                raise ValueError(f"old_tokens needs a student with the shipped model's {name}")
        self.tasks = [self._begin(load(name), seed) for name in names]
        self.turn = 0

    def _begin(self, token: Token, seed: int) -> tuple[Token, Any, dict[str, Any]]:
        trained = token.metadata
        env: Any = gymnasium.make_vec(
            trained.env_id,
            num_envs=NUM_ENVS,
            prompt=trained.prompt,
            start=trained.start,
            **trained.parameters,
        ).unwrapped
        observations, _ = env.reset(seed=seed)
        return token, env, observations

    @torch.no_grad()
    def gather(self, student: MaskedMimic, steps: int) -> dict[str, Tensor]:
        """Do the next task for some control steps.

        Args:
            student: acts; it has the axes of the shipped model's token.
            steps: how many.

        Returns:
            Rows of ``state`` (normalised), ``targets`` and ``words`` with ``visible`` and ``told``,
            ``action`` (the token) and ``label``, rad.
        """
        token, env, observations = self.tasks[self.turn]
        rows = []
        for _ in range(steps):
            actions = torch.as_tensor(token(observations))
            noise = _NOISE * torch.rand(NUM_ENVS, 1) * torch.randn(actions.shape)
            actions = (actions + noise).clamp(-1.0, 1.0)
            seen = env.model_inputs(env.simulator.state)
            goals = {**self._nothing(), **seen.goals}
            env.bfm = self.teacher
            row = {"state": seen.state, "action": actions, "label": env.pd_target(actions)}
            (row["targets"], row["visible"]), (row["words"], row["told"]) = goals.values()
            missing = len(TARGET_STEPS) - row["targets"].shape[1]
            row["targets"] = pad(row["targets"], (0, 0, 0, missing))
            row["visible"] = pad(row["visible"], (0, missing))
            rows.append(row)
            env.bfm = student
            observations, *_ = env.step(actions.numpy())
        self.tasks[self.turn] = (token, env, observations)
        self.turn = (self.turn + 1) % len(self.tasks)
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _nothing(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Goals of which none is shown."""
        types = self.teacher.types
        hidden = torch.zeros(NUM_ENVS, 1, dtype=torch.bool)
        return {
            name: (torch.zeros(NUM_ENVS, 1, types[name].width), hidden) for name in (TARGETS, TEXT)
        }

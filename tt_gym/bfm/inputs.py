"""Inputs of a frozen model, and what a published one remembers between control steps for them.

    inputs = build_inputs(model, num_envs)
    inputs.restart(ids, state)                      # at the start of episodes
    seen = inputs.observe(state)                    # then, every control step
    latent = model.latent(seen.state, seen.goals, task_token)
    action = model.decode(seen.decoder_input, latent)
    inputs.remember(state, action)
    simulator.step(model.pd_target(action))

Our own model remembers nothing; for it the same calls do no more than they must.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tt_gym.bfm.checkpoints import HISTORY, PREVIOUS_ACTION, TERRAIN
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic, without_hidden
from tt_gym.bfm.official_observations import (
    HISTORY_LAGS_V1,
    HISTORY_STEPS_V3,
    centre_of_mass_velocity,
    observe_history_v1,
    observe_history_v3,
    observe_targets_v1,
    observe_targets_v3,
    observe_terrain,
    sparse_targets_v1,
    sparse_targets_v3,
)
from tt_gym.bfm.targets import TARGETS, TEXT, Targets, observe_targets
from tt_gym.bfm.tokens import observe_state, proprioception
from tt_gym.humanoids import DEEPMIMIC, SMPL, Humanoid
from tt_gym.motions.library import MotionFrames
from tt_gym.simulation.state import BodyState

Goals = dict[str, tuple[Tensor, Tensor]]
Surface = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """Arguments of :meth:`~tt_gym.bfm.maskedmimic.MaskedMimic.forward`.

    Attributes:
        state: normalised for the prior, (N, W).
        goals: values and visibility per token type; wholly hidden tokens are left out.
        decoder_input: (N, W').
    """

    state: Tensor
    goals: Goals
    decoder_input: Tensor


class Inputs(Protocol):
    """What stands between simulator and model; see the top of this file for the order of calls.

    Attributes:
        humanoid: the body it is for.
        always_shown: token types beside the state that the model sees at every step.
        remembered_steps: how far back it looks, control steps.
        surface: height of uneven ground at places (N, P, 2) from that under the roots, (N, P), m;
            None where it is flat. Only v1 looks at it.
    """

    humanoid: Humanoid
    always_shown: tuple[str, ...]
    remembered_steps: int
    surface: Surface | None

    def restart(self, ids: Tensor, state: BodyState, past: MotionFrames | None = None) -> None:
        """Begin episodes of environments ``ids``, (R,) indices, in ``state`` (of all N).

        ``past`` (R, 1 + :attr:`remembered_steps`, ...), the newest first, is what is remembered
        then; None: the state, at all times.
        """
        ...

    def observe_state(self, state: BodyState) -> Tensor:
        """Proprioception, (N, W), not yet normalised."""
        ...

    def observe(self, state: BodyState, targets: Targets | None = None) -> ModelInputs:
        """Inputs for the current state and the goals to show beside the token."""
        ...

    def remember(self, state: BodyState, action: Tensor) -> None:
        """End the control step that began in ``state`` with the decoder's raw action (N, D)."""
        ...

    def get_state(self) -> dict[str, Tensor]:
        """What is remembered, as checkpoint content."""
        ...

    def set_state(self, saved: dict[str, Tensor]) -> None:
        """Inverse of :meth:`get_state`."""
        ...


class OwnInputs:
    """Inputs of our own model, which remembers nothing."""

    humanoid = DEEPMIMIC
    always_shown: tuple[str, ...] = ()
    remembered_steps = 0
    surface: Surface | None = None

    def __init__(self, model: MaskedMimic) -> None:
        self.model = model
        self._latest: tuple[BodyState, Tensor] | None = None

    def restart(self, ids: Tensor, state: BodyState, past: MotionFrames | None = None) -> None:
        """Nothing to do."""

    def observe_state(self, state: BodyState) -> Tensor:
        """See :class:`Inputs`; computed once for the policy and the model."""
        if self._latest is None or self._latest[0] is not state:
            self._latest = (state, observe_state(state))
        return self._latest[1]

    def observe(self, state: BodyState, targets: Targets | None = None) -> ModelInputs:
        """See :class:`Inputs`."""
        seen = self.model.normalize(STATE, self.observe_state(state))
        goals = text_tokens(self.model, targets)
        if targets is not None and targets.time_s.shape[1]:
            goals[TARGETS] = observe_targets(state, targets)
        return ModelInputs(state=seen, goals=goals, decoder_input=seen)

    def remember(self, state: BodyState, action: Tensor) -> None:
        """Nothing to do."""

    def get_state(self) -> dict[str, Tensor]:
        """Nothing is remembered."""
        return {}

    def set_state(self, saved: dict[str, Tensor]) -> None:
        """Nothing to do."""


class V1Inputs:
    """Inputs of a v1 model: state, 15 history tokens, terrain, and any goals.

    The history is always shown, as in the Task Tokens paper, from the first step of an episode on.

    Args:
        model: with ``observations == "maskedmimic_v1"``.
        num_envs: N.
    """

    humanoid = SMPL
    always_shown: tuple[str, ...] = (HISTORY, TERRAIN)
    remembered_steps = HISTORY_LAGS_V1[-1]
    surface: Surface | None = None

    def __init__(self, model: MaskedMimic, num_envs: int) -> None:
        self.model = model
        self._lags = torch.tensor((0, *HISTORY_LAGS_V1))
        depth = int(self._lags[-1]) + 1
        # a ring: the newest pose is at _newest, the one before it at the next lower index
        self._pos = torch.zeros(depth, num_envs, SMPL.num_bodies, 3)
        self._rot = torch.zeros(depth, num_envs, SMPL.num_bodies, 4)
        self._newest = 0

    def restart(self, ids: Tensor, state: BodyState, past: MotionFrames | None = None) -> None:
        """Begin episodes: the past of environments ``ids`` becomes their pose in ``state``.

        Args:
            ids: (R,) indices.
            state: of all N environments.
            past: see :class:`Inputs`.
        """
        if past is None:
            self._pos[:, ids], self._rot[:, ids] = state.pos[ids], state.rot[ids]
            return
        rows = (self._newest - torch.arange(len(self._pos))) % len(self._pos)
        self._pos[rows.unsqueeze(1), ids] = past.pos.transpose(0, 1)
        self._rot[rows.unsqueeze(1), ids] = past.rot.transpose(0, 1)

    def observe_state(self, state: BodyState) -> Tensor:
        """See :class:`Inputs`."""
        return _observe_state(state)

    def observe(self, state: BodyState, targets: Targets | None = None) -> ModelInputs:
        """Inputs for the current state.

        Args:
            state: of all N environments.
            targets: goals to show beside the token, words as X-CLIP embeddings (N, 1, 512).
        """
        rows = (self._newest - self._lags) % len(self._pos)
        pos, rot = self._pos[rows].transpose(0, 1), self._rot[rows].transpose(0, 1)
        observation = _observe_state(state)
        terrain = observe_terrain(state.pos[:, 0], state.rot[:, 0], self.surface)
        goals = text_tokens(self.model, targets)
        if targets is not None:
            goals[TARGETS] = observe_targets_v1(state.pos, state.rot, sparse_targets_v1(targets))
        return ModelInputs(
            state=self.model.normalize(STATE, observation),
            goals={
                HISTORY: _shown(observe_history_v1(pos, rot)),
                TERRAIN: _shown(terrain.unsqueeze(1)),
                **without_hidden(goals),
            },
            decoder_input=self.model.decoder_input({STATE: observation, TERRAIN: terrain}),
        )

    def remember(self, state: BodyState, action: Tensor) -> None:
        """End the control step that began in ``state`` (call after :meth:`observe`).

        Quirk: that is why the newest remembered pose is always one step older than the state.
        """
        self._newest = (self._newest + 1) % len(self._pos)
        self._pos[self._newest], self._rot[self._newest] = state.pos, state.rot

    def get_state(self) -> dict[str, Tensor]:
        """See :class:`Inputs`."""
        shift = -self._newest  # so that the newest pose comes first
        return {"pos": self._pos.roll(shift, 0), "rot": self._rot.roll(shift, 0)}

    def set_state(self, saved: dict[str, Tensor]) -> None:
        """See :class:`Inputs`."""
        self._newest = 0
        self._pos, self._rot = saved["pos"].clone(), saved["rot"].clone()


class V3Inputs:
    """Inputs of a v3 model: state, five past states, the action before the last, and targets.

    Args:
        model: with ``observations == "maskedmimic_v3"``.
        num_envs: N.
    """

    humanoid = SMPL
    always_shown: tuple[str, ...] = (HISTORY,)
    remembered_steps = HISTORY_STEPS_V3
    surface: Surface | None = None

    def __init__(self, model: MaskedMimic, num_envs: int) -> None:
        self.model = model
        self._past = torch.zeros(num_envs, HISTORY_STEPS_V3, model.types[STATE].width)
        self._actions = torch.zeros(num_envs, 2, model.config.action_size)  # newest first

    def restart(self, ids: Tensor, state: BodyState, past: MotionFrames | None = None) -> None:
        """Begin episodes: the past of environments ``ids`` becomes their state, without actions.

        Args:
            ids: (R,) indices.
            state: of all N environments.
            past: see :class:`Inputs`.
        """
        if past is None:
            self._past[ids] = _observe_state(state[ids]).unsqueeze(1)
        else:
            earlier = {f.name: getattr(past, f.name)[:, 1:] for f in dataclasses.fields(past)}
            flat = MotionFrames(**{name: value.flatten(0, 1) for name, value in earlier.items()})
            self._past[ids] = _observe_state(flat).view(len(ids), HISTORY_STEPS_V3, -1)
        self._actions[ids] = 0.0

    def observe_state(self, state: BodyState) -> Tensor:
        """See :class:`Inputs`."""
        return _observe_state(state)

    def observe(self, state: BodyState, targets: Targets | None = None) -> ModelInputs:
        """Inputs for the current state.

        Quirk: the decoder sees the action before the one that led to the current state.

        Args:
            state: of all N environments.
            targets: goals to show beside the token.
        """
        observation = _observe_state(state)
        goals = text_tokens(self.model, targets)
        if targets is not None:
            goals[TARGETS] = observe_targets_v3(state.pos, state.rot, sparse_targets_v3(targets))
        return ModelInputs(
            state=self.model.normalize(STATE, observation),
            goals={HISTORY: _shown(observe_history_v3(self._past)), **without_hidden(goals)},
            decoder_input=self.model.decoder_input(
                {STATE: observation, PREVIOUS_ACTION: self._actions[:, 1]}
            ),
        )

    def remember(self, state: BodyState, action: Tensor) -> None:
        """End the control step: what was seen, and the decoder's raw action (N, 69) for it."""
        newest = _observe_state(state).unsqueeze(1)
        self._past = torch.cat((newest, self._past[:, :-1]), dim=1)
        self._actions = torch.stack((action, self._actions[:, 0]), dim=1)

    def get_state(self) -> dict[str, Tensor]:
        """See :class:`Inputs`."""
        return {"past": self._past.clone(), "actions": self._actions.clone()}

    def set_state(self, saved: dict[str, Tensor]) -> None:
        """See :class:`Inputs`."""
        self._past, self._actions = saved["past"].clone(), saved["actions"].clone()


def text_tokens(model: MaskedMimic, targets: Targets | None) -> Goals:
    """The words of a prompt, if it has any.

    Raises:
        ValueError: the model knows no words, or embeddings of another size.
    """
    if targets is None or targets.text is None or targets.text_visible is None:
        return {}
    if TEXT not in model.types:
        raise ValueError("this model was trained without words: a Text prompt has no place in it")
    width = model.types[TEXT].width
    if targets.text.shape[-1] != width:
        raise ValueError(
            f"this model takes embeddings of {width} entries, the Text prompt gives "
            f"{targets.text.shape[-1]}: give it those of the model's own text encoder, "
            "for a published v1 model Text(tt_gym.text.xclip.embed(WORDS))"
        )
    return {TEXT: (targets.text, targets.text_visible)}


def build_inputs(model: MaskedMimic, num_envs: int) -> Inputs:
    """The inputs that a model was trained with, for N environments."""
    if model.config.observations == "maskedmimic_v1":
        return V1Inputs(model, num_envs)
    if model.config.observations == "maskedmimic_v3":
        return V3Inputs(model, num_envs)
    return OwnInputs(model)


def _observe_state(state: BodyState | MotionFrames) -> Tensor:
    vel = centre_of_mass_velocity(state, SMPL)
    return proprioception(pos=state.pos, rot=state.rot, vel=vel, ang_vel=state.ang_vel)


def _shown(values: Tensor) -> tuple[Tensor, Tensor]:
    return values, torch.ones(values.shape[:2], dtype=torch.bool)

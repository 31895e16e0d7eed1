"""Prompts: what the frozen model is asked for beside the task token.

    env = gymnasium.make("tt_gym:TTDirection-v0", prompt=HeadingSpeed(heading=0.0, speed=1.2))
    env.unwrapped.set_prompt(JointGoal("right_wrist", pos=(1.0, 0.2, 1.2), at_s=3.0))

Values are numbers for all environments or tensors with a row for each. A string names one of the
task's own prompts. :class:`Together` shows several at once, :class:`Schedule` changes between them
(paper, section 4.4).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import TARGET_STEPS, Targets, heading_speed_targets, hidden_targets
from tt_gym.humanoids import Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState
from tt_gym.text.embeddings import embed

Value = float | Tensor
Condition = Callable[["Moment"], Tensor]
"""Where a rule of a :class:`Schedule` applies: (N,) bool."""
_HORIZON_S = CONTROL_DT * TARGET_STEPS[-1]  # as far as the model has learnt to look ahead
_SHORTEST = 1e-6  # length of a quaternion that still says how something is turned


@dataclasses.dataclass(frozen=True)
class Moment:
    """What a prompt may depend on.

    Attributes:
        state: of all N environments.
        steps: control steps since their episodes began, (N,).
        humanoid: whose bodies goals name.
        of_task: the targets of the task's prompt of a name in a state.
    """

    state: BodyState
    steps: Tensor
    humanoid: Humanoid
    of_task: Callable[[str, BodyState], Targets]


class Prompt(Protocol):
    """Anything that gives target tokens for a moment."""

    def targets(self, moment: Moment) -> Targets:
        """Target tokens of all environments.

        Raises:
            ValueError: a value has neither one row nor N, or a body is unknown.
        """
        ...


@dataclasses.dataclass(frozen=True)
class TaskPrompt:
    """A prompt that the task has written by hand.

    Attributes:
        name: one of the task's ``prompts``.
    """

    name: str

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`."""
        return moment.of_task(self.name, moment.state)


@dataclasses.dataclass(frozen=True)
class HeadingSpeed:
    """Face one way and move, the same way or another, at a speed.

    Attributes:
        heading: direction to face, rad, world.
        speed: m/s.
        direction: of movement, rad, world; None: where it faces.
    """

    heading: Value
    speed: Value
    direction: Value | None = None

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`."""
        count = len(moment.steps)
        heading = _rows("heading", self.heading, count, ())
        way = heading if self.direction is None else _rows("direction", self.direction, count, ())
        return heading_speed_targets(
            moment.state,
            heading=heading,
            direction=rotations.direction_xy(way),
            speed=_rows("speed", self.speed, count, ()),
        )


@dataclasses.dataclass(frozen=True)
class JointGoal:
    """Where one body is to be, how it is to be turned, or both.

    Attributes:
        body: name of the body.
        pos: (3,) or (N, 3), m, world; None: anywhere.
        rot: quaternion (4,) or (N, 4), world, of any length; None: anyhow.
        at_s: time of the episode at which it is to be there, s. The model looks 1 s ahead: earlier
            it is not shown the goal. Afterwards, and where None, the goal is to be held.
    """

    body: str
    pos: Sequence[float] | Tensor | None = None
    rot: Sequence[float] | Tensor | None = None
    at_s: Value | None = None

    def __post_init__(self) -> None:
        if self.pos is None and self.rot is None:
            raise ValueError(f"JointGoal({self.body!r}): give pos, rot or both")

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`."""
        names = moment.humanoid.body_names
        if self.body not in names:
            raise ValueError(f"unknown body {self.body!r}; known: {', '.join(names)}")
        body, count = names.index(self.body), len(moment.steps)
        held = CONTROL_DT * torch.tensor(TARGET_STEPS[-2:])
        time_s, shown = held.expand(count, -1), torch.ones(count, len(held), dtype=torch.bool)
        if self.at_s is not None:
            left = _rows("at_s", self.at_s, count, ()) - CONTROL_DT * moment.steps
            coming = (left > CONTROL_DT / 2).unsqueeze(-1)
            # one token that counts down, then both that hold
            time_s = torch.where(coming, left.clamp(min=CONTROL_DT).unsqueeze(-1), time_s)
            last = torch.tensor([False, True])
            shown = torch.where(coming, last & (left <= _HORIZON_S).unsqueeze(-1), shown)
        result = hidden_targets(moment.state, time_s)
        if self.pos is not None:
            result.pos[:, :, body] = _rows("pos", self.pos, count, (3,)).unsqueeze(1)
            result.pos_visible[:, :, body] = shown
        if self.rot is not None:
            rot = _rows("rot", self.rot, count, (4,))
            if bool((rot.norm(dim=-1) < _SHORTEST).any()):
                raise ValueError(f"rot must be quaternions, which are not zero, got {self.rot}")
            result.rot[:, :, body] = rotations.quat_normalize(rot).unsqueeze(1)
            result.rot_visible[:, :, body] = shown
        return result


@dataclasses.dataclass(frozen=True)
class Text:
    """What to do, in words: ``Text("a person kicks")``.

    Attributes:
        wording: words, or the embeddings that the model was trained with, (W,) or (N, W).

    Raises:
        ValueError: no words, or an embedding of another shape.
        ImportError: it is not one of the shipped wordings and the sentence encoder is missing, see
            :func:`tt_gym.text.embeddings.embed`.
    """

    wording: str | Tensor | np.ndarray

    def __post_init__(self) -> None:
        embedding = self.embedding()
        if embedding.dim() not in (1, 2) or not bool(embedding.isfinite().all()):
            raise ValueError(f"Text needs words or finite (W,) or (N, W), got {self.wording!r}")

    def embedding(self) -> Tensor:
        """(W,) or (N, W)."""
        if isinstance(self.wording, str):
            return embed(self.wording)
        if not isinstance(self.wording, Tensor | np.ndarray):
            raise ValueError(
                f"Text needs words or an array of their embedding, got {self.wording!r}"
            )
        return torch.as_tensor(self.wording, dtype=torch.float32)

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`."""
        count, embedding = len(moment.steps), self.embedding()
        rows = _rows("wording", embedding, count, (embedding.shape[-1],))
        return dataclasses.replace(
            hidden_targets(moment.state, torch.zeros(count, 0)),
            text=rows.unsqueeze(1),
            text_visible=torch.ones(count, 1, dtype=torch.bool),
        )


@dataclasses.dataclass(frozen=True)
class Together:
    """Several prompts at once: their tokens side by side.

    Raises:
        TypeError: they are no tuple of prompts and names.
    """

    prompts: tuple[Prompt | str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.prompts, list | tuple) or not self.prompts:
            raise TypeError(f"Together needs a tuple of prompts, got {self.prompts!r}")
        for item in self.prompts:
            as_prompt(item)

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`."""
        return _concatenated([as_prompt(item).targets(moment) for item in self.prompts])


@dataclasses.dataclass(frozen=True)
class Rule:
    """Go from one state of a :class:`Schedule` to another where a condition holds."""

    source: str
    target: str
    when: Condition


class Schedule:
    """A finite-state machine over prompts; every environment is in a state of its own.

    Args:
        states: prompt per state, None for a state without.
        rules: the first that applies in a step is taken.
        start: state in which episodes begin; the first if left out.

    Raises:
        ValueError: there are no states, or a rule names an unknown one.
        TypeError: a state has no prompt, or a rule's condition cannot be called.
    """

    def __init__(
        self,
        states: Mapping[str, Prompt | str | None],
        rules: Sequence[Rule],
        *,
        start: str | None = None,
    ) -> None:
        if not states:
            raise ValueError("a Schedule needs at least one state, got none")
        self.names = tuple(states)
        self.prompts = [None if item is None else as_prompt(item) for item in states.values()]
        start = self.names[0] if start is None else start
        for name in (start, *(end for rule in rules for end in (rule.source, rule.target))):
            if name not in self.names:
                raise ValueError(f"unknown state {name!r}; known: {', '.join(self.names)}")
        for rule in rules:
            if not callable(rule.when):
                raise TypeError(f"when of a Rule must be a function of Moment, got {rule.when!r}")
        self.rules, self.start = tuple(rules), self.names.index(start)
        self.current = torch.zeros(0, dtype=torch.long)
        self._asked_at = torch.zeros(0, dtype=torch.long)  # step of the latest change of states

    def targets(self, moment: Moment) -> Targets:
        """See :class:`Prompt`; states change before their prompts are shown, once a step."""
        count = len(moment.steps)
        if len(self.current) != count:
            self.current = torch.full((count,), self.start)
        if len(self._asked_at) != count:
            self._asked_at = torch.full((count,), -1)
        begins = moment.steps == 0
        self.current = torch.where(begins, self.start, self.current)
        before = self.current.clone()
        open_ = begins | (moment.steps != self._asked_at)
        self._asked_at = moment.steps.clone()
        for rule in self.rules:
            taken = open_ & (before == self.names.index(rule.source)) & rule.when(moment)
            self.current = torch.where(taken, self.names.index(rule.target), self.current)
            open_ &= ~taken
        parts = []
        for index, prompt in enumerate(self.prompts):
            if prompt is not None:
                parts.append(_only_where(prompt.targets(moment), self.current == index))
        if not parts:
            return hidden_targets(moment.state, torch.full((count, 1), CONTROL_DT))
        return _concatenated(parts)

    def state_names(self) -> list[str]:
        """The state of every environment."""
        return [self.names[index] for index in self.current.tolist()]


def near_object(distance_m: float) -> Condition:
    """Where the root is within a horizontal distance of the first object."""

    def holds(moment: Moment) -> Tensor:
        if not moment.state.object_pos.shape[1]:
            raise ValueError("near_object needs a task with an object, this one has none")
        away = moment.state.object_pos[:, 0, :2] - moment.state.pos[:, 0, :2]
        return away.norm(dim=-1) <= distance_m

    return holds


def after(time_s: float) -> Condition:
    """Where the episode is older than ``time_s``."""
    return lambda moment: CONTROL_DT * moment.steps >= time_s


def as_prompt(prompt: Prompt | str) -> Prompt:
    """A prompt, also from the name of one of the task's.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(prompt, str):
        return TaskPrompt(prompt)
    if isinstance(prompt, type) or not callable(getattr(prompt, "targets", None)):
        raise TypeError(f"prompt must be a name, a prompt or None, got {prompt!r}")
    return prompt


def own_copy(prompt: Prompt | str | None) -> Prompt | None:
    """A prompt that shares no state with other environments'.

    Raises:
        TypeError: it is neither a prompt nor a name.
    """
    if prompt is None:
        return None
    return copy.deepcopy(as_prompt(prompt))


def names_in(prompt: Any) -> set[str]:
    """Names of the task's prompts that a prompt uses."""
    if isinstance(prompt, str | TaskPrompt):
        return {prompt if isinstance(prompt, str) else prompt.name}
    inner = getattr(prompt, "prompts", ())
    return set().union(*(names_in(item) for item in inner))


def schedules_in(prompt: Any) -> list[Schedule]:
    """Every :class:`Schedule` in a prompt, outer ones first."""
    found = [prompt] if isinstance(prompt, Schedule) else []
    for item in getattr(prompt, "prompts", ()):
        found += schedules_in(item)
    return found


def _rows(name: str, value: Any, count: int, shape: tuple[int, ...]) -> Tensor:
    try:
        tensor = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers, got {value!r}") from error
    if tensor.shape not in (shape, (count, *shape)):
        raise ValueError(
            f"{name} must have shape {shape} or {(count, *shape)}, got {tuple(tensor.shape)}"
        )
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {value}")
    return tensor.expand(count, *shape)


def _only_where(targets: Targets, rows: Tensor) -> Targets:
    shown: dict[str, Any] = {}
    for field in dataclasses.fields(targets):
        visible = getattr(targets, field.name)
        if field.name.endswith("_visible") and visible is not None:
            shown[field.name] = visible & rows.view(-1, *[1] * (visible.dim() - 1))
    return dataclasses.replace(targets, **shown)


def _concatenated(parts: Sequence[Targets]) -> Targets:
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Targets):
        given = [getattr(part, field.name) for part in parts]
        given = [item for item in given if item is not None]
        fields[field.name] = torch.cat(given, dim=1) if given else None
    return Targets(**fields)

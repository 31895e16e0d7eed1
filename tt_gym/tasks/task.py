"""What every task provides: parameters and pure functions over a batch of environments."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import TARGET_STEPS, Targets, hidden_targets
from tt_gym.humanoids import Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject

NEAR_STEPS, FAR_STEPS = 10, 30
"""Control steps ahead of the last near and of the far target of the paper's joint conditioning."""

ABOVE_ZERO = "above 0"
"""A rule of :func:`check_parameters`."""
Goal = dict[str, Tensor]
"""What a task asks for, one row per environment; the task alone knows the keys.

Pictures draw some of them where a task has them: ``angle`` (rad) with ``speed`` (m/s) and
``facing`` (rad) as arrows, ``target`` (3,) as a ball, ``line`` (2, 2) as a line on the ground.
"""


def parameters_of(task: Any) -> dict[str, Any]:
    """Name and value of every parameter of a task; of a class, name and default."""
    return {
        field.name: field.default if isinstance(task, type) else getattr(task, field.name)
        for field in dataclasses.fields(task)
        if field.name != "humanoid"
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Transition:
    """What reward and termination may look at.

    Attributes:
        before: state at the start of the control step.
        after: state at its end.
        steps: control steps since the episode began, (N,), at least 1.
    """

    before: BodyState
    after: BodyState
    steps: Tensor

    @functools.cached_property
    def velocity(self) -> Tensor:
        """Root velocity in the plane as the finite difference over the step, (N, 2), m/s."""
        return (self.after.pos[:, 0, :2] - self.before.pos[:, 0, :2]) / CONTROL_DT


class Task(Protocol):
    """The contract of a task: a frozen dataclass of parameters plus these functions.

    All are pure: state and goal in, new tensors out. ``sample_goal`` draws from the given
    generator. A task may inherit from this class: what is not abstract then is that of one goal
    per episode, without objects or prompts, which ends with a fall. One that must know bodies has
    a keyword-only field ``humanoid``, which is no parameter: ``build_task`` fills it.

    Attributes:
        observation_size: entries of the task observation.
        objects: free objects of the scene.
        prompts: names that :meth:`build_prompt` knows.
        success_at_end: judge success by the last step of the episode instead of every measured one.
    """

    observation_size: ClassVar[int]
    objects: ClassVar[tuple[BoxObject, ...]] = ()
    prompts: ClassVar[tuple[str, ...]] = ()
    success_at_end: ClassVar[bool] = False

    @abc.abstractmethod
    def sample_goal(
        self, state: BodyState, previous: Goal | None, generator: torch.Generator
    ) -> Goal:
        """New goals for the rows of ``state``; ``previous`` is None at the start of an episode."""
        ...

    def sample_objects(self, state: BodyState, generator: torch.Generator) -> Tensor:
        """Initial poses of the objects, (N, K, 7): position and quaternion."""
        return torch.zeros(len(state.pos), 0, 7)

    def advance_goal(self, transition: Transition, goal: Goal) -> Goal:
        """The goal with what it must remember of the step just made; most return it as it is.

        Called first after a step: reward, success and termination see the result. Only what is in
        the goal survives a checkpoint.
        """
        return goal

    def goal_is_over(self, goal: Goal, steps: Tensor) -> Tensor:
        """Where a new goal is due, (N,) bool."""
        return torch.zeros_like(steps, dtype=torch.bool)

    def goals_left(self, goal: Goal, max_steps: int) -> Tensor:
        """The goal of now and those to come, as far as ``max_steps`` let them be measured."""
        return torch.ones((), dtype=torch.long)

    @abc.abstractmethod
    def observe(self, state: BodyState, goal: Goal) -> Tensor:
        """Task observation, (N, observation_size)."""
        ...

    @abc.abstractmethod
    def reward_terms(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """Terms whose sum is the reward, (N,) each."""
        ...

    @abc.abstractmethod
    def step_is_good(self, transition: Transition, goal: Goal) -> tuple[Tensor, Tensor]:
        """Whether success is measured in this step, and whether it holds: (N,) bool each."""
        ...

    def terminated(self, transition: Transition, goal: Goal, humanoid: Humanoid) -> Tensor:
        """Episodes that end before their time, (N,) bool.

        Most end in failure (a fall, an illegal hit), but Long Jump's landing ends one as well.
        """
        return fallen(transition, humanoid)

    def metrics(self, transition: Transition, goal: Goal) -> dict[str, Tensor]:
        """Further numbers for curves, (N,) each."""
        return {}

    def condition(self, state: BodyState, goal: Goal) -> dict[str, Tensor]:
        """How hard a goal is that begins in ``state``, (N,) each, for success broken down by it."""
        return {}

    def build_prompt(self, name: str, state: BodyState, goal: Goal) -> Targets:
        """A hand-written prompt for the frozen model, by name.

        Raises:
            ValueError: there is none of this name.
        """
        raise ValueError(f"unknown prompt {name!r}: {type(self).__name__} has none")


@functools.lru_cache(maxsize=1)  # the task asks, and then the environment
def fallen(
    transition: Transition,
    humanoid: Humanoid,
    *,
    height: float = 0.15,
    head_height: float = 0.30,
    force: float = 0.1,
) -> Tensor:
    """Some body other than a foot is pushed and some such body is low.

    Args:
        transition: the state after the step is judged, from the second step on.
        humanoid: which bodies are feet and which is the head.
        height: a body lower than this is low, m; ``head_height`` for the head.
        head_height: see ``height``.
        force: contact force component that counts as a touch, N.

    Returns:
        (N,) bool.
    """
    state = transition.after
    force_on_others = state.contact_force.index_select(1, not_feet(humanoid))
    touched = (force_on_others.abs() > force).flatten(1).any(dim=-1)
    low = is_low(state, humanoid, height=height, head_height=head_height)
    return touched & low & (transition.steps > 1)


def is_low(
    state: BodyState, humanoid: Humanoid, *, height: float = 0.15, head_height: float = 0.30
) -> Tensor:
    """Some body other than a foot is lower than ``height``, the head ``head_height``: (N,) bool."""
    heights = state.pos[..., 2]
    others = heights.index_select(1, not_feet(humanoid)).amin(dim=1)
    return (others < height) | (heights[:, humanoid.head] < head_height)


@functools.lru_cache(maxsize=8)
def not_feet(humanoid: Humanoid) -> Tensor:
    """Indices of the bodies that may not touch the ground."""
    others = [index for index in range(humanoid.num_bodies) if index not in humanoid.feet]
    return torch.tensor(others)


def position_targets(state: BodyState, body: int, pos: Tensor) -> Targets:
    """A prompt that shows where one body is to be, on the two far target tokens.

    Args:
        state: current state (only its sizes are used).
        body: index of the body.
        pos: its position at the times of the last two ``TARGET_STEPS``, (N, 2, 3), m, world.
    """
    time_s = CONTROL_DT * torch.tensor(TARGET_STEPS[-2:]).expand(len(pos), -1)
    targets = hidden_targets(state, time_s)
    targets.pos[:, :, body] = pos
    targets.pos_visible[:, :, body] = True
    return targets


def walking_targets(
    state: BodyState,
    humanoid: Humanoid,
    steps: tuple[int, ...],
    *,
    velocity: Tensor,
    facing: Tensor,
) -> Targets:
    """Targets of a straight walk from here, nothing of them shown yet.

    Every body goes on from where it is; root and head at the humanoid's ``prompt_heights``, other
    bodies at their own; all are upright and face one way.

    Args:
        state: current state.
        humanoid: whose bodies they are.
        steps: control steps ahead of the K targets.
        velocity: (N, 2), m/s, world.
        facing: (N,), rad, world.
    """
    time_s = CONTROL_DT * torch.tensor(steps).expand(len(facing), -1)  # (N, K)
    targets = hidden_targets(state, time_s)
    moved = velocity.unsqueeze(1) * time_s.unsqueeze(-1)  # (N, K, 2)
    targets.pos[..., :2] += moved.unsqueeze(2)
    targets.pos[:, :, 0, 2], targets.pos[:, :, humanoid.head, 2] = humanoid.prompt_heights
    targets.rot[:] = rotations.yaw_quat(facing)[:, None, None]
    return dataclasses.replace(
        targets,
        heading=facing.unsqueeze(1).expand_as(time_s),
        velocity=velocity.unsqueeze(1).expand_as(moved),
    )


def check_parameters(task: Any, **rules: tuple[bool, str]) -> None:
    """Refuse parameters that a task cannot mean.

    Numbers must be at least 0, probabilities at most 1, and ranges must rise.

    Args:
        task: just made.
        rules: of single parameters besides: whether it holds, and what the parameter must be.

    Raises:
        ValueError: names the first parameter, its value and the rule.
    """
    for name, value in parameters_of(task).items():
        values = value if isinstance(value, tuple) else (value,)
        holds, rule = rules.get(name, (True, ""))
        if min(values) < 0:
            rule = "at least 0"
        elif values != tuple(sorted(values)):
            rule = "in rising order"
        elif name.endswith("probability") and value > 1:
            rule = "at most 1"
        elif holds:
            continue
        raise ValueError(f"{type(task).__name__}: parameter {name}={value!r} must be {rule}")

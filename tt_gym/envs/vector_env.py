"""The vectorised environment: frozen behavior foundation model inside ``step``, token as action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from tt_gym.bfm.inputs import ModelInputs, build_inputs
from tt_gym.bfm.joint_control import input_shapes, joint_scale, pack, raw_action
from tt_gym.bfm.maskedmimic import STATE
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.bfm.prompts import Moment, Prompt, names_in, own_copy
from tt_gym.bfm.targets import Targets
from tt_gym.bfm.tokens import state_size
from tt_gym.envs import saved_state
from tt_gym.envs.arguments import Control, check_arguments, checked_actions, observation_space
from tt_gym.envs.infos import as_info, with_final
from tt_gym.envs.outcomes import Outcomes
from tt_gym.envs.perturbations import Perturbations, build_perturbations
from tt_gym.envs.perturber import Perturber
from tt_gym.envs.start_states import (
    build_clip,
    chosen_start,
    draw_starts,
    root_only,
    with_objects,
)
from tt_gym.humanoids import SMPL
from tt_gym.simulation import BodyState, build_simulator
from tt_gym.tasks import Goal, Transition, build_task
from tt_gym.tasks.task import fallen


class TaskTokenVectorEnv(VectorEnv):
    """N humanoids doing one task, stepped together. Same-step autoreset.

    Observation: ``Dict(task=Box(T,), state=Box(223,))``; ``state`` is the proprioception as the
    frozen model sees it (standardised, within +-5). In joint control also whatever else the model
    needs (:func:`tt_gym.bfm.joint_control.input_shapes`): ``model_targets`` and ``model_text`` with
    a prompt, history and the like with an official checkpoint, nothing with our own model alone.

    Action: ``Box(-1, 1, (A,))``, the task token in the model's own measure
    (:meth:`~tt_gym.bfm.maskedmimic.MaskedMimic.task_token`).

    Info: ``is_success``, ``diverged``, ``fallen`` (in this step), ``goals`` and ``goals_succeeded``
    (measured goals so far),
    ``reward/<term>`` and ``task/<metric>`` (means over the episode), ``goal_over`` (a new goal has
    just begun), ``condition/<name>`` (how hard the goal of this step was, see the task's
    ``condition``, and what perturbations were drawn); at the end of an episode under
    ``final_info``.

    Args:
        num_envs: N >= 1.
        task: name of one of :data:`tt_gym.tasks.TASKS`.
        max_episode_steps: control steps (30 per second) until truncation.
        control: ``token``; ``joint``: the action is the PD target divided by
            :func:`~tt_gym.bfm.joint_control.joint_scale`, and the model runs in the policy or not
            at all; ``prompt``: the frozen model acts on the prompt alone and the action is ignored.
        prompt: shown beside the token: name of one of the task's hand-written prompts, or one of
            :mod:`tt_gym.bfm.prompts`. See :meth:`set_prompt`.
        bfm: path of a model file, None for the shipped one. A published MaskedMimic checkpoint
            brings the SMPL humanoid with it (24 bodies, 69 degrees of freedom).
        start: where episodes begin, see :data:`tt_gym.envs.start_states.STARTS`; None for the
            humanoid's first one.
        clip: motion in the format of AMASS for a published model: where ``start="clip"`` begins,
            and what the model remembers at first; None: it remembers the start pose.
        self_collision: whether limbs collide with each other; None: with a published model, as
            where it was trained.
        early_termination: end episodes before their time where the task says so (falls, illegal
            hits, the landing of a jump); the paper does so in training only.
        perturbations: what is harder than usual, also as a dict; see
            :class:`~tt_gym.envs.perturbations.Perturbations`.
        render_mode: ``rgb_array`` or None.
        simulator: one of :data:`tt_gym.simulation.SIMULATORS`.
        num_threads: physics threads of ``mujoco_cpu``, 0 for all cores.
        autoreset: restart finished environments in the same step.
        parameters: of the task (see its class); ``preset="paper"`` takes the paper's ranges of
            goals.

    Raises:
        ValueError: unknown task, parameter, control, prompt or perturbation (the known ones are
            listed), start of another humanoid, a clip that is missing or not for it, a value that
            is not allowed, or ``num_envs`` < 1.
        ImportError: the simulator needs a package that is not installed.
        CheckpointError: ``bfm`` cannot be loaded.
        ClipError: ``clip`` cannot be read.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: str,
        max_episode_steps: int | None = 300,
        control: Control = "token",
        prompt: str | Prompt | None = None,
        bfm: str | None = None,
        start: str | None = None,
        clip: str | None = None,
        self_collision: bool | None = None,
        early_termination: bool = True,
        perturbations: Perturbations | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        simulator: str = "mujoco_cpu",
        num_threads: int = 0,
        autoreset: bool = True,
        **parameters: Any,
    ) -> None:
        flags = {"early_termination": early_termination, "autoreset": autoreset}
        check_arguments(
            control=control,
            num_threads=num_threads,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
            flags=flags | ({} if self_collision is None else {"self_collision": self_collision}),
        )
        perturbed = build_perturbations(perturbations)
        if perturbed.ranges() and simulator != "mujoco_cpu":
            raise ValueError(f"perturbations need simulator 'mujoco_cpu', got {simulator!r}")
        self.bfm = load_bfm(bfm)
        self.inputs = build_inputs(self.bfm, num_envs)
        self.humanoid = self.inputs.humanoid
        self.task = build_task(task, humanoid=self.humanoid, **parameters)
        self.start = chosen_start(self.humanoid, start)
        self.clip = build_clip(self.humanoid, self.start, clip)
        if self_collision is None:
            self_collision = self.humanoid is SMPL
        self.simulator = build_simulator(
            simulator,
            self.humanoid,
            num_envs,
            objects=self.task.objects,
            self_collision=self_collision,
            num_threads=num_threads,
            terrain=perturbed.terrain(),
        )
        self.perturber = Perturber(perturbed, self.simulator) if perturbed.ranges() else None
        if self.perturber is not None:
            self.inputs.surface = self.simulator.surface
        self.num_envs, self.control = num_envs, control
        self._made_with_prompt = prompt is not None
        self.set_prompt(prompt)
        self.max_steps = None if max_episode_steps == -1 else max_episode_steps
        self.early_termination, self.autoreset = early_termination, autoreset
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 30,
            "autoreset_mode": AutoresetMode.SAME_STEP if autoreset else AutoresetMode.DISABLED,
        }
        self._make_spaces()
        self.start_generator, self.goal_generator = torch.Generator(), torch.Generator()
        self.seeded = False
        self.steps = torch.zeros(num_envs, dtype=torch.long)
        self.goal: Goal = {}
        self.conditions: dict[str, Tensor] = {}
        self.outcomes = Outcomes(num_envs, at_end=self.task.success_at_end)
        self._renderer: Any = None

    def _make_spaces(self) -> None:
        self._model_entries: dict[str, tuple[int, ...]] = {}
        if self.control == "joint":
            self._model_entries = input_shapes(
                self.bfm, self.inputs, prompted=self._made_with_prompt
            )
        clip = self.bfm.config.norm_clip
        bounds = {"state": np.inf if clip is None else clip}
        shapes = {"task": (self.task.observation_size,), "state": (state_size(self.humanoid),)}
        self.single_observation_space = observation_space(bounds, shapes | self._model_entries)
        joint = self.control == "joint"
        width = self.humanoid.num_dofs if joint else self.bfm.token_axes
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (width,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    # ---- protocol -------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start new episodes everywhere, or where ``options["reset_mask"]`` (N,) is True."""
        super().reset(seed=seed)
        if seed is not None or not self.seeded:
            for generator in (self.start_generator, self.goal_generator):
                generator.manual_seed(int(self.np_random.integers(2**62)))
            if self.perturber is not None:
                self.perturber.seed(self.np_random)
            self.seeded = True
        mask = (options or {}).get("reset_mask")
        if mask is None:
            mask = np.ones(self.num_envs, dtype=bool)
        elif np.shape(mask) != (self.num_envs,) or np.asarray(mask).dtype != bool:
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool, got {mask!r}")
        elif not np.any(mask):
            raise ValueError("reset_mask must have a True, all are False")
        self._restart(torch.from_numpy(np.flatnonzero(mask)))
        return self._observe(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step (1/30 s) of every environment.

        Raises:
            ValueError: wrong shape, NaN or infinity; nothing has been stepped then.
            gymnasium.error.ResetNeeded: :meth:`reset` has not been called.
        """
        if not self.seeded:
            raise gymnasium.error.ResetNeeded(
                "step was called before reset: there is no episode yet"
            )
        pd_target = self.pd_target(checked_actions(actions, self.action_space))
        before = self.simulator.state
        if self.perturber is not None:
            pd_target = self.perturber.delay(pd_target)
            self.perturber.push()
        after = self.simulator.step(pd_target)
        if self.perturber is not None:
            self.perturber.draw_noise()
        self.steps = self.steps + 1
        transition = Transition(before, after, self.steps)
        reward, terminated, truncated, info = self._judge(transition)
        done = terminated | truncated
        observations = self._observe()
        info |= as_info({"fallen": fallen(transition, self.humanoid) & ~self.simulator.diverged})
        if self.autoreset and bool(done.any()):
            info = with_final(info, observations, done.numpy())
            self._restart(done.nonzero().flatten())
            observations = self._observe()
        return (
            observations,
            reward.numpy().astype(np.float64),
            terminated.numpy(),
            truncated.numpy(),
            info,
        )

    def _judge(self, transition: Transition) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        """Reward, terminated, truncated, (N,) each, and info; goals that are over are renewed."""
        diverged = self.simulator.diverged
        self.goal = self.task.advance_goal(transition, self.goal)
        terms = self.task.reward_terms(transition, self.goal)
        reward = torch.where(diverged, 0.0, torch.stack(list(terms.values())).sum(dim=0))
        measured, good = self.task.step_is_good(transition, self.goal)
        metrics = self.task.metrics(transition, self.goal)
        self.outcomes.add(terms, metrics, measured, good, valid=~diverged)
        terminated = diverged.clone()
        if self.early_termination:
            terminated |= self.task.terminated(transition, self.goal, self.humanoid)
        truncated = torch.zeros_like(terminated)
        if self.max_steps is not None:
            truncated = ~terminated & (self.steps >= self.max_steps)
        goal_over = self.task.goal_is_over(self.goal, self.steps) & ~terminated & ~truncated
        self.outcomes.close_goals(goal_over)
        of_goal = {"goal_over": goal_over, **self._conditions()}
        self._renew_goals(goal_over)
        summary = self.outcomes.summary(terminated, self._goals_left(), diverged)
        return reward, terminated, truncated, as_info({**summary, **of_goal})

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One RGB picture per environment, (H, W, 3) uint8 each; None without ``rgb_array``."""
        if self.render_mode is None:
            return None
        from tt_gym.envs.rendering import Painter

        if self._renderer is None:
            self._renderer = Painter(self.simulator)
        return tuple(
            self._renderer.draw(index, self._goal(index)) for index in range(self.num_envs)
        )

    def set_prompt(self, prompt: str | Prompt | None) -> None:
        """Show another prompt from the next step on; the environment works on a copy of it.

        Raises:
            ValueError: it names a prompt that the task does not have, or joint control was made
                without a prompt, so that the observation has no entry for it.
            TypeError: it is no prompt.
        """
        if self.control == "joint" and prompt is not None and not self._made_with_prompt:
            raise ValueError("joint control was made without a prompt; give one to make() instead")
        for name in names_in(prompt):
            if name not in self.task.prompts:
                raise ValueError(self._unknown_prompt(name))
        self.own_prompt = own_copy(prompt)
        self.prompt = prompt

    def close_extras(self, **kwargs: Any) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # ---- pieces of a step -----------------------------------------------------------------------

    def pd_target(self, actions: Tensor) -> Tensor:
        """PD targets (N, D), rad, that the frozen model (or joint control) makes of the actions."""
        state = self._measured()
        if self.control == "joint":
            self.inputs.remember(state, raw_action(self.bfm, actions))
            return actions * joint_scale(self.bfm)
        with torch.no_grad():
            seen = self.model_inputs(state)
            token = self.bfm.task_token(actions) if self.control == "token" else None
            latent = self.bfm.latent(seen.state, seen.goals, token)
            action = self.bfm.decode(seen.decoder_input, latent)
            self.inputs.remember(state, action)
            return self.bfm.pd_target(action)

    def _task_prompt(self, name: str, state: BodyState) -> Targets:
        if name not in self.task.prompts:
            raise ValueError(self._unknown_prompt(name))
        return self.task.build_prompt(name, state, self.goal)

    def _unknown_prompt(self, name: str) -> str:
        known = ", ".join(self.task.prompts) or "none"
        return f"unknown prompt {name!r} for task {type(self.task).__name__}; known: {known}"

    def model_inputs(self, state: BodyState) -> ModelInputs:
        """What the frozen model sees of a state, with the prompt, if there is one."""
        targets = None
        if self.own_prompt is not None:
            moment = Moment(state, self.steps, self.humanoid, self._task_prompt)
            targets = self.own_prompt.targets(moment)
        return self.inputs.observe(state, targets)

    def _measured(self) -> BodyState:
        """The state as policy and model see it."""
        state = self.simulator.state
        return state if self.perturber is None else self.perturber.measure(state)

    def _observe(self) -> dict[str, np.ndarray]:
        state = self._measured()
        observations = {
            "task": self.task.observe(state, self.goal),
            "state": self.bfm.normalize(STATE, self.inputs.observe_state(state)),
        }
        if self._model_entries:
            seen = self.model_inputs(state)
            observations |= pack(self.bfm, seen, list(self._model_entries))
        return {name: value.numpy() for name, value in observations.items()}

    def _restart(self, ids: Tensor) -> None:
        """New start states, objects and goals for some environments."""
        qpos, qvel, past = draw_starts(
            len(ids),
            self.start_generator,
            self.humanoid,
            self.start,
            self.clip,
            remembered_steps=self.inputs.remembered_steps,
        )
        state = root_only(self.simulator.state[ids], qpos)  # objects stand around the root
        qpos, qvel = with_objects(qpos, qvel, self.task, state, self.start_generator)
        if self.perturber is not None:
            qpos = self.perturber.begin_episodes(ids, qpos)
        self.simulator.reset(ids, qpos, qvel)
        self.inputs.restart(ids, self.simulator.state, past)
        self.steps = self.steps.index_fill(0, ids, 0)  # goals may hold the old ones
        self.outcomes.restart(ids)
        fresh = self.task.sample_goal(self.simulator.state[ids], None, self.start_generator)
        self._write_goal(ids, fresh)

    def _goals_left(self) -> Tensor:
        """The goal of now and those to come; these are unknown without a time limit of our own."""
        if self.max_steps is None:
            return torch.ones((), dtype=torch.long)
        return self.task.goals_left(self.goal, self.max_steps)

    def _renew_goals(self, over: Tensor) -> None:
        # drawn for all, so that no environment's goals depend on what becomes of the others
        fresh = self.task.sample_goal(self.simulator.state, self.goal, self.goal_generator)
        ids = over.nonzero().flatten()
        if len(ids):
            self._write_goal(ids, {key: value[ids] for key, value in fresh.items()})

    def _write_goal(self, ids: Tensor, fresh: Goal) -> None:
        """New goals, and how hard they are from the states in which they begin."""
        self._write(self.goal, ids, fresh)
        self._write(self.conditions, ids, self.task.condition(self.simulator.state[ids], fresh))

    def _write(self, kept: dict[str, Tensor], ids: Tensor, fresh: dict[str, Tensor]) -> None:
        for key, value in fresh.items():
            if key not in kept:
                kept[key] = torch.zeros(self.num_envs, *value.shape[1:], dtype=value.dtype)
            kept[key] = kept[key].clone()
            kept[key][ids] = value

    def _conditions(self) -> dict[str, Tensor]:
        """As reported in info."""
        drawn = {} if self.perturber is None else self.perturber.drawn()
        named = {**self.conditions, **drawn}
        return {f"condition/{name}": value.clone() for name, value in named.items()}

    def _goal(self, index: int) -> Goal:
        """One environment's goal."""
        return {key: value[index] for key, value in self.goal.items()}

    # ---- resuming -------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Everything the environment remembers, as checkpoint content."""
        return saved_state.save(self)

    def set_state(self, saved: dict[str, Any]) -> None:
        """Continue exactly where :meth:`get_state` was taken.

        Raises:
            ValueError: it was taken with another ``num_envs``, task, model or perturbations;
                nothing has changed then.
        """
        saved_state.restore(self, saved)

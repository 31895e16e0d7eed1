"""The tracking environment of stage 2: with prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import TARGET_STEPS, Targets
from tt_gym.motions.clip import FPS
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.transitions import TransitionEnv
from tt_gym.simulation import CONTROL_DT, Simulator

PROMPT_MODES = ("full", "heading_speed", "root", "sparse", "nothing")
"""What is shown: everything, heading and speed, the root's path, random parts, nothing."""
_MODE_WEIGHTS = (0.25, 0.3, 0.1, 0.15, 0.2)
_MODE_CHANGE_PROBABILITY = 1.0 / 90.0  # per control step: prompts switch within an episode too
_STRIDE_S = 0.7  # velocities are averaged over about half a walking cycle
_SPARSE_BODY, _SPARSE_TOKEN = 0.2, 0.5  # chance to show a body's goal, and a token at all


def stride_velocity(library: MotionLibrary) -> Tensor:
    """Root velocity in the plane averaged over a stride, per frame of the library: (F, 2), m/s."""
    half = round(_STRIDE_S * FPS / 2)
    averaged = []
    for clip_id in range(len(library.names)):
        frames = torch.arange(int(library.lengths[clip_id]))
        ids = torch.full_like(frames, clip_id)
        after = library.frame_index(ids, frames + half)
        before = library.frame_index(ids, frames - half)
        travel = library.frames.pos[after, 0, :2] - library.frames.pos[before, 0, :2]
        averaged.append(travel * FPS / (after - before).clamp(min=1).unsqueeze(-1))
    return torch.cat(averaged)


class DistillEnv(TransitionEnv):
    """Tracking with prompts. Without a goal for the root's position the reference is moved along.

    The tracker's label would otherwise pull towards a place (or, with nothing shown, a heading)
    that the student cannot know.

    Args:
        simulator, library, seed: as for :class:`TrackingEnv`.
        only_mode: use this prompt mode alone, and no disturbances, for evaluation.

    Attributes:
        mode: index into :data:`PROMPT_MODES`, (N,).
    """

    def __init__(
        self,
        simulator: Simulator,
        library: MotionLibrary,
        *,
        seed: int = 0,
        only_mode: str | None = None,
    ) -> None:
        self._mode_weights = torch.tensor(_MODE_WEIGHTS)
        if only_mode is not None:
            self._mode_weights = torch.tensor([float(name == only_mode) for name in PROMPT_MODES])
        num_envs, bodies = simulator.num_envs, simulator.humanoid.num_bodies
        self.mode = torch.zeros(num_envs, dtype=torch.long)
        count = len(TARGET_STEPS)
        self.pos_visible = torch.zeros(num_envs, count, bodies, dtype=torch.bool)
        self.rot_visible = torch.zeros(num_envs, count, bodies, dtype=torch.bool)
        self.heading_visible = torch.zeros(num_envs, count, dtype=torch.bool)
        self.velocity_visible = torch.zeros(num_envs, count, dtype=torch.bool)
        super().__init__(simulator, library, seed=seed, disturb=only_mode is None)
        self._stride_velocity = stride_velocity(library)

    def clip_weights(self) -> Tensor:
        """As :meth:`TrackingEnv.clip_weights`, with less weight on what the tracker finds hard."""
        return self.library.durations_s.sqrt() * (0.3 * (self.failures / self.tries).sqrt() + 0.3)

    def advance(self, pd_target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`TransitionEnv.advance`; now and then the prompt changes."""
        outcome = super().advance(pd_target)
        change = torch.rand(self.num_envs, generator=self.generator) < _MODE_CHANGE_PROBABILITY
        self.draw_freedom(change.nonzero().flatten())
        return outcome

    def draw_freedom(self, ids: Tensor) -> None:
        """Draw prompts afresh; they decide where the reference follows."""
        self.draw_prompts(ids)
        self.free_heading = self.mode == PROMPT_MODES.index("nothing")
        self.free_place = self.free_heading | (self.mode == PROMPT_MODES.index("heading_speed"))

    def draw_prompts(self, ids: Tensor) -> None:
        """Draw mode and visibility afresh for some environments."""
        count, tokens = len(ids), len(TARGET_STEPS)
        if count == 0:
            return
        mode = torch.multinomial(
            self._mode_weights, count, replacement=True, generator=self.generator
        )
        self.mode[ids] = mode
        self.show(ids, mode, tokens)

    def show(self, ids: Tensor, mode: Tensor, tokens: int) -> None:
        """Set the visibility that belongs to ``mode`` (len(ids),)."""

        def is_mode(name: str) -> Tensor:
            return (mode == PROMPT_MODES.index(name)).view(-1, 1)

        def coin(probability: float, *shape: int) -> Tensor:
            return torch.rand(len(ids), *shape, generator=self.generator) < probability

        bodies = self.simulator.humanoid.num_bodies
        full, sparse = is_mode("full"), is_mode("sparse") & coin(_SPARSE_TOKEN, tokens)
        far = torch.arange(tokens) >= tokens - 2
        root = torch.zeros(bodies, dtype=torch.bool)
        root[0] = True
        path = (is_mode("root") & far).unsqueeze(-1) & root
        for visible in (self.pos_visible, self.rot_visible):
            random_parts = sparse.unsqueeze(-1) & coin(_SPARSE_BODY, tokens, bodies)
            visible[ids] = full.unsqueeze(-1) | path | random_parts
        guided = full | (is_mode("heading_speed") & far)
        self.heading_visible[ids] = guided | (sparse & coin(0.3, tokens))
        self.velocity_visible[ids] = guided | (sparse & coin(0.3, tokens))

    def targets(self) -> Targets:
        """The goals of this step with their visibility, in the reference's frame."""
        steps = torch.tensor(TARGET_STEPS)
        index = self.library.frame_index(
            self.clip_ids.unsqueeze(1), self.frame.unsqueeze(1) + steps
        )  # (N, K)
        frames = self.library.frames
        return Targets(
            pos=frames.pos[index],
            rot=frames.rot[index],
            heading=rotations.heading(frames.rot[index, 0]),
            velocity=self._stride_velocity[index],
            time_s=(steps * CONTROL_DT).expand(index.shape),
            pos_visible=self.pos_visible,
            rot_visible=self.rot_visible,
            heading_visible=self.heading_visible,
            velocity_visible=self.velocity_visible,
        )

"""Tracking across clips: pushes, changes to another clip, references that follow the humanoid."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.tracking_env import TrackingEnv
from tt_gym.simulation import BodyState, Simulator

_SWITCH_PROBABILITY = 1.0 / 60.0  # per control step: go over to another clip
_SWITCH_CANDIDATES = 48
_SWITCH_MAX_ERROR = 0.2  # m, mean over bodies
_SWITCH_MAX_SPEED_ERROR = 0.6  # m/s, mean over bodies, where another speed is no option
_SWITCH_MARGIN = 45  # frames left in the new clip
_PUSH_PROBABILITY = 1.0 / 90.0
_PUSH_SPEED = 0.3  # m/s, standard deviation
_CALM, _FREE_PLACE, _FREE_HEADING = 0.5, 0.35, 0.1  # shares of episodes
_STATE = ("shift", "turn", "calm", "free_place", "free_heading")


def aligned_pose(pos: Tensor, root_rot: Tensor, vel: Tensor) -> Tensor:
    """Body positions around the root's place and velocities in the heading frame, (N, 2 B, 3)."""
    place = torch.cat((pos[:, 0, :2], torch.zeros(len(pos), 1)), dim=-1).unsqueeze(1)
    return rotations.to_heading_frame(root_rot, torch.cat((pos - place, vel), dim=1))


def aligned_poses(library: MotionLibrary) -> Tensor:
    """:func:`aligned_pose` of every frame, (F, 2 B, 3)."""
    frames = library.frames
    return aligned_pose(frames.pos, frames.rot[:, 0], frames.vel)


class TransitionEnv(TrackingEnv):
    """Tracking with disturbances, as a model that is steered freely will need it.

    In about half of the episodes humanoids are pushed and led over to other clips in a similar
    pose. In a share of the episodes the reference is moved along with the humanoid, so that only
    the manner of moving counts and not the place (or, in some, the heading).

    Args:
        simulator, library, seed: as for :class:`TrackingEnv`.
        disturb: push and change clips.

    Attributes:
        calm: environments without disturbances, (N,) bool.
        free_place, free_heading: where the reference follows the humanoid, (N,) bool.
    """

    def __init__(
        self,
        simulator: Simulator,
        library: MotionLibrary,
        *,
        seed: int = 0,
        disturb: bool = True,
    ) -> None:
        self.disturb = disturb
        num_envs = simulator.num_envs
        self.shift, self.turn = torch.zeros(num_envs, 2), torch.zeros(num_envs)
        self.calm = torch.zeros(num_envs, dtype=torch.bool)
        self.free_place = torch.zeros(num_envs, dtype=torch.bool)
        self.free_heading = torch.zeros(num_envs, dtype=torch.bool)
        super().__init__(simulator, library, seed=seed)
        self._aligned = aligned_poses(library)

    def view(self) -> BodyState:
        """The state in the reference's frame: turned by ``turn``, then moved by ``shift``."""
        state = self.simulator.state
        yaw = rotations.yaw_quat(self.turn).unsqueeze(1)
        pos = rotations.rotate(yaw, state.pos)
        pos[..., :2] += self.shift.unsqueeze(1)
        return dataclasses.replace(
            state,
            pos=pos,
            rot=rotations.quat_multiply(yaw, state.rot),
            vel=rotations.rotate(yaw, state.vel),
            ang_vel=rotations.rotate(yaw, state.ang_vel),
        )

    def advance(self, pd_target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`TrackingEnv.advance`; then disturbances, and the reference is moved."""
        outcome = super().advance(pd_target)
        if self.disturb:
            self.disturbances()
        self.follow(self.free_place, self.free_heading)
        return outcome

    def restart(self, ids: Tensor) -> None:
        """As :meth:`TrackingEnv.restart`, at the clip's own place."""
        super().restart(ids)
        self.shift[ids], self.turn[ids] = 0.0, 0.0
        self.calm[ids] = torch.rand(len(ids), generator=self.generator) < _CALM
        self.draw_freedom(ids)

    def draw_freedom(self, ids: Tensor) -> None:
        """Decide where the reference follows the humanoid in these environments."""
        draw = torch.rand(len(ids), generator=self.generator)
        self.free_place[ids] = draw < _FREE_PLACE
        self.free_heading[ids] = draw < _FREE_HEADING

    def disturbances(self) -> None:
        """Push some humanoids; lead others over to another clip in a similar pose."""
        pushed = torch.rand(self.num_envs, generator=self.generator) < _PUSH_PROBABILITY
        ids = (pushed & ~self.calm).nonzero().flatten()
        if len(ids):
            push = _PUSH_SPEED * torch.randn(len(ids), 3, generator=self.generator)
            self.simulator.push(ids, push)
        switch = torch.rand(self.num_envs, generator=self.generator) < _SWITCH_PROBABILITY
        self.switch_clips((switch & ~self.calm).nonzero().flatten())

    def switch_clips(self, ids: Tensor) -> None:
        """Continue with one of some random frames that are similar enough, where there is one."""
        count = len(ids)
        if count == 0:
            return
        clips, frames = self.library.sample(
            count * _SWITCH_CANDIDATES,
            self.library.durations_s.sqrt(),
            self.generator,
            margin=_SWITCH_MARGIN,
        )
        clips, frames = clips.view(count, -1), frames.view(count, -1)
        state = self.simulator.state[ids]
        pose = aligned_pose(state.pos, state.rot[:, 0], state.vel)
        other = self._aligned[self.library.frame_index(clips, frames)]  # (n, C, 2 B, 3)
        difference = (other - pose.unsqueeze(1)).norm(dim=-1)
        bodies = state.pos.shape[1]
        slow = difference[..., bodies:].mean(dim=-1) < _SWITCH_MAX_SPEED_ERROR
        similar = difference[..., :bodies].mean(dim=-1) < _SWITCH_MAX_ERROR
        # another speed only where the place is free, and not where a model could see no reason
        any_speed = self.free_place & ~self.free_heading
        similar &= slow | any_speed[ids].unsqueeze(-1)
        order = torch.rand(similar.shape, generator=self.generator)
        best = torch.where(similar, order, 2.0).argmin(dim=1)
        rows = similar.any(dim=1).nonzero().flatten()
        chosen, best = ids[rows], best[rows]
        self.clip_ids[chosen] = clips[rows, best]
        self.frame[chosen] = frames[rows, best]
        switched = torch.zeros(self.num_envs, dtype=torch.bool)
        switched[chosen] = True
        self.follow(switched, switched)

    def follow(self, place: Tensor, heading: Tensor) -> None:
        """Move the reference onto the humanoid: its place, its heading, where the masks say so."""
        state, reference = self.simulator.state, self.reference()
        turn = rotations.heading(reference.rot[:, 0]) - rotations.heading(state.rot[:, 0])
        self.turn = torch.where(heading, rotations.wrap_angle(turn), self.turn)
        moved = rotations.rotate_xy(self.turn, state.pos[:, 0, :2])
        shift = reference.pos[:, 0, :2] - moved
        self.shift = torch.where((place | heading).unsqueeze(-1), shift, self.shift)

    def get_state(self) -> dict[str, Any]:
        """As :meth:`TrackingEnv.get_state`."""
        return {**super().get_state(), **{name: getattr(self, name) for name in _STATE}}

    def continues(self, saved: dict[str, Any]) -> bool:
        """As :meth:`TrackingEnv.continues`; a state without disturbances cannot be continued."""
        return saved.keys() >= set(_STATE) and super().continues(saved)

    def set_state(self, saved: dict[str, Any]) -> None:
        """As :meth:`TrackingEnv.set_state`."""
        super().set_state(saved)
        if self.continues(saved):
            for name in _STATE:
                setattr(self, name, saved[name].clone())

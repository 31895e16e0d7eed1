"""Clips made ready for physics: all frames of all clips in one batch of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import Humanoid
from tt_gym.motions.clip import FPS, Clip, ClipError, lift, unroll
from tt_gym.text import captions

_SIDEWAYS = 0.4  # rad between facing and travel that no caption tells of


@dataclasses.dataclass(frozen=True)
class MotionFrames:
    """Reference states, one row a frame.

    Attributes:
        qpos: (F, nq). qvel: (F, nv).
        pos: body origins, (F, B, 3), m. rot: (F, B, 4).
        vel: (F, B, 3), m/s. ang_vel: (F, B, 3), rad/s.
        pd_target: set-point that moves with the motion, (F, D): pose plus velocity times kd/kp.
    """

    qpos: Tensor
    qvel: Tensor
    pos: Tensor
    rot: Tensor
    vel: Tensor
    ang_vel: Tensor
    pd_target: Tensor

    def __getitem__(self, index: Tensor) -> MotionFrames:
        """The rows of some frames."""
        return MotionFrames(
            **{field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)}
        )


class MotionLibrary:
    """Batched access to clips by clip index and time.

    Args:
        humanoid: whose motions they are.
        clips: lifted out of the floor; looping ones are unrolled.
        window_s: looping clips are repeated until they last this long, s.

    Raises:
        ClipError: a clip has another number of bodies, or two share a name.
    """

    def __init__(
        self, humanoid: Humanoid, clips: Sequence[Clip], *, window_s: float = 10.0
    ) -> None:
        if not clips:
            raise ClipError("a motion library needs at least one clip")
        self.humanoid = humanoid
        self.names = tuple(clip.name for clip in clips)
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ClipError(
                f"clip names must be unique, given twice: {', '.join(twice)}; rename the file"
            )
        for clip in clips:
            if clip.joint_rot.shape[1] != humanoid.num_bodies:
                raise ClipError(
                    f"clip {clip.name!r}: field 'joint_rot' has {clip.joint_rot.shape[1]} bodies, "
                    f"the humanoid has {humanoid.num_bodies}"
                )
        ready = [unroll(lift(clip, humanoid), window_s) for clip in clips]
        self.lengths = torch.tensor([clip.num_frames for clip in ready])
        self.starts = torch.cumsum(self.lengths, dim=0) - self.lengths
        self.loops = torch.tensor([clip.loop for clip in clips])
        """Clips that were repeated because they loop: (C,) bool."""
        self.asked = torch.cat([_asked(clip) for clip in ready])
        """Heading, speed and direction of travel that a made clip is on its way to, rad and m/s,
        NaN for others: (F, 3)."""
        bodies = [-1 if clip.led is None else humanoid.body_index(clip.led) for clip in ready]
        self.led = torch.tensor(bodies)
        """Index of the body by which a made clip is led, -1 for others: (C,)."""
        self.goals = torch.cat([_goals(clip) for clip in ready])
        """Where the led body is asked to be, m, world, NaN where nothing is: (F, 3)."""
        self.behaviour = torch.cat([_behaviour(clip) for clip in ready])
        """Index of what is done, see :mod:`tt_gym.text.captions`, -1 where there are no words for
        it: (F,)."""
        parts = [self._frames(clip) for clip in ready]
        fields = [field.name for field in dataclasses.fields(MotionFrames)]
        self.frames = MotionFrames(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in fields}
        )

    @property
    def durations_s(self) -> Tensor:
        """Time from the first to the last frame of each clip, (C,), s."""
        return (self.lengths - 1) / FPS

    def _frames(self, clip: Clip) -> MotionFrames:
        humanoid = self.humanoid
        qpos = humanoid.qpos_from_pose(clip.root_pos, clip.joint_rot)
        ahead = torch.arange(clip.num_frames) + 1
        ahead, behind = ahead.clamp(max=clip.num_frames - 1), (ahead - 2).clamp(min=0)
        # central differences inside, one-sided at both ends
        dt = (ahead - behind).float().unsqueeze(-1) / FPS
        root_vel = (clip.root_pos[ahead] - clip.root_pos[behind]) / dt
        rot_behind, rot_ahead = clip.joint_rot[behind], clip.joint_rot[ahead]
        qvel = humanoid.qvel_from_poses(root_vel, rot_behind, rot_ahead, 1.0)
        qvel[:, 3:] /= dt
        pos, rot, vel, ang_vel = humanoid.forward_kinematics(qpos, qvel)
        target = humanoid.pd_target_from_pose(clip.joint_rot) + humanoid.velocity_gain * qvel[:, 6:]
        return MotionFrames(qpos, qvel, pos, rot, vel, ang_vel, target)

    def frame_index(self, clip_ids: Tensor, frames: Tensor) -> Tensor:
        """Row of ``frames`` for a frame number within a clip, held at its ends: (...,) long."""
        last = self.lengths[clip_ids] - 1
        return self.starts[clip_ids] + torch.minimum(frames.clamp(min=0), last)

    def interpolate(self, clip_ids: Tensor, times_s: Tensor) -> tuple[Tensor, Tensor]:
        """Body positions and rotations between frames.

        Args:
            clip_ids: (...,).
            times_s: (...,), s from the clip's start, held at its ends.

        Returns:
            (..., B, 3) m, (..., B, 4).
        """
        position = (times_s * FPS).clamp(min=0)
        left = position.floor().long()
        fraction = (position - left).unsqueeze(-1).unsqueeze(-1)
        a, b = self.frame_index(clip_ids, left), self.frame_index(clip_ids, left + 1)
        pos = torch.lerp(self.frames.pos[a], self.frames.pos[b], fraction)
        return pos, rotations.slerp(self.frames.rot[a], self.frames.rot[b], fraction)

    def sample(
        self, count: int, weights: Tensor, generator: torch.Generator, *, margin: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Draw clips by weight and start frames evenly, ``margin`` frames before the end at latest.

        Args:
            count: how many.
            weights: (C,), non-negative.
            generator: source of randomness.
            margin: frames to leave after the start.

        Returns:
            Clip indices and frame numbers, (count,) long each.
        """
        clip_ids = torch.multinomial(weights, count, replacement=True, generator=generator)
        room = (self.lengths[clip_ids] - margin).clamp(min=1)
        start = (torch.rand(count, generator=generator) * room).long()
        return clip_ids, start


def _behaviour(clip: Clip) -> Tensor:
    if clip.asked is not None:
        heading, speed, direction = _asked(clip).unbind(dim=-1)
        turn = rotations.wrap_angle(heading - rotations.heading(clip.joint_rot[:, 0]))
        index = captions.of_course(speed, turn)
        sideways = rotations.wrap_angle(direction - heading).abs() > _SIDEWAYS
        return index.masked_fill(sideways & (speed > 0.0), captions.NONE)
    index = torch.full((clip.num_frames,), captions.of_clip(clip.name))
    for first, behaviour in clip.behaviours:
        index[first:] = captions.NAMES.index(behaviour)
    return index


def _goals(clip: Clip) -> Tensor:
    return torch.full((clip.num_frames, 3), torch.nan) if clip.goals is None else clip.goals


def _asked(clip: Clip) -> Tensor:
    if clip.asked is None:
        return torch.full((clip.num_frames, 3), torch.nan)
    return torch.cat((clip.asked[:, :2], clip.asked[:, [-1 if clip.asked.shape[1] == 3 else 0]]), 1)

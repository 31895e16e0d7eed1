"""What stage 2 must know of every frame of the clips beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.motions.clip import FPS
from tt_gym.motions.library import MotionLibrary

ASKED_CHANGE = 0.05  # rad or m/s: more than that is something else that is asked
_STRIDE_S = 0.7  # velocities are averaged over about half a walking cycle
_SETTLED_FRAMES = 45  # after a change in a made clip, all that was asked has become visible
_STRAIGHT = 0.7  # cosine to the mean direction that no frame of a loop falls below


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


def settled(library: MotionLibrary) -> Tensor:
    """Frames (F,), bool, after which nothing new comes.

    They are those of loops that go straight on, and of made clips where they are not on their way
    to something newly asked.
    """
    moved = torch.zeros(len(library.asked), dtype=torch.bool)
    moved[1:] = (library.asked.diff(dim=0).abs() > ASKED_CHANGE).any(dim=-1)
    made = library.asked.isfinite().all(dim=-1)
    moved[library.starts] = made[library.starts]
    frames = torch.arange(len(moved))
    latest = torch.where(moved, frames, -_SETTLED_FRAMES).cummax(dim=0).values
    heading = rotations.heading(library.frames.rot[:, 0])
    ways = [rotations.direction_xy(part) for part in heading.split(library.lengths.tolist())]
    straight = torch.tensor([bool((way @ way.mean(dim=0) > _STRAIGHT).all()) for way in ways])
    loops = torch.repeat_interleave(library.loops & straight, library.lengths)
    return loops | (made & (frames - latest >= _SETTLED_FRAMES))


def aligned_pose(pos: Tensor, root_rot: Tensor, vel: Tensor) -> Tensor:
    """Body positions around the root's place and velocities in the heading frame, (N, 2 B, 3)."""
    place = torch.cat((pos[:, 0, :2], torch.zeros(len(pos), 1)), dim=-1).unsqueeze(1)
    return rotations.to_heading_frame(root_rot, torch.cat((pos - place, vel), dim=1))


def aligned_poses(library: MotionLibrary) -> Tensor:
    """:func:`aligned_pose` of every frame, (F, 2 B, 3)."""
    frames = library.frames
    return aligned_pose(frames.pos, frames.rot[:, 0], frames.vel)

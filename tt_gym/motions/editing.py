"""Edits that make new clips out of recorded ones. What was not moved that way is tagged "made"."""

from __future__ import annotations

import dataclasses
import math

import torch

from tt_gym import rotations
from tt_gym.motions.clip import FPS, Clip, moved, resample


def time_warp(clip: Clip, factor: float) -> Clip:
    """The clip played ``factor`` times as fast, to the nearest frame so that a loop still closes.

    Raises:
        ValueError: ``factor`` is not positive or leaves less than two frames.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"factor must be positive, got {factor}")
    steps = round((clip.num_frames - 1) / factor)
    if steps < 1:
        raise ValueError(f"factor {factor} leaves nothing of clip {clip.name!r}")
    last_frame_s = steps / FPS
    times = torch.linspace(0.0, last_frame_s, clip.num_frames, dtype=torch.float64)
    pos, rot = resample(times, clip.root_pos.double(), clip.joint_rot.double())
    return dataclasses.replace(
        clip,
        name=f"{clip.name}_x{factor:g}",
        root_pos=pos.float(),
        joint_rot=rot.float(),
        source=f"{clip.source}; made: played {factor:g} times as fast",
        asked=None,
        goals=None,
        behaviours=(),
    )


def cut(clip: Clip, start_s: float, end_s: float, name: str) -> Clip:
    """A piece of a clip, moved so that it starts above the origin and faces +x.

    Raises:
        ValueError: the piece does not lie within the clip or is shorter than a frame.
    """
    first, last = round(start_s * FPS), round(end_s * FPS)
    if not 0 <= first < last < clip.num_frames:
        raise ValueError(
            f"piece must lie within 0 to {clip.duration_s:.2f} s of clip {clip.name!r}, "
            f"got {start_s} to {end_s} s"
        )
    root_pos, joint_rot = moved(
        clip.root_pos[first : last + 1],
        clip.joint_rot[first : last + 1],
        yaw=-rotations.heading(clip.joint_rot[first, 0]),
        pivot=clip.root_pos[first, :2],
        place=clip.root_pos.new_zeros(2),
    )
    source = f"{clip.source}; {first / FPS:.2f} to {last / FPS:.2f} s of {clip.name}"
    return Clip(name, root_pos, joint_rot, loop=False, source=source)


def back_and_forth(clip: Clip, *, name: str, period_s: float) -> Clip:
    """A loop of ``period_s`` that plays a clip to its end and back, slowing down at both turns.

    Turns a moment of quiet standing into any length of it. Time runs along a cosine, so position
    and velocity are continuous, also from one period to the next.
    """
    steps = round(period_s * FPS)
    phase = torch.arange(steps + 1, dtype=torch.float64) / steps
    position = (0.5 - 0.5 * (2.0 * torch.pi * phase).cos()) * (clip.num_frames - 1)
    left = position.long().clamp(max=clip.num_frames - 2)
    fraction = (position - left).unsqueeze(-1)
    pos, rot = clip.root_pos.double(), clip.joint_rot.double()
    root_pos = torch.lerp(pos[left], pos[left + 1], fraction)
    joint_rot = rotations.slerp(rot[left], rot[left + 1], fraction.unsqueeze(-1))
    return Clip(
        name,
        root_pos.float(),
        rotations.quat_normalize(joint_rot).float(),
        loop=True,
        source=f"{clip.source}; made: played back and forth every {period_s:g} s",
    )


def close_loop(clip: Clip, blend_frames: int = 8) -> Clip:
    """The looping clip with its last pose equal to its first, up to place and heading.

    Recorded cycles do not quite repeat. Both ends move half of the difference towards each other,
    easing in over ``blend_frames``; the root keeps its path and its heading.
    """
    frames = min(blend_frames, (clip.num_frames - 1) // 2)
    yaw = rotations.heading(clip.joint_rot[:, 0])
    pose = clip.joint_rot.double()
    pose[:, 0] = rotations.quat_multiply(rotations.yaw_quat(-yaw).double(), pose[:, 0])
    ease = 0.25 + 0.25 * (torch.pi * torch.arange(frames, dtype=torch.float64) / frames).cos()
    closed = pose.clone()
    for away_from_seam, other in (
        (torch.arange(frames), pose[-1]),
        (torch.arange(-1, -frames - 1, -1), pose[0]),
    ):
        own = pose[away_from_seam]
        change = rotations.quat_multiply(rotations.quat_conjugate(own[0]), other)
        part = ease[:, None, None] * rotations.exp_map_from_quat(change)
        closed[away_from_seam] = rotations.quat_multiply(own, rotations.quat_from_exp_map(part))
    closed[:, 0] = rotations.quat_multiply(rotations.yaw_quat(yaw).double(), closed[:, 0])
    joint_rot = rotations.quat_normalize(closed).float()
    source = f"{clip.source}; made: seam closed over {frames} frames"
    return dataclasses.replace(clip, joint_rot=joint_rot, source=source)

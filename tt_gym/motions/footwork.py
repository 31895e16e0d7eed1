"""A step from one stance into another: a foot stays where it is, the other goes to its place.

Where feet must go elsewhere, blending two recordings lets both slide, and nobody can do that. Here
the root moves over the foot that stays while the other is in the air; legs are placed by inverse
kinematics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import FPS, moved, resample
from tt_gym.motions.limbs import place_tip, world_pose

Frames = tuple[Tensor, Tensor]
"""Root positions (T, 3), m, and joint rotations (T, B, 4), float64."""

STRIDE = 0.12
"""How far a foot may slide where two recordings are blended, m; beyond it there must be a step."""
_SLOW = 0.8  # m/s of the root; between faster motions there is no such step
_STEP_FRAMES, _RAMP_FRAMES, _LIFT = 24, 12, 0.08  # of a step; of slowing down before it; m
_SWING = (0.15, 0.7)  # when the foot leaves the ground and for how long, of the step
_OVER_FOOT = 0.7  # share of the way to the foot on the ground that the root goes, at most


def needs_step(end: Frames, start: Frames) -> bool:
    """Whether feet slid too far if ``end`` became ``start`` in place, and both are slow."""
    count = len(end[0])
    first = start[0][:count], start[1][:count]
    if any(
        (pos[-1, :2] - pos[0, :2]).norm() * FPS / (count - 1) > _SLOW for pos in (end[0], first[0])
    ):
        return False
    before, after = (world_pose(DEEPMIMIC, *frames)[0][count // 2] for frames in (end, first))
    feet = list(DEEPMIMIC.feet)
    return bool(((after - before)[feet, :2].norm(dim=-1) > STRIDE).any())


def step_into(before: Frames, after: Frames) -> tuple[Frames, int]:
    """``before``, slowing down to a stop, a step, and ``after``, setting out from a stop.

    ``after`` is put where the foot that moves least at the seam stands already.

    Returns:
        All frames, and the one with which the step begins.
    """
    pos, rot = _stopping(*before)
    new_pos, new_rot = _setting_out(*after)
    ends, starts = (
        world_pose(DEEPMIMIC, *frames)
        for frames in (
            (pos[-_RAMP_FRAMES:], rot[-_RAMP_FRAMES:]),
            (new_pos[:_RAMP_FRAMES], new_rot[:_RAMP_FRAMES]),
        )
    )
    stays = min(
        DEEPMIMIC.feet,
        key=lambda foot: sum(float((p[-1] - p[0])[foot].norm()) for p in (ends[0], starts[0])),
    )
    yaw = rotations.heading(ends[1][-1, stays]) - rotations.heading(starts[1][0, stays])
    pivot, place = starts[0][0, stays, :2], ends[0][-1, stays, :2]
    new_pos, new_rot = moved(new_pos, new_rot, yaw=yaw, pivot=pivot, place=place)
    way = _step((pos[-1:], rot[-1:]), (new_pos[:1], new_rot[:1]), stays)
    frames = torch.cat((pos, way[0], new_pos)), torch.cat((rot, way[1], new_rot))
    return frames, len(pos)


def _step(start: Frames, end: Frames, stays: int) -> Frames:
    """The frames between two poses, (1, ...) each, between which the foot ``stays``."""
    part = torch.arange(1, _STEP_FRAMES, dtype=torch.float64) / _STEP_FRAMES
    even = _ease(part)
    root = torch.lerp(start[0], end[0], even.unsqueeze(-1))
    joints = rotations.slerp(start[1], end[1], even.view(-1, 1, 1))
    (from_pos, from_rot), (to_pos, to_rot) = (world_pose(DEEPMIMIC, *pose) for pose in (start, end))
    weight = _OVER_FOOT * (torch.pi * part).sin().square().unsqueeze(-1)
    root[:, :2] = torch.lerp(root[:, :2], from_pos[:, stays, :2], weight)
    in_air = ((part - _SWING[0]) / _SWING[1]).clamp(0.0, 1.0)
    for foot in DEEPMIMIC.feet:
        share = even if foot == stays else _ease(in_air)
        goal = torch.lerp(from_pos[:, foot], to_pos[:, foot], share.unsqueeze(-1))
        if foot != stays:
            goal[:, 2] += _LIFT * (torch.pi * in_air).sin()
        turned = rotations.slerp(from_rot[:, foot], to_rot[:, foot], share.unsqueeze(-1))
        joints = place_tip(DEEPMIMIC, root, joints, foot, goal, keep_rot=turned)
    return root, rotations.quat_normalize(joints)


def _ease(part: Tensor) -> Tensor:
    """From 0 to 1 without speed or acceleration at either end."""
    return part**3 * (10.0 - 15.0 * part + 6.0 * part**2)


def _setting_out(pos: Tensor, rot: Tensor) -> Frames:
    """The frames, begun at no speed."""
    return resample(_times(len(pos)), pos, rot)


def _stopping(pos: Tensor, rot: Tensor) -> Frames:
    """The frames, ended at no speed."""
    times = _times(len(pos))
    return resample(times[-1] - times.flip(0), pos, rot)


def _times(count: int) -> Tensor:
    """When frames are passed, s, if speed grows evenly over the first of them."""
    frame = torch.arange(count, dtype=torch.float64)
    rising = (2.0 * _RAMP_FRAMES * frame).sqrt()
    return torch.where(frame < _RAMP_FRAMES / 2, rising, frame + _RAMP_FRAMES / 2) / FPS

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
from tt_gym.motions.clip import FPS, moved
from tt_gym.motions.limbs import place_tip, world_pose
from tt_gym.motions.making import ease

Frames = tuple[Tensor, Tensor]
"""Root positions (T, 3), m, and joint rotations (T, B, 4), float64."""

STRIDE = 0.12
"""How far a foot may slide where two recordings are blended, m; beyond it there must be a step."""
_SLOW = 0.8  # m/s of the root; between faster motions there is no such step
_STEP_FRAMES, _LIFT = 24, 0.08  # of a step; m
_SPAN = 4  # frames over which the speed at its ends is measured
_SWING = (0.15, 0.7)  # when the foot leaves the ground and for how long, of the step
_OVER_FOOT = 0.7  # share of the way to the foot on the ground that the root goes, at most


def needs_step(end: Frames, start: Frames) -> bool:
    """Whether feet slid too far if ``end`` became ``start`` in place, and both are slow."""
    count = len(end[0])
    first = start[0][:count], start[1][:count]
    if any(_velocity(pos)[:2].norm() > _SLOW for pos in (end[0], first[0])):
        return False
    before, after = (world_pose(DEEPMIMIC, *frames)[0][count // 2] for frames in (end, first))
    feet = list(DEEPMIMIC.feet)
    return bool(((after - before)[feet, :2].norm(dim=-1) > STRIDE).any())


def step_into(before: Frames, after: Frames) -> tuple[Frames, int]:
    """``before``, a step, and ``after``, put where a foot stands already.

    Of both feet that one stays with which the root goes further the way it moves already, and will.

    Returns:
        All frames, and the one with which the step begins.
    """
    pos, rot = before
    from_pos, from_rot = world_pose(DEEPMIMIC, pos[-1:], rot[-1:])
    to_pos, to_rot = world_pose(DEEPMIMIC, after[0][:1], after[1][:1])

    def placed(foot: int) -> Frames:
        yaw = rotations.heading(from_rot[0, foot]) - rotations.heading(to_rot[0, foot])
        return moved(*after, yaw=yaw, pivot=to_pos[0, foot, :2], place=from_pos[0, foot, :2])

    def goes_along(foot: int) -> float:
        new_pos, _ = placed(foot)
        velocity = _velocity(pos[-_SPAN:]) + _velocity(new_pos[:_SPAN])
        return float(((new_pos[0] - pos[-1]) * velocity)[:2].sum())

    stays = max(DEEPMIMIC.feet, key=goes_along)
    new_pos, new_rot = placed(stays)
    way = _step((pos[-_SPAN:], rot[-_SPAN:]), (new_pos[:_SPAN], new_rot[:_SPAN]), stays)
    frames = torch.cat((pos, way[0], new_pos)), torch.cat((rot, way[1], new_rot))
    return frames, len(pos)


def _step(end: Frames, start: Frames, stays: int) -> Frames:
    """The frames from the last one of ``end`` to the first of ``start``; the foot ``stays``."""
    part = torch.arange(1, _STEP_FRAMES, dtype=torch.float64) / _STEP_FRAMES
    even = ease(part)
    poses = (end[0][-1:], end[1][-1:]), (start[0][:1], start[1][:1])
    (from_pos, from_rot), (to_pos, to_rot) = (world_pose(DEEPMIMIC, *pose) for pose in poses)
    root = torch.lerp(poses[0][0], poses[1][0], even.unsqueeze(-1))
    joints = rotations.slerp(poses[0][1], poses[1][1], even.view(-1, 1, 1))
    # beside that, from and to the speed of either recording
    early, late = (part * (1.0 - part) ** 3), (-(1.0 - part) * part**3)
    span_s = _STEP_FRAMES / FPS
    root += span_s * early.unsqueeze(-1) * _velocity(end[0])
    root += span_s * late.unsqueeze(-1) * _velocity(start[0])
    weight = _OVER_FOOT * (torch.pi * part).sin().square().unsqueeze(-1)
    root[:, :2] = torch.lerp(root[:, :2], from_pos[:, stays, :2], weight)
    in_air = ((part - _SWING[0]) / _SWING[1]).clamp(0.0, 1.0)
    for foot in DEEPMIMIC.feet:
        share = even if foot == stays else ease(in_air)
        goal = torch.lerp(from_pos[:, foot], to_pos[:, foot], share.unsqueeze(-1))
        if foot != stays:
            goal[:, 2] += _LIFT * (torch.pi * in_air).sin()
        turned = rotations.slerp(from_rot[:, foot], to_rot[:, foot], share.unsqueeze(-1))
        joints = place_tip(DEEPMIMIC, root, joints, foot, goal, keep_rot=turned)
    return root, rotations.quat_normalize(joints)


def _velocity(pos: Tensor) -> Tensor:
    """Mean velocity of the root, (3,), m/s."""
    return (pos[-1] - pos[0]) * FPS / (len(pos) - 1)

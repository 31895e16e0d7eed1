"""Inverse kinematics of arms and legs: bring a wrist or an ankle to a point, in closed form.

A limb is a ball joint, a hinge and a tip (shoulder, elbow, wrist; hip, knee, ankle) whose segments
hang straight down at zero. The hinge follows from the distance, the ball joint turns by the
smallest rotation that points the limb at the goal, so the limb keeps its recorded swivel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import Humanoid

_STRAIGHTEST = 0.999
"""Largest share of its length to which a limb is stretched."""


def world_pose(humanoid: Humanoid, root_pos: Tensor, joint_rot: Tensor) -> tuple[Tensor, Tensor]:
    """Position (T, B, 3), m, and rotation (T, B, 4) of every body of poses (T, 3), (T, B, 4)."""
    qpos = humanoid.qpos_from_pose(root_pos, joint_rot)
    still = torch.zeros(len(qpos), humanoid.nv, dtype=qpos.dtype)
    pos, rot, _, _ = humanoid.forward_kinematics(qpos, still)
    return pos, rot


def flexion(distance: Tensor, upper: float, lower: float) -> Tensor:
    """Angle (T,), rad, of a hinge between two segments (m) whose ends are ``distance`` (T,) apart.

    A limb that is too short is stretched, but for a thousandth: straight, it has no plane.
    """
    length = distance.clamp(max=_STRAIGHTEST * (upper + lower))
    cosine = (length.square() - upper**2 - lower**2) / (2 * upper * lower)
    return torch.acos(cosine.clamp(-1.0, 1.0))


def place_tip(
    humanoid: Humanoid,
    root_pos: Tensor,
    joint_rot: Tensor,
    tip: int,
    goal: Tensor,
    *,
    keep_rot: Tensor | None = None,
) -> Tensor:
    """Rotations (T, B, 4) in which the body ``tip`` is at ``goal``, or as near as the limb gets.

    Args:
        humanoid: with a hinge above ``tip`` and a ball joint above that.
        root_pos: (T, 3), m.
        joint_rot: (T, B, 4); all joints but the limb's stay as they are.
        tip: index of the wrist or ankle.
        goal: (T, 3), m, world.
        keep_rot: world rotation (T, 4) that ``tip`` shall have, for a foot that stays flat.

    Raises:
        ValueError: ``tip`` does not end a limb.
    """
    middle = humanoid.parents[tip]
    base = humanoid.parents[middle] if middle >= 0 else -1
    bodies = humanoid.bodies
    if base < 0 or bodies[middle].joint != "hinge" or bodies[base].joint != "ball":
        raise ValueError(f"body {bodies[tip].name!r} is not the end of an arm or a leg")
    pos, rot = world_pose(humanoid, root_pos, joint_rot)
    upper, lower = -bodies[middle].offset[2], -bodies[tip].offset[2]
    low, high = bodies[middle].range or (-torch.pi, torch.pi)
    wanted = goal - pos[:, base]
    bend = flexion(wanted.norm(dim=-1), upper, lower) * (1.0 if high > -low else -1.0)
    bend = bend.clamp(low, high)
    axis = torch.tensor([0.0, 1.0, 0.0], dtype=goal.dtype)
    hinge = rotations.quat_from_axis_angle(axis, bend)
    down = torch.tensor([0.0, 0.0, -1.0], dtype=goal.dtype).expand_as(goal)
    tip_in_base = upper * down + lower * rotations.rotate(hinge, down)
    turn = rotations.shortest_turn(rotations.rotate(rot[:, base], tip_in_base), wanted)
    turned = rotations.quat_multiply(turn, rot[:, base])
    above = rotations.quat_conjugate(rot[:, humanoid.parents[base]])
    solved = joint_rot.clone()
    solved[:, base] = rotations.quat_normalize(rotations.quat_multiply(above, turned))
    solved[:, middle] = hinge
    if keep_rot is not None:
        shank = rotations.quat_multiply(turned, hinge)
        solved[:, tip] = rotations.quat_multiply(rotations.quat_conjugate(shank), keep_rot)
    return solved

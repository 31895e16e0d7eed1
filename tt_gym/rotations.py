"""Batched rotations: quaternions ``(w, x, y, z)``, exponential maps, rot6 and heading frames.

All functions take and return float tensors whose last axis holds the rotation or vector and
broadcast over the leading axes. Quaternions are assumed to be unit length unless a function says
otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL_ANGLE = 1e-6


def quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Product ``a b`` (apply ``b`` first): (..., 4), (..., 4) -> (..., 4)."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        dim=-1,
    )


def quat_conjugate(q: Tensor) -> Tensor:
    """Inverse rotation of a unit quaternion: (..., 4)."""
    return torch.cat((q[..., :1], -q[..., 1:]), dim=-1)


def quat_normalize(q: Tensor) -> Tensor:
    """Unit quaternion along ``q``: (..., 4). A zero quaternion gives NaN."""
    return q / q.norm(dim=-1, keepdim=True)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Vector ``v`` turned by ``q``: (..., 4), (..., 3) -> (..., 3)."""
    w = q[..., :1]
    u, v = torch.broadcast_tensors(q[..., 1:], v)
    t = 2.0 * torch.linalg.cross(u, v)
    return v + w * t + torch.linalg.cross(u, t)


def quat_from_exp_map(exp_map: Tensor) -> Tensor:
    """Quaternion of the rotation vector (axis times angle, rad): (..., 3) -> (..., 4)."""
    angle = exp_map.norm(dim=-1, keepdim=True)
    half = 0.5 * angle
    # sin(angle/2)/angle, with its series where the quotient is 0/0
    scale = torch.where(angle > _SMALL_ANGLE, half.sin() / angle.clamp_min(_SMALL_ANGLE), 0.5)
    return torch.cat((half.cos(), scale * exp_map), dim=-1)


def exp_map_from_quat(q: Tensor) -> Tensor:
    """Rotation vector (rad, norm at most pi) of a quaternion: (..., 4) -> (..., 3)."""
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, q[..., :1])
    scale = torch.where(sine > _SMALL_ANGLE, angle / sine.clamp_min(_SMALL_ANGLE), 2.0)
    return scale * q[..., 1:]


def quat_from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation by ``angle`` (...,) rad about the unit ``axis`` (3,): (..., 4)."""
    half = 0.5 * angle.unsqueeze(-1)
    return torch.cat((half.cos(), half.sin() * axis), dim=-1)


def shortest_turn(start: Tensor, end: Tensor) -> Tensor:
    """Smallest rotation between two directions: (..., 3), (..., 3) -> (..., 4).

    Opposite directions, which have no single one, get a half turn about an axis across them.
    """
    start, end = torch.broadcast_tensors(start, end)
    lengths = start.norm(dim=-1, keepdim=True) * end.norm(dim=-1, keepdim=True)
    real = lengths + (start * end).sum(dim=-1, keepdim=True)
    quat = torch.cat((real, torch.linalg.cross(start, end)), dim=-1)
    # the basis vector that is least along the direction
    across = torch.nn.functional.one_hot(start.abs().argmin(dim=-1), 3).to(start.dtype)
    half = torch.cat((torch.zeros_like(real), torch.linalg.cross(start, across)), dim=-1)
    return quat_normalize(torch.where(real > 1e-6 * lengths, quat, half))


def slerp(a: Tensor, b: Tensor, fraction: Tensor) -> Tensor:
    """Shortest spherical interpolation, ``fraction`` (..., 1) in [0, 1]: (..., 4)."""
    relative = exp_map_from_quat(quat_multiply(quat_conjugate(a), b))
    return quat_multiply(a, quat_from_exp_map(fraction * relative))


def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in rad, in [0, pi], between two rotations: (..., 4), (..., 4) -> (...)."""
    between = quat_multiply(quat_conjugate(a), b)
    # the arc cosine alone would lose half of the digits near zero
    return 2.0 * torch.atan2(between[..., 1:].norm(dim=-1), between[..., 0].abs())


def rot6(q: Tensor) -> Tensor:
    """Images of the x and z axes, six numbers: (..., 4) -> (..., 6).

    These are the first and third columns of the rotation matrix, as in MaskedMimic.
    """
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        (
            1 - 2 * (y * y + z * z),
            2 * (x * y + w * z),
            2 * (x * z - w * y),
            2 * (x * z + w * y),
            2 * (y * z - w * x),
            1 - 2 * (x * x + y * y),
        ),
        dim=-1,
    )


def heading(q: Tensor) -> Tensor:
    """Yaw of the turned x axis, rad in (-pi, pi]: (..., 4) -> (...)."""
    w, x, y, z = q.unbind(-1)
    return torch.atan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))


def yaw_quat(angle: Tensor) -> Tensor:
    """Rotation by ``angle`` rad about the world z axis: (...) -> (..., 4)."""
    zero = torch.zeros_like(angle)
    return torch.stack(((0.5 * angle).cos(), zero, zero, (0.5 * angle).sin()), dim=-1)


def heading_inverse(q: Tensor) -> Tensor:
    """Rotation that takes world vectors into the heading frame of ``q``: (..., 4) -> (..., 4)."""
    return yaw_quat(-heading(q))


def to_heading_frame(q: Tensor, vectors: Tensor) -> Tensor:
    """World vectors in the heading frame of ``q``: (N, 4), (N, K, 3) -> (N, K, 3).

    One batched matrix product; several times faster than :func:`rotate` for many vectors.
    """
    angle = heading(q)
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    # columns: the frame's axes in the world, so a row vector times it is local
    matrix = torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, one), dim=-1)
    return torch.bmm(vectors, matrix.view(-1, 3, 3))


def rotate_xy(angle: Tensor, v: Tensor) -> Tensor:
    """Plane vector ``v`` (..., 2) turned counter-clockwise by ``angle`` (...) rad: (..., 2)."""
    cos, sin = angle.cos(), angle.sin()
    x, y = v.unbind(-1)
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def direction_xy(angle: Tensor) -> Tensor:
    """Unit plane vector at ``angle`` rad from world x: (...) -> (..., 2)."""
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def wrap_angle(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi

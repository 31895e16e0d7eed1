"""What the published MaskedMimic models see, on the SMPL humanoid: pure functions over batches.

The layouts are those the weights were trained with, quirks included; every quirk is named where it
is reproduced. Version 1 is the model of the Task Tokens paper, version 3 its successor. World
frame, m, s, rad and quaternions (w, x, y, z) go in, numbers without rotations as quaternions come
out, so the (x, y, z, w) order of the original code plays no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets
from tt_gym.humanoids import Humanoid
from tt_gym.humanoids.smpl import SMPL
from tt_gym.motions.library import MotionFrames
from tt_gym.simulation.state import CONTROL_DT, BodyState

TARGET_BODIES_V1 = ("L_Ankle", "R_Ankle", "Pelvis", "Head", "L_Hand", "R_Hand")
"""Bodies that a v1 target can constrain; a seventh entry holds heading and velocity."""
TARGET_BODIES_V3 = ("Pelvis", "L_Ankle", "R_Ankle", "L_Hand", "R_Hand", "Head")
"""Bodies that a v3 target can constrain."""
TARGET_STEPS_V1 = tuple(range(1, 11))
"""Control steps ahead of the near v1 targets; one far target at any time follows them."""
HISTORY_LAGS_V1 = tuple(range(1, 114, 8))
"""Control steps between the reference pose and the poses that a v1 model remembers."""
HISTORY_STEPS_V3 = 5
"""Last control steps that a v3 model remembers."""
TERRAIN_POINTS = 16
"""Height samples per side of the terrain grid, over +-1 m."""
OBJECT_CATEGORIES = (
    "Armchairs", "StraightChairs", "HighStools", "LowStools", "Sofas", "Tables", "LargeSofas",
)  # fmt: skip

_V1_BODIES = [SMPL.body_index(name) for name in TARGET_BODIES_V1]
_V3_BODIES = [SMPL.body_index(name) for name in TARGET_BODIES_V3]
_CORNERS = torch.tensor(
    [[x, y, z] for z in (-1.0, 1.0) for x, y in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
)


# ---- state --------------------------------------------------------------------------------------


def centre_of_mass_velocity(state: BodyState | MotionFrames, humanoid: Humanoid) -> Tensor:
    """Velocity of every body's centre of mass, (N, B, 3), m/s, world.

    Quirk: positions are those of body origins, but the simulators that the weights were trained in
    report linear velocities of centres of mass.
    """
    centres = torch.tensor([body.geom_pos for body in humanoid.bodies], dtype=state.pos.dtype)
    arm = rotations.rotate(state.rot, centres.expand_as(state.pos))
    return state.vel + torch.linalg.cross(state.ang_vel, arm)


# ---- targets ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SparseTargets:
    """Goals for K future times and which parts of them are shown.

    Attributes:
        pos: (N, K, C, 3), m, world, height above the ground; C bodies in the version's order.
        rot: (N, K, C, 4).
        time_s: time from now, (N, K).
        visible: (N, K, P, 2) bool. P = C: position and rotation of each body. In v1 P = C + 1, and
            the last two are heading and velocity.
        velocity: of the root, (N, K, 3), m/s, world; v1 only.
    """

    pos: Tensor
    rot: Tensor
    time_s: Tensor
    visible: Tensor
    velocity: Tensor | None = None


def sparse_targets_v1(targets: Targets) -> SparseTargets:
    """Goals on the SMPL humanoid as a v1 model takes them; bodies it cannot constrain are left out.

    The heading of a v1 target is that of its pelvis, which faces it where no rotation is shown.
    """
    root = 0
    facing = rotations.yaw_quat(targets.heading)
    shown = targets.rot_visible[:, :, root].unsqueeze(-1)
    rot = targets.rot.clone()
    rot[:, :, root] = torch.where(shown, targets.rot[:, :, root], facing)
    last = torch.stack((targets.heading_visible, targets.velocity_visible), dim=-1)
    chosen = _chosen(dataclasses.replace(targets, rot=rot), _V1_BODIES)
    return dataclasses.replace(
        chosen,
        visible=torch.cat((chosen.visible, last.unsqueeze(2)), dim=2),
        velocity=torch.nn.functional.pad(targets.velocity, (0, 1)),
    )


def sparse_targets_v3(targets: Targets) -> SparseTargets:
    """Goals on the SMPL humanoid as a v3 model takes them; bodies it cannot constrain are left out.

    Raises:
        ValueError: a heading or velocity is shown, for which a v3 target has no place.
    """
    if bool((targets.heading_visible | targets.velocity_visible).any()):
        raise ValueError("a v3 model takes body poses as goals, no heading or velocity")
    return _chosen(targets, _V3_BODIES)


def _chosen(targets: Targets, bodies: list[int]) -> SparseTargets:
    visible = torch.stack((targets.pos_visible, targets.rot_visible), dim=-1)
    return SparseTargets(
        pos=targets.pos[:, :, bodies],
        rot=targets.rot[:, :, bodies],
        time_s=targets.time_s,
        visible=visible[:, :, bodies],
    )


def observe_targets_v1(pos: Tensor, rot: Tensor, targets: SparseTargets) -> tuple[Tensor, Tensor]:
    """Target tokens of v1, hidden parts zeroed.

    Quirks: positions and velocities are padded with zeros to the size of rotations; heading and
    velocity are given twice; of the last entry's bits the first shows the heading, the second the
    velocity; a constant 1 ends the token.

    Args:
        pos: current body positions, (N, 24, 3), m, world, height above the ground.
        rot: current rotations, (N, 24, 4).
        targets: with bodies :data:`TARGET_BODIES_V1`.

    Returns:
        Values (N, K, 184) and visibility (N, K).

    Raises:
        ValueError: the targets have no velocity.
    """
    if targets.velocity is None:
        raise ValueError("targets of a v1 model need a velocity, got None")
    features = _pose_features(pos, rot, targets, _V1_BODIES)
    root = TARGET_BODIES_V1.index("Pelvis")
    to_local = rotations.heading_inverse(rot[:, 0]).unsqueeze(1)  # (N, 1, 4)
    facing = rotations.yaw_quat(rotations.heading(targets.rot[:, :, root]))
    heading = rotations.rot6(rotations.quat_multiply(to_local.expand_as(facing), facing))
    level = targets.velocity * torch.tensor([1.0, 1.0, 0.0], dtype=targets.velocity.dtype)
    velocity = rotations.rotate(to_local, level)
    velocity = torch.cat((velocity, torch.zeros_like(velocity)), dim=-1)
    twice = torch.stack((heading, velocity), dim=2).repeat(1, 1, 1, 2)  # (N, K, 2, 12)
    features = torch.cat((features, twice.unsqueeze(2)), dim=2)  # (N, K, 7, 2, 12)
    bits = targets.visible.to(features.dtype).unsqueeze(-1)
    shown = torch.cat((features * bits, bits), dim=-1).flatten(2)
    time = targets.time_s.unsqueeze(-1)
    return torch.cat((shown, time, torch.ones_like(time)), dim=-1), _any_visible(targets)


def observe_targets_v3(pos: Tensor, rot: Tensor, targets: SparseTargets) -> tuple[Tensor, Tensor]:
    """Target tokens of v3, hidden parts zeroed: pose features, visibility bits, time.

    Args:
        pos: current body positions, (N, 24, 3), m, world.
        rot: current rotations, (N, 24, 4).
        targets: with bodies :data:`TARGET_BODIES_V3`, heights in the same world as ``pos``.

    Returns:
        Values (N, K, 157) and visibility (N, K).
    """
    features = _pose_features(pos, rot, targets, _V3_BODIES)
    bits = targets.visible.to(features.dtype)
    shown = (features * bits.unsqueeze(-1)).flatten(2)
    values = torch.cat((shown, bits.flatten(2), targets.time_s.unsqueeze(-1)), dim=-1)
    return values, _any_visible(targets)


def _pose_features(pos: Tensor, rot: Tensor, targets: SparseTargets, bodies: list[int]) -> Tensor:
    """Position and rotation features of each target body, (N, K, C, 2, 12)."""
    root_pos, root_rot = pos[:, None, None, 0], rot[:, 0]
    vectors = torch.stack((targets.pos - pos[:, None, bodies], targets.pos - root_pos), dim=3)
    local = rotations.to_heading_frame(root_rot, vectors.flatten(1, 3)).view_as(vectors)
    padded = torch.cat((local, torch.zeros_like(local)), dim=-1).flatten(3)  # (N, K, C, 12)
    from_current = rotations.quat_conjugate(rot[:, None, bodies]).expand_as(targets.rot)
    to_local = rotations.heading_inverse(root_rot)[:, None, None].expand_as(targets.rot)
    turns = torch.cat(
        (
            rotations.rot6(rotations.quat_multiply(from_current, targets.rot)),
            rotations.rot6(rotations.quat_multiply(to_local, targets.rot)),
        ),
        dim=-1,
    )
    return torch.stack((padded, turns), dim=3)


def _any_visible(targets: SparseTargets) -> Tensor:
    return targets.visible.flatten(2).any(dim=-1)


# ---- history ------------------------------------------------------------------------------------


def observe_history_v1(pos: Tensor, rot: Tensor) -> Tensor:
    """History tokens of v1.

    Quirks: the reference pose (its place and heading) is the pose one control step *before* the
    current one; the time of a past pose is positive; and the tokens are no poses: all positions
    and then all rotations form one row, which is cut into as many tokens as there are poses, so
    that the first third of the tokens holds positions of three poses each and the others rotations
    of one and a half. Each still carries the time of "its" pose.

    Args:
        pos: body positions, (N, 1 + K, B, 3), m, world: the reference pose, then the poses
            :data:`HISTORY_LAGS_V1` control steps before it.
        rot: their rotations, (N, 1 + K, B, 4).

    Returns:
        (N, K, 9 B + 1).
    """
    past_rot = rot[:, 1:]
    count = past_rot.shape[1]
    offsets = pos[:, 1:] - pos[:, :1, :1]
    local = rotations.to_heading_frame(rot[:, 0, 0], offsets.flatten(1, 2))
    to_local = rotations.heading_inverse(rot[:, 0, 0])[:, None, None].expand_as(past_rot)
    turns = rotations.rot6(rotations.quat_multiply(to_local, past_rot))
    row = torch.cat((local.flatten(1), turns.flatten(1)), dim=1)
    chunks = row.unflatten(1, (count, -1))
    time = CONTROL_DT * torch.tensor(HISTORY_LAGS_V1, dtype=pos.dtype)
    return torch.cat((chunks, time.view(1, -1, 1).expand(len(pos), -1, 1)), dim=-1)


def observe_history_v3(past: Tensor) -> Tensor:
    """History tokens of v3.

    Quirk: the state k control steps ago carries the time of k - 1 steps.

    Args:
        past: proprioception of the last steps, each in its own heading frame, newest first,
            (N, K, 15 B - 2).

    Returns:
        (N, K, 15 B - 1).
    """
    time = CONTROL_DT * torch.arange(past.shape[1], dtype=past.dtype)
    return torch.cat((past, time.view(1, -1, 1).expand(len(past), -1, 1)), dim=-1)


# ---- scene --------------------------------------------------------------------------------------


def observe_terrain(
    root_pos: Tensor, root_rot: Tensor, height: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Height of the root over a grid of ground points around it, turned with the root (v1).

    Quirk: the yaw is that of the quaternion without its x and y parts, not that of the x axis.

    Args:
        root_pos: (N, 3), m, world.
        root_rot: (N, 4).
        height: of the ground at points (N, P, 2), m; flat ground without it.

    Returns:
        (N, 256), m; x of the grid slow, y fast.
    """
    if height is None:
        return root_pos[:, 2:].expand(-1, TERRAIN_POINTS**2)
    side = torch.linspace(-1.0, 1.0, TERRAIN_POINTS, dtype=root_pos.dtype)
    grid = torch.cartesian_prod(side, side)
    yaw = 2.0 * torch.atan2(root_rot[:, 3], root_rot[:, 0])
    turned = rotations.rotate_xy(yaw.unsqueeze(1), grid.expand(len(root_pos), -1, -1))
    return root_pos[:, 2:] - height(turned + root_pos[:, None, :2])


def box_corners(pos: Tensor, rot: Tensor, half_size: Tensor) -> Tensor:
    """Corners of boxes in the order of :func:`observe_object`: (N, 3), (N, 4), (N, 3) -> (N, 8, 3).

    Lower ones first, each four in the order (-, -), (-, +), (+, +), (+, -) of the box's x and y.
    """
    return pos.unsqueeze(1) + rotations.rotate(rot.unsqueeze(1), _CORNERS * half_size.unsqueeze(1))


def observe_object(
    *, root_pos: Tensor, root_rot: Tensor, corners: Tensor, object_rot: Tensor, category: Tensor
) -> Tensor:
    """Object token (v1): corners and orientation of the bounding box, kind of object.

    Args:
        root_pos: (N, 3), m, world, height above the ground.
        root_rot: (N, 4).
        corners: of the box, (N, 8, 3), m, world, in the order of :func:`box_corners`.
        object_rot: (N, 4).
        category: index into :data:`OBJECT_CATEGORIES`, (N,) long.

    Returns:
        (N, 37).
    """
    local = rotations.to_heading_frame(root_rot, corners - root_pos.unsqueeze(1))
    turn = rotations.quat_multiply(rotations.heading_inverse(root_rot), object_rot)
    kind = torch.nn.functional.one_hot(category, len(OBJECT_CATEGORIES)).to(local.dtype)
    return torch.cat((local.flatten(1), rotations.rot6(turn), kind), dim=1)

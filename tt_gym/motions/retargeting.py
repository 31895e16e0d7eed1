"""From the skeleton of the CMU motion capture database, or one alike, to the default humanoid.

A body of the humanoid sticks to one bone of the recorded skeleton, so its world rotation is the
bone's times a constant. The constant follows from two directions in the bone's own frame: along the
limb (which becomes the body's -z) and the hinge axis of knee or elbow (which becomes its y). Legs
are then bent so that the ankles come where they were recorded, and standing feet are made flat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.limbs import flexion, world_pose

_GROUND_PERCENTILE = 0.1  # of the lowest point's height; as in motions.clip.lift
_STANCE_HEIGHT = 0.03  # m above the foot's usual lowest position
_STANCE_TRAVEL = 0.001  # m per recorded frame: 0.12 m/s at 120 Hz

_UP = (0.0, 1.0, 0.0)
_LEFT = (1.0, 0.0, 0.0)
_FORWARD = (0.0, 0.0, 1.0)
Vector = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Hinges:
    """Axes of both knees and elbows, in the frames of their joints (x left, y up, z forward).

    Attributes:
        knee, elbow: by side, ``Left`` and ``Right``; the limb bends as our hinges do, knees by
            positive and elbows by negative angles.
    """

    knee: Mapping[str, Vector]
    elbow: Mapping[str, Vector]


CMU_HINGES = Hinges(
    knee={"Left": (0.9397, 0.3420, 0.0), "Right": (0.9397, -0.3420, 0.0)},
    elbow={"Left": (0.0, 0.8660, -0.5), "Right": (0.0, -0.8660, 0.5)},
)
_SIDES = ("Right", "Left")

_TRUNK = {"root": "Hips", "chest": "Spine1", "neck": "Head"}
# per side: body, the joint it follows, the joint at the limb's far end, which hinge
_LIMBS = (
    ("shoulder", "Arm", "ForeArm", "elbow"),
    ("elbow", "ForeArm", "Hand", "elbow"),
    ("hip", "UpLeg", "Leg", "knee"),
    ("knee", "Leg", "Foot", "knee"),
)

CMU_JOINTS = (
    *_TRUNK.values(),
    *(f"{side}{joint}" for side in _SIDES for _, *joints, _ in _LIMBS for joint in joints),
)
"""Joints that a recorded skeleton must have."""


def retarget(
    positions: Mapping[str, Tensor],
    world_rot: Mapping[str, Tensor],
    offsets: Mapping[str, Tensor],
    *,
    hinges: Hinges = CMU_HINGES,
) -> tuple[Tensor, Tensor]:
    """Pose of the default humanoid, standing on the floor, for every recorded frame.

    Recorded coordinates are y up, z forward, x left in any unit of length: positions are scaled by
    the ratio of the leg lengths.

    Args:
        positions: joint name to world position, (T, 3).
        world_rot: joint name to world rotation, (T, 4), identity in the skeleton's zero pose.
        offsets: joint name to its place in the parent's frame, (3,).
        hinges: of the recorded skeleton.

    Returns:
        Root position (T, 3) m and local rotations (T, B, 4), x forward, y left, z up.
    """
    scale = _leg_length() / _recorded_leg_length(offsets)
    places = {name: scale * place[:, [2, 0, 1]] for name, place in positions.items()}
    root_pos = 0.5 * (places["LeftUpLeg"] + places["RightUpLeg"])
    body_rot = _body_rot(world_rot, offsets, hinges)
    for side in _SIDES:
        ankle_pos = places[f"{side}Foot"]
        _place_ankle(body_rot, side.lower(), root_pos=root_pos, ankle_pos=ankle_pos)
        foot = f"{side.lower()}_ankle"
        body_rot[foot] = _flatten_sole(body_rot[foot], ankle_pos)
    joint_rot = _joint_rot(body_rot)
    pos, rot = world_pose(DEEPMIMIC, root_pos, joint_rot)
    floor = torch.quantile(DEEPMIMIC.lowest_point(pos, rot), _GROUND_PERCENTILE)
    start = torch.stack((root_pos[0, 0], root_pos[0, 1], floor))
    return root_pos - start, joint_rot


def _bone(body: str) -> float:
    """Length of the humanoid's limb that ends at ``body``, m."""
    return -DEEPMIMIC.bodies[DEEPMIMIC.body_index(body)].offset[2]


def _leg_length() -> float:
    return _bone("left_knee") + _bone("left_ankle")


def _recorded_leg_length(offsets: Mapping[str, Tensor]) -> float:
    """Mean of both legs, in the recorded unit."""
    return sum(float(offsets[f"{s}{bone}"].norm()) for s in _SIDES for bone in ("Leg", "Foot")) / 2


def _body_rot(
    world_rot: Mapping[str, Tensor], offsets: Mapping[str, Tensor], hinges: Hinges
) -> dict[str, Tensor]:
    """World rotation (T, 4) of every body that follows a recorded bone, in our axes."""
    axes: dict[str, tuple[str, Tensor, Tensor]] = {}  # joint, body y, body z in the joint's frame
    for body, joint in _TRUNK.items():
        axes[body] = joint, _vector(_LEFT), _vector(_UP)
    for side in _SIDES:
        for body, joint, far_joint, hinge in _LIMBS:
            far = offsets[f"{side}{far_joint}"]
            axis = _vector(getattr(hinges, hinge)[side])
            axes[f"{side.lower()}_{body}"] = f"{side}{joint}", axis, -far
        # in the zero pose the foot is rolled as far as its leg is spread
        left = _vector(hinges.knee[side])
        up = torch.linalg.cross(_vector(_FORWARD), left)
        axes[f"{side.lower()}_ankle"] = f"{side}Foot", left, up
    return {
        body: _to_our_axes(rotations.quat_multiply(world_rot[joint], _frame(left, up)))
        for body, (joint, left, up) in axes.items()
    }


def _vector(values: Vector) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _frame(left: Tensor, up: Tensor) -> Tensor:
    """Rotation (4,) that takes the recorded left and up axes to two given directions.

    Args:
        left: where the left goes, (3,), kept up to its part along ``up``.
        up: where the up goes, (3,), any length.
    """
    tilt = rotations.shortest_turn(_vector(_UP), up)
    turned, up = rotations.rotate(tilt, _vector(_LEFT)), up / up.norm()
    angle = torch.atan2(torch.linalg.cross(turned, left) @ up, turned @ (left - (left @ up) * up))
    return rotations.quat_multiply(rotations.quat_from_axis_angle(up, angle), tilt)


def _to_our_axes(q: Tensor) -> Tensor:
    """(x left, y up, z forward) to (x forward, y left, z up): (..., 4)."""
    return q[..., [0, 3, 1, 2]]


def _place_ankle(
    body_rot: dict[str, Tensor], side: str, *, root_pos: Tensor, ankle_pos: Tensor
) -> None:
    """Turn one thigh and shin so that the ankle comes to ``ankle_pos`` (T, 3).

    The knee keeps its plane. Recorded legs are of unequal length and other proportions; without
    this, one foot hangs in the air.
    """
    hip, knee, ankle = (f"{side}_{part}" for part in ("hip", "knee", "ankle"))
    thigh, shin = _bone(knee), _bone(ankle)
    offset = _vector(DEEPMIMIC.bodies[DEEPMIMIC.body_index(hip)].offset)
    reach = ankle_pos - root_pos - rotations.rotate(body_rot["root"], offset)
    angle = flexion(reach.norm(dim=-1), thigh, shin)
    bend = rotations.quat_from_axis_angle(_vector((0, 1, 0)), angle)
    leg = rotations.rotate(bend, _vector((0, 0, -shin))) + _vector((0, 0, -thigh))
    turn = rotations.shortest_turn(rotations.rotate(body_rot[hip], leg), reach)
    body_rot[hip] = rotations.quat_multiply(turn, body_rot[hip])
    body_rot[knee] = rotations.quat_multiply(body_rot[hip], bend)


def _flatten_sole(foot_rot: Tensor, ankle_pos: Tensor) -> Tensor:
    """Foot rotations (T, 4) less their mean tilt while standing; recorded soles are not flat."""
    height = ankle_pos[:, 2] - torch.quantile(ankle_pos[:, 2], _GROUND_PERCENTILE)
    travel = (ankle_pos[1:] - ankle_pos[:-1]).norm(dim=-1)
    stance = (height[1:] < _STANCE_HEIGHT) & (travel < _STANCE_TRAVEL)
    if not stance.any():
        return foot_rot
    up = _vector((0, 0, 1))
    mean_up = rotations.rotate(rotations.quat_conjugate(foot_rot[1:][stance]), up).mean(dim=0)
    return rotations.quat_multiply(foot_rot, rotations.shortest_turn(up, mean_up))


def _joint_rot(body_rot: Mapping[str, Tensor]) -> Tensor:
    """Local rotations (T, B, 4), hinges turned about their axis only, wrists not at all."""
    joint_rot = torch.zeros(len(body_rot["root"]), DEEPMIMIC.num_bodies, 4, dtype=torch.float64)
    joint_rot[..., 0] = 1.0
    joint_rot[:, 0] = body_rot["root"]
    reached = [body_rot["root"]]  # world rotations of the bodies so far
    for index, body in enumerate(DEEPMIMIC.bodies[1:], start=1):
        before = reached[DEEPMIMIC.parents[index]]
        if body.name in body_rot:
            local = rotations.quat_multiply(rotations.quat_conjugate(before), body_rot[body.name])
            if body.joint == "hinge":  # the twist about y of the swing-twist decomposition
                twist = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
                local = rotations.quat_normalize(local * twist)
            joint_rot[:, index] = local
        reached.append(rotations.quat_multiply(before, joint_rot[:, index]))
    return joint_rot

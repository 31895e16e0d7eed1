"""Reader for BVH files with the skeleton of the CMU motion capture database.

The file is taken apart here; :mod:`tt_gym.motions.retargeting` moves the motion to the humanoid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.motions.clip import Clip, ClipError, resample
from tt_gym.motions.retargeting import CMU_JOINTS, retarget

_AXES = {"Xrotation": (1.0, 0.0, 0.0), "Yrotation": (0.0, 1.0, 0.0), "Zrotation": (0.0, 0.0, 1.0)}
_POSITIONS = ("Xposition", "Yposition", "Zposition")


@dataclasses.dataclass(frozen=True)
class _Joint:
    """A node of the file's tree; ``first_column`` is where its channels start in a frame."""

    name: str
    parent: int
    offset: tuple[float, ...]
    channels: tuple[str, ...]
    first_column: int


def read_bvh(path: str | Path, *, source: str) -> Clip:
    """Read one clip and retarget it; axes become x forward, y left, z up, the rate ``FPS``.

    Args:
        path: BVH file with the joints of the CMU skeleton, y up. Frame 0 is a T-pose and left out.
        source: origin and terms, kept with the clip.

    Raises:
        ClipError: names the file and, where it applies, frame and field.
    """
    path = Path(path)
    try:
        lines = iter(path.read_text().splitlines())
    except FileNotFoundError:
        raise ClipError(f"{path}: no such clip file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path}: not a readable text file ({error})") from error
    joints = _read_hierarchy(path, lines)
    _check_skeleton(path, joints)
    frame_time_s, motion = _read_motion(path, lines, width=_width(joints))
    positions, world_rot = _world_poses(joints, motion[1:])
    offsets = {joint.name: torch.tensor(joint.offset, dtype=torch.float64) for joint in joints}
    root_pos, joint_rot = retarget(positions, world_rot, offsets)
    times = torch.arange(len(root_pos), dtype=torch.float64) * frame_time_s
    pos, rot = resample(times, root_pos, joint_rot)
    return Clip(path.stem, pos.float(), rot.float(), loop=False, source=source)


def _width(joints: Sequence[_Joint]) -> int:
    """Numbers per frame."""
    return sum(len(joint.channels) for joint in joints)


def _numbers(path: Path, where: str, field: str, words: Sequence[str], count: int) -> list[float]:
    """``count`` finite numbers, or a ClipError that says where they should have been."""
    if len(words) != count:
        raise ClipError(
            f"{path}: {where}: field {field!r} must hold {count} numbers, got {len(words)}"
        )
    for word in words:
        try:
            finite = np.isfinite(float(word))
        except ValueError:
            finite = False
        if not finite:
            raise ClipError(f"{path}: {where}: field {field!r}: {word!r} is not a finite number")
    return [float(word) for word in words]


def _read_hierarchy(path: Path, lines: Iterator[str]) -> list[_Joint]:
    """The tree, parents first; consumes the lines up to ``MOTION``."""
    if next(lines, "").split() != ["HIERARCHY"]:
        raise ClipError(f"{path}: field 'HIERARCHY' must be the first line; not a BVH file")
    joints: list[_Joint] = []
    stack: list[int] = []  # indices of the open joints; -1 for an end site, which carries no motion
    for line in lines:
        word, *rest = line.split() or [""]
        if word == "MOTION" and not stack:
            return joints
        if word in ("ROOT", "JOINT"):
            parent = stack[-1] if stack else -1
            joints.append(_Joint(" ".join(rest), parent, (), (), _width(joints)))
            stack.append(len(joints) - 1)
        elif word == "End":
            stack.append(-1)
        elif word == "}" and stack:
            stack.pop()
        elif word in ("OFFSET", "CHANNELS") and stack and stack[-1] >= 0:
            joint = joints[stack[-1]]
            if word == "OFFSET":
                offset = _numbers(path, f"joint {joint.name}", word, rest, 3)
                joints[stack[-1]] = dataclasses.replace(joint, offset=tuple(offset))
            else:
                unknown = [channel for channel in rest[1:] if channel not in (*_AXES, *_POSITIONS)]
                if unknown or rest[:1] != [str(len(rest) - 1)]:
                    raise ClipError(f"{path}: joint {joint.name}: field 'CHANNELS' is {rest}")
                joints[stack[-1]] = dataclasses.replace(joint, channels=tuple(rest[1:]))
    raise ClipError(f"{path}: field 'MOTION' or a brace is missing; perhaps truncated")


def _check_skeleton(path: Path, joints: Sequence[_Joint]) -> None:
    """Raise ClipError unless the skeleton is CMU's and complete."""
    for joint in joints:
        for field, value in (("OFFSET", joint.offset), ("CHANNELS", joint.channels)):
            if not value:
                raise ClipError(f"{path}: joint {joint.name}: field {field!r} is missing")
    missing = sorted(set(CMU_JOINTS) - {joint.name for joint in joints})
    if missing:
        raise ClipError(f"{path}: field 'JOINT': not a CMU skeleton, without {', '.join(missing)}")


def _read_motion(path: Path, lines: Iterator[str], *, width: int) -> tuple[float, Tensor]:
    """Seconds per frame and the frames, (T, width)."""
    header = {}
    for field in ("Frames", "Frame Time"):
        name, _, value = next(lines, "").partition(":")
        if name.strip() != field:
            raise ClipError(f"{path}: field {field!r} is missing; perhaps truncated")
        (header[field],) = _numbers(path, "motion", field, value.split(), 1)
    if header["Frame Time"] <= 0:
        raise ClipError(f"{path}: field 'Frame Time' must be positive, got {header['Frame Time']}")
    rows = [line.split() for line in lines if line.strip()]
    if len(rows) != int(header["Frames"]) or len(rows) < 3:
        raise ClipError(
            f"{path}: field 'Frames' says {int(header['Frames'])}, the file holds {len(rows)} and "
            "must hold 3; perhaps truncated"
        )
    frames = [
        _numbers(path, f"frame {index}", "channels", row, width) for index, row in enumerate(rows)
    ]
    return header["Frame Time"], torch.tensor(frames, dtype=torch.float64)


def _world_poses(
    joints: Sequence[_Joint], motion: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """World position (T, 3), in the file's unit, and rotation (T, 4) of every joint."""
    positions: list[Tensor] = []
    world_rot: list[Tensor] = []
    for joint in joints:
        offset = torch.tensor(joint.offset, dtype=motion.dtype).repeat(len(motion), 1)
        rot = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=motion.dtype).expand(len(motion), 4)
        for column, channel in enumerate(joint.channels, start=joint.first_column):
            if channel in _POSITIONS:
                offset[:, _POSITIONS.index(channel)] = motion[:, column]
                continue
            axis = torch.tensor(_AXES[channel], dtype=motion.dtype)
            turn = rotations.quat_from_axis_angle(axis, motion[:, column].deg2rad())
            rot = rotations.quat_multiply(rot, turn)
        if joint.parent >= 0:
            parent_rot = world_rot[joint.parent]
            offset = positions[joint.parent] + rotations.rotate(parent_rot, offset)
            rot = rotations.quat_multiply(parent_rot, rot)
        positions.append(offset)
        world_rot.append(rot)
    names = [joint.name for joint in joints]
    return dict(zip(names, positions, strict=True)), dict(zip(names, world_rot, strict=True))

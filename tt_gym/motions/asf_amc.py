"""Reader for ASF/AMC, the format in which the CMU motion capture database gives its motions.

A motion (``01_01.amc``) needs the skeleton of its subject (``01.asf``) beside it. A bone's rotation
turns about the bone's own axes, so that with no rotation at all every bone points along its
``direction``; :mod:`tt_gym.motions.retargeting` moves the motion to the humanoid.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.motions.clip import Clip, ClipError, resample
from tt_gym.motions.retargeting import retarget

CMU_RATE = 120.0
"""Frames per second of nearly all motions of the database; the files do not say."""
_ROOT = "root"
_AS_CMU = {"root": "Hips", "thorax": "Spine1", "head": "Head"} | {
    f"{side[0].lower()}{own}": f"{side}{cmu}"
    for side in ("Left", "Right")
    for own, cmu in (
        ("femur", "UpLeg"), ("tibia", "Leg"), ("foot", "Foot"),
        ("humerus", "Arm"), ("radius", "ForeArm"), ("wrist", "Hand"),
    )
}  # fmt: skip
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class _Bone:
    """A bone of the skeleton; ``end`` is where it ends seen from where it begins, file unit."""

    name: str
    end: Tensor
    axis: Tensor
    channels: tuple[str, ...]
    parent: str


def read_amc(
    path: str | Path, *, source: str, asf: str | Path | None = None, rate: float = CMU_RATE
) -> Clip:
    """Read one motion and retarget it; axes become x forward, y left, z up, the rate ``FPS``.

    Args:
        path: AMC file, fully specified, y up.
        source: origin and terms, kept with the clip.
        asf: its skeleton; None for the ASF file beside it whose name is the motion's up to the
            first ``_``.
        rate: recorded frames per second.

    Raises:
        ClipError: names the file and, where it applies, frame and field.
    """
    path = Path(path)
    skeleton = _skeleton_beside(path) if asf is None else Path(asf)
    bones, unit = _read_skeleton(skeleton)
    motion = _read_motion(path, bones, unit)
    positions, world_rot = _world_poses(bones, motion)
    offsets = {
        _AS_CMU[bone.name]: bones[bone.parent].end
        for bone in bones.values()
        if bone.name in _AS_CMU and bone.name != _ROOT
    }
    root_pos, joint_rot = retarget(positions, world_rot, offsets)
    times = torch.arange(len(root_pos), dtype=torch.float64) / rate
    pos, rot = resample(times, root_pos, joint_rot)
    return Clip(path.stem, pos.float(), rot.float(), loop=False, source=source)


def _skeleton_beside(path: Path) -> Path:
    skeleton = path.with_name(path.stem.split("_")[0] + ".asf")
    if path.exists() and not skeleton.exists():
        raise ClipError(f"{path}: its skeleton {skeleton.name} must lie in the same folder")
    return skeleton


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ClipError(f"{path}: no such clip file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path}: not a readable text file ({error})") from error
    return (line.split() for line in text.splitlines() if line.strip() and line.strip()[0] != "#")


def _numbers(where: str, field: str, words: Sequence[str], count: int) -> Tensor:
    """``count`` finite numbers, or a ClipError that says where they should have been."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ClipError(f"{where}: field {field!r} must hold {count} numbers, got {list(words)}")
    return torch.tensor(values, dtype=torch.float64)


# ---- skeleton -----------------------------------------------------------------------------------


def _read_skeleton(path: Path) -> tuple[dict[str, _Bone], float]:
    """Bones by name, parents first, and what an angle of 1 is in the file, rad."""
    sections: dict[str, list[list[str]]] = {}
    for words in _lines(path):
        if words[0].startswith(":"):
            sections[words[0]] = [words[1:]] if len(words) > 1 else []
            current = sections[words[0]]
        elif sections:
            current.append(words)
    for section in (":units", ":root", ":bonedata", ":hierarchy"):
        if section not in sections:
            raise ClipError(f"{path}: section {section!r} is missing; not an ASF skeleton")
    fields = {words[0].lower(): words[1:] for words in sections[":units"]}
    unit = {"deg": math.pi / 180.0, "rad": 1.0}.get("".join(fields.get("angle", [])).lower())
    if unit is None:
        raise ClipError(f"{path}: field 'angle' must be deg or rad, got {fields.get('angle')}")
    root = {words[0].lower(): words[1:] for words in sections[":root"]}
    parents = _read_hierarchy(path, sections[":hierarchy"])
    axis = _axis(path, _ROOT, root.get("orientation", []), root.get("axis", []), unit)
    channels = tuple(word.lower() for word in root.get("order", []))
    bones = {_ROOT: _Bone(_ROOT, torch.zeros(3, dtype=torch.float64), axis, channels, "")}
    loose = {bone.name: bone for bone in _read_bones(path, sections[":bonedata"], unit, parents)}
    while loose:
        ready = [name for name, bone in loose.items() if bone.parent in bones]
        if not ready:
            raise ClipError(f"{path}: section ':hierarchy' does not lead to {', '.join(loose)}")
        bones |= {name: loose.pop(name) for name in ready}
    missing = sorted(set(_AS_CMU) - set(bones))
    if missing:
        raise ClipError(f"{path}: not a CMU skeleton, without {', '.join(missing)}")
    return bones, unit


def _read_hierarchy(path: Path, rows: Sequence[Sequence[str]]) -> dict[str, str]:
    parents: dict[str, str] = {}
    for parent, *children in rows:
        if parent not in ("begin", "end"):
            parents |= dict.fromkeys(children, parent)
    if not parents:
        raise ClipError(f"{path}: section ':hierarchy' is empty; perhaps truncated")
    return parents


def _read_bones(
    path: Path, rows: Sequence[Sequence[str]], unit: float, parents: Mapping[str, str]
) -> Iterator[_Bone]:
    fields: dict[str, Sequence[str]] = {}
    for word, *rest in rows:
        if word == "begin":
            fields = {}
        elif word != "end":
            fields.setdefault(word.lower(), rest)
        else:
            name = "".join(fields.get("name", []))
            where = f"{path}: bone {name}"
            if name not in parents:
                raise ClipError(f"{where}: not in section ':hierarchy'")
            direction = _numbers(where, "direction", fields.get("direction", []), 3)
            length = _numbers(where, "length", fields.get("length", []), 1)
            given = fields.get("axis", [])
            axis = _axis(path, name, given[:3], given[3:], unit)
            channels = tuple(channel.lower() for channel in fields.get("dof", []))
            end = length * direction / direction.norm().clamp(min=1e-12)
            yield _Bone(name, end, axis, channels, parents[name])


def _axis(
    path: Path, bone: str, angles: Sequence[str], order: Sequence[str], unit: float
) -> Tensor:
    """Rotation (4,) of a bone's axes: about the fixed axes x, y, z in the given order."""
    letters = "".join(order).lower()
    if sorted(letters) != ["x", "y", "z"]:
        raise ClipError(f"{path}: bone {bone}: field 'axis' must end in an order, got {order}")
    values = unit * _numbers(f"{path}: bone {bone}", "axis", angles, 3)
    return _turned(dict(zip(letters, values, strict=True)))


def _turned(angles: Mapping[str, Tensor]) -> Tensor:
    """Rotations (..., 4) about fixed axes, one after the other, by angles (...,), rad."""
    result = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    for letter, angle in angles.items():
        axis = torch.tensor(_AXES[letter], dtype=torch.float64)
        result = rotations.quat_multiply(rotations.quat_from_axis_angle(axis, angle), result)
    return result


# ---- motion -------------------------------------------------------------------------------------


def _read_motion(path: Path, bones: Mapping[str, _Bone], unit: float) -> dict[str, Tensor]:
    """Channels of the moving bones, (T, channels); angles in rad."""
    frames: list[dict[str, list[str]]] = []
    for word, *rest in _lines(path):
        if word.isdigit() and not rest:
            frames.append({})
        elif word.upper() == ":RADIANS":
            unit = 1.0
        elif frames:
            frames[-1][word] = rest
    if len(frames) < 2:
        raise ClipError(f"{path}: must hold 2 frames, got {len(frames)}; perhaps truncated")
    motion = {}
    for bone in bones.values():
        if not bone.channels:
            continue
        factor = torch.tensor([unit if name[0] == "r" else 1.0 for name in bone.channels])
        rows = [
            _numbers(f"{path}: frame {index}", bone.name, frame.get(bone.name, []), len(factor))
            for index, frame in enumerate(frames, start=1)
        ]
        motion[bone.name] = torch.stack(rows) * factor
    return motion


def _world_poses(
    bones: Mapping[str, _Bone], motion: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """World position (T, 3) of where bones begin, and rotation (T, 4), by name of the joint."""
    count = len(next(iter(motion.values())))
    begins, rots = {}, {}
    for name, bone in bones.items():
        values = dict(zip(bone.channels, motion.get(name, torch.zeros(count, 0)).T, strict=True))
        angles = {channel[1]: value for channel, value in values.items() if channel[0] == "r"}
        local = _turned(angles).expand(count, 4)
        # the bone's own axes lie askew in the skeleton's
        local = rotations.quat_multiply(bone.axis, local)
        local = rotations.quat_multiply(local, rotations.quat_conjugate(bone.axis))
        if name == _ROOT:
            zero = torch.zeros(count, dtype=torch.float64)
            begins[name] = torch.stack([values.get(f"t{axis}", zero) for axis in _AXES], dim=-1)
            rots[name] = local
            continue
        before, parent = rots[bone.parent], bones[bone.parent]
        begins[name] = begins[bone.parent] + rotations.rotate(before, parent.end.expand(count, 3))
        rots[name] = rotations.quat_multiply(before, local)
    return (
        {joint: begins[name] for name, joint in _AS_CMU.items()},
        {joint: rots[name] for name, joint in _AS_CMU.items()},
    )

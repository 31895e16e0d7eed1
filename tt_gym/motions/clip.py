"""A motion clip, its file format and the edits that keep it a clip."""

from __future__ import annotations

import dataclasses
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import Humanoid
from tt_gym.motions.limbs import world_pose
from tt_gym.text import captions

FPS = 30
"""Frame rate of every clip after reading, equal to the control rate, Hz."""


# what numpy and zipfile raise for a damaged archive, depending on where the damage is
DAMAGED = (
    OSError, ValueError, TypeError, EOFError, NotImplementedError, SyntaxError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ClipError(ValueError):
    """A clip file that cannot be used; the text names file, frame and field."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A motion of one humanoid at ``FPS`` frames per second.

    Attributes:
        name: unique among the clips used together.
        root_pos: (T, 3), m, world, z up.
        joint_rot: rotation of every body relative to its parent (the root's: world), (T, B, 4).
        loop: whether the last frame leads back into the first.
        source: where it was recorded and under which terms.
        asked: for clips made along a course, the heading (rad), speed (m/s) and, if it is another,
            direction of travel (rad) that the motion is on its way to, (T, 2) or (T, 3); edits that
            change places or times drop it.
        led: for clips made by leading a body from point to point, the name of that body.
        goals: for such clips, where that body is asked to be and stay, m, world, from when it sets
            out until it leaves; NaN in between and where the point moves along; (T, 3).
        behaviours: for clips made of several, frame from which on something else is done, and what
            (a key of :data:`tt_gym.text.BEHAVIOURS`); edits that change times drop it.
    """

    name: str
    root_pos: Tensor
    joint_rot: Tensor
    loop: bool
    source: str
    asked: Tensor | None = None
    led: str | None = None
    goals: Tensor | None = None
    behaviours: tuple[tuple[int, str], ...] = ()

    def __repr__(self) -> str:
        kind = "looping" if self.loop else "single"
        return f"Clip({self.name!r}, {self.duration_s:.2f} s, {kind}, source={self.source!r})"

    @property
    def num_frames(self) -> int:
        """T."""
        return self.root_pos.shape[0]

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / FPS


def save_clip(clip: Clip, path: str | Path) -> None:
    """Write a clip as ``.npz`` (float32 arrays and a JSON header)."""
    header = {"name": clip.name, "loop": clip.loop, "source": clip.source, "fps": FPS}
    header |= {} if clip.led is None else {"led": clip.led}
    header |= {"behaviours": clip.behaviours} if clip.behaviours else {}
    optional = {"asked": clip.asked, "goals": clip.goals}
    extra: dict[str, Any] = {
        name: values.numpy().astype(np.float32)
        for name, values in optional.items()
        if values is not None
    }
    np.savez_compressed(
        path,
        **extra,
        root_pos=clip.root_pos.numpy().astype(np.float32),
        joint_rot=clip.joint_rot.numpy().astype(np.float32),
        header=np.array(json.dumps(header)),
    )


def load_clip(path: str | Path) -> Clip:
    """Read a clip that :func:`save_clip` wrote.

    Raises:
        ClipError: the file is missing, truncated or not such a clip.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            root_pos, joint_rot = arrays["root_pos"], arrays["joint_rot"]
            asked = arrays["asked"] if "asked" in arrays else None
            goals = arrays["goals"] if "goals" in arrays else None
            header = json.loads(str(arrays["header"]))
        name, loop, source, fps = (header[field] for field in ("name", "loop", "source", "fps"))
    except FileNotFoundError:
        raise ClipError(f"{path}: no such clip file") from None
    except KeyError as error:
        raise ClipError(f"{path}: field {error.args[0]!r} is missing; not a tt_gym clip") from error
    except DAMAGED as error:
        raise ClipError(f"{path}: not a readable .npz clip ({error})") from error
    check_arrays(path, root_pos, joint_rot)
    if asked is not None:
        allowed = [(len(root_pos), 2), (len(root_pos), 3)]
        if asked.shape not in allowed or not np.isfinite(asked).all():
            raise ClipError(
                f"{path}: field 'asked' must be finite and {allowed[0]} or {allowed[1]}"
            )
    if goals is not None and goals.shape != (len(root_pos), 3):
        raise ClipError(f"{path}: field 'goals' must be {(len(root_pos), 3)}, got {goals.shape}")
    if fps != FPS:
        raise ClipError(f"{path}: field 'fps' is {fps}, must be {FPS}")
    return Clip(
        name=name,
        root_pos=torch.from_numpy(root_pos.astype(np.float32)),
        joint_rot=torch.from_numpy(joint_rot.astype(np.float32)),
        loop=bool(loop),
        source=source,
        asked=None if asked is None else torch.from_numpy(asked.astype(np.float32)),
        led=header.get("led"),
        goals=None if goals is None else torch.from_numpy(goals.astype(np.float32)),
        behaviours=_checked_behaviours(path, header.get("behaviours", []), len(root_pos)),
    )


def _checked_behaviours(path: Path, given: Any, frames: int) -> tuple[tuple[int, str], ...]:
    try:
        behaviours = tuple((int(first), captions.NAMES.index(name)) for first, name in given)
        if not all(0 <= first < frames for first, _ in behaviours):
            raise ValueError(f"frames must be below {frames}")
    except (TypeError, ValueError) as error:
        known = ", ".join(captions.NAMES)
        raise ClipError(
            f"{path}: field 'behaviours' must be pairs of a frame and one of {known}: {error}"
        ) from error
    return tuple((first, captions.NAMES[index]) for first, index in behaviours)


def check_arrays(path: Path, root_pos: np.ndarray, joint_rot: np.ndarray) -> None:
    """Raise ClipError, naming frame and field, unless the arrays form a motion."""
    if root_pos.ndim != 2 or root_pos.shape[1:] != (3,) or len(root_pos) < 2:
        raise ClipError(f"{path}: field 'root_pos' must be (T >= 2, 3), got {root_pos.shape}")
    if joint_rot.ndim != 3 or joint_rot.shape[2] != 4 or len(joint_rot) != len(root_pos):
        raise ClipError(
            f"{path}: field 'joint_rot' must be ({len(root_pos)}, B, 4), got {joint_rot.shape}"
        )
    norms = np.linalg.norm(joint_rot, axis=-1)
    for field, bad in (
        ("root_pos", ~np.isfinite(root_pos).all(axis=1)),
        ("joint_rot", ~(np.abs(norms - 1.0) < 1e-3).all(axis=1)),
    ):
        if bad.any():
            frame = int(np.flatnonzero(bad)[0])
            raise ClipError(
                f"{path}: frame {frame}: field {field!r} is not finite and of unit norm"
            )


def resample(times_s: Tensor, root_pos: Tensor, joint_rot: Tensor) -> tuple[Tensor, Tensor]:
    """Bring frames at increasing times (T,) s to ``FPS``; positions lerp, rotations slerp."""
    # files round frame times to six digits; a last frame lost to that would break a loop's seam
    count = int(torch.floor(times_s[-1] * FPS + 0.01)) + 1
    grid = torch.arange(count, dtype=times_s.dtype) / FPS
    left = (torch.searchsorted(times_s, grid, right=True) - 1).clamp(0, len(times_s) - 2)
    span = times_s[left + 1] - times_s[left]
    fraction = ((grid - times_s[left]) / span).clamp(0.0, 1.0).unsqueeze(-1)
    pos = torch.lerp(root_pos[left], root_pos[left + 1], fraction)
    rot = rotations.slerp(joint_rot[left], joint_rot[left + 1], fraction.unsqueeze(-1))
    return pos, rotations.quat_normalize(rot)


def mirror(clip: Clip, humanoid: Humanoid) -> Clip:
    """The same motion with left and right exchanged (reflection in the x-z plane)."""
    flip_pos = torch.tensor([1.0, -1.0, 1.0])
    flip_rot = torch.tensor([1.0, -1.0, 1.0, -1.0])
    swapped = clip.joint_rot[:, list(humanoid.mirrored_bodies)]
    return dataclasses.replace(
        clip,
        name=f"{clip.name}_mirror",
        root_pos=clip.root_pos * flip_pos,
        joint_rot=swapped * flip_rot,
        asked=None,
        led=None,
        goals=None,
        behaviours=tuple((first, captions.mirrored_name(name)) for first, name in clip.behaviours),
    )


def moved(
    root_pos: Tensor, joint_rot: Tensor, *, yaw: Tensor, pivot: Tensor, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Frames turned by ``yaw``, rad, about a point of the plane that comes to lie on another.

    Args:
        root_pos: (T, 3), m.
        joint_rot: (T, B, 4).
        yaw: scalar.
        pivot: the point, (2,), m.
        place: where it comes to lie, (2,), m.

    Returns:
        New positions and rotations.
    """
    plane = rotations.rotate_xy(yaw, root_pos[:, :2] - pivot) + place
    turned = joint_rot.clone()
    turned[:, 0] = rotations.quat_multiply(rotations.yaw_quat(yaw), turned[:, 0])
    return torch.cat((plane, root_pos[:, 2:]), dim=-1), turned


def unroll(clip: Clip, duration_s: float) -> Clip:
    """Repeat a looping clip until it lasts ``duration_s``; travel and turn add up. Others stay."""
    if not clip.loop:
        return clip
    pos, rot = [clip.root_pos], [clip.joint_rot]
    frames = clip.num_frames
    while frames <= duration_s * FPS:
        yaw = rotations.heading(rot[-1][-1, 0]) - rotations.heading(clip.joint_rot[0, 0])
        again_pos, again_rot = moved(
            clip.root_pos[1:],
            clip.joint_rot[1:],
            yaw=yaw,
            pivot=clip.root_pos[0, :2],
            place=pos[-1][-1, :2],
        )
        pos.append(again_pos)
        rot.append(again_rot)
        frames += clip.num_frames - 1
    return dataclasses.replace(
        clip, root_pos=torch.cat(pos), joint_rot=torch.cat(rot), loop=False, asked=None
    )


def lift(clip: Clip, humanoid: Humanoid, percentile: float = 10.0) -> Clip:
    """Raise a clip whose typical low point is below the floor, so that resets do not throw it up.

    Args:
        clip: moved up by minus the given percentile of its lowest collision point, never down.
        humanoid: whose shapes touch the floor.
        percentile: of frames that may stay below.
    """
    pos, rot = world_pose(humanoid, clip.root_pos, clip.joint_rot)
    depth = torch.quantile(humanoid.lowest_point(pos, rot), percentile / 100.0)
    up = torch.tensor([0.0, 0.0, float(torch.relu(-depth))])
    goals = None if clip.goals is None else clip.goals + up
    return dataclasses.replace(clip, root_pos=clip.root_pos + up, goals=goals)

"""Reader for clips in DeepMimic's JSON format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import Clip, ClipError, resample

_FRAME_WIDTH = 44
_ROOT_POS = slice(1, 4)
_QUATERNIONS = {
    "root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_ankle": 21, "right_shoulder": 25,
    "left_hip": 30, "left_ankle": 35, "left_shoulder": 39,
}  # fmt: skip
_HINGES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}


def read_deepmimic(path: str | Path, *, source: str) -> Clip:
    """Read one clip; axes become x forward, y left, z up, the rate ``FPS``.

    Args:
        path: JSON file with ``Loop`` and ``Frames`` (44 numbers each).
        source: origin and terms, kept with the clip.

    Raises:
        ClipError: names the file and, where it applies, frame and field.
    """
    path = Path(path)
    frames, loop = _load_frames(path)
    # (x, y up, z right) -> (x, y left, z up); the last frame's duration is a filler
    times = np.concatenate(([0.0], np.cumsum(frames[:-1, 0])))
    root_pos = frames[:, _ROOT_POS][:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])
    joint_rot = torch.zeros(len(frames), DEEPMIMIC.num_bodies, 4, dtype=torch.float64)
    joint_rot[..., 0] = 1.0
    for name, column in _QUATERNIONS.items():
        turned = frames[:, column : column + 4][:, [0, 1, 3, 2]] * np.array([1.0, 1.0, -1.0, 1.0])
        unit = rotations.quat_normalize(torch.from_numpy(turned))
        joint_rot[:, DEEPMIMIC.body_index(name)] = unit
    axis = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    for name, column in _HINGES.items():
        angle: Tensor = -torch.from_numpy(frames[:, column].copy())  # about +y instead of z right
        joint_rot[:, DEEPMIMIC.body_index(name)] = rotations.quat_from_axis_angle(axis, angle)
    pos, rot = resample(torch.from_numpy(times), torch.from_numpy(root_pos), joint_rot)
    name = path.stem.removeprefix("humanoid3d_")
    return Clip(name=name, root_pos=pos.float(), joint_rot=rot.float(), loop=loop, source=source)


def _load_frames(path: Path) -> tuple[np.ndarray, bool]:
    """Checked frames (T, 44) and whether the clip loops."""
    rows, loop = _read_fields(path)
    if not isinstance(rows, list) or len(rows) < 2:
        raise ClipError(f"{path}: field 'Frames' must be a list of at least 2 frames")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != _FRAME_WIDTH:
            width = len(row) if isinstance(row, list) else type(row).__name__
            raise ClipError(f"{path}: frame {index}: must hold {_FRAME_WIDTH} numbers, got {width}")
        if not all(isinstance(value, int | float) and np.isfinite(value) for value in row):
            raise ClipError(f"{path}: frame {index}: holds something that is not a finite number")
    frames = np.array(rows, dtype=np.float64)
    for name, column in _QUATERNIONS.items():
        short = np.linalg.norm(frames[:, column : column + 4], axis=1) < 0.5
        if short.any():
            index = int(np.flatnonzero(short)[0])
            raise ClipError(f"{path}: frame {index}: field '{name} rotation' is not a quaternion")
    if not (frames[:-1, 0] > 0).all():
        index = int(np.flatnonzero(frames[:-1, 0] <= 0)[0])
        raise ClipError(f"{path}: frame {index}: field 'duration' must be positive")
    return frames, loop == "wrap"


def _read_fields(path: Path) -> tuple[Any, Any]:
    """The two fields of the file, not checked yet."""
    try:
        content = json.loads(path.read_text())
        return content["Frames"], content["Loop"]
    except FileNotFoundError:
        raise ClipError(f"{path}: no such clip file") from None
    except OSError as error:
        raise ClipError(f"{path}: not a readable file ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ClipError(f"{path}: not JSON, perhaps truncated ({error})") from error
    except (KeyError, TypeError) as error:
        raise ClipError(f"{path}: field 'Frames' or 'Loop' is missing") from error

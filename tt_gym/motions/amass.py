"""Reader for AMASS files (``.npz``, SMPL+H or SMPL-X), which users bring themselves.

The body model is not needed: bone lengths are those of :data:`~tt_gym.humanoids.SMPL`, and the
motion is moved to the default humanoid as the CMU skeleton's is. Shapes, fingers and faces are left
out.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import SMPL
from tt_gym.motions.clip import DAMAGED, Clip, ClipError, resample
from tt_gym.motions.limbs import world_pose
from tt_gym.motions.retargeting import Hinges, retarget

# the first 22 joints of every SMPL model, in its order
_JOINTS = (
    "Pelvis", "L_Hip", "R_Hip", "Torso", "L_Knee", "R_Knee", "Spine", "L_Ankle", "R_Ankle", "Chest",
    "L_Toe", "R_Toe", "Neck", "L_Thorax", "R_Thorax", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow",
    "R_Elbow", "L_Wrist", "R_Wrist",
)  # fmt: skip
_AS_CMU = {"Pelvis": "Hips", "Chest": "Spine1", "Head": "Head"} | {
    f"{side[0]}_{own}": f"{side}{cmu}"
    for side in ("Left", "Right")
    for own, cmu in (
        ("Hip", "UpLeg"), ("Knee", "Leg"), ("Ankle", "Foot"),
        ("Shoulder", "Arm"), ("Elbow", "ForeArm"), ("Wrist", "Hand"),
    )
}  # fmt: skip
_HINGES = Hinges(
    knee={"Left": (1.0, 0.0, 0.0), "Right": (1.0, 0.0, 0.0)},
    elbow={"Left": (0.0, 1.0, 0.0), "Right": (0.0, -1.0, 0.0)},
)
_RATES = ("mocap_framerate", "mocap_frame_rate")
# (left, up, forward) of the body model from (forward, left, up) of ours, as a rotation
_MODEL_AXES = torch.tensor([0.5, -0.5, -0.5, -0.5], dtype=torch.float64)


def is_amass(path: str | Path) -> bool:
    """Whether a file is an archive with the entry ``poses``."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "poses.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_amass(path: str | Path, *, source: str) -> Clip:
    """Read one motion and retarget it; the rate becomes ``FPS``.

    Args:
        path: file with ``poses`` (T, >= 66), rad, ``trans`` (T, 3), m, z up, and the frame rate.
        source: origin and terms, kept with the clip.

    Raises:
        ClipError: names the file and, where it applies, frame and field.
    """
    path = Path(path)
    root_pos, joint_rot, rate = _motion(path)
    pos, rot = world_pose(SMPL, root_pos, joint_rot)
    bodies = {SMPL.body_index(own): cmu for own, cmu in _AS_CMU.items()}
    positions = {name: pos[:, index][:, [1, 2, 0]] for index, name in bodies.items()}
    world_rot = {name: rot[:, index][:, [0, 2, 3, 1]] for index, name in bodies.items()}
    offsets = {
        name: torch.tensor(SMPL.bodies[index].offset, dtype=torch.float64)[[1, 2, 0]]
        for index, name in bodies.items()
    }
    placed, turned = retarget(positions, world_rot, offsets, hinges=_HINGES)
    return _clip(path, placed, turned, rate, source)


def read_smpl_motion(path: str | Path, *, source: str) -> Clip:
    """As :func:`read_amass`, but as a clip of :data:`~tt_gym.humanoids.SMPL`, not retargeted."""
    path = Path(path)
    root_pos, joint_rot, rate = _motion(path)
    return _clip(path, root_pos, joint_rot, rate, source)


def _clip(path: Path, root_pos: Tensor, joint_rot: Tensor, rate: float, source: str) -> Clip:
    times = torch.arange(len(root_pos), dtype=torch.float64) / rate
    placed, turned = resample(times, root_pos, joint_rot)
    return Clip(path.stem, placed.float(), turned.float(), loop=False, source=source)


def _motion(path: Path) -> tuple[Tensor, Tensor, float]:
    """Root positions (T, 3), m, local rotations (T, 24, 4) and the rate, Hz."""
    poses, trans, rate = _arrays(path)
    vectors = torch.from_numpy(poses[:, :66].astype(np.float64)).view(len(poses), 22, 3)
    return torch.from_numpy(trans.astype(np.float64)), _joint_rot(vectors), rate


def _joint_rot(vectors: Tensor) -> Tensor:
    """Local rotations (T, 24, 4) of :data:`SMPL` from rotation vectors (T, 22, 3) of the file."""
    joint_rot = torch.zeros(len(vectors), SMPL.num_bodies, 4, dtype=torch.float64)
    joint_rot[..., 0] = 1.0
    for column, name in enumerate(_JOINTS):
        turn = rotations.quat_from_exp_map(vectors[:, column])
        if column == 0:  # from the body model's axes to the world, which is z up
            joint_rot[:, 0] = rotations.quat_multiply(turn, _MODEL_AXES)
        else:
            joint_rot[:, SMPL.body_index(name)] = turn[:, [0, 3, 1, 2]]
    return joint_rot


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("poses", "trans", *_RATES) if name in archive}
    except FileNotFoundError:
        raise ClipError(f"{path}: no such clip file") from None
    except DAMAGED as error:
        raise ClipError(f"{path}: not a readable .npz clip ({error})") from error
    for field in ("poses", "trans"):
        if field not in found:
            raise ClipError(f"{path}: field {field!r} is missing; not an AMASS motion")
    poses, trans = found["poses"], found["trans"]
    _check(path, poses, trans)
    rates = [found[name] for name in _RATES if name in found]
    rate = np.asarray(rates[0] if rates else np.nan, dtype=np.float64)
    if rate.size != 1 or not 1.0 <= float(rate) <= 1000.0:
        raise ClipError(f"{path}: field {_RATES[0]!r} must be 1 to 1000 Hz, got {rate}")
    return poses, trans, float(rate)


def _check(path: Path, poses: np.ndarray, trans: np.ndarray) -> None:
    if poses.ndim != 2 or len(poses) < 2 or poses.shape[1] < 66 or poses.dtype.kind != "f":
        raise ClipError(f"{path}: field 'poses' must be (T >= 2, >= 66) numbers, got {poses.shape}")
    if trans.shape != (len(poses), 3) or trans.dtype.kind != "f":
        raise ClipError(f"{path}: field 'trans' must be ({len(poses)}, 3), got {trans.shape}")
    for field, values in (("poses", poses[:, :66]), ("trans", trans)):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            frame = int(np.flatnonzero(bad)[0])
            raise ClipError(f"{path}: frame {frame}: field {field!r} is not finite")

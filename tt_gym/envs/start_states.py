"""Where episodes begin."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC, SMPL, Humanoid
from tt_gym.motions.amass import read_smpl_motion
from tt_gym.motions.library import MotionFrames, MotionLibrary
from tt_gym.motions.shipped import shipped_clip
from tt_gym.names import unknown
from tt_gym.simulation.state import BodyState
from tt_gym.tasks import Task

STARTS: dict[Humanoid, tuple[str, ...]] = {
    DEEPMIMIC: ("clips", "standing", "walking"),
    SMPL: ("drop", "standing", "clip"),
}
"""Names of start states per humanoid, the usual one first.

``clips``: half standing, half walking, poses of the shipped clips. ``standing``: with hanging arms,
poses of the clip ``idle`` or at rest on the ground. ``walking``: poses of the clip
``walk_forward``. ``drop``: as in the paper, the T-pose at rest with the pelvis at 1.14 m, from
where it drops 0.2 m. ``clip``: anywhere in a motion that is given, see :class:`ClipStarts`.
"""
_DROP_HEIGHT = 1.14  # m
_ARM_ANGLE = 1.3  # rad, from stretched out sideways downwards
_START_CLIPS = ("idle", "walk_forward")
_SHARES = {"clips": (1.0, 1.0), "standing": (1.0, 0.0), "walking": (0.0, 1.0)}  # of these clips


@functools.lru_cache(maxsize=1)
def _library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, [shipped_clip(name) for name in _START_CLIPS], window_s=2.0)


def chosen_start(humanoid: Humanoid, start: str | None) -> str:
    """A humanoid's start by name, its usual one for None.

    Raises:
        ValueError: the humanoid has none of this name.
    """
    known = STARTS[humanoid]
    if start is not None and start not in known:
        raise ValueError(unknown("start of this humanoid", start, known))
    return known[0] if start is None else start


class ClipStarts:
    """Moments of a motion, with what came before them.

    The paper's code takes the model's history of the first steps from a walking clip, even where
    episodes begin with a drop in the T-pose (spec, tasks 3.1).

    Args:
        path: motion in the format of AMASS, of the SMPL humanoid.

    Raises:
        ClipError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        clip = read_smpl_motion(path, source="given to an environment")
        self.library = MotionLibrary(SMPL, [clip])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Frames, each as likely, (count,) long."""
        return self.library.sample(count, torch.ones(1), generator)[1]

    def states(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """``qpos`` and ``qvel`` of frames (R,), at the origin."""
        return _at_origin(self.library.frames[frames])

    def past(self, frames: Tensor, steps: int) -> MotionFrames:
        """The motion at frames (R,) and ``steps`` steps before, (R, 1 + steps, ...).

        The pelvis is at the origin at the first of them; the motion stands still before it begins.
        """
        earlier = (frames.unsqueeze(1) - torch.arange(1 + steps)).clamp(min=0)
        past = self.library.frames[earlier]
        pos = past.pos.clone()
        pos[..., :2] -= past.pos[:, :1, :1, :2]
        return dataclasses.replace(past, pos=pos)


def sample_start_states(
    count: int,
    generator: torch.Generator,
    humanoid: Humanoid = DEEPMIMIC,
    start: str | None = None,
) -> tuple[Tensor, Tensor]:
    """States at the origin.

    Args:
        count: how many.
        generator: for those that are drawn.
        humanoid: whose.
        start: one of its :data:`STARTS`, None for the first.

    Returns:
        ``qpos`` (count, nq) and ``qvel`` (count, nv).
    """
    start = chosen_start(humanoid, start)
    if humanoid is DEEPMIMIC:
        return _from_clips(count, generator, torch.tensor(_SHARES[start]))
    qpos = _standing() if start == "standing" else _t_pose(_DROP_HEIGHT)
    return qpos.repeat(count, 1), torch.zeros(count, SMPL.nv)


def draw_starts(
    count: int,
    generator: torch.Generator,
    humanoid: Humanoid,
    start: str,
    clip: ClipStarts | None,
    *,
    remembered_steps: int,
) -> tuple[Tensor, Tensor, MotionFrames | None]:
    """States as :func:`sample_start_states` and what came before.

    Args:
        count: how many.
        generator: for those that are drawn.
        humanoid: whose.
        start: one of its :data:`STARTS`.
        clip: where ``start="clip"`` begins and what is remembered.
        remembered_steps: how much of it.

    Returns:
        ``qpos``, ``qvel`` and the past; None: nothing else than the start pose.
    """
    if clip is None:
        return *sample_start_states(count, generator, humanoid, start), None
    frames = clip.draw(count, generator)
    past = clip.past(frames, remembered_steps)
    if start == "clip":
        return *clip.states(frames), past
    return *sample_start_states(count, generator, humanoid, start), past


def with_objects(
    qpos: Tensor, qvel: Tensor, task: Task, state: BodyState, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """``qpos`` and ``qvel`` with those of the task's objects behind them, at rest."""
    count, objects = len(qpos), len(task.objects)
    if not objects:
        return qpos, qvel
    poses = task.sample_objects(state, generator)
    return (
        torch.cat((qpos, poses.flatten(1)), dim=1),
        torch.cat((qvel, torch.zeros(count, 6 * objects)), dim=1),
    )


def _from_clips(count: int, generator: torch.Generator, shares: Tensor) -> tuple[Tensor, Tensor]:
    library = _library()
    clip_ids, frames = library.sample(count, shares, generator)
    return _at_origin(library.frames[library.frame_index(clip_ids, frames)])


def _at_origin(frames: MotionFrames) -> tuple[Tensor, Tensor]:
    qpos = frames.qpos.clone()
    qpos[:, :2] = 0.0
    return qpos, frames.qvel.clone()


def _t_pose(height: float) -> Tensor:
    """Of the SMPL humanoid, the root at a height: (nq,)."""
    qpos = torch.zeros(SMPL.nq)
    qpos[2], qpos[3::4] = height, 1.0
    return qpos


def _standing() -> Tensor:
    """The SMPL humanoid with hanging arms, its lowest point on the ground: (nq,)."""
    joint_rot = SMPL.joint_rot_from_qpos(_t_pose(0.0))
    for shoulder, angle in (("L_Shoulder", -_ARM_ANGLE), ("R_Shoulder", _ARM_ANGLE)):
        joint_rot[SMPL.body_index(shoulder)] = rotations.quat_from_exp_map(
            torch.tensor([angle, 0.0, 0.0])
        )
    qpos = SMPL.qpos_from_pose(torch.zeros(3), joint_rot)
    pos, rot, _, _ = SMPL.forward_kinematics(qpos, torch.zeros(SMPL.nv))
    qpos[2] = -SMPL.lowest_point(pos, rot)
    return qpos


def build_clip(humanoid: Humanoid, start: str, path: str | None) -> ClipStarts | None:
    """The motion in which episodes begin, or which models remember, if there is one.

    Raises:
        ValueError: it is needed and missing, or not for this humanoid.
        ClipError: it cannot be read.
    """
    if path is None:
        if start == "clip":
            raise ValueError("start 'clip' needs clip, the file of a motion, got None")
        return None
    if humanoid is not SMPL:
        raise ValueError(f"clip is for published models on the SMPL humanoid, got {path!r}")
    return ClipStarts(path)


def root_only(state: BodyState, qpos: Tensor) -> BodyState:
    """The state with the root put where ``qpos`` has it; nothing else is moved."""
    pos, rot = state.pos.clone(), state.rot.clone()
    pos[:, 0], rot[:, 0] = qpos[:, :3], qpos[:, 3:7]
    return dataclasses.replace(state, pos=pos, rot=rot)

"""Where episodes begin: standing and walking poses of the shipped clips."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from tt_gym.humanoids import DEEPMIMIC, SMPL, Humanoid
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.shipped import shipped_clip

_SMPL_START_HEIGHT = 1.14  # m
_START_CLIPS = ("idle", "walk_forward")


@functools.lru_cache(maxsize=1)
def _library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, [shipped_clip(name) for name in _START_CLIPS], window_s=2.0)


def sample_start_states(
    count: int, generator: torch.Generator, humanoid: Humanoid = DEEPMIMIC
) -> tuple[Tensor, Tensor]:
    """States at the origin: half standing, half walking; the SMPL humanoid as in the paper.

    That is the T-pose at rest, the pelvis at 1.14 m, from where it drops 0.2 m.

    Returns:
        ``qpos`` (count, nq) and ``qvel`` (count, nv).
    """
    if humanoid is SMPL:
        qpos = torch.zeros(count, SMPL.nq)
        qpos[:, 2] = _SMPL_START_HEIGHT
        qpos[:, 3::4] = 1.0
        return qpos, torch.zeros(count, SMPL.nv)
    library = _library()
    weights = torch.ones(len(library.names))
    clip_ids, frames = library.sample(count, weights, generator)
    chosen = library.frames[library.frame_index(clip_ids, frames)]
    qpos = chosen.qpos.clone()
    qpos[:, :2] = 0.0
    return qpos, chosen.qvel.clone()

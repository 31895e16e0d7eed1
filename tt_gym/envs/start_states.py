"""Where episodes begin: standing and walking poses of the shipped clips."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.shipped import shipped_clip

_START_CLIPS = ("idle", "walk_forward")


@functools.lru_cache(maxsize=1)
def _library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, [shipped_clip(name) for name in _START_CLIPS], window_s=2.0)


def sample_start_states(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Reference states at the origin, half standing, half walking.

    Returns:
        ``qpos`` (count, nq) and ``qvel`` (count, nv).
    """
    library = _library()
    weights = torch.ones(len(library.names))
    clip_ids, frames = library.sample(count, weights, generator)
    chosen = library.frames[library.frame_index(clip_ids, frames)]
    qpos = chosen.qpos.clone()
    qpos[:, :2] = 0.0
    return qpos, chosen.qvel.clone()

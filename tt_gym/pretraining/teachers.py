"""Who labels the student's states: one tracker or several, each for its own clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.clips import load_clips
from tt_gym.pretraining.tracker import Tracker, load_tracker


class Teachers:
    """Frozen trackers, each the teacher of some clips.

    Args:
        trackers: with the number of clips that each teaches, in the order of the library's.
    """

    def __init__(self, *trackers: tuple[Tracker, int]) -> None:
        self.trackers = [tracker for tracker, _ in trackers]
        counts = torch.tensor([count for _, count in trackers])
        self._of_clip = torch.repeat_interleave(torch.arange(len(counts)), counts)

    def __call__(self, observation: Tensor, clip_ids: Tensor) -> Tensor:
        """Residual PD targets (N, D), rad, of who teaches the clips ``clip_ids`` (N,)."""
        teacher = self._of_clip[clip_ids]
        actions = [tracker(observation) for tracker in self.trackers]
        return torch.stack(actions)[teacher, torch.arange(len(teacher))]


def load_teachers(taught: Sequence[tuple[Path, Sequence[str]]]) -> tuple[Teachers, MotionLibrary]:
    """Trackers and all their clips.

    Args:
        taught: file of a tracker; names, files or folders of its clips.

    Raises:
        CheckpointError: a tracker cannot be loaded.
        ClipError: a clip cannot be read.
    """
    sets = [load_clips(list(names)) for _, names in taught]
    pairs = zip(taught, sets, strict=True)
    teachers = Teachers(*((load_tracker(path), len(clips)) for (path, _), clips in pairs))
    return teachers, MotionLibrary(DEEPMIMIC, [clip for clips in sets for clip in clips])

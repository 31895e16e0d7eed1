"""Who labels the student's states: one tracker or several, each for its own clips."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import Clip, ClipError
from tt_gym.motions.library import MotionLibrary
from tt_gym.names import unknown
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


def add_expert_option(parser: argparse.ArgumentParser) -> None:
    """``--expert TRACKER CLIPS...``, as often as wanted; :func:`experts_of` reads it."""
    parser.add_argument(
        "--expert",
        nargs="+",
        action="append",
        default=[],
        metavar=("TRACKER", "CLIPS"),
        help="another tracker and the clips that it teaches; may be given again",
    )


def experts_of(
    parser: argparse.ArgumentParser, given: list[list[str]]
) -> list[tuple[Path, list[str]]]:
    """Files of trackers and their clips, as ``--expert`` was given; exits without clips."""
    if any(len(expert) < 2 for expert in given):
        parser.error("--expert needs a tracker and at least one clip")
    return [(Path(name), clips) for name, *clips in given]


def share_out(
    tracker: Path, clips: Sequence[Clip], experts: Sequence[tuple[Path, Sequence[str]]]
) -> tuple[Teachers, MotionLibrary]:
    """Trackers of given clips.

    Args:
        tracker: file of the one that has all clips that are left.
        clips: of all.
        experts: file of a tracker and names of its clips, or shell patterns of them (``reach_*``).

    Raises:
        CheckpointError: a tracker cannot be loaded.
        ClipError: an expert's clip is not among ``clips``.
    """
    known = [clip.name for clip in clips]
    of_clip: dict[str, int] = {}
    for number, (_, names) in enumerate(experts, start=1):
        for name in names:
            matching = fnmatch.filter(known, name)
            if not matching:
                raise ClipError(unknown("clip of an expert", name, known))
            of_clip |= dict.fromkeys(matching, number)
    ordered = sorted(clips, key=lambda clip: of_clip.get(clip.name, 0))
    taught = [of_clip.get(clip.name, 0) for clip in ordered]
    paths = (tracker, *(path for path, _ in experts))
    loaded = ((load_tracker(path), taught.count(number)) for number, path in enumerate(paths))
    return Teachers(*loaded), MotionLibrary(DEEPMIMIC, ordered)


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

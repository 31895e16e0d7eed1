"""What the commands that make clips share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym.motions.clip import Clip, save_clip


def ease(part: Tensor) -> Tensor:
    """From 0 to 1 as ``part`` does, without speed or acceleration at either end (fifth order)."""
    return part**3 * (10.0 - 15.0 * part + 6.0 * part**2)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number drawn evenly from ``low`` to ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def add_arguments(
    parser: argparse.ArgumentParser, *, count: int, duration_s: float | None = None
) -> None:
    """The options of all these commands, with defaults; no duration where it is given."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz clips")
    parser.add_argument("--count", type=int, default=count)
    if duration_s is not None:
        parser.add_argument("--duration-s", type=float, default=duration_s)
    parser.add_argument("--seed", type=int, default=0)


def check_positive(count: int, duration_s: float) -> None:
    """Refuse to make nothing.

    Raises:
        ValueError: ``count`` or ``duration_s`` is not positive.
    """
    if count < 1 or not duration_s > 0.0:
        raise ValueError(f"count and duration_s must be positive, got {count} and {duration_s}")


def make_and_write(
    parser: argparse.ArgumentParser, folder: Path, make: Callable[[], Sequence[Clip]]
) -> None:
    """Save what ``make`` makes; what it refuses is an error of the command line."""
    try:
        clips = make()
    except ValueError as error:
        parser.error(str(error))
    write_clips(clips, folder)


def write_clips(clips: Sequence[Clip], folder: Path) -> None:
    """Save each under its name and say how much it was."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        save_clip(clip, folder / f"{clip.name}.npz")
    print(f"{folder}: {len(clips)} clips, {sum(clip.duration_s for clip in clips):.0f} s")

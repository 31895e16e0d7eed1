"""Keep the clips that a tracker can follow, above all of made ones: physics has the last word.

python -m tt_gym.pretraining.sift --tracker checkpoints/tracker.safetensors --clips made --out kept
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from tt_gym.command_line import count, natural, one_line_errors, share
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import Clip
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.making import write_clips
from tt_gym.pretraining.clips import load_clips
from tt_gym.pretraining.following import ALL, report_tracker
from tt_gym.pretraining.teachers import Teachers
from tt_gym.pretraining.tracker import Tracker, load_tracker


def followed(tracker: Tracker, clip: Clip, *, windows: int, seed: int) -> tuple[float, float]:
    """How a clip is followed.

    Args:
        tracker: who follows.
        clip: what.
        windows: how often, see :func:`~tt_gym.pretraining.following.track`.
        seed: of where the windows begin.

    Returns:
        Share of windows that are followed to their end, and mean body error, mm.
    """
    library = MotionLibrary(DEEPMIMIC, [clip])
    with torch.no_grad():
        return report_tracker(Teachers((tracker, 1)), library, windows, seed)[ALL]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracker", type=Path, required=True)
    parser.add_argument("--clips", nargs="+", required=True, help="names, files or folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz clips kept")
    parser.add_argument("--least", type=share, default=0.9, help="share of windows, to be kept")
    parser.add_argument("--windows", type=count, default=32, help="of each clip")
    parser.add_argument("--seed", type=natural, default=0)
    options = parser.parse_args(arguments)
    with one_line_errors("sift"):
        tracker, clips = load_tracker(options.tracker), load_clips(options.clips)
        kept = []
        for clip in clips:
            part, error = followed(tracker, clip, windows=options.windows, seed=options.seed)
            good = part >= options.least
            if good:
                kept.append(clip)
            verdict = "" if good else "  left out"
            print(f"{clip.name:24} {part:6.1%} followed, {error:3.0f} mm{verdict}", flush=True)
        write_clips(kept, options.out)


if __name__ == "__main__":
    main()

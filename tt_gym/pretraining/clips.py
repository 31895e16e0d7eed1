"""Which clips to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tt_gym.motions import Clip, ClipError
from tt_gym.motions.editing import time_warp
from tt_gym.motions.files import SUFFIXES, read_clip
from tt_gym.motions.shipped import shipped_clip, shipped_clips


def load_clips(names: Sequence[str]) -> list[Clip]:
    """Clips by shipped name, ``shipped`` (all of them), file or folder of files.

    A trailing ``*FACTOR`` plays a clip faster (``walk*1.25``).

    Raises:
        ClipError: unknown name or unreadable file.
    """
    clips: list[Clip] = []
    for name in names:
        base, _, factor = name.partition("*")
        found = _load(base)
        if factor:
            found = [time_warp(clip, float(factor)) for clip in found]
        clips += found
    return clips


def _load(name: str) -> list[Clip]:
    path = Path(name)
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
        if not files:
            raise ClipError(f"{path}: no clip in this folder; looked for {', '.join(SUFFIXES)}")
        return [read_clip(file) for file in files]
    if path.suffix:
        return [read_clip(path)]
    return shipped_clips() if name == "shipped" else [shipped_clip(name)]

"""Which clips to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tt_gym.motions import Clip, ClipError, load_clip, read_bvh, read_deepmimic
from tt_gym.motions.editing import close_loop, time_warp
from tt_gym.motions.shipped import shipped_clip, shipped_clips

_LOCAL = "local file"
_SUFFIXES = (".txt", ".npz", ".bvh")


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
        files = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES]
        if not files:
            raise ClipError(f"{path}: no clip in this folder; looked for {', '.join(_SUFFIXES)}")
        return [_read(file) for file in files]
    if path.suffix:
        return [_read(path)]
    return shipped_clips() if name == "shipped" else [shipped_clip(name)]


def _read(path: Path) -> Clip:
    if path.suffix == ".txt":
        clip = read_deepmimic(path, source=_LOCAL)
        return close_loop(clip) if clip.loop else clip
    if path.suffix == ".npz":
        return load_clip(path)
    if path.suffix == ".bvh":
        return read_bvh(path, source=_LOCAL)
    raise ClipError(
        f"{path}: unknown kind of clip file; allowed: .txt (DeepMimic), .npz, .bvh (CMU skeleton)"
    )

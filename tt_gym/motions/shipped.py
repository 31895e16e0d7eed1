"""The clips that come with the package (``data/README.md`` says from where and on which terms)."""

from __future__ import annotations

from pathlib import Path

from tt_gym.motions.clip import Clip, ClipError, load_clip
from tt_gym.names import unknown

_FOLDER = Path(__file__).parent / "data"


def shipped_names() -> tuple[str, ...]:
    """Names of all shipped clips, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.npz")))


def shipped_clip(name: str) -> Clip:
    """One shipped clip.

    Raises:
        ClipError: unknown name; the text lists the known ones.
    """
    names = shipped_names()
    if name not in names:
        raise ClipError(unknown("clip", name, names))
    return load_clip(_FOLDER / f"{name}.npz")


def shipped_clips() -> list[Clip]:
    """All shipped clips, sorted by name."""
    return [shipped_clip(name) for name in shipped_names()]

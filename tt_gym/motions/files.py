"""Any kind of clip file."""

from __future__ import annotations

from pathlib import Path

from tt_gym.motions.amass import is_amass, read_amass
from tt_gym.motions.asf_amc import read_amc
from tt_gym.motions.bvh import read_bvh
from tt_gym.motions.clip import Clip, ClipError, load_clip
from tt_gym.motions.deepmimic import read_deepmimic
from tt_gym.motions.editing import close_loop

SUFFIXES = (".txt", ".npz", ".bvh", ".amc")
_LOCAL = "local file"


def read_clip(path: str | Path) -> Clip:
    """A clip of our own or AMASS (``.npz``), DeepMimic (``.txt``, seams closed) or CMU.

    CMU's are ``.bvh``, or ``.amc`` with the skeleton's ``.asf`` beside it.

    Raises:
        ClipError: unknown kind of file, or one that cannot be read.
    """
    path = Path(path)
    if path.suffix == ".txt":
        clip = read_deepmimic(path, source=_LOCAL)
        return close_loop(clip) if clip.loop else clip
    if path.suffix == ".npz":
        return read_amass(path, source=_LOCAL) if is_amass(path) else load_clip(path)
    if path.suffix == ".bvh":
        return read_bvh(path, source=_LOCAL)
    if path.suffix == ".amc":
        return read_amc(path, source=_LOCAL)
    raise ClipError(
        f"{path}: unknown kind of clip file; allowed: .txt (DeepMimic), .npz (tt_gym, AMASS), "
        ".bvh and .amc (CMU skeleton)"
    )

"""Build the shipped clips from their public sources.

``python -m tt_gym.motions.convert --output DIR`` reads the pybullet wheel from PyPI (DeepMimic
clips, zlib licence) and a file of Debian's ``assimp-testmodels`` (a CMU clip), both with pinned
hashes. It needs ``pip`` and, of a Debian system, ``apt-get`` and ``dpkg``; where those are missing,
put ``01_01.bvh`` into the cache folder by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tt_gym.motions.bvh import read_bvh
from tt_gym.motions.clip import Clip, save_clip
from tt_gym.motions.deepmimic import read_deepmimic
from tt_gym.motions.editing import back_and_forth, close_loop, cut

_WHEEL_SHA256 = "5d858abf7c12a21ef3ed351cf81dac1b5e486ec25c9ab59bfc84beb89034edff"
_WHEEL_COMMAND = (
    sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
    "--progress-bar=off", "--python-version=3.11", "--implementation=cp", "--abi=cp311",
    "--platform=manylinux2014_x86_64", "pybullet==3.2.7",
)  # fmt: skip
_BVH_SHA256 = "1d9ee909452ee62784306545cf1fcd634243db1173e0c90cecbed793e50361a8"
_BVH_MEMBER = "usr/share/assimp/models/BVH/01_01.bvh"
_DEBIAN_PACKAGE = "assimp-testmodels"

_MOTIONS = "pybullet_data/data/motions"
_DEEPMIMIC = {
    "walk": "humanoid3d_walk.txt",
    "run": "humanoid3d_run.txt",
    "jump": "humanoid3d_jump.txt",
    "kick": "humanoid3d_kick.txt",
    "punch": "humanoid3d_punch.txt",
    "walk_forward": "walker/0walk_forward.txt",
    "turn_left0": "walker/turn_left0.txt",
    "turn_left1": "walker/turn_left1.txt",
    "turn_right0": "walker/turn_right0.txt",
    "turn_right1": "walker/turn_right1.txt",
}
_DEEPMIMIC_SOURCE = "pybullet 3.2.7, zlib licence, axes and rate changed"
_CMU_SOURCE = "mocap.cs.cmu.edu subject 1 clip 1, free for all uses, retargeted"

# Ten jumps and two turn-arounds, cut where the subject stands
_CMU_PIECES_S = ((0.0, 8.0), (8.0, 16.1), (16.1, 22.9))
_QUIET_S = (11.63, 12.1)  # the longest moment without a moving hand or foot
_IDLE_PERIOD_S = 3.0
_REPORT_EVERY_S = 5.0


class SourceError(RuntimeError):
    """A source could not be fetched or is not the expected file."""


def build_clips(cache: Path) -> list[Clip]:
    """All shipped clips, fetching what is not yet in ``cache``.

    Raises:
        SourceError: see :func:`_fetch_wheel` and :func:`_fetch_bvh`.
    """
    clips = _deepmimic_clips(_fetch_wheel(cache), cache)
    jumps = read_bvh(_fetch_bvh(cache), source=_CMU_SOURCE)
    pieces = [cut(jumps, *piece, f"cmu_jumps_{i}") for i, piece in enumerate(_CMU_PIECES_S)]
    standing = cut(jumps, *_QUIET_S, "standing")
    return [*clips, *pieces, back_and_forth(standing, name="idle", period_s=_IDLE_PERIOD_S)]


def _deepmimic_clips(wheel: Path, cache: Path) -> list[Clip]:
    clips = []
    with zipfile.ZipFile(wheel) as archive:
        for name, member in _DEEPMIMIC.items():
            path = Path(archive.extract(f"{_MOTIONS}/{member}", cache))
            clip = read_deepmimic(path, source=f"{_DEEPMIMIC_SOURCE}; {member}")
            clip = dataclasses.replace(clip, name=name)
            clips.append(close_loop(clip) if clip.loop else clip)
    return clips


def _fetch_wheel(cache: Path) -> Path:
    """The pybullet wheel, downloaded by pip unless it is there; it is read but never installed."""
    found = list(cache.glob("pybullet-3.2.7-*.whl"))
    if not found:
        print("downloading the pybullet wheel, 103 MB", flush=True)
        _run([*_WHEEL_COMMAND, "--dest", str(cache)], cache)
        found = list(cache.glob("pybullet-3.2.7-*.whl"))
    return _checked(found[0], _WHEEL_SHA256)


def _fetch_bvh(cache: Path) -> Path:
    """The CMU clip, from the Debian package unless it is there."""
    by_hand, path = cache / "01_01.bvh", cache / _DEBIAN_PACKAGE / _BVH_MEMBER
    if by_hand.exists():
        return _checked(by_hand, _BVH_SHA256)
    if not path.exists():
        print(f"downloading the Debian package {_DEBIAN_PACKAGE}, 21 MB", flush=True)
        _run(["apt-get", "download", _DEBIAN_PACKAGE], cache)
        (package,) = cache.glob(f"{_DEBIAN_PACKAGE}_*.deb")
        _run(["dpkg", "-x", str(package), str(cache / _DEBIAN_PACKAGE)], cache)
    return _checked(path, _BVH_SHA256)


def _checked(path: Path, sha256: str) -> Path:
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != sha256:
        raise SourceError(f"{path}: sha256 is {actual}, must be {sha256}: delete it and try again")
    return path


def _run(command: Sequence[str], cache: Path) -> None:
    """Run a command inside ``cache`` with a line of progress every few seconds."""
    start = time.monotonic()
    try:
        process = subprocess.Popen(command, cwd=cache)
    except FileNotFoundError:
        raise SourceError(
            f"{command[0]} not found: put 01_01.bvh (sha256 {_BVH_SHA256}) into {cache}"
        ) from None
    while True:
        try:
            code = process.wait(timeout=_REPORT_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            print(f"  {command[0]}: {time.monotonic() - start:.0f} s", flush=True)
    if code != 0:
        hint = ": run `apt-get update` first" if command[0] == "apt-get" else ""
        raise SourceError(f"`{' '.join(command)}` failed with exit status {code}{hint}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tt_gym.motions.convert")
    parser.add_argument("--output", type=Path, required=True, help="folder for the .npz files")
    parser.add_argument("--cache", type=Path, help="folder in which to keep downloads")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        cache = (options.cache or Path(temporary)).resolve()
        cache.mkdir(parents=True, exist_ok=True)
        try:
            clips = build_clips(cache)
        except SourceError as error:
            parser.exit(1, f"error: {error}\n")
        options.output.mkdir(parents=True, exist_ok=True)
        for clip in clips:
            save_clip(clip, options.output / f"{clip.name}.npz")
            print(f"{clip.name:14s} {clip.duration_s:5.2f} s{'  loop' if clip.loop else ''}")


if __name__ == "__main__":
    main()

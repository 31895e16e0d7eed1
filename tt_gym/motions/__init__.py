"""Motion clips: reading, editing and batched access."""

from tt_gym.motions.clip import FPS, Clip, ClipError, load_clip, mirror, save_clip
from tt_gym.motions.deepmimic import read_deepmimic
from tt_gym.motions.library import MotionFrames, MotionLibrary

__all__ = [
    "FPS", "Clip", "ClipError", "MotionFrames", "MotionLibrary", "load_clip", "mirror",
    "read_deepmimic", "save_clip",
]  # fmt: skip

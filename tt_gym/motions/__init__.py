"""Motion clips: reading, editing and batched access."""

from tt_gym.motions.amass import read_amass
from tt_gym.motions.asf_amc import read_amc
from tt_gym.motions.bvh import read_bvh
from tt_gym.motions.clip import FPS, Clip, ClipError, load_clip, mirror, save_clip
from tt_gym.motions.deepmimic import read_deepmimic
from tt_gym.motions.files import read_clip
from tt_gym.motions.library import MotionFrames, MotionLibrary
from tt_gym.motions.shipped import shipped_clip, shipped_clips, shipped_names

__all__ = [
    "FPS", "Clip", "ClipError", "MotionFrames", "MotionLibrary", "load_clip", "mirror",
    "read_amass", "read_amc", "read_bvh", "read_clip", "read_deepmimic", "save_clip",
    "shipped_clip", "shipped_clips", "shipped_names",
]  # fmt: skip

"""Humanoids: what a body is, independent of the simulator and of the task."""

from tt_gym.humanoids.deepmimic import DEEPMIMIC
from tt_gym.humanoids.humanoid import Body, Humanoid
from tt_gym.humanoids.smpl import SMPL

__all__ = ["DEEPMIMIC", "SMPL", "Body", "Humanoid"]

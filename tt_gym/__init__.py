"""Task Tokens as Gymnasium environments: the action is one extra token of a frozen model.

Importing this module registers the ids ``TT*-v0`` and loads nothing heavy.
"""

import importlib
from types import ModuleType

from gymnasium import register, registry

from tt_gym.opengl import choose_backend

__version__ = "0.1.0"

EPISODE_STEPS = 300
"""Control steps (30 per second) of an episode, 10 s as in the paper's evaluation."""

choose_backend()  # before anything imports mujoco


def __getattr__(name: str) -> ModuleType:
    # torch comes with it: imported when first asked for
    if name == "tokens":
        return importlib.import_module("tt_gym.tokens")
    raise AttributeError(f"module 'tt_gym' has no attribute {name!r}")


for _name, _task in (
    ("TTDirection-v0", "direction"),
    ("TTStrike-v0", "strike"),
    ("TTSteering-v0", "steering"),
    ("TTReach-v0", "reach"),
    ("TTLongJump-v0", "long_jump"),
    ("TTPathFollowing-v0", "path_following"),
):
    if _name not in registry:
        register(
            _name,
            entry_point="tt_gym.envs:TaskTokenEnv",
            vector_entry_point="tt_gym.envs:TaskTokenVectorEnv",
            max_episode_steps=EPISODE_STEPS,
            kwargs={"task": _task},
        )

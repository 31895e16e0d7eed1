"""Simulators: the only place where physics is known."""

from typing import Any

from tt_gym.humanoids import Humanoid
from tt_gym.names import unknown
from tt_gym.simulation.mujoco_cpu import MujocoCpu
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject, Simulator

__all__ = [
    "CONTROL_DT",
    "SIMULATORS",
    "BodyState",
    "BoxObject",
    "MujocoCpu",
    "Simulator",
    "build_simulator",
]

SIMULATORS = ("mujoco_cpu", "mujoco_warp")


def build_simulator(name: str, humanoid: Humanoid, num_envs: int, **settings: Any) -> Any:
    """A simulator by name: MuJoCo in C++ threads, or MuJoCo Warp (a GPU where there is one).

    Raises:
        ValueError: unknown name, or a value that is not allowed.
        ImportError: it needs a package that is not installed; the text says how to.
    """
    if name == "mujoco_cpu":
        return MujocoCpu(humanoid, num_envs, **settings)
    if name == "mujoco_warp":
        from tt_gym.simulation.mujoco_warp import MujocoWarp

        return MujocoWarp(humanoid, num_envs, **settings)
    raise ValueError(unknown("simulator", name, SIMULATORS))

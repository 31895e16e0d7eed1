"""Simulators: the only place where physics is known."""

from collections.abc import Sequence
from typing import Any

from tt_gym.humanoids import Humanoid
from tt_gym.names import unknown
from tt_gym.simulation.mujoco_cpu import MujocoCpu
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject, Simulator
from tt_gym.simulation.terrain import Terrain

__all__ = [
    "CONTROL_DT",
    "SIMULATORS",
    "BodyState",
    "BoxObject",
    "MujocoCpu",
    "Simulator",
    "Terrain",
    "build_simulator",
]

SIMULATORS = ("mujoco_cpu", "mujoco_warp")


def build_simulator(
    name: str,
    humanoid: Humanoid,
    num_envs: int,
    *,
    objects: Sequence[BoxObject] = (),
    self_collision: bool = False,
    num_threads: int = 0,
    terrain: Terrain | None = None,
) -> Any:
    """A simulator by name: MuJoCo in C++ threads, or MuJoCo Warp (a GPU where there is one).

    Args:
        name: one of :data:`SIMULATORS`.
        humanoid: what to simulate.
        num_envs: N >= 1.
        objects: free objects present in every environment.
        self_collision: let limbs collide with each other.
        num_threads: of ``mujoco_cpu``, 0 for all cores.
        terrain: of ``mujoco_cpu``, None for flat ground.

    Raises:
        ValueError: unknown name, or a value that is not allowed.
        ImportError: it needs a package that is not installed; the text says how to.
    """
    if name == "mujoco_cpu":
        return MujocoCpu(
            humanoid,
            num_envs,
            objects=objects,
            self_collision=self_collision,
            num_threads=num_threads,
            terrain=terrain,
        )
    if name == "mujoco_warp":
        from tt_gym.simulation.mujoco_warp import MujocoWarp

        return MujocoWarp(humanoid, num_envs, objects=objects, self_collision=self_collision)
    raise ValueError(unknown("simulator", name, SIMULATORS))

"""The contract between physics and everything else."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tt_gym.humanoids import Humanoid

TIMESTEP = 1.0 / 120.0
"""Physics step, s."""
DECIMATION = 4
"""Physics steps per control step."""
CONTROL_DT = TIMESTEP * DECIMATION
"""Control step, s."""


@dataclasses.dataclass(frozen=True)
class BodyState:
    """State of all bodies after a step: origins, world frame, torch float32.

    Attributes:
        pos: (N, B, 3), m; where the ground is not flat, z is above the ground under the root.
        rot: (N, B, 4), quaternion (w, x, y, z).
        vel: (N, B, 3), m/s.
        ang_vel: (N, B, 3), rad/s.
        contact_force: net contact force on the body during the last physics step, (N, B, 3), N.
        object_pos, object_rot, object_vel, object_ang_vel: the same for the scene's objects,
            (N, K, ...); K = 0 without objects.
        object_contact_force: force of object k on body b, (N, K, B, 3), N.
    """

    pos: Tensor
    rot: Tensor
    vel: Tensor
    ang_vel: Tensor
    contact_force: Tensor
    object_pos: Tensor
    object_rot: Tensor
    object_vel: Tensor
    object_ang_vel: Tensor
    object_contact_force: Tensor

    def __getitem__(self, ids: Tensor) -> BodyState:
        """The rows of some environments."""
        return BodyState(
            **{field.name: getattr(self, field.name)[ids] for field in dataclasses.fields(self)}
        )


@dataclasses.dataclass(frozen=True)
class BoxObject:
    """A free rigid box of a task.

    Attributes:
        half_size: m.
        density: kg/m^3.
    """

    name: str
    half_size: tuple[float, float, float]
    density: float
    rgba: tuple[float, float, float, float] = (0.8, 0.3, 0.25, 1.0)


def body_state(
    *,
    pos: Tensor,
    rot: Tensor,
    spatial_velocity: Tensor,
    centre: Tensor,
    forces: Tensor,
    num_bodies: int,
) -> BodyState:
    """A state from MuJoCo's arrays, the humanoid's bodies first, then the objects.

    Args:
        pos: (N, M, 3), m.
        rot: (N, M, 4).
        spatial_velocity: MuJoCo's ``cvel``: angular, then linear velocity of the body at the centre
            of mass of its tree, (N, M, 6).
        centre: that centre of mass, (N, M, 3), m.
        forces: contact sensors, (N, (1 + objects) B 3), N.
        num_bodies: B.
    """
    ang_vel = spatial_velocity[..., :3]
    vel = spatial_velocity[..., 3:] + torch.linalg.cross(ang_vel, pos - centre)
    forces = forces.view(len(pos), -1, num_bodies, 3)
    return BodyState(
        pos=pos[:, :num_bodies],
        rot=rot[:, :num_bodies],
        vel=vel[:, :num_bodies],
        ang_vel=ang_vel[:, :num_bodies],
        contact_force=forces[:, 0],
        object_pos=pos[:, num_bodies:],
        object_rot=rot[:, num_bodies:],
        object_vel=vel[:, num_bodies:],
        object_ang_vel=ang_vel[:, num_bodies:],
        object_contact_force=forces[:, 1:],
    )


class Simulator(Protocol):
    """N copies of one humanoid (and optional objects), stepped together.

    ``qpos`` and ``qvel`` are MuJoCo's: first the humanoid, then seven (six) numbers per object.
    """

    num_envs: int
    humanoid: Humanoid
    state: BodyState
    diverged: Tensor
    """(N,) bool: environments whose last step blew up; their state is a reset one, not physics."""

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put some environments (indices, sorted) into the given states and update ``state``."""
        ...

    def step(self, pd_target: Tensor) -> BodyState:
        """Advance all environments by one control step towards (N, D) PD targets, rad."""
        ...

    def push(self, ids: Tensor, velocity: Tensor) -> None:
        """Add (len(ids), 3) m/s to the root velocity of some environments, for the next step."""
        ...

    def get_state(self) -> np.ndarray:
        """Everything that physics remembers, one row per environment."""
        ...

    def set_state(self, state: np.ndarray) -> None:
        """Restore what :meth:`get_state` gave, bit for bit."""
        ...

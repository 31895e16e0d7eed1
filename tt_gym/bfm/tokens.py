"""What the networks see of the humanoid's own state."""

from __future__ import annotations

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import Humanoid
from tt_gym.simulation.state import BodyState

STATE_CLIP = 20.0
"""Bound on every entry of the state observation: a thrown body must not drown a network."""


def state_size(humanoid: Humanoid) -> int:
    """Width of :func:`observe_state`: 15 B - 2."""
    return 15 * humanoid.num_bodies - 2


def observe_state(state: BodyState) -> Tensor:
    """:func:`proprioception` within +-:data:`STATE_CLIP`: (N, 15 B - 2)."""
    observation = proprioception(pos=state.pos, rot=state.rot, vel=state.vel, ang_vel=state.ang_vel)
    return observation.clamp(-STATE_CLIP, STATE_CLIP)


def proprioception(*, pos: Tensor, rot: Tensor, vel: Tensor, ang_vel: Tensor) -> Tensor:
    """A body state in the heading frame of its root, as MaskedMimic orders it.

    Args:
        pos: (N, B, 3), m, world, height above the ground.
        rot: (N, B, 4).
        vel: (N, B, 3), m/s, world.
        ang_vel: (N, B, 3), rad/s, world.

    Returns:
        (N, 15 B - 2): root height (1), body positions relative to the root (3 (B - 1)), rot6 of all
        bodies (6 B), linear (3 B, m/s) and angular velocities (3 B, rad/s).
    """
    vectors = torch.cat(
        (
            pos[:, 1:] - pos[:, :1],
            rotations.rot6(rot).unflatten(-1, (2, 3)).flatten(1, 2),
            vel,
            ang_vel,
        ),
        dim=1,
    )
    local = rotations.to_heading_frame(rot[:, 0], vectors)
    return torch.cat((pos[:, 0, 2:], local.flatten(1)), dim=1)


def mirror_state(observation: Tensor, humanoid: Humanoid) -> Tensor:
    """State observation of the mirrored humanoid: (..., 15 B - 2) -> the same shape."""
    bodies = humanoid.num_bodies
    sizes = [1, 3 * (bodies - 1), 6 * bodies, 3 * bodies, 3 * bodies]
    height, pos, rot, vel, ang_vel = observation.split(sizes, dim=-1)
    swap = list(humanoid.mirrored_bodies)
    others = [index - 1 for index in swap[1:]]
    return torch.cat(
        (
            height,
            mirror_blocks(pos, others, (1, -1, 1)),
            mirror_blocks(rot, swap, (1, -1, 1, 1, -1, 1)),
            mirror_blocks(vel, swap, (1, -1, 1)),
            mirror_blocks(ang_vel, swap, (-1, 1, -1)),
        ),
        dim=-1,
    )


def mirror_blocks(values: Tensor, swap: list[int], signs: tuple[int, ...]) -> Tensor:
    """Reorder per-body blocks (..., K * len(signs)) by ``swap`` and flip the given signs."""
    blocks = values.unflatten(-1, (len(swap), len(signs)))
    flip = torch.tensor(signs, dtype=values.dtype)
    return (blocks[..., swap, :] * flip).flatten(-2)

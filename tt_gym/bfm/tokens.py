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
    """Proprioception in the heading frame of the root (spec/maskedmimic.md section 1.9).

    Returns:
        (N, 15 B - 2): root height (1), body positions relative to the root (3 (B - 1)), rot6 of all
        bodies (6 B), linear (3 B, m/s) and angular velocities (3 B, rad/s).
    """
    vectors = torch.cat(
        (
            state.pos[:, 1:] - state.pos[:, :1],
            rotations.rot6(state.rot).unflatten(-1, (2, 3)).flatten(1, 2),
            state.vel,
            state.ang_vel,
        ),
        dim=1,
    )
    local = rotations.to_heading_frame(state.rot[:, 0], vectors)
    observation = torch.cat((state.pos[:, 0, 2:], local.flatten(1)), dim=1)
    return observation.clamp(-STATE_CLIP, STATE_CLIP)


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

"""Goal tokens: target poses at future times, any part of which may be hidden."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.tokens import mirror_blocks
from tt_gym.humanoids import Humanoid
from tt_gym.simulation.state import CONTROL_DT, BodyState

TARGETS = "targets"
"""Name of the token type."""
TEXT = "text"
"""Name of the token type of embedded words."""
TARGET_STEPS = (1, 4, 8, 16, 30)
"""Control steps ahead of the target poses seen in pre-training."""
MOST_TURN = 1.1
"""rad; further than that our own model is not asked to turn at a time: many would fall."""
_POS, _ROT, _HEADING, _VELOCITY = 6, 6, 2, 2


@dataclasses.dataclass(frozen=True)
class Targets:
    """Goals for K future times and which of them are shown.

    Attributes:
        pos: (N, K, B, 3), m, world. rot: (N, K, B, 4).
        heading: direction the root faces, (N, K), rad.
        velocity: root velocity in the plane, averaged over a stride, (N, K, 2), m/s, world.
        time_s: time from now, (N, K).
        pos_visible, rot_visible: (N, K, B) bool.
        heading_visible, velocity_visible: (N, K) bool.
        text: embeddings of what is to be done, (N, M, W), None without words.
        text_visible: (N, M) bool.
    """

    pos: Tensor
    rot: Tensor
    heading: Tensor
    velocity: Tensor
    time_s: Tensor
    pos_visible: Tensor
    rot_visible: Tensor
    heading_visible: Tensor
    velocity_visible: Tensor
    text: Tensor | None = None
    text_visible: Tensor | None = None


def target_size(humanoid: Humanoid) -> int:
    """Width of one target token: every body's position and rotation, heading, velocity, time."""
    return humanoid.num_bodies * (_POS + 1 + _ROT + 1) + _HEADING + 1 + _VELOCITY + 1 + 1


def observe_targets(state: BodyState, targets: Targets) -> tuple[Tensor, Tensor]:
    """Target tokens relative to the current state, hidden parts zeroed.

    Returns:
        Values (N, K, width) and visibility (N, K): a token is visible if any part of it is.
    """
    count = targets.time_s.shape[1]
    root_rot = state.rot[:, 0]
    vectors = torch.cat(
        (
            targets.pos - state.pos[:, None, :1],
            targets.pos - state.pos[:, None],
            rotations.rot6(targets.rot).unflatten(-1, (2, 3)).flatten(2, 3),
        ),
        dim=2,
    )  # (N, K, 4 B, 3)
    local = rotations.to_heading_frame(root_rot, vectors.flatten(1, 2)).view_as(vectors)
    bodies = targets.pos.shape[2]
    pos = torch.cat((local[:, :, :bodies], local[:, :, bodies : 2 * bodies]), dim=-1)
    rot = local[:, :, 2 * bodies :].reshape(*pos.shape[:3], _ROT)
    yaw = rotations.heading(root_rot).unsqueeze(1)
    facing = rotations.direction_xy(targets.heading - yaw)
    velocity = rotations.rotate_xy(-yaw.expand(-1, count), targets.velocity)
    one = torch.ones_like(targets.time_s).unsqueeze(-1)
    body_one = one.unsqueeze(2).expand(-1, -1, bodies, 1)
    values = torch.cat(
        (
            torch.cat((pos, body_one), dim=-1).flatten(2),
            torch.cat((rot, body_one), dim=-1).flatten(2),
            torch.cat((facing, one, velocity, one, targets.time_s.unsqueeze(-1)), dim=-1),
        ),
        dim=-1,
    )
    return values * feature_mask(targets), visible_tokens(targets)


def feature_mask(targets: Targets) -> Tensor:
    """1 where a feature of the target tokens is shown, 0 where hidden: (N, K, width)."""
    one = torch.ones_like(targets.time_s).unsqueeze(-1)
    return torch.cat(
        (
            targets.pos_visible.float().repeat_interleave(_POS + 1, dim=-1),
            targets.rot_visible.float().repeat_interleave(_ROT + 1, dim=-1),
            one * targets.heading_visible.unsqueeze(-1).expand(-1, -1, _HEADING + 1),
            one * targets.velocity_visible.unsqueeze(-1).expand(-1, -1, _VELOCITY + 1),
            one,
        ),
        dim=-1,
    )


def visible_tokens(targets: Targets) -> Tensor:
    """A token is visible if any part of it is: (N, K) bool."""
    return (
        targets.pos_visible.any(dim=-1)
        | targets.rot_visible.any(dim=-1)
        | targets.heading_visible
        | targets.velocity_visible
    )


def mirror_targets(values: Tensor, humanoid: Humanoid) -> Tensor:
    """Target tokens (..., width) as the mirrored humanoid sees the mirrored goal."""
    bodies = humanoid.num_bodies
    sizes = [bodies * (_POS + 1), bodies * (_ROT + 1), _HEADING + 1, _VELOCITY + 1, 1]
    pos, rot, facing, velocity, time = values.split(sizes, dim=-1)
    swap = list(humanoid.mirrored_bodies)
    flip_y = torch.tensor([1.0, -1.0, 1.0], dtype=values.dtype)
    return torch.cat(
        (
            mirror_blocks(pos, swap, (1, -1, 1, 1, -1, 1, 1)),
            mirror_blocks(rot, swap, (1, -1, 1, 1, -1, 1, 1)),
            facing * flip_y,
            velocity * flip_y,
            time,
        ),
        dim=-1,
    )


def heading_speed_targets(
    state: BodyState, *, heading: Tensor, direction: Tensor, speed: Tensor
) -> Targets:
    """Face ``heading`` and move along ``direction`` at ``speed``, shown on the two far tokens.

    Who is to turn by more than :data:`MOST_TURN` is asked for that much first, and to move the same
    way relative to where it faces.

    Args:
        state: current state.
        heading: (N,), rad, world.
        direction: unit vectors, (N, 2), world.
        speed: (N,), m/s.
    """
    num_envs, steps = len(state.pos), TARGET_STEPS[-2:]
    shape = (num_envs, len(steps))
    shown = torch.ones(shape, dtype=torch.bool)
    turn = rotations.wrap_angle(heading - rotations.heading(state.rot[:, 0]))
    too_far = turn - turn.clamp(-MOST_TURN, MOST_TURN)
    heading, direction = heading - too_far, rotations.rotate_xy(-too_far, direction)
    return dataclasses.replace(
        hidden_targets(state, (torch.tensor(steps) * CONTROL_DT).expand(shape)),
        heading=heading.unsqueeze(1).expand(shape),
        velocity=(direction * speed.unsqueeze(-1)).unsqueeze(1).expand(*shape, -1),
        heading_visible=shown,
        velocity_visible=shown,
    )


def hidden_targets(state: BodyState, time_s: Tensor) -> Targets:
    """Targets of which nothing is shown yet; every tensor may be written to.

    Args:
        state: current state (only its sizes are used).
        time_s: times from now, (N, K).
    """
    shape, bodies = time_s.shape, state.pos.shape[1]
    hidden = torch.zeros(*shape, bodies, dtype=torch.bool)
    return Targets(
        pos=state.pos.unsqueeze(1).repeat(1, shape[1], 1, 1),
        rot=state.rot.unsqueeze(1).repeat(1, shape[1], 1, 1),
        heading=torch.zeros(shape),
        velocity=torch.zeros(*shape, 2),
        time_s=time_s,
        pos_visible=hidden,
        rot_visible=hidden.clone(),
        heading_visible=torch.zeros(shape, dtype=torch.bool),
        velocity_visible=torch.zeros(shape, dtype=torch.bool),
    )

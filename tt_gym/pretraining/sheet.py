"""A picture of everything that the model does when told in words."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.playback import choose_gl, draw
from tt_gym.simulation import CONTROL_DT, BodyState
from tt_gym.text import BEHAVIOURS

_MOMENTS = 9
_CROP = (slice(60, 460), slice(170, 470))  # of a picture: the humanoid in its middle


def local_rotations(state: BodyState) -> Tensor:
    """Rotation of every body relative to its parent, (N, B, 4); the root's is that in the world."""
    parents = torch.tensor(DEEPMIMIC.parents).clamp(min=0)
    relative = rotations.quat_multiply(rotations.quat_conjugate(state.rot[:, parents]), state.rot)
    return torch.cat((state.rot[:, :1], relative[:, 1:]), dim=1)


def draw_sheet(states: list[BodyState], output: Path) -> None:
    """One row a behaviour, some moments from left to right.

    Args:
        states: one after the other, each with a row for every behaviour in order.
        output: .png.

    Raises:
        RenderError: no OpenGL.
    """
    choose_gl()
    from matplotlib.figure import Figure

    steps = torch.linspace(0, len(states) - 1, _MOMENTS).round().long().tolist()
    qpos = torch.stack(
        [
            DEEPMIMIC.qpos_from_pose(states[step].pos[:, 0], local_rotations(states[step]))
            for step in steps
        ],
        dim=1,
    )  # (behaviours, moments, nq)
    figure = Figure(figsize=(1.2 * _MOMENTS, 1.6 * len(qpos)), layout="constrained")
    axes = figure.subplots(len(qpos), _MOMENTS, squeeze=False)
    for name, row, poses in zip(BEHAVIOURS, axes, qpos, strict=True):
        for step, cell, picture in zip(steps, row, draw(poses, lag=0.0), strict=True):
            cell.imshow(picture[_CROP])
            cell.set_xticks([])
            cell.set_yticks([])
            if name == next(iter(BEHAVIOURS)):
                cell.set_title(f"{CONTROL_DT * step:.1f} s", fontsize=9)
        row[0].set_ylabel(name, fontsize=9)
    figure.savefig(output, dpi=100)

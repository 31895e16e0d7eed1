"""Ground that is not flat: height fields around the origin, each in several heights."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tt_gym.humanoids.humanoid import FLOOR_BIT
from tt_gym.names import unknown

NAME = "terrain"
"""Of the geom."""
_RADIUS = 30.0  # m; beyond, the ground is flat
_BUMP = 0.3  # m between the corners of bumps
_CELL, _FLAT, _TREAD, _STEPS, _PLATEAU = 0.1, 0.8, 0.4, 6, 1.0  # m; stairs rise within one cell
_MEAN_WITHIN, _HIGHEST_WITHIN = 0.35, 0.2  # m
_UNSEEN = 3  # a group that viewers do not show: the floor would shine through
_LOWEST = 1e-4  # m; MuJoCo refuses a field of no height


def _rough() -> tuple[np.ndarray, float]:
    count = 2 * round(_RADIUS / _BUMP) + 1
    bumps = np.random.default_rng(0).random((count, count))
    return (bumps - bumps.min()) / np.ptp(bumps), _BUMP


def _stairs() -> tuple[np.ndarray, float]:
    x = np.arange(-_RADIUS, _RADIUS + 0.5 * _CELL, _CELL)
    flight = _STEPS * _TREAD
    along = (np.abs(x) - _FLAT) % (2.0 * flight + _PLATEAU + 2.0 * _FLAT)
    risen = np.floor(along / _TREAD) + 1.0
    sunk = np.floor((along - flight - _PLATEAU) / _TREAD) + 1.0
    steps = np.clip(risen, 0.0, _STEPS) - np.clip(sunk, 0.0, _STEPS)
    steps[np.abs(x) < _FLAT] = 0.0
    return np.tile(steps / _STEPS, (len(x), 1)), _CELL


SHAPES: dict[str, tuple[Callable[[], tuple[np.ndarray, float]], float]] = {
    "roughness": (_rough, 1.0),
    "stair_height": (_stairs, float(_STEPS)),
}
"""By kind: heights from 0 to 1 on a square grid (y, x) with the size of its cells, m, and what one
metre of the kind's own measure makes of the 1, m."""


class Terrain:
    """One kind of ground at some heights, of which every environment has one.

    ``roughness``: bumps 0.3 m apart, each of random height up to the measure. ``stair_height``:
    flights of six steps up and down along world x, of that height and 0.4 m deep, the edges of the
    steps 0.1 m wide ramps.

    Args:
        kind: one of :data:`SHAPES`.
        measures: in m, >= 0: the height of bumps, or of a step.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, kind: str, measures: tuple[float, ...]) -> None:
        if kind not in SHAPES:
            raise ValueError(unknown("terrain", kind, list(SHAPES)))
        shape, scale = SHAPES[kind]
        grid, self.cell = shape()
        self.kind, self.measures = kind, measures
        self.heights = torch.tensor(measures) * scale
        self._grid = torch.from_numpy(grid).float()
        self._mean = self._pooled(functional.avg_pool2d, _MEAN_WITHIN)
        self._highest = self._pooled(functional.max_pool2d, _HIGHEST_WITHIN)

    def _pooled(self, pool: Callable[..., Tensor], within: float) -> Tensor:
        around = max(1, round(within / self.cell))
        padded = functional.pad(self._grid[None, None], [around] * 4, mode="replicate")
        return pool(padded, 2 * around + 1, stride=1)[0, 0]

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """A height field per measure, and a geom with the highest in front of the flat floor."""
        spec.geom("floor").group = _UNSEEN
        rows, columns = self._grid.shape
        for level, height in enumerate(self.heights.tolist()):
            spec.add_hfield(
                name=f"{NAME}_{level}",
                nrow=rows,
                ncol=columns,
                size=[_RADIUS, _RADIUS, max(height, _LOWEST), 0.1],
                userdata=self._grid.flatten().numpy(),
            )
        spec.worldbody.add_geom(
            name=NAME,
            type=mujoco.mjtGeom.mjGEOM_HFIELD,
            hfieldname=f"{NAME}_{int(self.heights.argmax())}",
            material="floor",
            contype=FLOOR_BIT,
            conaffinity=0,
            friction=[1.0, 0.005, 0.0001],
        )

    def height(self, place: Tensor, level: Tensor) -> Tensor:
        """Height of the ground at places (N, ..., 2), m, for the levels (N,) of measures."""
        return self._at(self._grid, place, level)

    def mean_height(self, place: Tensor, level: Tensor) -> Tensor:
        """The same, of the mean within 0.35 m."""
        return self._at(self._mean, place, level)

    def highest(self, place: Tensor, level: Tensor) -> Tensor:
        """The same, of the highest point within 0.2 m."""
        return self._at(self._highest, place, level)

    def _at(self, grid: Tensor, place: Tensor, level: Tensor) -> Tensor:
        last = torch.tensor([grid.shape[1] - 1, grid.shape[0] - 1])
        position = (place + _RADIUS) / self.cell
        corner = torch.minimum(position.floor().long().clamp(min=0), last - 1)
        part = (position - corner).clamp(0.0, 1.0)
        (x, y), (u, v) = corner.unbind(dim=-1), part.unbind(dim=-1)
        near = torch.lerp(grid[y, x], grid[y, x + 1], u)
        far = torch.lerp(grid[y + 1, x], grid[y + 1, x + 1], u)
        height = self.heights[level].view(-1, *[1] * (place.dim() - 2)) * torch.lerp(near, far, v)
        return torch.where((place.abs() <= _RADIUS).all(dim=-1), height, 0.0)

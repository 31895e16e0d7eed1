"""Pictures of environments."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from torch import Tensor

_NO_GL = (
    "rendering needs OpenGL without a display: install EGL (Debian: apt-get install libegl1 "
    "libgl1-mesa-dri) or OSMesa (libosmesa6), or leave render_mode unset"
)
_SHADOW_CLIP = 4.0  # the rim of the shadowed region is speckled; this keeps it out of the picture
_LIGHT_DISTANCE = 10.0  # m
_ARROW_RGBA = (0.1, 0.6, 0.25, 1.0)


class RenderingError(RuntimeError):
    """No OpenGL context could be made; the text says what to install."""


class Painter:
    """Draws single environments of a :class:`~tt_gym.simulation.mujoco_cpu.MujocoCpu`.

    Args:
        simulator: whose environments to draw.
        width, height: pixels.

    Raises:
        RenderingError: no OpenGL.
    """

    def __init__(self, simulator: Any, *, width: int = 480, height: int = 360) -> None:
        self.simulator = simulator
        visual = simulator.model.vis
        visual.quality.shadowsize, visual.map.shadowclip = 2048, _SHADOW_CLIP
        try:
            self._renderer = mujoco.Renderer(simulator.model, height=height, width=width)
        except Exception as error:  # the GL bindings raise many kinds
            raise RenderingError(f"{_NO_GL} ({error})") from error
        self._camera = mujoco.MjvCamera()
        self._camera.distance, self._camera.elevation, self._camera.azimuth = 4.0, -15.0, 120.0
        self._data: mujoco.MjData | None = None

    def draw(self, index: int, arrow: Tensor | None = None) -> np.ndarray:
        """Picture (height, width, 3) uint8 with the camera on the root.

        Args:
            index: which environment.
            arrow: plane vector to draw at the root, (2,), m.
        """
        self._data = self.simulator.data(index, self._data)
        root = self._data.xpos[1]
        self._camera.lookat[:] = (root[0], root[1], 0.8)
        self._renderer.update_scene(self._data, self._camera)
        scene = self._renderer.scene
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        for light in scene.lights[: scene.nlight]:
            if not light.headlight:  # shadows exist only around a light's axis: follow the root
                light.pos = root - _LIGHT_DISTANCE * light.dir
        if arrow is not None and float(arrow.norm()) > 1e-3:
            start = np.array([root[0], root[1], 0.03])
            self._add_arrow(scene, start, start + np.array([*arrow.tolist(), 0.0]))
        return self._renderer.render().copy()

    @staticmethod
    def _add_arrow(scene: Any, start: np.ndarray, end: np.ndarray) -> None:
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom,
            mujoco.mjtGeom.mjGEOM_ARROW,
            np.zeros(3),
            np.zeros(3),
            np.eye(3).flatten(),
            np.array(_ARROW_RGBA, dtype=np.float32),
        )
        mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_ARROW, 0.04, start, end)
        scene.ngeom += 1

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()

"""Pictures of environments."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from torch import Tensor

_Geom = mujoco.mjtGeom
_NO_GL = (
    "rendering needs OpenGL without a display: install EGL (Debian: apt-get install libegl1 "
    "libgl1-mesa-dri) or OSMesa (libosmesa6), or leave render_mode unset"
)
_SHADOW_CLIP = 4.0  # the rim of the shadowed region is speckled; this keeps it out of the picture
_LIGHT_DISTANCE = 10.0  # m
_DIRECTION_RGBA = (0.1, 0.6, 0.25, 1.0)
_FACING_RGBA = (0.2, 0.4, 0.9, 1.0)
_TARGET_RGBA = (0.85, 0.2, 0.15, 0.8)
FACING_LENGTH = 0.7  # m
CAMERA = 4.0, -15.0, 120.0
"""Distance (m), elevation and azimuth (degrees) from which to look at the root."""
_ON_GROUND = 0.03  # m: high enough to be seen


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
        self._camera.distance, self._camera.elevation, self._camera.azimuth = CAMERA
        self._data: mujoco.MjData | None = None

    def draw(self, index: int, goal: dict[str, Tensor] | None = None) -> np.ndarray:
        """Picture (height, width, 3) uint8 with the camera on the root.

        Args:
            index: which environment.
            goal: what the task asks for; see :data:`tt_gym.tasks.task.Goal` for what is drawn.
        """
        self._data = self.simulator.data(index, self._data)
        root = self._data.xpos[1]
        ground = float(self.simulator.ground_height(self.simulator.qpos[:, :2])[index])
        self._camera.lookat[:] = (root[0], root[1], ground + 0.8)
        self._renderer.update_scene(self._data, self._camera)
        scene = self._renderer.scene
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        for light in scene.lights[: scene.nlight]:
            if not light.headlight:  # shadows exist only around a light's axis: follow the root
                light.pos = root - _LIGHT_DISTANCE * light.dir
        add_goal(scene, np.array([root[0], root[1], ground]), goal or {})
        return self._renderer.render().copy()

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()


def add_goal(scene: Any, base: np.ndarray, goal: dict[str, Tensor]) -> None:
    """Add markers of one environment's goal to a MuJoCo scene.

    Args:
        scene: ``mujoco.MjvScene`` with room for a few more shapes.
        base: the ground under the root, (3,), m, from where goals count heights.
        goal: what the task asks for; see :data:`tt_gym.tasks.task.Goal` for what is drawn.
    """
    height = np.array([0.0, 0.0, base[2]])
    start = base + np.array([0.0, 0.0, _ON_GROUND])
    for key, length, rgba in (
        ("angle", float(goal.get("speed", 0.0)), _DIRECTION_RGBA),
        ("facing", FACING_LENGTH, _FACING_RGBA),
    ):
        if key in goal and length > 1e-3:
            angle = float(goal[key])
            ahead = length * np.array([math.cos(angle), math.sin(angle), 0.0])
            _add_marker(scene, _Geom.mjGEOM_ARROW, 0.04, start, start + ahead, rgba)
    if "line" in goal:
        one, other = (np.array([*end, _ON_GROUND]) + height for end in goal["line"].tolist())
        _add_marker(scene, _Geom.mjGEOM_CAPSULE, 0.03, one, other, _TARGET_RGBA)
    if "target" in goal:
        # a capsule of next to no length: a connector between equal points has no direction
        target = goal["target"].double().numpy() + height
        end = target + np.array([0.0, 0.0, 1e-3])
        _add_marker(scene, _Geom.mjGEOM_CAPSULE, 0.07, target, end, _TARGET_RGBA)


def _add_marker(
    scene: Any,
    kind: mujoco.mjtGeom,
    width: float,
    start: np.ndarray,
    end: np.ndarray,
    rgba: tuple[float, float, float, float],
) -> None:
    """A shape between two points that is in the picture only."""
    geom = scene.geoms[scene.ngeom]
    colour = np.array(rgba, dtype=np.float32)
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).flatten(), colour)
    mujoco.mjv_connector(geom, kind, width, start, end)
    scene.ngeom += 1

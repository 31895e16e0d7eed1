"""MuJoCo's interactive window on one environment, in real time."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np

from agents.actors import Actor
from tt_gym.envs.rendering import CAMERA, add_goal

_INSTEAD = "write a video with --output FILE.mp4 instead"


class DisplayError(RuntimeError):
    """No window can be opened; the text says why and what to do."""


def watch(
    env_id: str,
    actor: Actor | None,
    *,
    seed: int,
    episodes: int = 1,
    launch: Callable[[mujoco.MjModel, mujoco.MjData], Any] | None = None,
    **env_kwargs: Any,
) -> int:
    """Show ``episodes`` episodes with their goals, or fewer where the window is closed before.

    Args:
        env_id: registered id.
        actor: gives the actions; None gives zeros (for ``control="prompt"``).
        seed: of start states and goals.
        episodes: how many.
        launch: opens a window, as ``mujoco.viewer.launch_passive`` (default) does.
        env_kwargs: for ``gymnasium.make_vec``.

    Returns:
        Control steps shown.

    Raises:
        DisplayError: no window can be opened.
        ValueError: environment settings that are not allowed.
    """
    launch = launch or _launcher()
    env: Any = gymnasium.make_vec(env_id, num_envs=1, **env_kwargs)
    observations, _ = env.reset(seed=seed)
    idle = np.zeros(env.action_space.shape, dtype=np.float32)
    data, steps, due = env.simulator.data(0), 0, time.monotonic()
    with launch(env.simulator.model, data) as window:
        with window.lock():
            window.cam.type, window.cam.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
            window.cam.distance, window.cam.elevation, window.cam.azimuth = CAMERA
        while window.is_running() and episodes > 0:
            with window.lock():
                env.simulator.data(0, data)
                window.user_scn.ngeom = 0
                ground = float(env.simulator.ground_height(env.simulator.qpos[:, :2])[0])
                base = np.array([*data.xpos[1, :2], ground])
                add_goal(window.user_scn, base, {key: v[0] for key, v in env.goal.items()})
            window.sync()
            actions = idle if actor is None else actor.act(observations)
            observations, _, terminated, truncated, _ = env.step(actions)
            steps, episodes = steps + 1, episodes - int(terminated[0] or truncated[0])
            due = max(due + 1.0 / env.metadata["render_fps"], time.monotonic())
            time.sleep(max(due - time.monotonic(), 0.0))
    env.close()
    return steps


def _launcher() -> Callable[[mujoco.MjModel, mujoco.MjData], Any]:
    """``launch_passive``, after trying what it would wait for in vain."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        raise DisplayError(
            f"--viewer needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set: {_INSTEAD}"
        )
    import glfw
    import mujoco.viewer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw warns of what is raised here
        works = bool(glfw.init())
        if works:
            glfw.window_hint(glfw.VISIBLE, glfw.FALSE)
            works = bool(glfw.create_window(64, 64, "", None, None))
            glfw.terminate()
    if not works:
        raise DisplayError(f"--viewer cannot open a window with OpenGL on this display: {_INSTEAD}")

    def launch(model: mujoco.MjModel, data: mujoco.MjData) -> Any:
        try:
            return mujoco.viewer.launch_passive(model, data)
        except RuntimeError as error:  # macOS: wants mjpython in the place of python
            raise DisplayError(f"--viewer: {error}") from error

    return launch

"""Show a clip as a video: ``python -m tt_gym.motions.playback CLIP [--output FILE]``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import FPS, Clip, ClipError, lift, unroll
from tt_gym.motions.files import SUFFIXES as CLIP_SUFFIXES
from tt_gym.motions.files import read_clip
from tt_gym.motions.shipped import shipped_clip

if TYPE_CHECKING:
    import mujoco

_WIDTH, _HEIGHT = 640, 480
_LOOP_S = 4.0  # looping clips are repeated until they last this long
_CAMERA_HEIGHT = 0.8  # of the point looked at, m
_CAMERA_LAG = 0.7  # share of the camera's place that is kept from frame to frame
_SUFFIXES = (".mp4", ".gif")


class RenderError(RuntimeError):
    """No way to draw on this machine."""


def choose_gl() -> None:
    """Set ``MUJOCO_GL`` to what works without a display; to be called before MuJoCo is imported.

    Only on Linux; where the variable is set it is only checked. Each candidate is tried in a
    process of its own, since MuJoCo settles on one for good when it is imported.

    Raises:
        RenderError: no candidate works.
    """
    if sys.platform != "linux":
        return
    candidates = [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else ["egl", "osmesa"]
    probe = (sys.executable, "-c", "import mujoco; mujoco.GLContext(8, 8).make_current()")
    for name in candidates:
        tried = subprocess.run(probe, env=os.environ | {"MUJOCO_GL": name}, capture_output=True)
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise RenderError(
        f"no OpenGL to draw with, MUJOCO_GL={' and '.join(candidates)} failed: install EGL or "
        "OSMesa (Debian: libegl1 or libosmesa6) or, with a display, set MUJOCO_GL=glfw"
    )


def draw(poses: Tensor, *, lag: float = _CAMERA_LAG) -> Iterator[np.ndarray]:
    """Pictures of poses, without physics, seen by a camera that follows.

    Args:
        poses: ``qpos`` of our humanoid, (T, nq).
        lag: share of the camera's place that is kept from picture to picture.

    Yields:
        (480, 640, 3) uint8, one a frame.
    """
    import mujoco

    from tt_gym.simulation.mujoco_cpu import build_spec

    spec = build_spec(DEEPMIMIC)
    _follow_with_light(spec)
    model = spec.compile()
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 3.5, 120.0, -12.0
    camera.lookat[:2], camera.lookat[2] = poses[0, :2].numpy(), _CAMERA_HEIGHT
    with mujoco.Renderer(model, _HEIGHT, _WIDTH) as renderer:
        for qpos in poses.numpy():
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            camera.lookat[:2] += (1.0 - lag) * (qpos[:2] - camera.lookat[:2])
            renderer.update_scene(data, camera)
            yield renderer.render()


def _follow_with_light(spec: mujoco.MjSpec) -> None:
    """Let the light travel with the humanoid: shadows are drawn only within some metres of it."""
    import mujoco

    for light in spec.lights:
        spec.delete(light)
    spec.stat.extent, spec.visual.map.shadowclip = 4.0, 2.5
    spec.body(DEEPMIMIC.body_names[0]).add_light(
        pos=[-1.0, -0.7, 4.0],
        dir=[0.3, 0.2, -1.0],
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACK,
    )


def find_clip(name: str) -> Clip:
    """A clip by shipped name or by path; see :func:`~tt_gym.motions.files.read_clip`.

    Raises:
        ClipError: unknown name or unreadable file.
    """
    return read_clip(name) if Path(name).suffix in CLIP_SUFFIXES else shipped_clip(name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tt_gym.motions.playback")
    parser.add_argument("clip", help="shipped name, or path to a .npz, .txt, .bvh or .amc file")
    parser.add_argument("--output", type=Path, help=".mp4 or .gif; default: the clip's name, .mp4")
    options = parser.parse_args(arguments)
    try:
        clip = unroll(lift(find_clip(options.clip), DEEPMIMIC), _LOOP_S)
        choose_gl()
    except (ClipError, RenderError) as error:
        parser.exit(1, f"error: {error}\n")
    output = options.output or Path(f"{clip.name}.mp4")
    if output.suffix not in _SUFFIXES:
        parser.error(f"--output must end in {' or '.join(_SUFFIXES)}, got {output}")
    import imageio.v2 as imageio

    timing = {"fps": FPS} if output.suffix == ".mp4" else {"duration": 1000 / FPS, "loop": 0}
    with imageio.get_writer(output, **timing) as video:
        for picture in draw(DEEPMIMIC.qpos_from_pose(clip.root_pos, clip.joint_rot)):
            video.append_data(picture)  # type: ignore[attr-defined]  # annotated as the base class
    print(f"{output}: {clip.num_frames} frames, {clip.duration_s:.1f} s; {clip.source}")


if __name__ == "__main__":
    main()

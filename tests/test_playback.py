import os
import subprocess
import sys

import numpy as np
import pytest

from tt_gym.motions import save_clip, shipped_clip
from tt_gym.motions.editing import cut


def test_playback_writes_a_video_of_every_frame(tmp_path):
    imageio = pytest.importorskip("imageio.v3")
    clip = cut(shipped_clip("walk"), 0.0, 0.4, "piece")
    save_clip(clip, tmp_path / "piece.npz")
    output = tmp_path / "piece.mp4"
    command = [sys.executable, "-m", "tt_gym.motions.playback", str(tmp_path / "piece.npz")]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True)
    if "no OpenGL to draw with" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    pictures = imageio.imread(output)
    assert pictures.shape == (13, 480, 640, 3)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 50  # something moves


def test_playback_without_opengl_says_what_to_install(tmp_path):
    command = [sys.executable, "-m", "tt_gym.motions.playback", "walk"]
    broken = os.environ | {"MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, env=broken, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no OpenGL to draw with, MUJOCO_GL=nonsense failed: install EGL" in done.stderr

"""Which OpenGL MuJoCo shall draw with: it decides when it is first imported."""

from __future__ import annotations

import ctypes.util
import os
import sys

_HEADLESS = {"egl": "EGL", "osmesa": "OSMesa"}  # MuJoCo's name of a backend, its library


def choose_backend() -> None:
    """Set ``MUJOCO_GL`` to a backend that is installed, where there is neither it nor a display.

    Without any, MuJoCo is left to itself: physics works, rendering will say what is missing. (A
    backend whose library is missing would make ``import mujoco`` fail.)
    """
    if sys.platform != "linux" or "MUJOCO_GL" in os.environ or "DISPLAY" in os.environ:
        return
    for name, library in _HEADLESS.items():
        if ctypes.util.find_library(library) is not None:
            os.environ["MUJOCO_GL"] = name
            return

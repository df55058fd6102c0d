"""OpenGL without a display: MuJoCo reads the choice when it is first imported."""

import os
import sys


def prepare_rendering() -> None:
    """Choose EGL where no display is there, unless MUJOCO_GL says something else already.

    Called before what imports mujoco.
    """
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in displays):
        os.environ.setdefault("MUJOCO_GL", "egl")

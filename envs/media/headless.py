"""OpenGL without a display: MuJoCo reads the choice when it is first imported."""

import ctypes.util
import os
import sys
from collections.abc import MutableMapping


def prepare_rendering(variables: MutableMapping[str, str] | None = None) -> None:
    """Choose EGL where no display is there, unless MUJOCO_GL says something else already.

    Called before what imports mujoco, which cannot be imported at all where EGL is chosen and not
    installed: without libEGL nothing is chosen, and whatever draws nothing works.

    variables: The environment variables to set it in; None: those of this process.
    """
    found = os.environ if variables is None else variables
    chosen = any(found.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"))
    if sys.platform == "linux" and not chosen and ctypes.util.find_library("EGL"):
        found["MUJOCO_GL"] = "egl"

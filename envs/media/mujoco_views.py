"""Cameras of a MuJoCo scene as entries of an observation: pictures and depth, drawn when asked for.

"external_camera_0" is uint8 [size, size, 3], "external_camera_0_depth" float32 [size, size, 1].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.envs.media.mujoco_renderer import Renderers

DEPTH = "_depth"  # what entries of depth end in, after the camera's name


class MujocoViews:
    """Renderers of one model, each made when its first picture is asked for.

    model: Of type mujoco.MjModel. cameras: {entry: camera}, a camera's name or a mujoco.MjvCamera.
    size: Width and height of the entries, pixels. render_size: Of `picture`.
    """

    def __init__(self, model: Any, cameras: Mapping[str, Any], size: int, render_size: int) -> None:
        if size < 1 or render_size < 1:
            raise ConfigError(f"image_size {size}, render_size {render_size}: at least 1 pixel")
        self.names = tuple(name for each in cameras for name in (each, each + DEPTH))
        self._cameras, self._renderers = dict(cameras), Renderers(model)
        self._size, self._render_size = size, render_size

    def space(self, name: str) -> spaces.Box:
        """The space of an entry."""
        if name.endswith(DEPTH):
            return spaces.Box(0.0, np.inf, (self._size, self._size, 1), np.float32)
        return spaces.Box(0, 255, (self._size, self._size, 3), np.uint8)

    def look(self, data: Any, name: str) -> NDArray[Any]:
        """An entry: a picture, or depth in metres."""
        renderer = self._renderers.of(self._size, self._size)
        if name.endswith(DEPTH):
            return renderer.depth(data, self._cameras[name.removesuffix(DEPTH)])
        return renderer.render(data, self._cameras[name])

    def picture(self, data: Any, name: str) -> NDArray[np.uint8]:
        """What a camera sees, for a video: [render_size, render_size, 3]."""
        renderer = self._renderers.of(self._render_size, self._render_size)
        return renderer.render(data, self._cameras[name])

    def close(self) -> None:
        """Give the OpenGL contexts back."""
        self._renderers.close()


def free_camera(settings: Mapping[str, Any]) -> Any:
    """A mujoco.MjvCamera that stands still in the world: distance, azimuth, elevation, lookat."""
    import mujoco

    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    for name, value in settings.items():
        if name == "lookat":
            camera.lookat[:] = value
        else:
            setattr(camera, name, value)
    return camera

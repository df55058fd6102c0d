"""Cameras of a MuJoCo scene as entries of an observation: pictures and depth, drawn when asked for.

"external_camera_0" is uint8 [size, size, 3], "external_camera_0_depth" float32 [size, size, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest

DEPTH = "_depth"  # what entries of depth end in, after the camera's name


class MujocoViews:
    """Renderers of one model, each made when its first picture is asked for.

    model: Of type mujoco.MjModel. cameras: Names of its cameras that are entries.
    size: Width and height of the entries, pixels. render_size: Of `picture`.
    """

    def __init__(self, model: Any, cameras: Sequence[str], size: int, render_size: int) -> None:
        if size < 1 or render_size < 1:
            raise ConfigError(f"image_size {size}, render_size {render_size}: at least 1 pixel")
        self.names = tuple(name for each in cameras for name in (each, each + DEPTH))
        self._model, self._size, self._render_size = model, size, render_size
        self._renderers: dict[int, Any] = {}

    def space(self, name: str) -> spaces.Box:
        """The space of an entry."""
        if name.endswith(DEPTH):
            return spaces.Box(0.0, np.inf, (self._size, self._size, 1), np.float32)
        return spaces.Box(0, 255, (self._size, self._size, 3), np.uint8)

    def look(self, data: Any, name: str) -> NDArray[Any]:
        """An entry: a picture, or depth in metres."""
        renderer = self._renderer(self._size)
        if name.endswith(DEPTH):
            depth: NDArray[Any] = renderer.depth(data, name.removesuffix(DEPTH))
            return depth
        picture: NDArray[Any] = renderer.render(data, name)
        return picture

    def picture(self, data: Any, camera: Any) -> NDArray[np.uint8]:
        """What a camera sees, by its name or as a mujoco.MjvCamera: [render_size, render_size, 3]."""
        picture: NDArray[np.uint8] = self._renderer(self._render_size).render(data, camera)
        return picture

    def close(self) -> None:
        """Give the OpenGL contexts back."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, size: int) -> Any:
        from dipole.envs.media.mujoco_renderer import OffscreenRenderer

        if size not in self._renderers:
            self._renderers[size] = OffscreenRenderer(self._model, size, size)
        return self._renderers[size]


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


def check_observation(family: str, observation: Sequence[str], known: Sequence[str]) -> None:
    """Raise ConfigError for entries that a family has not, and for none."""
    for name in observation:
        if name not in known:
            raise ConfigError(
                f"{family} has no observation {name!r}{nearest(name, known) or '.'} "
                f"Known: {', '.join(known)}"
            )
    if not observation:
        raise ConfigError(f"observation is empty: choose from {', '.join(known)}")

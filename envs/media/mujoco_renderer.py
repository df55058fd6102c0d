"""Pictures and depth of a MuJoCo scene, drawn offscreen by settings that suit small pictures."""

import atexit
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError

EXPENSIVE = [int(mujoco.mjtRndFlag.mjRND_SHADOW), int(mujoco.mjtRndFlag.mjRND_REFLECTION)]


class OffscreenRenderer:
    """Draws the cameras of one model, all in one size.

    model: Of type mujoco.MjModel. It is left as it was.
    height, width: Of the pictures, pixels.
    fast: No shadows, reflections and multisampling, which take most of the time of a small
        picture where OpenGL is computed by the processor. False: as the model says.

    Raises ConfigError where no OpenGL context can be made.
    """

    def __init__(self, model: Any, height: int, width: int, *, fast: bool = True) -> None:
        with _settings(model, height, width, fast):
            self._renderer = _make(model, height, width)
        _close_at_exit(self)
        self._flags: NDArray[Any] = self._renderer.scene.flags.copy()
        if fast:
            self._flags[EXPENSIVE] = False

    def render(self, data: Any, camera: str | int) -> NDArray[np.uint8]:
        """What a camera sees: [height, width, 3], its first row at the top."""
        self._renderer.disable_depth_rendering()
        picture: NDArray[np.uint8] = self._draw(data, camera)
        return picture

    def depth(self, data: Any, camera: str | int) -> NDArray[np.float32]:
        """Distance from the camera's plane, metres: [height, width, 1]."""
        self._renderer.enable_depth_rendering()
        distances: NDArray[np.float32] = self._draw(data, camera)
        return distances[..., None]

    def close(self) -> None:
        """Give the OpenGL context back; nothing can be drawn afterwards."""
        self._renderer.close()

    def _draw(self, data: Any, camera: str | int) -> NDArray[Any]:
        self._renderer.update_scene(data, camera)
        np.copyto(self._renderer.scene.flags, self._flags)
        drawn: NDArray[Any] = self._renderer.render()
        return drawn


class Renderers:
    """Those of one model, each made when its first picture is asked for."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._made: dict[tuple[int, int, bool], OffscreenRenderer] = {}

    def of(self, height: int, width: int, *, fast: bool = True) -> OffscreenRenderer:
        """The one of these settings; see OffscreenRenderer."""
        key = (height, width, fast)
        if key not in self._made:
            self._made[key] = OffscreenRenderer(self._model, height, width, fast=fast)
        return self._made[key]

    def forget(self, height: int, width: int, *, fast: bool = True) -> None:
        """Free the memory of one, some 50 MB, until it is asked for again."""
        renderer = self._made.pop((height, width, fast), None)
        if renderer is not None:
            renderer.close()

    def close(self) -> None:
        """Give all OpenGL contexts back."""
        for renderer in self._made.values():
            renderer.close()
        self._made.clear()


_OPEN: "weakref.WeakSet[OffscreenRenderer]" = weakref.WeakSet()


def _close_all() -> None:
    for renderer in list(_OPEN):
        renderer.close()


def _close_at_exit(renderer: OffscreenRenderer) -> None:
    """EGL is terminated at exit by what mujoco registers with its first context: close earlier."""
    if not _OPEN:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _OPEN.add(renderer)


def _make(model: Any, height: int, width: int) -> Any:
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # whatever the OpenGL library of the machine raises
        raise ConfigError(
            f"MuJoCo has no OpenGL context: {error}. Without a display install libegl1 and set "
            "MUJOCO_GL=egl, or libosmesa6 and MUJOCO_GL=osmesa, before Python starts"
        ) from error


@contextmanager
def _settings(model: Any, height: int, width: int, fast: bool) -> Iterator[None]:
    """What a context reads of the model when it is made: buffers of the right size, and plain."""
    buffer, quality = model.vis.global_, model.vis.quality
    kept = (buffer.offheight, buffer.offwidth, quality.offsamples, quality.shadowsize)
    buffer.offheight, buffer.offwidth = height, width
    if fast:
        quality.offsamples = quality.shadowsize = 0
    try:
        yield
    finally:
        buffer.offheight, buffer.offwidth, quality.offsamples, quality.shadowsize = kept

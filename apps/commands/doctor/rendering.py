"""Whether pictures and videos can be made here, tried rather than guessed, for `dipole doctor`."""

import io
import os
import sys
from collections.abc import Callable

Result = tuple[str, bool, str]  # what was found, whether it works, and the remedy

BALL = """<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size=".5" rgba="1 0 0 1"/>
</worldbody></mujoco>"""
FREE_CAMERA = -1
EGL = "apt-get install libegl1, and export MUJOCO_GL=egl; or libosmesa6, and MUJOCO_GL=osmesa"


def push_t() -> Result:
    """Draw one frame of Push-T, without a display."""
    try:
        import numpy as np

        from dipole.envs import make_env

        env = make_env("pusht")
        env.reset(seed=0)
        frame = np.asarray(env.render())
        env.close()
    except Exception as error:
        return f"cannot draw: {error}", False, _remedy(error)
    if frame.ndim != 3 or frame.min() == frame.max():
        return f"drew an empty picture {frame.shape}", False, "pip install --force-reinstall pygame"
    return f"draws {frame.shape[1]} x {frame.shape[0]} without a display", True, ""


def mujoco() -> Result:
    """Draw one frame of a MuJoCo scene, without a display where there is none."""
    try:
        from dipole.envs.media.headless import prepare_rendering

        prepare_rendering()
        from mujoco import MjData, MjModel, mj_forward

        from dipole.envs.media.mujoco_renderer import OffscreenRenderer

        model = MjModel.from_xml_string(BALL)
        data = MjData(model)
        mj_forward(model, data)
        frame = OffscreenRenderer(model, 32, 32).render(data, FREE_CAMERA)
    except ModuleNotFoundError:
        return "mujoco is not installed", False, "pip install 'dipole[mujoco]'"
    except Exception as error:
        return f"cannot draw: {error}", False, EGL
    by = os.environ.get("MUJOCO_GL") or "the display"
    if frame.min() == frame.max():
        return f"drew an empty picture by {by}", False, EGL
    return f"draws {frame.shape[1]} x {frame.shape[0]} by {by}", True, ""


def h264() -> Result:
    """Encode a short h264 video in memory."""
    try:
        import av
        import numpy as np

        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("h264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(2):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except Exception as error:
        return f"cannot encode: {error}", False, "pip install --force-reinstall av"
    return f"encodes with PyAV {av.__version__} ({stream.codec_context.codec.name})", True, ""


def window() -> Result:
    """A display, which only recording by hand needs."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return "there is a display", True, ""
    return "no display", False, "only recording by hand needs one: log in on the machine, or ssh -X"


def _remedy(error: Exception) -> str:
    """OpenCV, which gym-pusht brings, wants libraries that slim containers leave out."""
    text = str(error)
    if "libGL" in text:
        return "apt-get install libgl1, or pip install --force-reinstall opencv-python-headless"
    if "libgthread" in text or "libglib" in text:
        return "apt-get install libglib2.0-0"
    if isinstance(error, ModuleNotFoundError):
        return "pip install 'dipole[pusht]'"
    return ""


CHECKS: dict[str, Callable[[], Result]] = {
    "push-t": push_t,
    "mujoco": mujoco,
    "h264": h264,
    "window": window,
}

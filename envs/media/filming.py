"""The video of an evaluation, made while the episodes still run, in a thread of its own.

A frame shows all filmed episodes after the same number of steps: it is drawn and encoded as soon as
all of them have come so far, or are over. PyAV and zlib leave Python's lock while they compute.
"""

import io
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dipole.envs.media.video import Grid, Recording, encode_video


class Filming:
    """fps: of the video, asked for when the first frame is there. Call it with the recordings
    whenever they have grown; then `finish`, or `stop` where there will be no video, as an exception
    within it does."""

    def __init__(self, fps: Callable[[], float]) -> None:
        self._fps = fps
        self._grown = threading.Condition()
        self._recordings: Sequence[Recording] = ()
        self._ready, self._over = 0, False  # frames that can be drawn; whether more will follow
        self._file = io.BytesIO()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Filming":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.stop()

    def __call__(self, recordings: Sequence[Recording]) -> None:
        lengths = [len(r.frames) if r.done else None for r in recordings]
        over = None not in lengths
        # The last frame of an episode shows its outcome: it waits until it is known to be the last.
        running = [len(r.frames) - 1 for r in recordings if not r.done]
        ready = min(running) if running else max(len(r.frames) for r in recordings)
        with self._grown:
            self._recordings, self._ready, self._over = recordings, ready, over
            self._grown.notify()
        if self._thread is None and ready > 0:
            fps = self._fps()
            self._thread = threading.Thread(target=self._encode, args=(fps,), name="video")
            self._thread.start()

    def finish(self) -> bytes:
        """The video, an mp4; waits for what is left of it. Raises what encoding raised."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._file.getvalue()

    def stop(self) -> None:
        """There will be no video."""
        with self._grown:
            self._ready, self._over = 0, True
            self._grown.notify()
        if self._thread is not None:
            self._thread.join()

    def _encode(self, fps: float) -> None:
        try:
            encode_video(self._file, self._frames(), fps)
        except Exception as error:  # told by `finish`, in the thread that asks for the video
            self._error = error

    def _frames(self) -> Iterator[np.ndarray]:
        grid, step = Grid(), 0
        while self._wait_for(step):
            yield grid.frame(self._recordings, step)
            step += 1

    def _wait_for(self, step: int) -> bool:
        """Whether there is a frame of this step, now or once episodes have come so far."""
        with self._grown:
            self._grown.wait_for(lambda: self._ready > step or self._over)
            return self._ready > step

"""For how long a worker process has been in a call of a simulator, as the first process sees it.

The worker notes each call of a simulator in memory that both share, which costs no message: that
another has begun, and how long it may take. Between calls (an expert looks for a way, policies
draw chunks, a result is sent) nothing limits it.
"""

import multiprocessing
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar

LOOK_SECONDS = 1.0  # between two looks at the workers, at most

Noted = MutableSequence[float]  # [how many calls have begun, seconds of this one or 0 for none]

_NOTED: ContextVar[Noted | None] = ContextVar("noted", default=None)  # None: nobody looks


def note_in(noted: Noted) -> None:
    """In a worker: where `limited` notes, from now on."""
    _NOTED.set(noted)


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Around a simulator's call, which may take so long, None: any time; in a worker that is looked
    at, or else without effect."""
    noted = _NOTED.get()
    if noted is None or seconds is None:
        yield
        return
    noted[0] += 1  # first, as the limit of one call is never to be taken for that of another
    noted[1] = seconds
    try:
        yield
    finally:
        noted[1] = 0.0


class Watch:
    """The first process's looks at a worker. noted: For the worker, as it starts.

    The time of a call is what was waited since the first look that found it: a computer that slept,
    or a first process that was stopped or did something else, is not the simulator's fault.
    """

    def __init__(self) -> None:
        self.noted: Noted = multiprocessing.get_context("spawn").RawArray("d", 2)
        self._call, self._waited = 0.0, 0.0

    def exceeded(self, waited: float) -> float | None:
        """The limit of the call that the worker is in, where it takes longer; else None.

        waited: Seconds, since the look before.
        """
        seconds, call = self.noted[1], self.noted[0]  # in the other order than they are written
        if not seconds or call != self._call:
            self._call, self._waited = call, 0.0
            return None
        self._waited += min(waited, LOOK_SECONDS)
        return seconds if self._waited >= seconds else None

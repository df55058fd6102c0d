"""Requests that are made again where an error may pass: throttling, a server's fault, a connection
that broke."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dipole.data.store.objects.failures import failure, is_final
from dipole.data.store.objects.url import ObjectUrl

T = TypeVar("T")


@dataclass(frozen=True)
class Retrying:
    """How often and after which pauses a request is made again.

    attempts: At most.
    first, longest: Pauses in seconds; each is up to twice as long as the one before it, drawn
        evenly from 0, so that many readers do not come back at once.
    """

    attempts: int = 12
    first: float = 0.2
    longest: float = 20.0

    def run(self, url: ObjectUrl, what: str, request: Callable[[], T]) -> T:
        """What the request returns; raises DataError, telling the last reason and the attempts."""
        begun = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except Exception as error:
                if is_final(error) or attempt == self.attempts:
                    seconds = time.monotonic() - begun
                    tried = "" if attempt == 1 else f" {attempt} times in {seconds:.0f} s, last"
                    raise failure(url, what, error, tried) from error
            time.sleep(random.uniform(0, min(self.first * 2**attempt, self.longest)))
        raise AssertionError("unreachable")

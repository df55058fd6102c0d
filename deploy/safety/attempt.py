"""A call that may raise, or never return."""

import threading
from collections.abc import Callable


def attempt(call: Callable[[], object], seconds: float) -> str:
    """Make a call in a thread of its own; returns what went wrong, "" if nothing did.

    A call that has not returned after `seconds` goes on in its thread and is waited for no longer.
    """
    problem = [f"it did not return within {seconds:g} s"]

    def run() -> None:
        try:
            call()
            problem[0] = ""
        except BaseException as error:  # whatever it is, the call did not succeed
            problem[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=run, daemon=True, name="dipole-attempt")
    thread.start()
    thread.join(seconds)
    return problem[0]

"""What can go wrong in a simulator, and errors that say in which episode it did."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from dipole.data.core.errors import ConfigError, DataError, DipoleError


class RolloutError(DipoleError):
    """An episode could not be simulated; the message names it."""


class DivergedError(RolloutError):
    """The simulator's state is not finite any more: the episode ends there, as a failure.

    Environments raise it, or any exception with this name or dm_control's PhysicsError; see
    interpreter/standalone/divergence.py.
    """


def not_even_new(error: DivergedError) -> RolloutError:
    """Of an environment that was just made. error: Of its reset."""
    return RolloutError(f"a new environment cannot be reset to a finite state: {error}")


@contextmanager
def errors_naming(what: str, raised: str = "") -> Iterator[None]:
    """Around what is done with a simulator: errors begin with what it was.

    A RolloutError stays one, as that of a simulator in another interpreter is, and so does a
    DataError; other errors that a user can mend are ConfigErrors. Anything else is a RolloutError
    with its traceback, which is of the simulator's own code.

    what: "episode 3 (seed 3)". raised: Between that and an exception of somebody else's, "the
        simulator raised ".
    """
    try:
        yield
    except RolloutError as error:
        raise RolloutError(f"{what}: {error}") from error
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    except DipoleError as error:
        raise ConfigError(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:
        raise RolloutError(
            f"{what}: {raised}{type(error).__name__}: {error}\n{traceback.format_exc()}"
        ) from error

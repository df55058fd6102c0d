"""What a runtime does: write a sampling program in its own format, and load it again to run it."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry
from dipole.policy.runtimes.program import Port, SamplingProgram

# Arrays in the order of the inputs, all of one batch size -> the chunk [B, H, A].
Run = Callable[[Sequence[np.ndarray]], np.ndarray]


class Runtime(Protocol):
    """A way to run exported policies.

    library: The module that it needs.
    extra: Which extra of dipole brings that, if any.
    native: Whether its files are machine code, which loading them runs.
    tolerance: How far its chunks may be from the policy's, in normalised actions.
    """

    library: str
    extra: str | None
    native: bool
    tolerance: float

    def write(self, program: SamplingProgram, folder: Path, batch_sizes: Sequence[int]) -> None:
        """Write the program into `folder`. batch_sizes: for runtimes that have to know them."""
        ...

    def load(self, folder: Path, inputs: Sequence[Port], threads: int) -> Run:
        """What `write` wrote, ready to run on `threads` cores."""
        ...


PARITY = 1e-4  # of a normalised action

RUNTIMES: Registry[Runtime] = Registry("runtime")


def is_installed(name: str) -> bool:
    return find_spec(RUNTIMES[name].library) is not None


def require(name: str) -> Runtime:
    """The runtime of this name. Raises ConfigError where its library is not installed."""
    runtime = RUNTIMES[name]
    if not is_installed(name):
        raise ConfigError(
            f"the runtime {name!r} needs {runtime.library}, which is not installed: "
            f"pip install 'dipole[{runtime.extra}]'"
        )
    return runtime


def batch_size_of(arrays: Sequence[np.ndarray], inputs: Sequence[Port]) -> int:
    return int(arrays[0].shape[inputs[0].batch_axis])

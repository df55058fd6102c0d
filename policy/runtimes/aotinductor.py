"""AOTInductor: compiled by torch and a C++ compiler where it is exported, run by torch alone.

Its artefact holds native code. Loading it runs that code, so it has to be asked for by name; do so
only where you would install a program from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dipole.data.core.errors import ConfigError
from dipole.policy.runtimes.program import Port, SamplingProgram
from dipole.policy.runtimes.runtime import PARITY, RUNTIMES, Run, batch_size_of


class AOTInductor:
    """The batch sizes that it was compiled for, each a file of its own with all weights."""

    library: str = "torch"
    extra: str | None = None
    native: bool = True
    tolerance: float = PARITY

    def write(self, program: SamplingProgram, folder: Path, batch_sizes: Sequence[int]) -> None:
        from torch._inductor import aoti_compile_and_package

        for batch_size in batch_sizes:
            with torch.no_grad():
                exported = torch.export.export(program, program.examples(batch_size))
                aoti_compile_and_package(exported, package_path=str(_package(folder, batch_size)))

    def load(self, folder: Path, inputs: Sequence[Port], threads: int) -> Run:
        torch.set_num_threads(threads)
        compiled: dict[int, Any] = {}

        def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
            batch_size = batch_size_of(arrays, inputs)
            if batch_size not in compiled:
                compiled[batch_size] = _load(folder, batch_size)
            chunk: torch.Tensor = compiled[batch_size](*map(torch.from_numpy, arrays))
            return chunk.numpy().copy()

        return run


def _package(folder: Path, batch_size: int) -> Path:
    return folder / f"model_{batch_size}.pt2"


def _load(folder: Path, batch_size: int) -> Any:
    from torch._inductor import aoti_load_package

    path = _package(folder, batch_size)
    if not path.exists():
        sizes = sorted(int(p.stem.removeprefix("model_")) for p in folder.glob("model_*.pt2"))
        raise ConfigError(
            f"{folder} was compiled for batches of {', '.join(map(str, sizes))}, not for "
            f"{batch_size}: export it again with batch_sizes=[{batch_size}]"
        )
    return aoti_load_package(str(path))


RUNTIMES.add("aotinductor")(AOTInductor())

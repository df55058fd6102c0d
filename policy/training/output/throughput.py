"""How fast a run is: windows a second, the share of the device's arithmetic, and who waits.

    throughput/windows_per_second       of all processes, data and computation
    throughput/model_flops_utilization  the model's operations a second, by those of a product of
                                        matrices of the same precision on the same device
    time/data_ms/rank1, ...             of each of several processes, as time/data_ms of a step

Operations are counted as the model's definition has them, forward and backward, whatever a faster
algorithm saves (model FLOPs utilization: Chowdhery et al., 2022, "PaLM"); nothing else a step does
(optimiser, averages, augmentation) counts as useful.
"""

import time
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch.utils.flop_counter import FlopCounterMode

from dipole.policy.core.derivatives import any_derivatives
from dipole.policy.training.optimization.updates import Updates
from dipole.policy.training.output.meter import StepMeter, wait_for

LONG_ENOUGH = 5.0  # seconds of steps, from which on it is worth counting operations
ROWS = 2  # of the batch whose operations are counted
TURNS = 4


class Share(TypedDict):
    """What one process has computed since the last report. losses: means over its rows."""

    rows: int
    losses: dict[str, float]
    data_ms: float
    compute_ms: float


class Throughput:
    """Of a run, by the means of all its processes."""

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self.seconds = 0.0
        self._utilization_of: float | None = None

    def of(self, meter: StepMeter, shares: Sequence[Share]) -> dict[str, float]:
        """Entries of the log. meter: this process's; shares: by rank."""
        config = self.updates.config
        self.seconds += meter.seconds
        a_second = config.batch_size * config.accumulate * meter.steps / meter.seconds
        found = {"throughput/windows_per_second": a_second}
        if self.seconds >= LONG_ENOUGH:
            if self._utilization_of is None:
                self._utilization_of = self._share_of_a_window()
            if self._utilization_of:
                of_own = a_second * self.updates.rows / config.batch_size
                found["throughput/model_flops_utilization"] = of_own * self._utilization_of
        if len(shares) > 1:
            for rank, share in enumerate(shares):
                found[f"time/data_ms/rank{rank}"] = share["data_ms"]
                found[f"time/compute_ms/rank{rank}"] = share["compute_ms"]
        return found

    def _share_of_a_window(self) -> float:
        """Of what this process's device computes in a second at most, what one window takes; 0
        where it cannot be counted."""
        if not self.updates.group.rank.is_main or self.updates.state.sharding is not None:
            return 0.0  # one process alone cannot compute with shards
        try:
            with FlopCounterMode(display=False) as counter, any_derivatives():
                self.updates.try_out(self.updates.state.objective, ROWS)
        except Exception:  # an objective without random batches
            return 0.0
        operations: int = counter.get_total_flops()
        return operations / ROWS / peak(self.updates.device, self.updates.amp)


def peak(device: torch.device, bf16: bool) -> float:
    """Multiplications and additions a second of a large product of matrices, the best of some."""
    size = 4096 if device.type == "cuda" else 1024
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    taken = []
    for _ in range(TURNS):
        wait_for(device)
        began = time.perf_counter()
        torch.mm(a, a)
        wait_for(device)
        taken.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(taken)


def weighted_means(shares: Sequence[Share]) -> dict[str, float]:
    """Losses over the rows of all processes.

    >>> weighted_means([
    ...     {"rows": 3, "losses": {"a": 1.0}, "data_ms": 0, "compute_ms": 0},
    ...     {"rows": 1, "losses": {"a": 2.0}, "data_ms": 0, "compute_ms": 0},
    ... ])
    {'a': 1.25}
    """
    if len(shares) == 1:
        return dict(shares[0]["losses"])
    found: dict[str, Any] = {}
    for name in dict.fromkeys(key for share in shares for key in share["losses"]):
        own = [(s["rows"], s["losses"][name]) for s in shares if name in s["losses"]]
        found[name] = sum(rows * loss for rows, loss in own) / sum(rows for rows, _ in own)
    return found

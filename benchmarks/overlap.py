"""A step with gradients sent during the backward pass and after it, over a simulated network.

    torchrun --standalone --nproc-per-node=2 benchmarks/overlap.py --bandwidth 1e8 --rounds 5

Each process computes on one thread, alternately in both ways. Nothing is really sent, which would
take the processors that compute: a bucket is taken to be under way for its bytes by the bandwidth,
after those before it, from when it was begun. Prints medians, and what could be hidden at most: the
shorter of the backward pass and the sending.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from dipole.policy.training.optimization.gradients import GradientSums
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.launch import training_group


@dataclass
class Network:
    """bandwidth: Bytes a second. free_at: When what was begun before has arrived."""

    bandwidth: float
    free_at: float = 0.0

    def all_reduce(self, tensor: torch.Tensor, **_: Any) -> "Delayed":
        size = 2 * tensor.numel() * tensor.element_size()  # a ring sends about twice its bytes
        self.free_at = max(time.perf_counter(), self.free_at) + size / self.bandwidth
        return Delayed(self.free_at)


@dataclass
class Delayed:
    until: float

    def wait(self) -> None:
        time.sleep(max(0.0, self.until - time.perf_counter()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bandwidth", type=float, default=1e8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1448)  # layers of 8 MiB
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64)
    given = parser.parse_args()
    with training_group("cpu", 300.0) as group:
        torch.set_num_threads(1)
        own: Any = distributed
        own.all_reduce = Network(given.bandwidth).all_reduce
        ways = {name: Step(given, group, name == "during") for name in ("during", "after")}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(given.rounds + 1):
            for name, step in ways.items():
                found[name].append(step())
        if group.rank.is_main:
            report(given, {name: each[1:] for name, each in found.items()})


class Step:
    """A step of layers, alike in all processes; called, it gives its backward pass's seconds, and
    those until gradients are sums."""

    def __init__(self, given: argparse.Namespace, group: Group, during: bool) -> None:
        torch.manual_seed(0)
        width = given.width
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(given.layers)))
        self.inputs = torch.randn(given.rows, width)
        self.sums, self.group = GradientSums(list(self.layers.parameters()), group, during), group

    def __call__(self) -> tuple[float, float]:
        self.layers.zero_grad()
        loss = self.layers(self.inputs).square().mean()
        self.group.round()
        began = time.perf_counter()
        with self.sums.sending():
            loss.backward()
        computed = time.perf_counter()
        self.sums.finish()
        return computed - began, time.perf_counter() - began


def report(given: argparse.Namespace, found: dict[str, list[tuple[float, float]]]) -> None:
    size = 4 * given.layers * given.width * (given.width + 1)
    sending = 2 * size / given.bandwidth
    totals = {name: statistics.median(total for _, total in each) for name, each in found.items()}
    backward = statistics.median(computed for computed, _ in found["after"])
    print(f"gradients: {size / 2**20:.0f} MiB, {1e3 * sending:.0f} ms on the network")
    print(f"backward pass alone: {1e3 * backward:.0f} ms")
    for name, total in totals.items():
        print(f"sent {name}: {1e3 * total:.0f} ms until gradients are sums")
    hidden = totals["after"] - totals["during"]
    print(f"hidden: {1e3 * hidden:.0f} of {1e3 * min(backward, sending):.0f} ms at most")


if __name__ == "__main__":
    main()

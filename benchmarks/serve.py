"""What asking a server costs, beside asking a process of this computer: chunks that take no time.

    python benchmarks/serve.py                       # 200 round trips each, in turns
    python benchmarks/serve.py --rounds 1000 --json serve.json

The same two constant "policies" are computed by a process (ProcessInference) and by a policy server
on 127.0.0.1: one sees 20 numbers, one two pictures of 480 x 640. What differs is the way there and
back: packing, checking, sockets, the server's loop. A real network adds its own.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.inference.base import Compute, Inference
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.server import PolicyServer
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.deploy.wire.protocol import Schema

WINDOW = WindowSpec(2, 16, 8)
SEEN: dict[str, tuple[tuple[int, ...], str]] = {
    "state": ((20,), "float32"),
    "pictures": ((480, 640, 3), "uint8"),
}


def constant(what: str) -> tuple[PolicySpec, Compute]:
    """A policy that takes no time."""
    chunk = np.zeros((WINDOW.horizon, 2), np.float32)
    return PolicySpec({what: SEEN[what][0]}, 2, WINDOW), lambda ticket, seen: {"action": chunk}


def serve(what: str, pipe: Any) -> None:
    spec, compute = constant(what)
    policy = ServedPolicy(Schema(spec, {what: SEEN[what][1]}), lambda: compute)
    server = PolicyServer(policy, ServerConfig(port=0), log=lambda _line: None)
    asyncio.run(server.run(pipe.send))


def round_trip(inference: Inference, observation: dict[str, np.ndarray], number: int) -> float:
    """Seconds from asking to having; it looks every 0.1 ms."""
    started = time.perf_counter()
    inference.submit(Request(Ticket(number, 0, 0.0, 0), observation))
    while inference.poll() is None:
        time.sleep(1e-4)
    return time.perf_counter() - started


def measure(what: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of both ways, in turns."""
    shape, dtype = SEEN[what]
    observation = {what: np.zeros((WINDOW.n_obs_steps, *shape), dtype)}
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(what, there))
    server.start()
    ways: dict[str, Any] = {
        "process": ProcessInference(partial(constant, what)),
        "server": RemoteInference(f"ws://127.0.0.1:{here.recv()}"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 10):
        for name, inference in ways.items():
            seconds = round_trip(inference, observation, number + 1)
            if number >= 10:  # the first ones warm up
                taken[name].append(1e3 * seconds)
    for inference in ways.values():
        inference.close()
    server.terminate()
    return {name: quantiles(values) for name, values in taken.items()}


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": statistics.median(values), "p99": cuts[98], "min": min(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {what: measure(what, chosen.rounds) for what in SEEN}
    say: Callable[[str], None] = print
    say(f"{'milliseconds':<22}{'p50':>8}{'p99':>8}{'least':>8}")
    for what, ways in found.items():
        for name, q in ways.items():
            say(f"{what + ', ' + name:<22}{q['p50']:8.2f}{q['p99']:8.2f}{q['min']:8.2f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

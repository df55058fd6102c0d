"""A policy server under load: chunks a second and their latency, by clients, in batches and turns.

    python benchmarks/serve_load.py RUN --clients 1 4 16 --rounds 20 --plot serve_load.svg

Two servers in this process serve the same checkpoint, one with batch.size=16, one with 1. In
alternating rounds, every client asks each of them for a chunk and, when it is there, for the next.
"""

import argparse
import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.server.batching import BatchSettings
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.load import load_served
from dipole.deploy.server.server import PolicyServer
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.types import Request, Ticket
from dipole.deploy.wire.codec import MessageLimits, pack, unpack
from dipole.deploy.wire.protocol import request_message

CHUNKS = 4  # that a client asks for in a round
LIMITS = MessageLimits(size=32 * 2**20)


def serve(policy: ServedPolicy) -> int:
    """The port of a server in a thread, which ends with this process."""
    ports: list[int] = []
    ready = threading.Event()
    server = PolicyServer(policy, ServerConfig(port=0, max_clients=256), log=lambda _line: None)

    def told(port: int) -> None:
        ports.append(port)
        ready.set()

    threading.Thread(target=lambda: asyncio.run(server.run(told)), daemon=True).start()
    ready.wait()
    return ports[0]


def clients(port: int, count: int, message: bytes) -> tuple[float, list[float]]:
    """Chunks a second of all of them, and the seconds that each chunk took."""
    taken: list[float] = []
    start = threading.Barrier(count + 1)

    def ask(number: int) -> None:
        with connect(f"ws://127.0.0.1:{port}/{number}", compression=None, proxy=None) as socket:
            socket.recv()
            start.wait()
            for _ in range(CHUNKS):
                began = time.perf_counter()
                socket.send(message)
                answer = socket.recv()
                if isinstance(answer, str) or "error" in unpack(answer, LIMITS):
                    raise RuntimeError(f"the server: {answer!r:.300}")
                taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(taken) / (time.perf_counter() - began), taken


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Throughput and 99th percentile by clients, a line for each server."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for name in ("batches", "turns"):
        mine = [row for row in rows if row["server"] == name]
        counts = [row["clients"] for row in mine]
        left.plot(counts, [row["chunks_per_second"] for row in mine], "o-", label=name)
        right.plot(counts, [row["p99_ms"] for row in mine], "o-", label=name)
    for axes, title in ((left, "chunks a second"), (right, "99th percentile, ms")):
        axes.set(xlabel="clients", ylabel=title, ylim=(0, None))
        axes.grid(alpha=0.3)
    left.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="of the solver")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    solver = {} if asked.steps is None else {"name": "ddim", "steps": asked.steps}
    terms = FromCheckpoint(asked.checkpoint, device=asked.device, solver=solver)
    ports, message = {}, b""
    for name, size in (("batches", 16), ("turns", 1)):
        policy = load_served(terms, 0.5, BatchSettings(size=size, wait=5.0))
        ports[name] = serve(policy)
        spec = policy.schema.spec
        seen = {
            each: np.zeros(
                (spec.window.n_obs_steps, *shape), policy.schema.dtypes[each].split(".")[-1]
            )
            for each, shape in spec.observation.items()
        }
        message = pack(request_message(Request(Ticket(1, 0, 0.0, 0), seen)))
    rows = []
    for count in asked.clients:
        rates: dict[str, list[float]] = {name: [] for name in ports}
        taken: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(asked.rounds):
            for name, port in ports.items():
                rate, seconds = clients(port, count, message)
                rates[name].append(rate)
                taken[name] += seconds
        for name in ports:
            rate = float(np.median(rates[name]))
            p99 = 1e3 * float(np.percentile(taken[name], 99))
            rows.append(
                {"server": name, "clients": count, "chunks_per_second": rate, "p99_ms": p99}
            )
            print(f"{count:3d} clients, {name:8s} {rate:8.1f} chunks a second, p99 {p99:8.1f} ms")
        ratio = rows[-2]["chunks_per_second"] / rows[-1]["chunks_per_second"]
        print(f"{count:3d} clients: batches {ratio:.2f} times turns")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")
    if asked.plot:
        plot(rows, asked.plot)


if __name__ == "__main__":
    main()

"""What training from object storage costs beside the local disk: windows a second, requests.

    python benchmarks/object_storage.py
    python benchmarks/object_storage.py --dataset PATH.zarr --latency 0.05 --seconds 20
    python benchmarks/object_storage.py --clients                 # obstore against fsspec[http]

The dataset (by default pictures of noise, written here) is read twice, in turns, `--rounds` times:
from the disk, and from a server on this machine that waits `--latency` seconds before each answer.
"cold" is with an empty cache, "warm" with what the pass before it left there. Ratios are of the
clock on the wall, and of processor time, in which waiting does not count. Batches are of 64
windows: two pictures, the state and 16 actions.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dipole.benchmarks.object_server import Faults, FaultyProxy, FolderServer
from dipole.data import EpisodeStore, EpisodeWriter, Windows, WindowSpec, make_loader

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", type=Path, help="a store in a folder; by default noise")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--errors", type=float, default=0.0, help="share of 500s, and of 503s")
    parser.add_argument("--batches", type=int, default=60, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--compute", type=float, default=0.0, help="seconds of a training step")
    parser.add_argument("--cache", help="DIPOLE_CACHE_SIZE, for data that do not fit")
    parser.add_argument("--blocks", type=int, help="train.shuffle_blocks")
    parser.add_argument("--clients", action="store_true", help="compare obstore with fsspec")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / "robot.zarr"
        if given.dataset is None:
            write_noise(path)
        else:
            shutil.copytree(given.dataset, path)
        write_listing(path)
        with served(root, Faults(given.latency, given.errors, given.errors)) as address:
            if given.clients:
                compare_clients(f"{address}/robot.zarr", path)
            else:
                compare_loading(path, f"{address}/robot.zarr", root / "cache", given)


def compare_loading(path: Path, url: str, cache: Path, given: argparse.Namespace) -> None:
    """Print windows a second from both places, and their ratios."""
    os.environ["DIPOLE_CACHE_DIR"] = str(cache)
    if given.cache:
        os.environ["DIPOLE_CACHE_SIZE"] = given.cache
    cold = timed(url, given)
    print(f"cold  {cold[0]:8.1f} windows/s by the clock, first batch after {cold[2]:.2f} s")
    ratios: list[tuple[float, float]] = []
    for _ in range(given.rounds):
        near, far = timed(path, given), timed(url, given)
        ratios.append((far[0] / near[0], far[1] / near[1]))
        print(f"warm  {far[0]:8.1f} windows/s, local disk {near[0]:8.1f}: {ratios[-1][0]:.3f}")
    for name, values in zip(("clock", "processor"), zip(*ratios, strict=True), strict=True):
        low, high = min(values), max(values)
        print(f"warm / local, {name}: {statistics.median(values):.3f} ({low:.3f} to {high:.3f})")


def timed(path: Path | str, given: argparse.Namespace) -> tuple[float, float, float]:
    """Windows a second by the clock and by processor time, and seconds to the first batch."""
    begun = time.perf_counter()
    windows = Windows(EpisodeStore.open(path), WindowSpec(2, 16, 8))
    loader = make_loader(
        windows,
        batch_size=BATCH,
        seed=0,
        memory_limit_bytes=0,
        workers=given.workers,
        shuffle_blocks=given.blocks,
        log=lambda _: None,
    )
    with loader:
        batches = loader.batches()
        next(batches)
        first = time.perf_counter() - begun
        wall, processor = time.perf_counter(), time.process_time()
        for _ in itertools.islice(batches, given.batches):
            time.sleep(given.compute)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    count = BATCH * given.batches
    return count / wall, count / processor, first


def compare_clients(url: str, path: Path) -> None:
    """Print what 200 ranges of 1 MiB cost, 32 at once, through obstore and through fsspec."""
    import fsspec  # type: ignore[import-untyped]
    import obstore
    from obstore.store import from_url

    largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    name, size = str(largest.relative_to(path)), largest.stat().st_size
    starts = np.random.default_rng(0).integers(0, max(size - 2**20, 1), 200).tolist()
    store: Any = from_url(url, client_options={"allow_http": True})
    files = fsspec.filesystem("http")

    def by_obstore() -> None:
        with ThreadPoolExecutor(32) as threads:
            gets = [
                threads.submit(obstore.get_range, store, name, start=s, length=2**20)
                for s in starts
            ]
            for get in gets:
                get.result()

    def by_fsspec() -> None:
        ends = [start + 2**20 for start in starts]
        files.cat_ranges([f"{url}/{name}"] * len(starts), starts, ends, batch_size=32)

    ways: dict[str, Callable[[], None]] = {"obstore": by_obstore, "fsspec": by_fsspec}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(5):
        for way, fetch in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            fetch()
            found[way].append((time.perf_counter() - wall, time.process_time() - processor))
    for number, clock in enumerate(("clock", "processor")):
        each = [b[number] / a[number] for a, b in zip(*found.values(), strict=True)]
        print(f"fsspec / obstore, {clock}: {statistics.median(each):.2f}")


def write_noise(path: Path) -> None:
    """20 episodes of 200 frames with pictures of 96 × 96."""
    random = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for _ in range(20):
            coarse = random.integers(0, 255, (200, 24, 24, 3), np.uint8)
            writer.add_episode(
                {
                    "state": random.random((200, 5), np.float32),
                    "action": random.random((200, 2), np.float32),
                    "camera": coarse.repeat(4, axis=1).repeat(4, axis=2),
                }
            )


def write_listing(path: Path) -> None:
    """What `dipole data convert` writes into object storage for servers that list nothing."""
    files = [file for file in path.rglob("*") if file.is_file()]
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in files}
    (path / "files.json").write_text(json.dumps({"files": sizes}))


@contextmanager
def served(folder: Path, faults: Faults) -> Iterator[str]:
    """A server of the folder in a process of its own, whose time is not ours; gives its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, faults, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(5)


def _serve(folder: Path, faults: Faults, pipe: Any) -> None:
    with FolderServer(folder) as server, FaultyProxy(server.port, faults) as proxy:
        pipe.send(proxy.url)
        pipe.recv()


if __name__ == "__main__":
    main()

"""What loading costs: bytes a frame and windows a second, by how pictures are stored.

    python benchmarks/loader.py --pusht PATH/pusht_cchi_v7_replay.zarr.zip --lerobot PATH/unitree_g1

Each way is measured in turns, `--rounds` times; a table of medians is printed. Cold: the files are
dropped from the system's cache first. A window is two pictures, the state and 16 actions. With
`--processor-time` seconds are those that this process and its workers computed: what is left to
measure on a machine that is busy with other things (waiting for the disk does not count then).
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dipole.data import EpisodeStore, Feature, Features, Windows, WindowSpec, make_loader
from dipole.data.convert import convert
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source

Clock = Callable[[], float]
LEROBOT = 106.0  # windows a second a worker: LeRobot's loader, Push-T-sized PNG, on such a machine


@dataclass(frozen=True)
class Case:
    """One way to load. limit: bytes that may be resident."""

    name: str
    path: Path
    features: Features
    batch: int
    workers: int = 0
    resident: bool = False
    cold: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pusht", type=Path, help="the public Push-T recordings")
    parser.add_argument("--lerobot", type=Path, help="a LeRobot folder with 480×640 video")
    parser.add_argument("--episodes", default="1,2", help="of the LeRobot folder, with video")
    parser.add_argument("--images", default="zstd,jxl,jpeg", help="how pictures are stored")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine")
    arguments = parser.parse_args()
    clock = processor_seconds if arguments.processor_time else time.perf_counter
    encodings = arguments.images.split(",")
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        if arguments.pusht:
            cases += pusht_cases(arguments.pusht, Path(folder), encodings)
        if arguments.lerobot:
            episodes = tuple(int(number) for number in arguments.episodes.split(","))
            cases += video_cases(arguments.lerobot, episodes, Path(folder), encodings)
        report(cases, measured(cases, arguments.seconds, arguments.rounds, clock))


def pusht_cases(source: Path, folder: Path, encodings: list[str]) -> list[Case]:
    features = Features(
        {
            "image": Feature((96, 96, 3), kind="image", source="img", normalize="image"),
            "agent_pos": Feature((2,), source="state", columns=(0, 1)),
        },
        Feature((2,), kind="action"),
    )
    cases = []
    for images in encodings:
        path = folder / f"pusht_{images}.zarr"
        convert(selected(open_source(source), ("img", "state", "action")), path, images)
        if images == "zstd":
            cases.append(Case("Push-T, resident", path, features, 64, resident=True))
        cases += ways(f"Push-T, {images}", path, features, 64, workers=images == "zstd")
    return cases


def video_cases(
    source: Path, episodes: tuple[int, ...], folder: Path, encodings: list[str]
) -> list[Case]:
    opened = open_source(source)
    frames = opened.info.frames
    camera = next(key for key, frame in frames.items() if frame.kind == "image")
    features = Features(
        {"camera": Feature(frames[camera].shape or (), "image", camera, normalize="image")},
        Feature(frames["action"].shape or (), kind="action"),
    )
    cases = []
    for images in ["keep", *encodings]:
        path = folder / f"video_{images}.zarr"
        convert(selected(opened, (camera, "action"), episodes), path, images)
        name = "480×640, video" if images == "keep" else f"480×640, {images}"
        cases += ways(name, path, features, 8, workers=images in ("keep", "zstd"))
    return cases


def ways(name: str, path: Path, features: Features, batch: int, workers: bool) -> list[Case]:
    """One way of storing: cold, warm, and with background workers."""
    cases = [Case(name, path, features, batch, cold=True), Case(name, path, features, batch)]
    if workers:
        cases += [Case(name, path, features, batch, count) for count in (1, 2)]
    return cases


def measured(cases: list[Case], seconds: float, rounds: int, clock: Clock) -> list[list[float]]:
    """Windows a second of each case, once a round, the cases in turns."""
    found: list[list[float]] = [[] for _ in cases]
    for number, _ in enumerate(range(rounds), 1):
        for case, rates in zip(cases, found, strict=True):
            rates.append(rate(case, seconds, number, clock))
    return found


def rate(case: Case, seconds: float, seed: int, clock: Clock) -> float:
    """Windows a second: a fresh store, the first batches, which start everything, not counted."""
    with batches(case, seed) as loaded:
        for _ in range(2 + 2 * case.workers):  # what workers prepared beforehand
            next(loaded)
        if case.cold:
            drop_from_cache(case.path)
        began, count = clock(), 0
        while clock() - began < seconds:
            next(loaded)
            count += 1
        return count * case.batch / (clock() - began)


def processor_seconds() -> float:
    """Computed by this process and its workers so far; Linux."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


@contextmanager
def batches(case: Case, seed: int) -> Iterator[Iterator[object]]:
    windows = Windows(EpisodeStore.open(case.path), WindowSpec(2, 16, 8), case.features)
    loader = make_loader(
        windows,
        batch_size=case.batch,
        seed=seed,
        workers=case.workers,
        memory_limit_bytes=2**40 if case.resident else 0,
        log=lambda _: None,
    )
    with loader:
        yield itertools.chain(loader.batches(0))


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget the files; they are read from the disk afterwards."""
    for file in path.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def bytes_a_frame(case: Case) -> float:
    """Stored bytes of a picture."""
    key = next(f.source for f in case.features.observation.values() if f.kind == "image")
    folders = (case.path / "data" / key, case.path / "videos" / key)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / EpisodeStore.open(case.path).n_frames


def report(cases: list[Case], found: list[list[float]]) -> None:
    print("| stored | bytes a frame | cache | workers | windows a second | times 106 |")
    print("|---|---|---|---|---|---|")
    for case, rates in zip(cases, found, strict=True):
        middle = statistics.median(rates)
        size = f"{bytes_a_frame(case):,.0f}"
        cache = "in memory" if case.resident else "cold" if case.cold else "warm"
        spread = f"{middle:,.0f} ({min(rates):,.0f}–{max(rates):,.0f})"
        times = middle / LEROBOT
        print(f"| {case.name} | {size} | {cache} | {case.workers} | {spread} | {times:.3g} |")


if __name__ == "__main__":
    main()

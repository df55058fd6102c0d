"""What loading costs: bytes a frame and windows a second, by how pictures are stored.

    python benchmarks/loader.py --pusht PATH/pusht_cchi_v7_replay.zarr.zip --lerobot PATH/unitree_g1
    python benchmarks/loader.py --pusht PATH --images "" --videos libsvtav1 --beside OTHER/build/ns

Each way is measured in turns, `--rounds` times, each in a process of its own; a table of medians is
printed. Cold: the files are dropped from the system's cache first. A window is two pictures, the
state and 16 actions. `--videos` encodes Push-T's pictures as LeRobot does, a key frame every second
frame. `--beside` measures another version of dipole in the same rounds, by the folder that its
`import dipole` is found in, and prints how many times as fast this one is. With `--processor-time`
seconds are those that a process and its workers computed: what is left to measure on a machine that
is busy with other things (waiting for the disk does not count then).
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data import (
    Clip,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Windows,
    WindowSpec,
    make_loader,
)
from dipole.data.convert import convert
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source

Clock = Callable[[], float]
# As LeRobot encodes; of the others only the key frames are its own.
CODECS = {
    "libsvtav1": {"g": "2", "crf": "30", "preset": "12"},
    "libx264": {"g": "2", "crf": "23"},
    "libx265": {"g": "2", "crf": "28", "x265-params": "log-level=none"},
}


@dataclass(frozen=True)
class Case:
    """One way to load: image_key of the dataset at `path`; state_key: "" for none."""

    name: str
    path: Path
    image_key: str
    state_key: str
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
    parser.add_argument("--videos", default="", help=f"of Push-T: {', '.join(CODECS)}")
    parser.add_argument("--beside", type=Path, help="the folder that holds another `dipole`")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a case, in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    encodings = [name for name in arguments.images.split(",") if name]
    codecs = [name for name in arguments.videos.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        if arguments.pusht:
            cases += pusht_cases(arguments.pusht, Path(folder), encodings)
            cases += pusht_video_cases(arguments.pusht, Path(folder), codecs)
        if arguments.lerobot:
            episodes = tuple(int(number) for number in arguments.episodes.split(","))
            cases += video_cases(arguments.lerobot, episodes, Path(folder), encodings)
        versions = [None, arguments.beside] if arguments.beside else [None]
        report(cases, versions, rates(cases, versions, arguments))


def pusht_cases(source: Path, folder: Path, encodings: list[str]) -> list[Case]:
    cases = []
    for images in encodings:
        path = folder / f"pusht_{images}.zarr"
        convert(selected(open_source(source), ("img", "state", "action")), path, images)
        if images == "zstd":
            cases.append(Case("Push-T, resident", path, "img", "state", 64, resident=True))
        cases += ways(Case(f"Push-T, {images}", path, "img", "state", 64), images == "zstd")
    return cases


def pusht_video_cases(source: Path, folder: Path, codecs: list[str]) -> list[Case]:
    """Push-T's pictures as video, one file an episode."""
    cases = []
    for codec in codecs:
        path = folder / f"pusht_{codec}.zarr"
        write_pusht_video(EpisodeStore.open(source), path, codec)
        cases += ways(Case(f"Push-T, {codec}", path, "img", "state", 64), workers=True)
    return cases


def write_pusht_video(store: EpisodeStore, path: Path, codec: str) -> None:
    import av

    with EpisodeWriter(path, fps=10) as writer:
        for start, stop in zip(store.episode_starts, store.episode_ends, strict=True):
            video = path.with_name(f"{codec}_{start}.mp4")
            with av.open(str(video), "w") as container:
                stream = container.add_stream(codec, rate=10, options=CODECS[codec])
                stream.width = stream.height = 96
                stream.pix_fmt = "yuv420p"
                for frame in store["img"][start:stop].astype(np.uint8):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode(None))
            clip = Clip(video, 0, int(stop - start), (96, 96, 3))
            numbers = {key: store[key][start:stop] for key in ("state", "action")}
            writer.add_episode({"img": clip, **numbers})


def video_cases(
    source: Path, episodes: tuple[int, ...], folder: Path, encodings: list[str]
) -> list[Case]:
    opened = open_source(source)
    frames = opened.info.frames
    camera = next(key for key, frame in frames.items() if frame.kind == "image")
    cases = []
    for images in ["keep", *encodings]:
        path = folder / f"video_{images}.zarr"
        convert(selected(opened, (camera, "action"), episodes), path, images)
        name = "480×640, video" if images == "keep" else f"480×640, {images}"
        cases += ways(Case(name, path, camera, "", 8), workers=images in ("keep", "zstd"))
    return cases


def ways(case: Case, workers: bool) -> list[Case]:
    """One way of storing: cold, warm, and with background workers."""
    cases = [replace(case, cold=True), case]
    if workers:
        cases += [replace(case, workers=count) for count in (1, 2)]
    return cases


def rates(
    cases: list[Case], versions: list[Path | None], arguments: argparse.Namespace
) -> dict[tuple[Case, Path | None], list[float]]:
    """Windows a second of each case by each version, once a round, in turns."""
    found: dict[tuple[Case, Path | None], list[float]] = defaultdict(list)
    for seed in range(1, arguments.rounds + 1):
        for case in cases:
            for version in versions:
                terms = {
                    **asdict(case),
                    "path": str(case.path),
                    "seed": seed,
                    "seconds": arguments.seconds,
                    "processor_time": arguments.processor_time,
                }
                found[case, version].append(in_a_process(terms, version))
    return found


def in_a_process(terms: dict[str, Any], version: Path | None) -> float:
    environment = dict(os.environ)
    if version is not None:
        environment["PYTHONPATH"] = str(version)
    command = [sys.executable, __file__, "--measure", json.dumps(terms)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def measure(terms: dict[str, Any]) -> float:
    """Windows a second: a fresh store, the first batches, which start everything, not counted."""
    seconds, seed = terms.pop("seconds"), terms.pop("seed")
    clock: Clock = processor_seconds if terms.pop("processor_time") else time.perf_counter
    case = Case(**{**terms, "path": Path(terms["path"])})
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
    store = EpisodeStore.open(case.path)
    shape = tuple(store[case.image_key].shape[1:])
    observation = {"image": Feature(shape, kind="image", source=case.image_key, normalize="image")}
    if case.state_key:
        observation["state"] = Feature((2,), source=case.state_key, columns=(0, 1))
    action = Feature(tuple(store["action"].shape[1:]), kind="action")
    windows = Windows(store, WindowSpec(2, 16, 8), Features(observation, action))
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
    folders = (case.path / "data" / case.image_key, case.path / "videos" / case.image_key)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / EpisodeStore.open(case.path).n_frames


def report(
    cases: list[Case],
    versions: list[Path | None],
    found: dict[tuple[Case, Path | None], list[float]],
) -> None:
    more = "| beside it | times as fast |" if versions[1:] else "|"
    print(f"| stored | bytes a frame | cache | workers | windows a second {more}")
    print("|---|---|---|---|---|" + "---|---|" * len(versions[1:]))
    for case in cases:
        cells = [case.name, f"{bytes_a_frame(case):,.0f}"]
        cells.append("in memory" if case.resident else "cold" if case.cold else "warm")
        cells += [str(case.workers), spread(found[case, None])]
        for version in versions[1:]:
            both = zip(found[case, None], found[case, version], strict=True)
            ratios = [own / other for own, other in both]
            times = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"
            cells += [spread(found[case, version]), times]
        print(f"| {' | '.join(cells)} |")


def spread(values: list[float]) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


if __name__ == "__main__":
    main()

"""A recording that is killed again and again, each time within another write, and gone on with.

Run as a script: crashes.py FOLDER IMAGES KILLS SEED. Every attempt is a process of its own that is
killed with SIGKILL at a random one of its writes to the disk, half of it done. Exits with 0 when
the recording is done after KILLS kills, and every acknowledged episode was there each time.
"""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

from dipole.data import EpisodeWriter
from dipole.data.store import array_appender, journal, publish
from dipole.data.store.zarr import encoding

LENGTHS = [3, 5, 1, 9, 2, 6]
FEATURES = {"state": {"dtype": "float32"}, "action": {"dtype": "float32"}}


def episode(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    n = LENGTHS[number]
    return {
        "state": rng.normal(size=(n, 3)),
        "action": rng.normal(size=(n, 2)),
        "camera": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
    }


def small_shards() -> None:
    """Shards of four images, or of eight frames of numbers in chunks of four."""
    encoding.CHUNK_BYTES, encoding.SHARD_BYTES = 4 * 12, 4 * 192
    encoding.MOST_CHUNKS = 4


def record(path: Path, images: str) -> None:
    """Record what is missing, and say each episode that is safe."""
    work = path.parent / f".{path.name}.partial"
    if path.exists() or (work / "options.json").exists():
        writer = EpisodeWriter.resume(path)
    else:
        writer = EpisodeWriter(path, fps=10, features=FEATURES, images=images)
    with writer:
        for number in range(writer.n_episodes, len(LENGTHS)):
            writer.add_episode(episode(number), f"task {number % 2}")
            (path.parent / "acknowledged").write_text(str(number + 1))


def die_at(event: int) -> None:
    """Kill this process in its write number `event`."""
    count = 0

    def dies(function, before):
        def called(*arguments, **options):
            nonlocal count
            count += 1
            if count == event:
                before(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    def half(file, content):
        file.write(content[: len(content) // 2])

    write_all = dies(publish.write_all, half)
    array_appender.write_all = journal.write_all = write_all
    for name in ("replace", "rename", "fsync", "unlink"):
        setattr(os, name, dies(getattr(os, name), lambda *arguments: None))


def attempt(path: Path, images: str, event: int) -> bool:
    """Record in a process of its own; whether it was killed."""
    child = os.fork()
    if not child:
        try:
            die_at(event)
            record(path, images)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the recording failed"
    return False


def check_acknowledged(path: Path) -> None:
    """What was said to be safe is there, and at most one episode more."""
    said = path.parent / "acknowledged"
    n_said = int(said.read_text() or 0) if said.exists() else 0
    if not path.exists() and not (path.parent / f".{path.name}.partial/options.json").exists():
        assert n_said == 0
        return
    child = os.fork()  # opening must not change what the next attempt finds in memory
    if not child:
        writer = EpisodeWriter.resume(path)
        writer.leave()
        sound = n_said <= writer.n_episodes <= n_said + 1 and not writer.dropped
        if not sound:
            print(f"{writer.n_episodes} episodes, {n_said} acknowledged, {writer.dropped}")
        os._exit(0 if sound else 1)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0, "an acknowledged episode is lost"


def main() -> None:
    path, images = Path(sys.argv[1]) / "mine.zarr", sys.argv[2]
    kills, rng = int(sys.argv[3]), random.Random(int(sys.argv[4]))
    small_shards()
    os.fsync = lambda handle: None  # it takes time, and what it is for is not a kill
    done = 0
    while done < kills:
        if attempt(path, images, rng.randint(1, 90)):
            done += 1
            check_acknowledged(path)
        else:  # it was whole before the kill came: another one
            import shutil

            shutil.rmtree(path)
            (path.parent / "acknowledged").unlink()
    assert not attempt(path, images, 10**9)


if __name__ == "__main__":
    main()

"""What sending checkpoints to object storage costs beside writing them to the disk.

    python benchmarks/run_copy.py
    python benchmarks/run_copy.py --megabytes 500 --rounds 5

Processor time of this process, in turns: a checkpoint of so many megabytes is written, and sent to
S3 (moto's imitation) in another process. The bytes are random, the network is this machine's own.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from dipole.benchmarks.object_server import moto_server
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint import Checkpoint, save_checkpoint
from dipole.policy.training.storage.run_copy import RunCopy

URL = "s3://robots/run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=72)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{ours.recv()}"
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "test"
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), given.megabytes, given.rounds)
    server.terminate()


def compare(run: Path, megabytes: int, rounds: int) -> None:
    """Print seconds of both, and their ratio."""
    torch.set_num_threads(1)
    copy = RunCopy(run, ObjectUrl.parse(URL), keep=1, say=print)
    copy.claim(new=True)
    numbers = megabytes * 10**6 // 4 // 3
    tensors = {stem: {"numbers": torch.randn(numbers)} for stem in ("model", "ema", "training")}
    ratios = []
    for step in range(1, rounds + 1):
        begun = time.process_time()
        save_checkpoint(run / "checkpoints" / f"{step:08d}", Checkpoint({}, tensors, {}))
        written = time.process_time()
        copy.bring_up_to_date()
        writing, sending = written - begun, time.process_time() - written
        ratios.append(sending / writing)
        print(f"{megabytes} MB: writing {writing:.2f} s, sending {sending:.2f} s of processor time")
    low, high = min(ratios), max(ratios)
    print(f"sending / writing: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


def _serve(pipe: Any) -> None:
    with moto_server("robots") as port:
        pipe.send(port)
        pipe.recv()  # until it is ended


if __name__ == "__main__":
    main()

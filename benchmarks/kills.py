"""Kill random processes of a group at random instants; each time torchrun starts it again.

usage: python benchmarks/kills.py [KILLS] [RANKS] [FOLDER]

One run is left alone, one loses a process KILLS times (SIGKILL): while the group starts, computes,
exchanges, or writes a checkpoint. Prints what was killed when, and in the end whether weights,
averages, the optimiser's state and every logged loss are the same bits in both.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from dipole.data import EpisodeWriter
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training.output.logs import read_log

STEPS_A_KILL = 8
STARTING = 0.25  # of the kills, those at any instant of a start


def main(kills: int, ranks: int, folder: Path) -> int:
    random.seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = settings(write_dataset(folder / "data.zarr"), kills)
    began = time.monotonic()
    torchrun(ranks, 0, words, folder / "calm").wait()
    process = torchrun(ranks, kills, words, folder / "killed")
    starting = 0.5 * (time.monotonic() - began)  # seconds, of a group's life at most
    for number in range(kills):
        kill_one(process, ranks, folder / "killed", starting, number)
    code = process.wait()
    same = is_same(folder / "calm", folder / "killed")
    print(
        f"{kills} kills of {ranks} ranks: exit code {code}, {'the same bits' if same else 'OTHER'}"
    )
    return 0 if same and code == 0 else 1


def kill_one(
    process: "subprocess.Popen[bytes]", ranks: int, run: Path, starting: float, number: int
) -> None:
    """The next kill, after the group has started."""
    pids = workers_of(process, ranks)
    before = newest(run)
    if random.random() < STARTING:
        when = random.uniform(0, starting)
        deadline = time.monotonic() + when
        while time.monotonic() < deadline and newest(run) < before + STEPS_A_KILL:
            time.sleep(0.02)
    else:
        aim = before + random.randint(1, STEPS_A_KILL)
        while newest(run) < aim and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.2))
    if process.poll() is not None:
        raise SystemExit(f"the group ended with code {process.returncode} before kill {number}")
    rank = random.randrange(ranks)
    os.kill(pids[rank], signal.SIGKILL)
    print(
        f"kill {number}: rank {rank} after checkpoint {newest(run)} ({before} before)", flush=True
    )
    while Path(f"/proc/{pids[rank]}").exists():  # until torchrun has noticed
        time.sleep(0.02)


def workers_of(process: "subprocess.Popen[bytes]", ranks: int) -> list[int]:
    """The processes of a group, by rank, once all of them have begun."""
    while True:
        if process.poll() is not None:
            raise SystemExit(f"torchrun ended with code {process.returncode}")
        found = {}
        for pid in children_of(process.pid):
            rank = variable_of(pid, "RANK")
            if rank is not None:
                found[int(rank)] = pid
        if len(found) == ranks:
            return [found[rank] for rank in range(ranks)]
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def variable_of(pid: int, name: str) -> str | None:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    return next((pair.partition("=")[2] for pair in pairs if pair.startswith(f"{name}=")), None)


def newest(run: Path) -> int:
    found = checkpoints_of(run)
    return int(found[-1].name) if found else 0


def torchrun(
    ranks: int, restarts: int, words: list[str], output: Path
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--monitor-interval=0.2"]
    command += ["-m", "dipole.apps.main", "train", *words, f"output={output}"]
    with output.with_suffix(".txt").open("wb") as told:
        return subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)


def settings(dataset: Path, kills: int) -> list[str]:
    steps = STEPS_A_KILL * (kills + 1)
    train = f"steps={steps} batch_size=8 warmup_steps=5 device=cpu deterministic=true threads=1"
    train += " log_every=1 checkpoint_every=1 keep_checkpoints=2 validate_every=50"
    denoiser = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
    return [f"dataset={dataset}", *denoiser, *(f"train.{word}" for word in train.split())]


def write_dataset(path: Path) -> Path:
    """States and actions that Push-T could have."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in (30, 40, 25):
            positions = 256 + rng.normal(0, 8, (length, 4)).cumsum(0)
            angle = rng.normal(0, 0.1, (length, 1)).cumsum(0)
            state = np.concatenate([positions, angle], 1).astype(np.float32)
            writer.add_episode({"state": state, "action": state[:, :2]})
    return path


def is_same(one: Path, other: Path) -> bool:
    ours, theirs = (tensors_of(run) for run in (one, other))
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)
    return equal and losses_of(one) == losses_of(other)


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    files = sorted(checkpoints_of(run)[-1].glob("*.safetensors"))
    return {f"{f.name}:{name}": value for f in files for name, value in load_file(f).items()}


def losses_of(run: Path) -> list[tuple[int, float]]:
    return [(x["step"], x["train/loss"]) for x in read_log(run / "log.jsonl") if "train/loss" in x]


if __name__ == "__main__":
    given = [*sys.argv[1:], *("100", "2", "")[len(sys.argv) - 1 :]]
    where = Path(given[2] or tempfile.mkdtemp(prefix="kills"))
    sys.exit(main(int(given[0]), int(given[1]), where))

"""Processes that train one run together: the same run as one process, and faults of one of them."""

import json
import math
import os
import re
import signal
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from ranks_fixture import (
    changed_when,
    configuration,
    ended,
    in_processes,
    silent,
    write_pictures,
)
from training_fixture import SMALL

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.heads.base import Loss
from dipole.policy.training.loop import Trainer
from dipole.policy.training.objective import BehaviourCloning
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.process import whereabouts
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.launch import Launch
from dipole.policy.training.run import resume_run, start_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
REGRESSION = {
    "encoder": {"name": "image", "backbone": {"name": "resnet18", "width": 8}, "dim": 6},
    "denoiser": SMALL,
    "head": {"name": "regression"},
}

# A busy machine may let the thread wait that says where its process is.
PATIENT = patch.object(whereabouts, "ANSWER", timedelta(seconds=20))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data") / "arm.zarr")


def train(output, config, changes=None):
    """A new run, or on with one; the signal that stopped it."""
    if (output / "run.json").exists():
        return resume_run(output, changes, say=silent).stopped
    return start_run(config, output, say=silent).stopped


def together(count, folder, work, timeout=60.0):
    folder.mkdir(parents=True, exist_ok=True)
    return ended(in_processes(count, work, folder, timeout), folder)


def logged(run, key="train/loss"):
    return [(line["step"], line[key]) for line in read_log(run / "log.jsonl") if key in line]


def weights_of(run):
    """Every tensor of the newest checkpoint."""
    newest = checkpoints_of(run)[-1]
    return {
        f"{path.name}:{name}": tensor
        for path in sorted(newest.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_like(one, other):
    """Losses of training and validation; a first step's weights differ by rounding."""
    for key in ("train/loss", "validation/loss", "validation/loss_ema"):
        ours, theirs = logged(one, key), logged(other, key)
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert [loss for _, loss in ours] == pytest.approx([x for _, x in theirs], rel=1e-4)


def assert_same_bits(one, other):
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert logged(one) == logged(other)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "train_settings",
    [{"accumulate": 2, "grad_clip": 0.5}, {"batch_size": 5}],
    ids=["even", "uneven"],
)
def test_two_ranks_are_one_process_with_the_same_batch(tmp_path, dataset, train_settings):
    config = configuration(dataset, **train_settings)
    train(tmp_path / "one", config)
    for run in (tmp_path / "two", tmp_path / "again"):
        found = together(2, tmp_path / "out", lambda rank, run=run: train(run, config))
        assert found == [(0, "None")] * 2
    assert_like(tmp_path / "one", tmp_path / "two")
    assert_same_bits(tmp_path / "two", tmp_path / "again")
    steps = [step for step, _ in logged(tmp_path / "two")]
    assert steps == [1, 2, 3, 4, 5, 6]
    newest = checkpoints_of(tmp_path / "two")[-1]
    assert json.loads((newest / "training.json").read_text())["world_size"] == 2
    line = next(each for each in read_log(tmp_path / "two" / "log.jsonl") if "train/loss" in each)
    assert line["throughput/windows_per_second"] > 0
    assert {"time/data_ms/rank0", "time/compute_ms/rank1"} <= line.keys()


@pytest.mark.heavy
def test_another_number_of_ranks_goes_on_with_the_same_batches(tmp_path, dataset):
    config = configuration(dataset)
    train(tmp_path / "one", config)
    first = configuration(dataset, steps=4)
    first["train"]["warmup_steps"] = config["train"]["warmup_steps"]
    together(3, tmp_path / "out", lambda rank: train(tmp_path / "more", first))
    more = {"train.steps": 6}
    found = together(2, tmp_path / "out", lambda rank: train(tmp_path / "more", None, more))
    assert found == [(0, "None")] * 2
    ours, theirs = logged(tmp_path / "more"), logged(tmp_path / "one")
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    # The learning rate of the first four steps ended at step 4: the weights differ a little.
    assert [loss for _, loss in ours] == pytest.approx([x for _, x in theirs], rel=0.05)


@pytest.mark.heavy
def test_an_error_of_one_rank_ends_all_and_all_say_it(tmp_path, dataset):
    def work(rank):
        def failing(before):
            def step(trainer, batches):
                if trainer.state.step == 3:
                    raise ZeroDivisionError("rank one's own")
                return before(trainer, batches)

            return step

        with changed_when(rank == 1, Trainer, "_step", failing):
            train(tmp_path / "run", configuration(dataset))

    (first, told), (second, own) = together(2, tmp_path / "out", work)
    assert (first, second) == (1, 1)
    assert "OtherRankError: rank 1 failed: Traceback" in told
    assert "ZeroDivisionError: rank one's own" in told
    assert "in step" in told  # where it was raised
    assert own.rstrip().endswith("ZeroDivisionError: rank one's own")
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["00000002"]


@pytest.mark.heavy
def test_an_error_of_the_first_rank_between_steps_ends_all(tmp_path, dataset):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    found = together(2, tmp_path / "out", lambda rank: start(tmp_path / "run", dataset))
    assert "ConfigError: output=" in found[0][1]
    assert "already holds a run" in found[0][1]
    assert "OtherRankError: rank 0 failed: output=" in found[1][1]


def start(output, dataset):
    return start_run(configuration(dataset), output, say=silent)


@pytest.mark.heavy
def test_a_batch_of_fewer_rows_than_ranks_is_refused_before_there_is_a_run(tmp_path, dataset):
    config = configuration(dataset, batch_size=1)
    found = together(2, tmp_path / "out", lambda rank: train(tmp_path / "run", config))
    assert [code for code, _ in found] == [1, 1]
    assert all("with batches of 1" in said for _, said in found)
    assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_two_groups_on_one_folder_are_refused(tmp_path, dataset):
    train(tmp_path / "run", configuration(dataset, steps=2))
    from dipole.policy.training.output.run_folder import resumed_run_folder

    with resumed_run_folder(tmp_path / "run"):
        found = together(2, tmp_path / "out", lambda rank: train(tmp_path / "run", None))
    for _, text in found:
        assert "another process trains it at present" in text


@pytest.mark.heavy
def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path, dataset):
    def work(rank):
        def signalled(before):
            def step(trainer, batches):
                if trainer.state.step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return before(trainer, batches)

            return step

        with changed_when(rank == 1, Trainer, "_step", signalled):
            return train(tmp_path / "run", configuration(dataset, checkpoint_every=0))

    assert together(2, tmp_path / "out", work) == [(0, "SIGTERM")] * 2
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["00000003"]


@pytest.mark.heavy
def test_a_loss_of_one_rank_that_is_not_a_number_ends_all(tmp_path, dataset):
    def work(rank):
        def bad(before):
            def forward(objective, batch, *, update="policy", step=0):
                loss = before(objective, batch, update=update, step=step)
                return Loss(loss.total * (math.nan if step == 3 else 1))

            return forward

        with changed_when(rank == 1, BehaviourCloning, "forward", bad):
            train(tmp_path / "run", configuration(dataset))

    found = together(2, tmp_path / "out", work)
    for code, text in found:
        assert code == 1
        assert "TrainingDivergedError: the loss of step 4 is not a number" in text
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["00000002"]


@pytest.mark.heavy
def test_a_rank_that_hangs_is_named_with_where_it_is(tmp_path, dataset):
    def work(rank):
        def hanging(before):
            def step(trainer, batches):
                if trainer.state.step == 3:
                    time.sleep(600)
                return before(trainer, batches)

            return step

        with changed_when(rank == 1, Trainer, "_step", hanging):
            train(tmp_path / "run", configuration(dataset))

    folder = tmp_path / "out"
    folder.mkdir()
    with PATIENT:
        pids = in_processes(2, work, folder, timeout=20.0)
    (found,) = ended(pids[:1], folder)
    os.kill(pids[1], signal.SIGKILL)
    os.waitpid(pids[1], 0)
    assert "LostRankError: rank 0: the other processes do not all answer within 20 s" in found[1]
    assert re.search(r"rank 1 has not come: it is at .*test_ranks.py:\d+ step", found[1])


@pytest.mark.heavy
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_bit_for_bit(tmp_path, dataset):
    config = configuration(dataset, steps=16, checkpoint_every=1, keep_checkpoints=2)
    together(2, tmp_path / "out", lambda rank: train(tmp_path / "calm", config))
    folder, run = tmp_path / "kills", tmp_path / "killed"
    folder.mkdir()
    for number, rank in enumerate([1, 0, 1, 0]):
        before = newest(run)
        work = partial(train_until, before + 3, rank, run, config)
        pids = in_processes(2, work, folder)
        until = time.monotonic() + 180
        while newest(run) <= before:  # it resumed, and went on
            assert time.monotonic() < until, [f.read_text() for f in folder.glob("*.txt")]
            time.sleep(0.01)
        os.kill(pids[rank], signal.SIGKILL)
        found = ended(pids, folder)
        assert found[rank][0] == -signal.SIGKILL, number
        assert found[1 - rank][0] == 1
        assert f"rank {rank} does not answer: it was killed" in found[1 - rank][1] or rank == 0
    assert together(2, folder, lambda rank: train(run, config)) == [(0, "None")] * 2
    assert_same_bits(tmp_path / "calm", run)


def train_until(last, of, run, config, rank):
    """Rank `of` does not go on after step `last`: it is to be killed, and not to end before."""

    def waiting(before):
        def step(trainer, batches):
            if trainer.state.step >= last:
                time.sleep(600)
            return before(trainer, batches)

        return step

    with changed_when(rank == of, Trainer, "_step", waiting):
        train(run, config)


def newest(run):
    found = checkpoints_of(run)
    return int(found[-1].name) if found else 0


def test_alone_nothing_is_asked_of_others():
    group = Group()
    assert group.is_alone
    assert group.round(3.0) == [[3.0]]
    assert group.gather({"a": 1}) == [{"a": 1}]
    assert group.from_main(lambda: "made") == "made"
    assert group.add(torch.tensor(4)) == 4
    with pytest.raises(KeyError), group.together():
        raise KeyError


LAUNCHED = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_RUN_ID": "mine",
}


def test_a_launcher_says_which_process_this_is():
    launch = Launch.of(LAUNCHED)
    assert (launch.rank.index, launch.rank.count) == (3, 4)
    assert (launch.local.index, launch.local.count) == (1, 2)
    assert (launch.restarts, launch.identity, launch.address) == (2, "mine", ("first", 29500))
    assert not Launch.of({"RANK": "1"}).rank.is_one_of_several
    fixed = Launch.of(LAUNCHED | {"TORCHELASTIC_RUN_ID": "none"}).identity
    assert str(os.getppid()) in fixed


def test_a_group_that_starts_again_finds_the_run_it_began_and_no_other(tmp_path):
    for name, launch in (("a", "other"), ("b", "mine")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"launch": launch}))
    again = Launch.of(LAUNCHED)
    assert again.begun_before(tmp_path / "named_otherwise") == tmp_path / "b"
    first = Launch.of(LAUNCHED | {"TORCHELASTIC_RESTART_COUNT": "0"})
    assert first.begun_before(tmp_path / "named_otherwise") is None
    assert first.begun_before(tmp_path / "a") is None
    assert first.begun_before(tmp_path / "b") == tmp_path / "b"  # by a launcher of the same name
    assert Launch.of(LAUNCHED | {"TORCHELASTIC_RUN_ID": "third"}).begun_before(tmp_path) is None

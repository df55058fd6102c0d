"""The training loop: exact resumption, whole checkpoints, logs, signals, divergence."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import SETTINGS, BrokenOffError, make_trainer, stop_at, write_dataset

from dipole.data import CheckpointError, ConfigError
from dipole.policy import load_policy
from dipole.policy.checkpoint import (
    best_score,
    checkpoints_of,
    find_checkpoint,
    mark_best,
    read_tensors,
)
from dipole.policy.heads.base import Loss
from dipole.policy.training import TrainConfig, TrainingDivergedError
from dipole.policy.training.hardware import precision
from dipole.policy.training.hardware.precision import precision_note
from dipole.policy.training.optimization.optimizer import (
    learning_rate,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from dipole.policy.training.output.logs import read_log


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    """All of the newest checkpoint: weights, average, optimiser."""
    folder = checkpoints_of(run)[-1]
    return {
        f"{stem}/{name}": tensor
        for stem in ("model", "ema", "training")
        for name, tensor in read_tensors(folder, stem).items()
    }


def assert_same_bits(run: Path, other: Path) -> None:
    ours, theirs = tensors_of(run), tensors_of(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []
    training = [
        json.loads((checkpoints_of(r)[-1] / "training.json").read_text()) for r in (run, other)
    ]
    assert training[0] == training[1]


def test_resuming_gives_the_bits_of_the_run_that_was_never_stopped(tmp_path, dataset):
    make_trainer(tmp_path / "whole", dataset).fit()
    stop_at(make_trainer(tmp_path / "broken", dataset), 6)  # its newest checkpoint is at step 4
    make_trainer(tmp_path / "broken", dataset).fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")


def test_accumulation_and_resumption(tmp_path, dataset):
    options = {"accumulate": 3, "batch_size": 4}
    make_trainer(tmp_path / "whole", dataset, **options).fit()
    stop_at(make_trainer(tmp_path / "broken", dataset, **options), 9)
    make_trainer(tmp_path / "broken", dataset, **options).fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    last = read_log(tmp_path / "whole/log.jsonl")[-2]
    windows = 30 - 8 + 1 + 3 + 1 + 40 - 8 + 1 + 3 + 1
    assert last["step"] == 12
    assert last["train/epoch"] == pytest.approx(12 * 3 * 4 / windows)


@pytest.mark.heavy
def test_resuming_with_background_workers(tmp_path, dataset):
    make_trainer(tmp_path / "whole", dataset).fit()
    workers = {"streaming": True, "workers": 2}
    stop_at(make_trainer(tmp_path / "broken", dataset, **workers), 6)
    make_trainer(tmp_path / "broken", dataset, **workers).fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")


def test_accumulating_equals_one_large_batch(dataset, tmp_path):
    """Two batches of 4 give the gradient of one of 8, were the noise the same."""
    options = {"steps": 1, "warmup_steps": 0, "validate_every": 0}
    large = make_trainer(tmp_path / "a", dataset, batch_size=8, **options)
    halves = make_trainer(tmp_path / "b", dataset, batch_size=4, accumulate=2, **options)
    for trainer in (large, halves):
        trainer.objective = lambda batch, p=trainer.state.policy, **_: _noiseless_loss(p, batch)
        trainer.fit()
    for a, b in zip(large.state.policy.parameters(), halves.state.policy.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def _noiseless_loss(policy, batch):
    context = policy.encode(batch["observation"])
    return Loss((policy.head.denoiser(batch["action"], torch.tensor(7), context) ** 2).mean())


def test_another_seed_gives_other_weights(tmp_path, dataset):
    make_trainer(tmp_path / "a", dataset, steps=2).fit()
    make_trainer(tmp_path / "b", dataset, steps=2, seed=1).fit()
    a, b = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "b")
    assert not torch.equal(
        a["model/head.denoiser.final.1.weight"], b["model/head.denoiser.final.1.weight"]
    )


@pytest.mark.heavy
def test_a_run_killed_while_it_writes_always_resumes(tmp_path, dataset):
    kills = 30
    script = Path(__file__).parent / "kill_runs.py"
    done = subprocess.run(
        [sys.executable, script, dataset, tmp_path / "run", str(kills)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [int(line) for line in done.stdout.split()]
    assert len(steps) == kills
    assert steps == sorted(steps)


def test_checkpoints_beyond_the_newest_are_pruned_and_the_best_is_kept(tmp_path, dataset):
    scores = iter([0.5, 0.3, 0.4])
    trainer = make_trainer(tmp_path, dataset, keep_checkpoints=1, evaluate_every=4)
    trainer.evaluate = lambda policy: {"score": next(scores)}
    trainer.fit()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["00000004", "00000012"]
    assert find_checkpoint(tmp_path).name == "00000012"
    assert find_checkpoint(tmp_path / "best").name == "00000004"
    assert best_score(tmp_path) == 0.5


def test_an_evaluation_that_a_crash_cut_off_is_made_up_for(tmp_path, dataset):
    trainer = make_trainer(tmp_path, dataset, evaluate_every=4)

    def crash(_policy):
        raise BrokenOffError

    trainer.evaluate = crash
    with pytest.raises(BrokenOffError):
        trainer.fit()
    resumed = make_trainer(tmp_path, dataset, evaluate_every=4)
    resumed.evaluate = lambda _policy: {"score": 0.1 * resumed.state.step}
    resumed.fit()
    scored = [
        line["step"] for line in read_log(tmp_path / "log.jsonl") if "evaluation/score" in line
    ]
    assert scored == [4, 8, 12]


def test_the_averaged_policy_is_what_is_evaluated(tmp_path, dataset):
    trainer = make_trainer(tmp_path, dataset, steps=4, evaluate_every=4)
    seen = []

    def note(policy):
        seen.append(policy)
        return {"score": 0.0}

    trainer.evaluate = note
    trainer.fit()
    assert seen == [trainer.state.ema.model]
    assert not seen[0].training


def test_logs_hold_losses_of_raw_and_averaged_weights_and_times_apart(tmp_path, dataset):
    make_trainer(tmp_path, dataset).fit()
    lines = read_log(tmp_path / "log.jsonl")
    train = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in train] == [2, 4, 6, 8, 10, 12]
    assert all(line["time/data_ms"] >= 0 and line["time/compute_ms"] > 0 for line in train)
    validation = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in validation] == [4, 8, 12]
    assert all(0 < line["validation/loss_ema"] < 10 for line in validation)
    assert any((tmp_path / "tensorboard").iterdir())


def test_resuming_does_not_repeat_log_lines(tmp_path, dataset):
    stop_at(make_trainer(tmp_path, dataset), 7)  # logged up to step 6, saved up to step 4
    make_trainer(tmp_path, dataset).fit()
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl") if "train/loss" in line]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_validation_is_the_same_whenever_it_is_asked(tmp_path, dataset):
    trainer = make_trainer(tmp_path, dataset)
    first = trainer.validation.losses(trainer.state.objective)
    torch.manual_seed(99)
    assert trainer.validation.losses(trainer.state.objective) == first
    assert trainer.state.policy.training


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_ends_the_run(tmp_path, dataset, number):
    trainer = make_trainer(tmp_path, dataset, checkpoint_every=0)
    original = trainer._step

    def stepping(batches):
        original(batches)
        if trainer.state.step == 5:
            os.kill(os.getpid(), number)

    trainer._step = stepping
    assert trainer.fit() == signal.Signals(number).name
    assert [path.name for path in checkpoints_of(tmp_path)] == ["00000005"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, dataset
):
    trainer = make_trainer(tmp_path, dataset, log_every=100)
    objective = trainer.objective

    def turning_bad(batch, **given):
        return Loss(objective(batch, **given).total * (math.nan if given["step"] == 6 else 1))

    trainer.objective = turning_bad
    with pytest.raises(TrainingDivergedError, match=r"loss of step 7 is not a number"):
        trainer.fit()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["00000004"]
    weights = load_policy(tmp_path).state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_the_number_of_threads_can_be_fixed(tmp_path, dataset):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        trainer = make_trainer(tmp_path, dataset, steps=1, threads=1)
        objective, within = trainer.objective, []

        def noting(batch, **given):
            within.append(torch.get_num_threads())
            return objective(batch, **given)

        trainer.objective = noting
        trainer.fit()
        assert within == [1]
    finally:
        torch.set_num_threads(before)


def test_trying_out_threads_does_not_change_the_run(tmp_path, dataset, capsys):
    before = torch.get_num_threads()
    try:
        for name, threads in (("fixed", 1), ("tried", None)):
            torch.set_num_threads(2)
            options = {"steps": 2, "deterministic": False, "threads": threads}
            make_trainer(tmp_path / name, dataset, **options).fit()
    finally:
        torch.set_num_threads(before)
    assert "threads: " in capsys.readouterr().out
    fixed, tried = tensors_of(tmp_path / "fixed"), tensors_of(tmp_path / "tried")
    assert all(torch.allclose(fixed[name], tried[name], atol=1e-5) for name in fixed)


def test_learning_rate_warms_up_and_follows_half_a_cosine():
    config = TrainConfig(steps=1500, warmup_steps=500, learning_rate=1e-4)
    expected = {0: 0.0, 250: 0.5e-4, 500: 1e-4, 1000: 0.5e-4, 1500: 0.0}
    for step, value in expected.items():
        assert learning_rate(step, config) == pytest.approx(value, abs=1e-12)


def test_bf16_autocast_trains(tmp_path, dataset):
    trainer = make_trainer(tmp_path, dataset, amp=True, steps=4)
    trainer.fit()
    plain = make_trainer(tmp_path / "plain", dataset, steps=4)
    plain.fit()
    logged = [read_log(p / "log.jsonl")[0]["train/loss"] for p in (tmp_path, tmp_path / "plain")]
    assert logged[0] != logged[1]
    assert logged[0] == pytest.approx(logged[1], rel=0.05)
    assert trainer.state.policy.head.denoiser.final[1].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("has", "times", "wanted"), [(True, 2.0, True), (True, 0.5, False), (False, 2.0, False)]
)
def test_bf16_is_chosen_where_it_is_faster(tmp_path, dataset, monkeypatch, has, times, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    monkeypatch.setattr(precision, "_times_faster", lambda: times)
    assert make_trainer(tmp_path, dataset, amp=None).updates.amp is wanted
    assert make_trainer(tmp_path, dataset, amp=True).updates.amp
    assert not make_trainer(tmp_path, dataset, amp=False).updates.amp
    said = [precision_note(amp, torch.device("cpu")) for amp in (None, True, False)]
    assert ("fp32" in said[0]) is not wanted
    assert ("train.amp=false" in said[1]) is not has
    assert said[2] == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stesp": 3}, r"no train.stesp, did you mean 'steps'"),
        ({"steps": 0}, r"train.steps is 0"),
        ({"learning_rate": -1}, r"train.learning_rate is -1"),
        ({"log_every": 0}, r"train.log_every is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict({**SETTINGS, **values})


def test_a_checkpoint_of_another_policy_is_refused(tmp_path, dataset):
    make_trainer(tmp_path, dataset, steps=1).fit()
    other = make_trainer(tmp_path / "other", dataset)
    other.state.policy.head.denoiser.final[1] = torch.nn.Linear(3, 3)
    with pytest.raises(CheckpointError, match="is of another policy"):
        other.state.load(checkpoints_of(tmp_path)[-1])


def test_the_best_mark_is_replaced_in_one_step(tmp_path):
    mark_best(tmp_path, Path("checkpoints/00000004"), 0.5, {"episodes": 50})
    mark_best(tmp_path, Path("checkpoints/00000008"), 0.7, {"episodes": 50})
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "checkpoint": "00000008",
        "score": 0.7,
        "episodes": 50,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]


def test_the_optimiser_goes_on_alike_where_weights_lie_otherwise_in_memory():
    """Fused updates read parameter and state in the order of memory."""
    config = TrainConfig(steps=4, warmup_steps=0)

    def updated(through_a_file: bool) -> torch.Tensor:
        torch.manual_seed(0)
        conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = make_optimizer(conv, config)
        for step in range(2):
            if step and through_a_file:
                saved = {k: v.contiguous() for k, v in optimizer_tensors(optimizer, conv).items()}
                optimizer = make_optimizer(conv, config)
                load_optimizer_tensors(optimizer, conv, saved)
            conv(torch.rand(2, 3, 5, 5)).square().mean().backward()
            optimizer.step()
        return conv.weight.detach()

    assert torch.equal(updated(True), updated(False))


def test_how_much_faster_bf16_is_is_the_ratio_of_the_times_that_were_measured(monkeypatch):
    seconds = {torch.float32: 3.0, torch.bfloat16: 1.5}
    monkeypatch.setattr(precision, "_timed", lambda _work, left, _right: seconds[left.dtype])
    precision._times_faster.cache_clear()
    assert precision._times_faster() == 2.0
    precision._times_faster.cache_clear()

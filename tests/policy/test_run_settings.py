"""What a run measures of its steps, and what it leaves behind in the process."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, write_dataset

from dipole.data import ConfigError
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.core.threads import Threads
from dipole.policy.heads.base import Loss
from dipole.policy.training import TrainConfig, TrainingDivergedError
from dipole.policy.training.hardware.process_settings import process_settings
from dipole.policy.training.hardware.thread_tuner import ThreadTuner
from dipole.policy.training.output import summary
from dipole.policy.training.output.logs import read_log


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("periods", [{"evaluate_every": 3}, {"evaluate_every": 4}])
def test_a_step_takes_as_long_as_it_computes_whatever_happens_between_steps(
    tmp_path, dataset, periods, monkeypatch
):
    """A step takes 10 ms, a batch 2 ms of it; validation and evaluation take minutes."""
    clock = Clock()
    trainer = make_trainer(tmp_path, dataset, log_every=4, checkpoint_every=0, **periods)
    trainer.meter.clock = clock
    objective, validate = trainer.objective, trainer.validation.losses

    def computing(batch, **given):
        clock.now += 0.008
        return objective(batch, **given)

    def validating(*given):
        clock.now += 60
        return validate(*given)

    def evaluate(_policy):
        clock.now += 600
        return {"score": 0.0}

    batches = trainer.loader.batches

    def waiting(start):
        for batch in batches(start):
            clock.now += 0.002
            yield batch

    trainer.objective, trainer.evaluate = computing, evaluate
    trainer.validation.losses = validating
    monkeypatch.setattr(trainer.loader, "batches", waiting)
    asked = []
    monkeypatch.setattr(ThreadTuner, "has_changed", lambda self, s: bool(asked.append(s)))
    trainer.fit()
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "time/compute_ms" in line]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert [line["time/compute_ms"] for line in lines] == pytest.approx([8, 8, 8])
    assert [line["time/data_ms"] for line in lines] == pytest.approx([2, 2, 2])
    assert asked == pytest.approx([0.008, 0.008])


@pytest.mark.parametrize("options", [{"deterministic": True}, {"threads": 2}])
def test_an_evaluation_between_steps_has_all_cores(tmp_path, dataset, two_cores, options):
    trainer = make_trainer(tmp_path, dataset, steps=4, evaluate_every=2, **options)
    step, threads = trainer._step, {"step": [], "evaluation": []}

    def stepping(batches):
        threads["step"].append(torch.get_num_threads())
        step(batches)

    def evaluate(_policy):
        threads["evaluation"].append(torch.get_num_threads())
        return {"score": 0.0}

    trainer._step, trainer.evaluate = stepping, evaluate
    trainer.fit()
    assert threads == {"step": [1] * 4, "evaluation": [2, 2]}  # rows are divided, on a core each


def test_a_run_leaves_the_process_as_it_was(tmp_path, dataset, two_cores, monkeypatch):
    def settings():
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
        )

    def choose(self):
        torch.set_num_threads(1)
        return Threads(1)

    monkeypatch.setattr(ThreadTuner, "choose", choose)
    before, within = settings(), []
    trainer = make_trainer(tmp_path, dataset, steps=1)
    objective = trainer.objective
    trainer.objective = lambda batch, **given: (
        within.append(settings()) or objective(batch, **given)
    )
    trainer.fit()
    assert within[0][:2] == (1, True)
    assert settings() == before


def test_products_on_a_gpu_are_tf32_while_a_run_lasts_and_on_a_processor_what_they_were():
    precision = torch.get_float32_matmul_precision
    before = precision(), torch.backends.cudnn.allow_tf32
    for wanted, convolutions in (("high", True), ("highest", False)):
        with process_settings(False, wanted, torch.device("cuda")):
            assert (precision(), torch.backends.cudnn.allow_tf32) == (wanted, convolutions)
        assert (precision(), torch.backends.cudnn.allow_tf32) == before
    with process_settings(False, "medium", torch.device("cpu")):
        assert precision() == before[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"matmul_precision": "hihg"}, r"train.matmul_precision is 'hihg', did you mean 'high'"),
        ({"ema": {"powr": 0.5}}, r"there is no train.ema.powr, did you mean 'power'"),
        ({"validation_windows": 0}, r"train.validation_windows is 0"),
    ],
)
def test_settings_that_cannot_work_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def bad_gradient(trainer, at_step):
    """A loss that is finite, and whose gradient is not, in one step."""
    objective = trainer.objective
    parameter = next(trainer.state.policy.parameters())

    def turning_bad(batch, **given):
        loss = objective(batch, **given)
        if given["step"] + 1 != at_step:
            return loss
        return Loss(loss.total + (0 * parameter.sum()).abs().sqrt())  # the slope of a root at 0

    trainer.objective = turning_bad


@pytest.mark.parametrize(
    ("at_step", "options", "message"),
    [
        (6, {"log_every": 2}, r"the gradient's norm of step 6 is not a number"),
        (7, {"log_every": 100, "grad_clip": 1.0}, r"the gradient's norm of step 7 is not a number"),
        (12, {"log_every": 100}, r"the gradient's norm of step 12 is not a number"),
        (8, {"log_every": 100}, r"the gradient's norm of step 8 is not a number"),
    ],
)
def test_a_gradient_that_is_not_a_number_stops_the_run_before_it_is_saved(
    tmp_path, dataset, at_step, options, message
):
    trainer = make_trainer(tmp_path, dataset, keep_checkpoints=9, **options)
    bad_gradient(trainer, at_step)
    remedy = r".*checkpoints are from before it.*go on .*resume=\S+ train.learning_rate="
    with pytest.raises(TrainingDivergedError, match=message + remedy):
        trainer.fit()
    saved = [int(path.name) for path in checkpoints_of(tmp_path)]
    assert saved == [step for step in (4, 8) if step < at_step]


def test_a_run_that_diverges_before_its_first_checkpoint_names_none(tmp_path, dataset):
    trainer = make_trainer(tmp_path, dataset, log_every=2)
    bad_gradient(trainer, 2)
    with pytest.raises(TrainingDivergedError) as raised:
        trainer.fit()
    assert "there is no checkpoint yet" in str(raised.value)
    again = f"dipole train resume={tmp_path} train.learning_rate="
    assert f"begin again in another output, or in this one with: {again}" in str(raised.value)
    assert str(tmp_path / "checkpoints") not in str(raised.value)


def test_weights_that_are_not_numbers_are_not_saved(tmp_path, dataset):
    """However it came to that: here in a step whose gradient nobody looked at, of a parameter on
    which no loss depends."""
    trainer = make_trainer(tmp_path, dataset, log_every=100, validate_every=0)
    step = trainer._step

    def stepping(batches):
        step(batches)
        if trainer.state.step == 5:
            with torch.no_grad():
                trainer.state.policy.idle.fill_(torch.nan)

    trainer.state.policy.register_parameter("idle", torch.nn.Parameter(torch.zeros(2)))
    trainer.state.ema.model.register_parameter("idle", torch.nn.Parameter(torch.zeros(2)))
    trainer._step = stepping
    with pytest.raises(TrainingDivergedError, match="after step 8 the weights are not all numbers"):
        trainer.fit()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["00000004"]


def test_the_gradients_norm_is_logged(tmp_path, dataset):
    make_trainer(tmp_path, dataset, steps=4).fit()
    lines = read_log(tmp_path / "log.jsonl")
    assert all(line["train/gradient_norm"] > 0 for line in lines if "train/loss" in line)


def test_a_run_that_never_leaves_the_warm_up_says_so():
    assert "give train.warmup_steps=40" in summary._warmup(TrainConfig(steps=400))[0]
    assert summary._warmup(TrainConfig(steps=400, warmup_steps=40)) == []

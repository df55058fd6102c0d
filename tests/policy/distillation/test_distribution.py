"""Methods with helpers of their own: GAN, adversarial, distribution matching, progressive."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from student_runs import files, student, teacher_run, weights_of
from training_fixture import stop_at, write_dataset

from dipole.data import ConfigError
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.training.objectives.distillation.steps import clean_towards, moved

NARROW = {"width": 8}
METHODS = {
    "gan": {"discriminator": NARROW},
    "adversarial": {"discriminator": {**NARROW, "updates": 2}},
    "distribution_matching": {"ode_steps": 2, "score_updates": 2},
    "progressive": {"stages": [4, 2, 1], "adversarial_from": 1, "discriminator": NARROW},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    dataset = write_dataset(folder / "data.zarr")
    return dataset, teacher_run(folder / "teacher", dataset)


@pytest.fixture
def build(runs, tmp_path):
    def built(method, name="run", **changes):
        return student(tmp_path / name, *runs, method, **{**METHODS[method], **changes})

    return built


@pytest.mark.heavy
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_run_that_broke_off_goes_on_bit_for_bit(build, method):
    whole = build(method, "whole")
    whole.fit()
    stop_at(build(method, "broken"), 4)  # where progressive is in its second stage
    resumed = build(method, "broken")
    assert resumed.state.step == 4
    resumed.fit()
    one, other = weights_of(whole), weights_of(resumed)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_update_trains_its_own_network_alone(build, method):
    trainer = build(method)
    objective = trainer.state.objective
    if method == "progressive":
        objective.stage += 1  # with the discriminator
    for update, groups in objective.parameter_groups().items():
        own = {p for group in groups for p in group.parameters}
        with trainer.updates._others_fixed(update):
            loss = objective(objective.fake_batch(4), update=update, step=0)
            loss.total.backward()
        found = {p for p in objective.parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert found
        assert found <= own
        objective.zero_grad()


@pytest.mark.heavy
@pytest.mark.parametrize("process", ["vp", "edm"])
def test_each_noise_process_will_do(runs, tmp_path, process):
    dataset, _ = runs
    teacher = teacher_run(tmp_path / "teacher", dataset, process)
    for method, options in METHODS.items():
        run = tmp_path / method
        trainer = student(run, dataset, teacher, method, steps=3, process=process, **options)
        trainer.fit()  # raises where a loss or a gradient is not finite
        assert trainer.state.step == 3


@pytest.mark.heavy
def test_the_teacher_is_not_saved_and_the_helpers_are(build):
    trainer = build("distribution_matching", steps=2)
    trainer.fit()
    kept = files(trainer.run)
    assert {"helpers.safetensors", "training.score.safetensors"} <= kept
    assert not any("teacher" in name for name in kept)


def test_no_slope_where_the_students_score_is_the_teachers(build):
    objective = build("distribution_matching").state.objective
    given = objective.given(objective.fake_batch(4))
    assert torch.equal(objective._slope(torch.rand(4, 8, 2), given), torch.zeros(4, 8, 2))


def test_the_slope_leads_from_the_students_chunks_to_the_teachers(build, monkeypatch):
    objective = build("distribution_matching", normalized=True).state.objective

    def always(value):
        def estimate_at(x, *_):
            return Estimate(torch.full_like(x, value), x)

        return estimate_at

    monkeypatch.setattr(objective.score, "estimate_at", always(0.2))
    monkeypatch.setattr(objective.teacher_head, "estimate_at", always(0.5))
    given = objective.given(objective.fake_batch(4))
    slope = objective._slope(torch.full((4, 8, 2), 0.1), given)
    assert torch.allclose(slope, torch.tensor((0.2 - 0.5) / (0.5 - 0.1)))  # downhill is upwards
    objective.normalized = False
    slope = objective._slope(torch.full((4, 8, 2), 0.1), given)
    assert torch.allclose(slope, torch.tensor(0.2 - 0.5))


def test_the_regression_ends_where_it_is_said(build):
    objective = build("distribution_matching", regression=2.0, regression_until=0.5).state.objective
    objective.total_steps = 8
    assert [objective.regression_weight(step) for step in (0, 2, 4, 7)] == [2.0, 1.0, 0.0, 0.0]
    losses = [objective(objective.fake_batch(2), step=step).parts for step in (0, 4)]
    assert [set(parts) for parts in losses] == [{"matching", "regression"}, {"matching"}]


def test_the_regression_is_to_where_the_teachers_ode_leads_some_of_the_rows(build, monkeypatch):
    objective = build("distribution_matching", regression_rows=0.25).state.objective
    objective.total_steps, rows = 8, []

    def ended(noise, given):
        rows.append((len(noise), given.of_teacher.rows))
        return torch.zeros_like(noise)

    monkeypatch.setattr(objective, "_ode_end", ended)
    torch.manual_seed(0)
    objective(objective.fake_batch(8))
    assert rows == [(2, 2)]
    with pytest.raises(ConfigError, match="regression_rows is 0: a part of a batch"):
        build("distribution_matching", "other", regression_rows=0)


def test_one_step_towards_the_found_clean_chunk_ends_where_the_teacher_did():
    rows = torch.tensor([1.0, 0.6])
    level, after = Level(rows, 1 - rows, rows), Level(rows / 3, 1 - rows / 3, rows / 3)
    x, ended = torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    clean = clean_towards(ended, x, level, after)
    assert torch.allclose(moved(Estimate(clean, x), x, level, after), ended, atol=1e-5)


def test_of_a_straight_path_the_found_clean_chunk_is_its_end():
    rows, chunk, noise = torch.tensor([1.0, 0.6]), torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    level, after = Level(rows, 1 - rows, rows), Level(rows / 3, 1 - rows / 3, rows / 3)
    x, ended = (each.over(chunk).mix(chunk, noise) for each in (level, after))
    assert torch.allclose(clean_towards(ended, x, level, after), chunk, atol=1e-5)


def test_stages_follow_each_other_and_each_begins_with_the_student_as_it_was(build):
    objective = build("progressive", stages=[8, 4, 2, 1], shares=[1, 1, 2]).state.objective
    objective.total_steps = 8
    seen = []
    for step in range(8):
        objective.begin_step(step)
        objective.begin_step(step)  # as where a run is resumed
        strides = objective.stages.teacher_strides(int(objective.stage))
        seen.append((objective.student_steps, strides))
    assert seen == [(4, 2)] * 2 + [(2, 2)] * 2 + [(1, 2)] * 4
    averaged = objective.average("policy").head.state_dict()
    teacher = objective.stage_teacher.state_dict()
    assert all(torch.equal(averaged[name], teacher[name]) for name in teacher)


def test_the_discriminator_takes_part_in_the_last_stages_alone(build):
    objective = build("progressive").state.objective
    assert objective.updates(0) == ("policy",)
    objective.stage += 1
    assert objective.updates(3) == ("discriminator", "policy")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stages": [16, 6, 1]}, r"stages is \[16, 6, 1\].*divides the one before"),
        ({"stages": [4]}, "two or more numbers"),
        ({"shares": [1, 1, 1]}, r"shares is \[1, 1, 1\]: 2 positive numbers"),
    ],
)
def test_impossible_stages_are_refused(build, options, said):
    with pytest.raises(ConfigError, match=said):
        build("progressive", **options)


@pytest.mark.heavy
def test_a_repeated_update_draws_noise_of_its_own(build, monkeypatch):
    trainer = build("adversarial", steps=1)
    objective, drawn = trainer.state.objective, []
    original = objective.discriminator.forward

    def forward(chunk, *rest):
        drawn.append(chunk.detach().clone())
        return original(chunk, *rest)

    monkeypatch.setattr(objective.discriminator, "forward", forward)
    trainer.fit()
    real, fake = drawn[0:4:2], drawn[1:4:2]  # of the two updates of the discriminator
    assert torch.equal(*real)
    assert (fake[0] - fake[1]).abs().mean() > 1e-2

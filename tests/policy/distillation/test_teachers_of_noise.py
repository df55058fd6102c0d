"""Teachers that predict noise, as vp's do by default: what is made of them for one jump."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import MIXTURE, batch_of, drawn, method, policy_of, train

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.predictions import Estimate, NoisePrediction
from dipole.policy.training.objectives.distillation.base import distilling_methods
from dipole.policy.training.objectives.distillation.methods.adversarial import noised_level

TEACHER = {
    "denoiser": {"name": "dit"},
    "process": {"name": "vp"},
    "prediction": None,
    "head": {"name": "diffusion"},
    "guidance": None,
}
OF_V = [name for name in distilling_methods() if name != "regression"]
WITHOUT = ("consistency_training", "gan", "meanflow", "shortcut")


@pytest.mark.parametrize("name", OF_V)
def test_no_student_predicts_noise(name, tmp_path):
    kind = OBJECTIVES[name]
    for prediction in (None, "noise", {"name": "noise"}):
        teacher = {**TEACHER, "prediction": prediction}
        made = kind.student(teacher, {})
        head = policy_of(kind, "vp", prediction=prediction).head
        assert not isinstance(head.prediction, NoisePrediction)
        said = " ".join(kind.notes(teacher, made, tmp_path))
        assert ("learns v. It begins" in said) == (name not in WITHOUT)
    sample = {**TEACHER, "prediction": {"name": "sample"}}
    said = " ".join(kind.notes(sample, kind.student(sample, {}), tmp_path))
    assert "learns v." not in said


def test_what_says_nothing_of_its_prediction_keeps_it():
    for prediction in ({"name": "sample"}, {"name": "v"}, {"name": "edm"}):
        teacher = {**TEACHER, "prediction": prediction}
        assert OBJECTIVES["consistency"].student(teacher, {})["prediction"] == prediction
    flow = {**TEACHER, "process": {"name": "flow"}}
    assert OBJECTIVES["consistency"].student(flow, {})["prediction"] is None


def of_noise(x, level, *_):
    """A network's noise for the mixture with an error of 0.01, which is no error to speak of."""
    over = level.over(x)
    noise = MIXTURE.estimate(x, over).noise + 0.01 * torch.randn_like(x)
    return Estimate((x - over.noise * noise) / over.signal.clamp(min=1e-4), noise)


@pytest.fixture
def made(request):
    torch.manual_seed(0)
    found = method(OBJECTIVES[request.param], "vp")
    assert isinstance(found.teacher_head.prediction, NoisePrediction)
    found.teacher_head.estimate_at = of_noise
    return found


def at_most_noise(made, rows):
    given, index = made.given(batch_of(made, rows)), torch.zeros(rows, dtype=torch.long)
    level = made.grid.at(index)
    return given, index, level.over(given.clean).mix(given.clean, torch.randn_like(given.clean))


@pytest.mark.parametrize("made", ["progressive"], indirect=True)
def test_the_first_stage_of_progressive_takes_clipped_steps_of_the_teacher(made):
    given, index, x = at_most_noise(made, 64)
    torch.manual_seed(1)
    found = made.teacher_end(x, index, index + 2, given)
    torch.manual_seed(1)
    wanted = x
    for number in (0, 1):
        here, there = (made.grid.at(index + number + more) for more in (0, 1))
        wanted = made.teacher_step(wanted, here, there, given)
    assert torch.equal(found, wanted)
    assert float(found.square().mean().sqrt()) < 1.5


def test_later_stages_of_progressive_have_the_student_s_prediction():
    made = method(OBJECTIVES["progressive"], "vp", stages=[4, 2, 1])
    made.total_steps = 2
    made.begin_step(1)
    given, _, x = at_most_noise(made, 3)
    level = made.grid.at(torch.zeros(3, dtype=torch.long))
    said = made._stage_estimator(given)(x, level).clean
    averaged = made.average("policy").head
    assert torch.allclose(said, averaged.estimate_at(x, level, given.context).clean)
    assert float(said.detach().abs().max()) < 10  # v read as noise would be of thousands


@pytest.mark.parametrize("made", ["distribution_matching"], indirect=True)
@pytest.mark.parametrize("normalized", [False, True])
def test_scores_of_equal_quality_have_no_slope_that_is_large_at_the_most_noise(made, normalized):
    assert isinstance(made.score.prediction, NoisePrediction)  # it begins as the teacher
    made.score.estimate_at, made.normalized = of_noise, normalized
    rows = 2000
    given = made.given(batch_of(made, rows))
    chunk = MIXTURE.sample(rows).view(rows, 4, 2)
    torch.manual_seed(2)
    times = noised_level(made, rows, torch.device("cpu")).time
    torch.manual_seed(2)
    slope = made._slope(chunk, given).square().mean((1, 2))
    assert slope[times >= 95].sum() < slope.sum() / 2


@pytest.mark.parametrize("made", ["adversarial"], indirect=True)
def test_a_teacher_s_chunk_of_a_student_s_is_clipped(made):
    chunk = MIXTURE.sample(500).view(500, 4, 2)
    wanted, _ = made._taught(chunk, made.given(batch_of(made, 500)))
    assert float(wanted.abs().max()) <= 1


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["consistency", "progressive", "distribution_matching"])
def test_a_student_of_such_a_teacher_does_not_end_at_the_clip(name):
    made = method(OBJECTIVES[name], "vp")
    trained(made.teacher_head, made, 80)
    made.policy.head.load_state_dict(made.teacher_head.state_dict())
    train(made, 80, rows=32)
    assert float((drawn(made, 64).abs() > 0.999).float().mean()) < 0.5


def trained(head, made, steps):
    """A teacher of the mixture."""
    optimizer = torch.optim.Adam(head.requires_grad_(True).parameters(), 2e-3)
    for _ in range(steps):
        given = made.given(batch_of(made, 32))
        optimizer.zero_grad()
        head.loss(given.chunks, given.context).total.backward()
        optimizer.step()
    head.requires_grad_(False)

"""One evaluation for any scale of guidance: the guided step, and what the student makes of it."""

import sys
from itertools import cycle
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, method, mixture_of, train

from dipole.data import ConfigError
from dipole.policy.training.objectives.distillation.methods.lcm import LatentConsistency

GUIDED = {"guidance": {"dropout": 0.1}}


@pytest.mark.parametrize("prediction", ["sample", "velocity", "noise"])
def test_the_guided_step_takes_its_noise_from_the_clean_chunk(prediction):
    changes = {**GUIDED, "prediction": prediction, "head": {"name": "diffusion"}}
    made = method(LatentConsistency, student=changes)
    with torch.no_grad():
        for parameter in made.teacher_policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch, index = batch_of(made, 6), torch.tensor([10, 30, 50, 70, 90, 95])
    given = made.given(batch | {"observation": {"x": torch.randn(6, 2, 3)}})
    level, after = made.grid.at(index), made.grid.at(index + 5)
    x, scale = torch.randn(6, 4, 2), torch.linspace(1, 4, 6)
    found = made.step_by(made.teacher_estimator(given, scale), x, level, after)
    contexts = (given.of_teacher, given.unconditional)
    with torch.no_grad():
        one, other = (made.teacher_head.estimate_at(x, level, c).clean for c in contexts)
    clean = (other + scale.view(-1, 1, 1) * (one - other)).clamp(-1, 1)
    here, there = level.over(x), after.over(x)
    noise = (x - here.signal * clean) / here.noise
    assert torch.allclose(found, there.mix(clean, noise), atol=1e-4)
    assert not torch.allclose(one, other, atol=1e-4)


def test_an_unguided_teacher_gives_a_scale_of_one_and_a_note():
    made = method(LatentConsistency)
    assert made.scales == (1.0, 1.0)
    assert torch.isfinite(made(batch_of(made)).total)
    notes = LatentConsistency.notes({"guidance": None}, {}, Path("run"))
    assert "guidance_scale=1 alone" in next(notes)
    assert not list(LatentConsistency.notes(GUIDED, GUIDED, Path("run")))


def test_unusable_scales_are_refused():
    with pytest.raises(ConfigError, match="w_min is 3 and w_max 2"):
        method(LatentConsistency, w_min=3, w_max=2)


@pytest.mark.heavy
def test_a_higher_scale_makes_more_chunks_what_the_observation_asks_for():
    """Of all chunks 0.5 are right, of those observed 0.7: guidance keeps to these."""
    made = method(LatentConsistency, student=GUIDED, levels=40, skip=2)
    asked, any_of_them = mixture_of(0.3, 0.7), mixture_of(0.5, 0.5)
    turns = cycle((asked, any_of_them))
    made.teacher_head.estimate_at = lambda x, level, _: next(turns).estimate(x, level.over(x))
    train(made, 500, mixture=asked)
    policy, seen = made.policy.eval(), {"x": torch.zeros(512, 2, 3)}

    def compliance(scale):
        draw = torch.Generator().manual_seed(0)
        chunks = policy.predict(seen, draw, guidance_scale=scale)
        return float((chunks.mean((1, 2)) > 0).float().mean())

    low, high = compliance(1.0), compliance(4.0)
    assert low == pytest.approx(0.7, abs=0.1)
    assert high > low + 0.1

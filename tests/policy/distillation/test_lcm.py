"""One evaluation for any scale of guidance: the guided step, and what the student makes of it."""

import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import batch_of, method, mixture_of, train

from dipole.data import ConfigError
from dipole.policy.training.objectives.distillation.methods.lcm import LatentConsistency

GUIDED = {"guidance": {"dropout": 0.1}}
HEAD = {"head": {"name": "diffusion"}}


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
    notes = LatentConsistency.notes({**HEAD, "guidance": None}, HEAD, Path("run"))
    assert "guidance_scale=1 alone" in next(notes)
    assert not list(LatentConsistency.notes({**HEAD, **GUIDED}, GUIDED, Path("run")))


def test_unusable_scales_are_refused():
    with pytest.raises(ConfigError, match="w_min is 3 and w_max 2"):
        method(LatentConsistency, w_min=3, w_max=2)


def test_a_scale_of_0_is_told_as_any_other_in_the_policy_and_in_exports():
    made = method(LatentConsistency, student=GUIDED, w_min=0.0)
    policy, seen = made.policy.eval(), {"x": torch.randn(8, 2, 3)}
    policy.guidance = replace(policy.guidance, scales=(0.0, 4.0))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    def chunk(scale):
        return policy.predict(seen, torch.Generator().manual_seed(0), guidance_scale=scale)

    none = chunk(0.0)
    assert torch.allclose(none, chunk(1e-6), atol=1e-4)
    assert not torch.allclose(none, chunk(1.0), atol=1e-3)
    policy.guidance_scale = 0.0
    policy.build_in_guidance()
    assert policy.head.told_scale == 0.0
    with torch.no_grad():
        assert torch.equal(policy.guided_context(seen).vector, policy.encode(seen).vector)


def test_a_scale_that_the_network_was_not_trained_with_is_refused(tmp_path):
    policy = method(LatentConsistency, student=GUIDED).policy
    with pytest.raises(ConfigError, match=r"scale is 5: .* was trained with 1 to 4 \(method.w_min"):
        policy.guidance_scale = 5.0
    teacher = {"head": {"name": "diffusion"}, "guidance": {"dropout": 0.1, "scale": 1.0}}
    made = LatentConsistency.student(teacher, {"w_min": 3.0, "w_max": 15.0})
    assert made["guidance"] == {"dropout": 0.1, "scale": 3.0, "scales": [3.0, 15.0]}
    said = " ".join(LatentConsistency.notes(teacher, made, tmp_path))
    assert "guidance_scale, 1, is not within method.w_min and w_max: the student's is 3" in said


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

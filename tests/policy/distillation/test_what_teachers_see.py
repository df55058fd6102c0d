"""What a teacher is given: its own encoder's context, and its own guidance."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import toy_fixture
from toy_fixture import NETWORK, batch_of, method

from dipole.data import Feature, Features
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.training.objectives.distillation.base import distilling_methods
from dipole.policy.training.objectives.distillation.pairs import ode_solver

TEXT = {"name": "words", "dim": 8, "n_buckets": 64}
ENCODER = {"name": "join", "parts": {"state": {"name": "state"}, "text": TEXT}}
GUIDED = {"guidance": {"dropout": 0.1, "scale": 3.0}}
TEACHER = {
    "denoiser": NETWORK,
    "process": {"name": "flow"},
    "prediction": None,
    "head": {"name": "diffusion"},
    "guidance": GUIDED["guidance"],
}


@pytest.fixture
def words(monkeypatch):
    """An encoder with weights."""
    task = Feature((16,), kind="text")
    features = Features({"x": Feature((3,)), "task": task}, Feature((2,), kind="action"))
    monkeypatch.setattr(toy_fixture, "FEATURES", features)


def with_words(name, **options):
    made = method(OBJECTIVES[name], student={"encoder": ENCODER}, **options)
    disturb(made.teacher_policy)
    return made


def disturb(module, by=0.3):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))


def stepped(made, batch, rows):
    index = torch.zeros(rows, dtype=torch.long)
    level, after = made.grid.at(index), made.grid.at(index + 1)
    torch.manual_seed(5)
    return made.teacher_step(torch.randn(rows, 4, 2), level, after, made.given(batch))


@pytest.mark.parametrize("trained", [False, True])
def test_a_teacher_does_not_see_how_the_student_s_encoder_changes(words, trained):
    made = with_words("consistency", train_encoder=trained)
    batch = made.fake_batch(8)
    before = stepped(made, batch, 8)
    disturb(made.policy.encoder)
    assert torch.equal(stepped(made, batch, 8), before) == trained


@pytest.mark.parametrize(
    ("name", "options"), [("progressive", {}), ("adversarial", {}), ("distribution_matching", {})]
)
def test_nor_do_the_teachers_of_other_methods(words, name, options):
    made = with_words(name, train_encoder=True, **options)
    batch, x = made.fake_batch(6), torch.randn(6, 4, 2)

    def said():
        torch.manual_seed(2)
        given = made.given(batch)
        if name == "progressive":
            return made.teacher_end(x, *torch.tensor([[0] * 6, [2] * 6]), given)
        return made._taught(x, given)[0] if name == "adversarial" else made._slope(x, given)

    before = said()
    disturb(made.policy.encoder)
    assert torch.equal(said(), before)


def test_pairs_are_of_the_teacher_s_encoder_and_learned_given_the_student_s(words):
    torch.manual_seed(0)
    made = with_words("reflow", train_encoder=True, pool=0, steps=2)
    batch = made.fake_batch(4)
    torch.manual_seed(3)
    before = made.pairs(batch)
    disturb(made.policy.encoder)
    torch.manual_seed(3)
    after = made.pairs(batch)
    assert torch.equal(before.chunk, after.chunk)
    assert not torch.equal(before.context.vector, after.context.vector)
    assert after.context.vector.requires_grad


def test_a_discriminator_does_not_train_the_encoder(words, monkeypatch):
    options = {"stages": [2, 1], "adversarial_from": 1}
    made = with_words("progressive", train_encoder=True, **options)
    module, seen = sys.modules[type(made).__module__], []
    judged = module.judged
    monkeypatch.setattr(module, "judged", lambda d, c, *rest: seen.append(c) or judged(d, c, *rest))
    made(made.fake_batch(4))
    assert not seen[0].vector.requires_grad


@pytest.mark.parametrize("name", distilling_methods())
def test_a_student_is_guided_no_further_unless_it_learns_the_scale(name, tmp_path):
    kind = OBJECTIVES[name]
    made = kind.student(TEACHER, {})
    said = " ".join(kind.notes(TEACHER, made, tmp_path))
    if name == "lcm":
        assert made["guidance"]["scale"] == 3.0
        assert "without a second evaluation" not in said
        return
    assert made["guidance"] is None
    wanted = "at guidance_scale=3, without" if kind.needs_teacher else "learns no guidance"
    assert wanted in said
    unguided = {**TEACHER, "guidance": None}
    assert "guidance" not in " ".join(kind.notes(unguided, kind.student(unguided, {}), tmp_path))


def test_steps_of_a_guided_teacher_are_guided():
    made = method(OBJECTIVES["consistency"], student=GUIDED)
    disturb(made.teacher_policy)
    batch = batch_of(made, 6) | {"observation": {"x": torch.randn(6, 2, 3)}}
    given, index = made.given(batch), torch.tensor([0, 2, 4, 6, 8, 9])
    level, after = made.grid.at(index), made.grid.at(index + 1)
    x = torch.randn(6, 4, 2)
    with torch.no_grad():
        teacher = made.teacher_policy
        parts = teacher.contexts(batch)
        contexts = teacher.encoder.compose(parts), teacher.encoder.unconditional(parts)
        one, other = (made.teacher_head.estimate_at(x, level, c).clean for c in contexts)
    clean = (other + 3 * (one - other)).clamp(-1, 1)
    here, there = level.over(x), after.over(x)
    wanted = there.mix(clean, (x - here.signal * clean) / here.noise)
    assert torch.allclose(made.teacher_step(x, level, after, given), wanted, atol=1e-5)
    assert not torch.allclose(one, other, atol=1e-3)


def test_pairs_of_a_guided_teacher_are_guided():
    made = method(OBJECTIVES["reflow"], student=GUIDED, pool=0, steps=3)
    disturb(made.teacher_policy)
    batch = batch_of(made, 4) | {"observation": {"x": torch.randn(4, 2, 3)}}
    noise, chunk, _ = made.pairs(batch)
    solver = ode_solver(made.head.process, 3)
    seen = {"x": made.teacher_policy.numbers.robots_observation(batch["observation"])["x"]}
    found = made.teacher_policy.predict(seen, noise=noise, solver=solver)
    plain = made.teacher_policy.predict(seen, noise=noise, solver=solver, guidance_scale=1.0)
    assert torch.allclose(made.teacher_policy.normalize_action(found, seen), chunk, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_a_teacher_that_is_told_the_scale_is_told_its_own():
    head = {"name": "diffusion", "extra_inputs": ["guidance_scale"]}
    made = method(OBJECTIVES["consistency"], student=GUIDED, teacher={"head": head, **GUIDED})
    disturb(made.teacher_policy)
    given, index = made.given(batch_of(made, 4)), torch.arange(4)
    x, level = torch.randn(4, 4, 2), made.grid.at(index)
    with torch.no_grad():
        found = made.teacher_estimate(x, level, given).clean
        own, plain = (
            made.teacher_head.estimate_at(x, level, given.of_teacher, scale=scale).clean
            for scale in (3.0, 1.0)
        )
    assert torch.equal(found, own)
    assert not torch.allclose(found, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "update"),
    [
        ("adversarial", "policy"),
        ("distribution_matching", "policy"),
        ("distribution_matching", "score"),
    ],
)
def test_what_no_loss_teaches_the_student_is_not_passed_on(name, update, monkeypatch):
    """A number of the action that a dataset lacks: the student says anything of it."""
    made = method(OBJECTIVES[name])
    if name == "distribution_matching":
        disturb(made.score)  # it says what the teacher says
    batch, losses = batch_of(made, 8), []
    batch["action_is_missing"] = torch.tensor([[False, True]]).expand(8, 2)
    estimate_at = made.head.estimate_at
    for by in (0.0, 0.9):
        changed = torch.tensor([0.0, by])

        def changing(*given, changed=changed):
            found = estimate_at(*given)
            return type(found)(found.clean + changed, found.noise)

        monkeypatch.setattr(made.head, "estimate_at", changing)
        torch.manual_seed(2)
        losses.append(float(made(batch, update=update).total))
    assert losses[0] == losses[1] > 0


def test_mean_flows_are_validated_by_their_error():
    """In training each row is divided by its own error, which leaves 1 of any policy."""
    made = method(OBJECTIVES["meanflow"])
    batch = batch_of(made, 16)
    assert made(batch).total != made(batch).parts["square"]
    found = made.eval()(batch)
    assert found.total == found.parts["square"]

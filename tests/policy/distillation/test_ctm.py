"""Jumps from any level to any later one: identities, segments, and what is learned of them."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import MIXTURE, batch_of, drawn, method, policy_of, taught_by, train

from dipole.data import ConfigError
from dipole.policy.core.row_draws import first_rows
from dipole.policy.diffusion.denoising import next_x
from dipole.policy.diffusion.solvers import DDIM, table_of
from dipole.policy.training.objectives.distillation.methods.ctm import ConsistencyTrajectory
from dipole.policy.training.objectives.distillation.methods.segmented import SegmentedConsistency
from dipole.policy.training.objectives.distillation.steps import jump, ode_step

PROCESSES = pytest.mark.parametrize("process", ["vp", "flow", "edm"])


@PROCESSES
def test_a_jump_to_its_own_level_leaves_x_as_it_is_also_where_that_is_clean(process):
    made = method(ConsistencyTrajectory, process)
    index = torch.arange(made.grid.steps + 1)
    level, x = made.grid.at(index), torch.randn(len(index), 4, 2)
    seen = made.given(batch_of(made, len(index)))
    assert torch.allclose(jump(made.head, x, level, level, seen.context), x, atol=1e-5)
    estimate = made.teacher_estimator(seen)
    assert torch.equal(ode_step(estimate, x, level, level, 2)[-1], x[-1])


@PROCESSES
@pytest.mark.parametrize("kind", [ConsistencyTrajectory, SegmentedConsistency])
@pytest.mark.parametrize("order", [1, 2])
def test_losses_and_gradients_are_finite_in_every_process(process, kind, order):
    made = method(kind, process, order=order, teacher_steps=3)
    loss = made(batch_of(made, 32)).total
    loss.backward()
    grads = [each.grad for each in made.policy.head.parameters() if each.grad is not None]
    assert torch.isfinite(loss)
    assert all(bool(torch.isfinite(each).all()) for each in grads)


def test_students_jump_without_fresh_noise():
    head = policy_of(ConsistencyTrajectory).head
    assert head.solver.gamma == 0.0
    assert head.extra_inputs == ("target_time",)


def test_segments_become_fewer_and_stages_longer():
    made = method(SegmentedConsistency, levels=24)
    made.total_steps = 150
    assert [made.segments(step) for step in (0, 9, 10, 30, 70, 149)] == [8, 8, 4, 2, 1, 1]
    index = torch.tensor([0, 2, 3, 11, 12, 23])
    assert made.ends(index, 0).tolist() == [3, 3, 6, 12, 15, 24]
    assert made.ends(index, 10).tolist() == [6, 6, 6, 12, 18, 24]
    assert made.ends(index, 149).tolist() == [24] * 6


def test_a_single_segment_is_consistency_trajectory():
    one, other = method(SegmentedConsistency, levels=24), method(ConsistencyTrajectory, levels=24)
    one.total_steps = 4
    batch = batch_of(one, 64)
    losses = []
    for made in (one, other):
        torch.manual_seed(1)
        for parameter in made.target_head.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    for made, step in ((one, 3), (other, 0), (one, 0)):
        torch.manual_seed(2)
        losses.append(float(made(batch, step=step).total.detach()))
    assert losses[0] == losses[1] != losses[2]


def test_as_many_segments_as_levels_are_the_teacher_s_steps_of_ddim(monkeypatch):
    """Each row learns where one step of DDIM leads, from the level that it is at to the next."""
    made = method(SegmentedConsistency, levels=6, stages=[6, 1], denoising=0, metric="squared")
    made.total_steps, seen = 100, []
    teachers = made._teachers
    monkeypatch.setattr(
        made, "_teachers", lambda *of: seen.append((*of, teachers(*of))) or seen[-1][-1]
    )
    loss = made(batch_of(made, 32), step=0).total
    ((x, index, nearer, by, stepped),) = seen
    assert torch.equal(nearer, index + 1)
    table = table_of(DDIM(6, made.head.process.default_spacing), made.head.process)
    clean = made.teacher_estimator(by)(x, made.grid.at(index)).clean
    rows = zip((table[i] for i in index), x, clean, strict=True)
    expected = [
        next_x(step, [a], [b], [(a - step.level.signal * b) / step.level.noise], None)
        for step, a, b in rows
    ]
    torch.testing.assert_close(stepped, torch.stack(expected), atol=1e-5, rtol=1e-5)
    levels = made.grid.at(index), made.grid.at(nearer)
    found = jump(made.head, x, *levels, by.context)
    assert float(loss) == pytest.approx(float((found - stepped).square().mean()), rel=1e-4)


@pytest.mark.parametrize("kind", [ConsistencyTrajectory, SegmentedConsistency])
def test_rows_that_jump_to_the_end_need_no_second_jump(kind, monkeypatch):
    """The same loss as where each row is jumped on from where it is, for a jump of no length."""
    made = method(kind, denoising=0, end_share=0.5)
    batch, losses, whole = batch_of(made, 32), [], made._to_end
    for skips in (True, False):
        if not skips:
            monkeypatch.setattr(made, "_to_end", lambda *args: whole(*args[:-1], slice(0, None)))
        torch.manual_seed(2)
        loss = made(batch).total
        made.zero_grad()
        loss.backward()
        losses.append([loss.detach(), *(p.grad for p in made.policy.head.parameters())])
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_all_and_none_of_the_rows_may_jump_to_the_end_or_have_the_denoising_loss():
    for share in (0.0, 1.0):
        made = method(ConsistencyTrajectory, end_share=share, denoising_rows=share)
        found = made(batch_of(made, 8))
        assert torch.isfinite(found.total)
        assert set(found.parts) == ({"consistency", "denoising"} if share else set())


@given(rows=st.integers(1, 300), share=st.floats(0, 1))
def test_a_share_of_rows_is_right_on_average(rows, share):
    counts = [first_rows(share, rows).here for _ in range(20)]
    assert all(abs(count - share * rows) < 1 + 1e-4 for count in counts)
    assert all(0 <= count <= rows for count in counts)
    torch.manual_seed(0)
    mean = sum(first_rows(0.5, 1).here for _ in range(400)) / 400
    assert 0.4 < mean < 0.6


def test_unusable_options_are_refused():
    with pytest.raises(ConfigError, match="stages is"):
        method(SegmentedConsistency, stages=[48, 1])
    with pytest.raises(ConfigError, match="teacher_steps is 0"):
        method(ConsistencyTrajectory, teacher_steps=0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "times"), [(ConsistencyTrajectory, 2.5), (SegmentedConsistency, 1.6)]
)
def test_two_jumps_come_to_lead_where_one_does(kind, times):
    """G(G(x, t, s), s, 0) and G(x, t, 0), of a student that begins as a diffusion policy."""
    made = method(kind)
    taught_by(made, MIXTURE)
    train(made, 200, as_policy)
    before = semigroup_error(made)
    train(made, 400)
    after = semigroup_error(made)
    assert after < before / times, (before, after)
    chunks = drawn(made).mean((1, 2))
    shares = (chunks > 0).float().mean()
    assert 0.35 < shares < 0.65
    assert (chunks.abs() - 0.6).abs().mean() < 0.35


def as_policy(made, batch, step):
    """The loss of the diffusion policy that the student is before."""
    given = made.given(batch)
    return made.head.loss(given.chunks, given.context)


@torch.no_grad()
def semigroup_error(made) -> float:
    """The median distance: near the border between two kinds of chunks it stays large."""
    torch.manual_seed(3)
    rows = 256
    x = torch.randn(rows, 4, 2)
    context = made.policy.encode({"x": torch.zeros(rows, 2, 3)})
    start = made.grid.at(torch.zeros(rows, dtype=torch.long))
    half = made.grid.at(torch.full((rows,), made.grid.steps // 2))
    clean = made.grid.at(torch.full((rows,), made.grid.steps))
    whole = jump(made.head, x, start, clean, context)
    halfway = jump(made.head, x, start, half, context)
    both = jump(made.head, halfway, half, clean, context)
    return float((whole - both).square().mean((1, 2)).sqrt().median())

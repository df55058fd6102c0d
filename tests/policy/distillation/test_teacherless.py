"""Average velocities without a teacher, and pairs of a teacher."""

import pytest
import torch

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.diffusion.solvers import solver_with, table_of
from dipole.policy.training.objectives.distillation.flow_student import average_velocity
from dipole.policy.training.objectives.distillation.pairs import PairPool, Pairs

NETWORKS = {
    "unet1d": {"down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8},
    "dit": {"width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8},
}
FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))
TEACHER = {
    "denoiser": {"name": "unet1d", **NETWORKS["unet1d"]},
    "process": {"name": "vp"},
    "prediction": {"name": "sample"},
    "head": {"name": "diffusion", "counts_padding": False},
    "guidance": None,
}


def student(method, network="unet1d", **options):
    """The objective of a policy that `dipole distill` would make of the teacher."""
    torch.manual_seed(0)
    config = OBJECTIVES[method].student({**TEACHER, **{"denoiser": denoiser(network)}}, options)
    policy = Policy(PolicyConfig.from_dict(config), FEATURES, WindowSpec(2, 8, 4))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    objective = OBJECTIVES[method](policy, **options)
    objective.attach_averages({"target": policy.head})
    return objective


def denoiser(network):
    return {"name": network, **NETWORKS[network]}


@pytest.mark.parametrize("method", ["shortcut", "meanflow"])
def test_methods_without_a_teacher_learn_velocities_whatever_the_run_had(method, tmp_path):
    kind = OBJECTIVES[method]
    made = kind.student(TEACHER, {})
    assert (made["process"], made["prediction"]) == ({"name": "flow"}, {"name": "velocity"})
    own = {"finest": 32} if method == "shortcut" else {}
    assert made["head"]["solver"] == {"name": "jump", "steps": 1, "gamma": 0.0, **own}
    notes = " ".join(kind.notes(TEACHER, made, tmp_path))
    assert "has no teacher" in notes
    assert "process flow, prediction velocity, not process vp, prediction sample" in notes
    shaped = {**TEACHER, "process": {"name": "flow", "times": "beta"}, "prediction": None}
    assert kind.student(shaped, {})["process"] == {"name": "flow", "times": "beta"}
    assert len(list(kind.notes(shaped, kind.student(shaped, {}), tmp_path))) == 1
    options = {"head": {"name": "diffusion", "extra_inputs": ["target_time"]}}
    of_vp = Policy(PolicyConfig(**{**TEACHER, **options}), FEATURES, WindowSpec(2, 8, 4))
    with pytest.raises(ConfigError, match="learns velocities"):
        kind(of_vp)


def test_steps_of_shortcuts_are_halvings_that_begin_on_their_grid():
    time, target = student("shortcut", finest=16)._times(400, 500, torch.device("cpu"))
    sizes = (time - target)[:400]
    assert set(sizes.tolist()) == {1.0, 0.5, 0.25, 0.125}
    assert torch.equal((time[:400] / sizes).round() * sizes, time[:400])
    assert float(target.min()) >= 0
    assert torch.equal(time[400:], target[400:])  # flow matching


def test_a_shortcut_s_target_is_two_half_steps_and_the_finest_of_no_size():
    objective = student("shortcut", finest=4)
    head, context, x = objective.head, Context(torch.randn(2, 6)), torch.randn(2, 8, 2)
    time, target = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.0])
    found = objective._of_halves(x, time, target, context)
    middle = torch.tensor([0.5, 0.25])
    told = torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.25])  # the second row: as no step
    first = average_velocity(head, x, time, told[0], context)
    nearer = x + (middle - time).view(2, 1, 1) * first
    second = average_velocity(head, nearer, middle, told[1], context)
    assert torch.allclose(found, (first + second) / 2, atol=1e-5)


@pytest.mark.parametrize("finest", [4, 16])
def test_steps_that_a_shortcut_learned_as_of_no_size_are_asked_for_as_such(finest):
    """What training asks its network for, and what sampling does, in 1 to 2 finest steps."""
    objective = student("shortcut", finest=finest)
    time, target = objective._times(400, 400, torch.device("cpu"))
    learned = {round(size, 6) for size in (time - target).tolist()} | {0.0}
    head = objective.head
    for steps in (1, 2, finest // 2, finest, 2 * finest):
        table = table_of(solver_with(head.solver, {"steps": steps}), head.process)
        assert len(table) == steps
        for row in table:
            told = (row.level.time - (row.target or row.level).time) / 100
            assert round(told, 6) in learned
            assert told == (pytest.approx(1 / steps) if steps < finest else 0)


def test_shortcuts_begin_after_a_share_of_the_run_of_flow_matching_alone():
    objective = student("shortcut", begin=0.3)
    objective.total_steps = 10
    batch = objective.fake_batch(16)
    assert set(objective(batch, step=2).parts) == {"flow_matching"}
    assert set(objective(batch, step=3).parts) == {"flow_matching", "consistency"}


@pytest.mark.parametrize("network", ["unet1d", pytest.param("dit", marks=pytest.mark.heavy)])
def test_the_derivative_of_mean_flows_is_that_of_small_differences(network):
    objective = student("meanflow", network).double()
    x, velocity = torch.randn(2, 3, 8, 2, dtype=torch.float64).unbind()
    context = Context(torch.randn(3, 6, dtype=torch.float64))
    time, target = torch.tensor([[0.9, 0.5, 0.3], [0.1, 0.0, 0.3]], dtype=torch.float64)
    slope = objective._slope(x, velocity, time, target, context)

    def at(ahead):
        return average_velocity(
            objective.head, x + ahead * velocity, time + ahead, target, context
        ).detach()

    wanted = (at(1e-5) - at(-1e-5)) / 2e-5
    assert float(wanted.abs().max()) > 0.01
    assert torch.allclose(slope, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_mean_flows_jumps_to_the_chunk_from_any_time(share):
    torch.manual_seed(0)
    time, target = student("meanflow", to_clean=share)._times(4000, 6000, torch.device("cpu"))
    jumps = target[:4000] == 0
    assert abs(float(jumps.float().mean()) - share) < 0.03
    assert bool((target <= time)[:4000].all())
    assert torch.equal(time[4000:], target[4000:])  # flow matching
    if share:
        quarters = torch.histc(time[:4000][jumps], 4, 0, 1) / jumps.sum()
        assert torch.allclose(quarters, torch.full((4,), 0.25), atol=0.05)


@pytest.mark.parametrize("method", ["shortcut", "meanflow"])
def test_every_weight_learns(method):
    objective = student(method)
    loss = objective(objective.fake_batch(16))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    lacking = [n for n, p in objective.policy.named_parameters() if p.grad is None]
    assert not lacking


def test_a_share_that_is_none_and_an_odd_number_of_steps_are_refused():
    with pytest.raises(ConfigError, match=r"objective.apart is 1.5: a share lies between 0 and 1"):
        student("meanflow", apart=1.5)
    with pytest.raises(ConfigError, match=r"objective.finest is 12: a power of 2"):
        student("shortcut", finest=12)
    with pytest.raises(ConfigError, match=r"objective.begin is 1: a share of the run below 1"):
        student("shortcut", begin=1)


def test_a_pool_keeps_its_newest_pairs_and_draws_no_other():
    pool = PairPool(6, 2, pairs(1, 0.0))
    assert pool.new_rows(8) == 4
    assert pool.new_rows(1) == 1
    pool.put(pairs(4, 1.0))
    drawn = pool.draw(100)
    assert set(drawn.chunk.unique().tolist()) == {1.0}  # and none of the places not yet filled
    pool.put(pairs(4, 2.0))
    assert pool.chunk[:, 0, 0].tolist() == [2, 2, 1, 1, 2, 2]
    other = PairPool(6, 2, pairs(1, 0.0))
    other.load_state_dict(pool.state_dict())
    torch.manual_seed(1)
    one = pool.draw(5)
    torch.manual_seed(1)
    assert torch.equal(one.noise, other.draw(5).noise)
    assert drawn.context.tokens is None
    assert drawn.context.vector.shape == (100, 3)
    assert PairPool(0, 4, pairs(1, 0.0)).new_rows(8) == 8
    with pytest.raises(ConfigError, match="set pool=0"):
        pool.put(pairs(2, 1.0)._replace(context=Context(torch.zeros(2, 4))))


def pairs(rows, value):
    return Pairs(
        torch.randn(rows, 2, 2), torch.full((rows, 2, 2), value), Context(torch.ones(rows, 3))
    )


def test_a_regression_student_has_no_noise_process():
    made = OBJECTIVES["regression"].student(TEACHER, {})
    assert made["head"] == {"name": "regression", "counts_padding": False}
    assert made["process"] is made["prediction"] is None

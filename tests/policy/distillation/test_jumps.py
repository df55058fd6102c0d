"""Jumps: rows that keep noise as it belongs to a level, and networks that are told where to."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, PROCESSES, build
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.solvers import DDIM, Jump, table_of
from dipole.policy.heads.base import SampleRequest
from dipole.policy.training.objectives.distillation.steps import LevelGrid, moved, ode_step

NETWORKS = {
    "unet1d": {"down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8},
    "dit": {"width": 16, "depth": 2, "heads": 2, "time_embed_dim": 8},
}
PROCESS = st.sampled_from(["vp", "flow", "edm"])
EVERY_NETWORK = pytest.mark.parametrize("network", sorted(NETWORKS))
FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))


def policy(network="unet1d", process="flow", extra_inputs=("target_time",), **head):
    torch.manual_seed(0)
    config = PolicyConfig(
        denoiser={"name": network, **NETWORKS[network]},
        process={"name": process},
        head={"name": "diffusion", "extra_inputs": list(extra_inputs), **head},
    )
    made = Policy(config, FEATURES, WindowSpec(2, 8, 4))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


@settings(max_examples=60, deadline=None)
@given(PROCESS, st.integers(1, 8), st.floats(0, 1))
def test_after_a_row_x_has_the_signal_and_the_noise_of_the_next_level(process, steps, gamma):
    table = table_of(Jump(steps, gamma=gamma), build(PROCESSES, {"name": process}))
    assert len(table) == steps
    for row in table:
        (from_x,), (from_clean,) = row.from_x, row.from_clean
        signal = from_x * row.level.signal + from_clean
        noise = math.hypot(from_x * row.level.noise, row.fresh_noise)
        assert signal == pytest.approx(row.next.signal, abs=1e-6)
        assert noise == pytest.approx(row.next.noise, abs=1e-6)
        assert row.target is not None
        assert row.target.noise <= row.next.noise + 1e-9


@pytest.mark.parametrize("process", ["vp", "flow", "edm"])
def test_gamma_says_how_much_of_the_noise_is_fresh(process):
    made = build(PROCESSES, {"name": process})
    assert not any(row.fresh_noise for row in table_of(Jump(4, gamma=0), made))
    *jumps, last = table_of(Jump(4, gamma=1), made)
    assert all(row.target.is_clean and row.fresh_noise == row.next.noise for row in jumps)
    assert last.fresh_noise == 0
    with pytest.raises(ConfigError, match=r"solver.gamma is 1.5: it lies between 0 and 1"):
        Jump(gamma=1.5)


def test_jumps_over_a_table_begin_at_its_most_noise():
    process = build(PROCESSES, {"name": "vp"})
    for steps in (1, 3):
        assert table_of(Jump(steps), process)[0].level.time == 99
    assert table_of(Jump(2, "leading"), process)[0].level.time == 50


SPACINGS = [
    *(("vp", name) for name in (None, "trailing", "uniform", "karras", "log_snr")),
    *(("flow", name) for name in (None, "uniform", "shifted", "karras", "log_snr")),
    *(("edm", name) for name in (None, "trailing", "karras", "log_snr")),
]


@pytest.mark.parametrize(("process", "spacing"), SPACINGS)
def test_a_second_jump_has_something_to_do_and_levels_of_fewer_jumps_are_among_those_of_more(
    process, spacing
):
    made = build(PROCESSES, {"name": process, **({"continuous": True} if process == "vp" else {})})
    levels = {n: Jump(n, spacing).levels(made) for n in (1, 2, 4, 8)}
    assert all(len(found) == n + 1 and found[-1].is_clean for n, found in levels.items())
    assert levels[2][1].noise / levels[2][1].signal > 0.1
    for steps in (1, 2, 4):
        fewer, every_second = levels[steps], levels[2 * steps][::2]
        rounded = 2.0 if (process, spacing) in (("vp", None), ("vp", "trailing")) else 1e-4
        for one, other in zip(fewer, every_second, strict=True):
            assert one.time == pytest.approx(other.time, abs=rounded)


def test_levels_of_jumps_on_edm():
    found = [level.noise for level in Jump(4).levels(build(PROCESSES, {"name": "edm"}))]
    assert found == pytest.approx([80.0, 17.528, 2.515, 0.170, 0.0], abs=1e-3)


def test_one_jump_is_one_step_of_ddim_on_the_straight_path():
    made = policy(extra_inputs=(), clip_sample=False)
    seen = {"x": torch.randn(3, 2, 3)}
    noise = torch.randn(3, 8, 2)
    one, other = (made.predict(seen, noise=noise, solver=each) for each in (Jump(1), DDIM(1)))
    assert torch.allclose(one, other, atol=1e-6)


@EVERY_NETWORK
@pytest.mark.parametrize("tokens", [False, True])
def test_further_inputs_say_nothing_until_they_are_trained(network_time_pair, tokens):
    plain, told = network_time_pair
    time = torch.rand(3, 8) * 90 if tokens else torch.rand(3) * 90
    x, context = torch.randn(3, 8, 2), Context(torch.randn(3, 3))
    others = torch.rand(*time.shape, 2) * 50
    given_time = torch.cat([time[..., None], others], dim=-1)
    assert torch.allclose(plain(x, time, context), told(x, given_time, context), atol=1e-5)


@pytest.fixture
def network_time_pair(network):
    plain, told = network_of(network, 1), network_of(network, 3)
    missing, odd = told.load_state_dict(plain.state_dict(), strict=False)
    assert not odd
    assert all(name.startswith("time_embedding.others.") for name in missing)
    return plain, told


def network_of(name, time_inputs):
    torch.manual_seed(time_inputs)
    sizes = {"action_dim": 2, "horizon": 8, "context": ContextSpec(vector_dim=3)}
    more = {"time_inputs": time_inputs} if time_inputs > 1 else {}
    return build(DENOISERS, {"name": name, **NETWORKS[name]}, **sizes, **more)


@EVERY_NETWORK
@pytest.mark.parametrize("process", ["vp", "flow", "edm"])
def test_what_is_sampled_is_what_objectives_are_told(network, process):
    made = policy(network, process, clip_sample=False, solver={"name": "jump", "steps": 2})
    context = made.encode({"x": torch.randn(3, 2, 3)})
    noise = torch.randn(3, 8, 2)
    rows = table_of(made.solver, made.head.process)
    x = made.head.process.start_scale(rows[0].level) * noise
    for row in rows:
        level, after = (rows_of(each, 3) for each in (row.level, row.next))
        estimate = made.head.estimate_at(x, level, context, target=after)
        x = moved(estimate, x, level, after)
    assert torch.allclose(x, made.head.sample(context, SampleRequest(noise=noise)), atol=1e-4)


def test_a_network_that_is_told_where_to_says_something_else_of_each_target():
    made = policy()
    context, x = made.encode({"x": torch.randn(3, 2, 3)}), torch.randn(3, 8, 2)
    at = rows_of(made.head.process.at_ratio(2.0), 3)
    near, far = (rows_of(made.head.process.at_ratio(r), 3) for r in (1.0, 0.0))
    one, other = (made.head.estimate_at(x, at, context, target=t).clean for t in (near, far))
    assert not torch.allclose(one, other, atol=1e-3)
    # solvers of the ODE ask for no jump: the target is the level itself
    same = made.head.estimate_at(x, at, context).clean
    assert torch.equal(same, made.head.estimate_at(x, at, context, target=at).clean)


def test_a_network_that_is_told_the_scale_guides_in_one_evaluation():
    made = policy(extra_inputs=("guidance_scale",))
    context, noise = made.encode({"x": torch.randn(2, 2, 3)}), torch.randn(2, 8, 2)
    usual = made.head.sample(context, SampleRequest(noise=noise))
    made.head.use_guidance(3.0)
    assert made.head.guides_itself
    assert not torch.allclose(usual, made.head.sample(context, SampleRequest(noise=noise)))


def test_unknown_inputs_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'target_time'"):
        policy(extra_inputs=("target_tim",))
    with pytest.raises(ConfigError, match="each once"):
        policy(extra_inputs=("target_time", "target_time"))


@settings(max_examples=30, deadline=None)
@given(PROCESS, st.sampled_from([1, 2]), st.integers(2, 40))
def test_steps_along_the_ode_of_a_point_are_exact(process, order, levels):
    """Where all data are one chunk, every trajectory is straight towards it."""
    grid = LevelGrid(build(PROCESSES, {"name": process}), levels)
    chunk = torch.linspace(-0.9, 0.9, 16, dtype=torch.float32).view(1, 8, 2).expand(5, 8, 2)
    noise = torch.randn(5, 8, 2)
    index = grid.draw(5, torch.device("cpu"))

    def estimate(x, level):
        spread = level.over(x)
        return Estimate(chunk, (x - spread.signal * chunk) / spread.noise)

    level, after = grid.at(index), grid.at(index + 1)
    found = ode_step(estimate, level.over(chunk).mix(chunk, noise), level, after, order)
    wanted = after.over(chunk).mix(chunk, noise)
    assert torch.allclose(found, wanted, atol=1e-4 * (1 + float(level.noise.max())))


def rows_of(level: Level, rows: int) -> Level:
    numbers = (level.time, level.signal, level.noise)
    return Level(*(torch.full((rows,), float(each)) for each in numbers))

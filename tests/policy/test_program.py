"""One sampling program for every runtime: any solver, any network, any head."""

import pytest
import torch
from torch import nn

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core.components import DENOISERS, HEADS, SOLVERS
from dipole.policy.core.nested import flatten
from dipole.policy.denoisers.base import Denoiser
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.heads.base import Head
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.program import End, SamplingProgram, Start, Step

NETWORKS = {
    "unet1d": {"down_dims": [8], "n_groups": 4, "time_embed_dim": 8},
    "dit": {"width": 16, "depth": 1, "heads": 2, "time_embed_dim": 8},
}
FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))
EVERY_SOLVER = pytest.mark.parametrize("solver", SOLVERS.names())
EVERY_NETWORK = pytest.mark.parametrize("network", sorted(NETWORKS))
STEPS = 5  # the fewest in which dpmpp_3m has a step of third order


def make_policy(
    network="dit", solver="ddim", process="vp", steps=STEPS, head="diffusion", guidance=None
):
    torch.manual_seed(0)
    config = PolicyConfig(
        denoiser={"name": network, **NETWORKS.get(network, {})},
        process={"name": process} if head == "diffusion" else None,
        head={"name": head},
        guidance=guidance,
    )
    policy = Policy(config, FEATURES, WindowSpec(2, 8, 4))
    with torch.no_grad():
        for parameter in policy.parameters():  # a new transformer's prediction is 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    if head == "diffusion":
        policy.solver = solver_from({"name": solver, "steps": steps})
    return policy.eval().requires_grad_(False)


def inputs(program, rows=3):
    torch.manual_seed(1)
    return program.examples(rows)


def predicted(policy, program, given):
    """What the policy itself draws from a program's inputs."""
    named = program.named(given)
    draws = iter([named["noise"], *named.get("fresh_noise", ())])

    class Drawn:  # in the order in which the policy draws
        def __call__(self, *_):
            return next(draws)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dipole.policy.heads.diffusion.draw_noise", Drawn())
        return policy.predict({"x": named["observation.x"]})


@EVERY_SOLVER
@EVERY_NETWORK
def test_the_program_draws_the_chunk_of_predict(network, solver):
    policy = make_policy(network, solver)
    program = SamplingProgram(policy)
    given = inputs(program)
    expected = predicted(policy, program, given)
    assert expected.std() > 0.1
    assert torch.allclose(program(*given), expected, atol=1e-5)


def test_fresh_noise_of_an_option_is_an_input():
    policy = make_policy()
    policy.solver = solver_from({"name": "ddim", "steps": 3, "eta": 0.5})
    program = SamplingProgram(policy)
    given = inputs(program)
    assert program.inputs[-1].shape == (2, "B", 8, 2)  # none after the last step
    assert torch.allclose(program(*given), predicted(policy, program, given), atol=1e-5)


@pytest.mark.parametrize("process", ["flow", "edm"])
@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpmpp_3m"])
def test_the_program_draws_the_chunk_of_predict_in_every_process(process, solver):
    policy = make_policy(solver=solver, process=process)
    program = SamplingProgram(policy)
    given = inputs(program)
    assert torch.allclose(program(*given), predicted(policy, program, given), atol=1e-5)


@EVERY_SOLVER
@EVERY_NETWORK
def test_a_loop_around_one_step_draws_the_chunk_of_the_unrolled_steps(network, solver):
    program = SamplingProgram(make_policy(network, solver))
    given = inputs(program)
    start, named = begun(program, given)
    step, end = Step(program, start), End(program, start)
    for number in range(len(program.head.fresh_noise)):
        every_row = {**named, **program.constants}
        row = {name: every_row[name][number : number + 1] for name in step.rows}
        after = step(*({**named, **row}[name] for name in step.inputs))
        named |= zip(step.state, after, strict=True)
    chunk = end(*(named[name] for name in step.state))
    assert torch.allclose(chunk, program(*given), atol=1e-5)


def begun(program, given):
    """The part before the steps, and what it gives."""
    start = Start(program)
    tensors = start(*given)
    return start, dict(zip(start.outputs, tensors, strict=True))


def test_what_goes_from_step_to_step_has_names():
    program = SamplingProgram(make_policy(solver="plms"))
    start, _ = begun(program, inputs(program))
    step = Step(program, start)
    assert [port.name for port in program.inputs] == ["observation.x", "noise"]
    earlier = [f"state.{of}_{n}" for of in ("x", "clean") for n in (4, 3, 2, 1)]
    assert step.state == [*earlier, "state.x"]
    assert step.rows == [
        "constant.time",
        "constant.signal",
        "constant.noise",
        "constant.from_x",
        "constant.from_clean",
    ]
    assert program.constants["constant.from_clean"].shape == (STEPS + 1, 5)


def test_only_as_much_history_is_carried_as_a_table_needs():
    program = SamplingProgram(make_policy(solver="ddim"))
    _, named = begun(program, inputs(program))
    assert [name for name in named if name.startswith("state")] == ["state.x"]


class ForwardAlone(Denoiser):
    """Nothing is saved between the evaluations of a chunk."""

    def __init__(self, action_dim, horizon, context):
        super().__init__()
        self.layer = nn.Linear(action_dim + 1 + context.vector_dim, action_dim)

    def forward(self, x, time, context, residuals=()):
        told = torch.cat([time[:, None] / 100, context.vector], 1)[:, None]
        return self.layer(torch.cat([x, told.expand(-1, x.shape[1], -1)], 2))


class Constant(Head):
    """Draws nothing: a chunk of the context's first numbers."""

    def __init__(self, action, horizon, context):
        super().__init__()
        self.horizon = horizon

    def sample(self, context, request):
        return context.vector[:, None, :2].repeat(1, self.horizon, 1)


@pytest.fixture
def components(monkeypatch):
    """Components of this file's, for one test."""
    monkeypatch.setitem(DENOISERS._table, "forward_alone", ForwardAlone)
    monkeypatch.setitem(HEADS._table, "constant", Constant)


def exported(policy, runtime, folder):
    schema = export_policy(policy, runtime, folder)
    assert schema["parity"]["largest_difference"] < 1e-4
    return load_exported(folder, runtime)


def agrees(policy, other, rows=3):
    observation = policy.fake_observation(rows)
    seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
    ours, theirs = (p.predict(observation, g) for p, g in zip((policy, other), seeds, strict=True))
    return torch.allclose(ours, theirs, atol=1e-4)


@EVERY_SOLVER
@EVERY_NETWORK
def test_openvino_agrees_with_eager(network, solver, tmp_path):
    policy = make_policy(network, solver)
    assert agrees(policy, exported(policy, "openvino", tmp_path / "export"))


@EVERY_SOLVER
@pytest.mark.parametrize("network", ["dit", pytest.param("unet1d", marks=pytest.mark.heavy)])
def test_onnx_agrees_with_eager(network, solver, tmp_path):
    policy = make_policy(network, solver)
    assert agrees(policy, exported(policy, "onnx", tmp_path / "export"))


@pytest.mark.heavy  # a minute for a U-Net: one solver with all kinds of history
@pytest.mark.parametrize(
    ("network", "solver"), [*(("dit", name) for name in SOLVERS.names()), ("unet1d", "plms")]
)
def test_compiled_code_agrees_with_eager(network, solver, tmp_path):
    policy = make_policy(network, solver, steps=2)  # each compiles for itself
    export_policy(policy, "aotinductor", tmp_path / "export", batch_sizes=[3])
    assert agrees(policy, load_exported(tmp_path / "export", "aotinductor"))


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_a_network_that_saves_nothing_is_exported(components, runtime, tmp_path):
    policy = make_policy("forward_alone", "heun")
    assert agrees(policy, exported(policy, runtime, tmp_path / "export"))


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
@pytest.mark.parametrize("head", ["regression", "constant"])
def test_a_head_without_a_solver_is_exported_as_one_evaluation(components, head, runtime, tmp_path):
    policy = make_policy(head=head)
    found = exported(policy, runtime, tmp_path / "export")
    assert found.schema["solver"] is None
    assert [port.name for port in found.inputs] == ["observation.x"]
    assert agrees(policy, found)


def test_nested_tensors_have_names_and_go_back_to_their_places():
    nested = {"a": (torch.ones(1), None), "b": [torch.zeros(2), ()]}
    tensors, rebuild = flatten(nested, "n")
    assert list(tensors) == ["n.a.0", "n.b.0"]
    assert str(rebuild(tensors.values())) == str(nested)


@pytest.mark.parametrize("scale", [0, 2.5])
def test_classifier_free_guidance_is_part_of_an_export(scale, tmp_path):
    policy = make_policy(guidance={"dropout": 0.1})
    policy.guidance_scale = scale
    assert agrees(policy, exported(policy, "openvino", tmp_path / "export"))
    plain = make_policy(guidance={"dropout": 0.1})
    assert not agrees(policy, plain)

"""Exported policies: the same chunks in every runtime, and an artefact that can be trusted."""

import ctypes
import gc
import json
import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import CheckpointError, ConfigError, Feature, Features, Statistics, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core import timing
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.export_layers import plain
from dipole.policy.diffusion.solvers import DDIM, DDPM, Solver
from dipole.policy.runtimes import RUNTIMES, Onnx
from dipole.policy.runtimes import openvino as openvino_runtime
from dipole.policy.runtimes.export import ParityError, export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.int8_weights import quantised
from dipole.policy.runtimes.signal_stack import SignalStack

IMPLICIT = DDIM(steps=3)
ANCESTRAL = DDPM(steps=3)


def make_policy(solver: Solver = IMPLICIT, down_dims: Sequence[int] = (8, 16)) -> Policy:
    torch.manual_seed(0)
    features = Features(
        observation={"agent_pos": Feature((2,)), "keypoint": Feature((3, 2))},
        action=Feature((2,), kind="action"),
    )
    unet = {"name": "unet1d", "down_dims": list(down_dims), "n_groups": 4, "time_embed_dim": 8}
    policy = Policy(PolicyConfig(denoiser=unet), features, WindowSpec(2, 8, 4))
    rng = np.random.default_rng(0)
    policy.fit(
        {
            "agent_pos": Statistics.of(rng.uniform(0, 512, (50, 2))),
            "keypoint": Statistics.of(rng.uniform(0, 512, (50, 3, 2))),
            "action": Statistics.of(np.array([[0.0, 100.0], [512.0, 400.0]])),
        }
    )
    policy.solver = solver
    return policy.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """The artefact of a runtime and solver, made once."""
    made = {}

    def export(runtime, solver):
        if (runtime, solver.name) not in made:
            folder = tmp_path_factory.mktemp("exports") / f"{runtime}_{solver.name}"
            terms = {"source": {"checkpoint": "somewhere"}, "environment": {"name": "pusht"}}
            export_policy(make_policy(solver), runtime, folder, terms=terms)
            made[runtime, solver.name] = folder
        return made[runtime, solver.name]

    return export


RUNTIMES_AND_SOLVERS = [
    ("onnx", IMPLICIT),
    pytest.param("onnx", ANCESTRAL, marks=pytest.mark.heavy),
    ("openvino", IMPLICIT),
    pytest.param("openvino", ANCESTRAL, marks=pytest.mark.heavy),
]


def normalised_difference(policy, ours, theirs):
    return float((policy.normalize_action(ours) - policy.normalize_action(theirs)).abs().max())


@pytest.mark.parametrize(("runtime", "solver"), RUNTIMES_AND_SOLVERS)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_an_export_gives_the_chunks_of_its_policy(exports, runtime, solver, batch_size):
    policy, exported = make_policy(solver), load_exported(exports(runtime, solver), runtime)
    observation = {
        "agent_pos": 512 * torch.rand(batch_size, 2, 2),
        "keypoint": 512 * torch.rand(batch_size, 2, 3, 2),
    }
    seeds = [[torch.Generator().manual_seed(i) for i in range(batch_size)] for _ in range(2)]
    ours, theirs = (
        p.predict(observation, g) for p, g in zip((policy, exported), seeds, strict=True)
    )
    assert theirs.shape == (batch_size, 8, 2)
    assert normalised_difference(policy, ours, theirs) < 1e-4
    assert float(ours.std()) > 10  # in pixels: the agreement is about something


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_any_batch_size_runs(exports, runtime):
    policy, exported = make_policy(), load_exported(exports(runtime, IMPLICIT))
    for batch_size in (2, 5):
        observation = policy.fake_observation(batch_size)
        noise = torch.randn(batch_size, 8, 2)
        ours = policy.predict(observation, noise=noise)
        theirs = exported.predict(observation, noise=noise)
        assert normalised_difference(policy, ours, theirs) < 1e-4


def signal_stack():
    """Base and size of this thread's alternate signal stack."""
    now = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
    return now.base, now.size


def test_signals_are_still_handled_on_a_stack_that_exists(exports):
    """OpenVINO's own went with its model: the next child that ended took the process along."""
    before = signal_stack()
    exported = load_exported(exports("openvino", IMPLICIT))
    for batch_size in (3, 7):
        exported.warm_up(batch_size)
        assert signal_stack() == before
    del exported
    gc.collect()
    assert signal_stack() == before


def test_the_same_seed_gives_the_same_chunk_bit_for_bit(exports):
    exported = load_exported(exports("openvino", ANCESTRAL))
    observation = exported.fake_observation(4)
    chunks = [exported.predict(observation, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*chunks)


def test_the_schema_says_what_goes_in_and_where_it_comes_from(exports):
    schema = json.loads((exports("onnx", ANCESTRAL) / "schema.json").read_text())
    assert schema["inputs"] == [
        {
            "name": "observation.agent_pos",
            "shape": ["B", 2, 2],
            "dtype": "float32",
            "units": "the robot's",
        },
        {
            "name": "observation.keypoint",
            "shape": ["B", 2, 3, 2],
            "dtype": "float32",
            "units": "the robot's",
        },
        {"name": "noise", "shape": ["B", 8, 2], "dtype": "float32", "units": "standard normal"},
        {
            "name": "fresh_noise",  # none after the last of three steps
            "shape": [2, "B", 8, 2],
            "dtype": "float32",
            "units": "standard normal, one entry a step",
        },
    ]
    assert schema["outputs"][0]["shape"] == ["B", 8, 2]
    assert schema["solver"] == ANCESTRAL.to_dict()
    assert (schema["solver"]["name"], schema["solver"]["steps"]) == ("ddpm", 3)
    assert schema["environment"] == {"name": "pusht"}
    assert schema["source"] == {"checkpoint": "somewhere"}
    assert schema["parity"]["largest_difference"] < 1e-4


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
)
def test_the_plain_network_is_the_same(rows, quarters, widths, kernel_size):
    dims = [8 * width for width in widths]
    # In double precision: norms over few numbers hold single precision's rounding many times over.
    unet = ConditionalUnet1D(2, 5, dims, kernel_size, n_groups=4, time_embed_dim=8).double()
    x, vector = torch.randn(rows, 4 * quarters, 2).double(), torch.randn(rows, 5).double()
    inputs = x, torch.randint(100, (rows,)), vector
    assert torch.allclose(plain(unet)(*inputs), unet(*inputs), atol=1e-9)
    assert unet.down[0].first.film.weight.requires_grad  # the original is untouched


def test_converting_tells_nobody(tmp_path, monkeypatch):
    from openvino_telemetry.utils import sender

    def send(*_):
        raise AssertionError("something was sent")

    monkeypatch.setattr(sender.TelemetrySender, "send", send)
    monkeypatch.delenv("CI", raising=False)
    export_policy(make_policy(DDIM(steps=1)), "openvino", tmp_path / "export")
    assert "CI" not in os.environ


def test_a_damaged_artefact_is_refused(exports, tmp_path):
    folder = exports("onnx", IMPLICIT)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"model\.onnx: differs from what the manifest says"):
        load_exported(copy)
    model.unlink()
    with pytest.raises(CheckpointError, match=r"model\.onnx is missing"):
        load_exported(copy)


@pytest.mark.parametrize("version", [1, 9])  # 1: of the first edition
def test_a_schema_of_another_version_is_refused(tmp_path, version):
    schema = {"format": "dipole export", "version": version}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(CheckpointError, match=rf"version {version}.*export the checkpoint again"):
        load_exported(tmp_path)


def test_an_export_that_computes_something_else_leaves_nothing(tmp_path, monkeypatch):
    def load(self, folder, inputs, threads):
        return lambda arrays: np.zeros((len(arrays[0]), 8, 2), np.float32)

    monkeypatch.setattr(Onnx, "load", load)
    with pytest.raises(ParityError, match=r"differs by .* nothing was written"):
        export_policy(make_policy(), "onnx", tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_never_overwritten(tmp_path):
    with pytest.raises(ConfigError, match="never overwritten"):
        export_policy(make_policy(), "onnx", tmp_path)


def test_a_runtime_that_is_not_installed_says_what_adds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(type(RUNTIMES["openvino"]), "library", "no_such_library")
    with pytest.raises(ConfigError, match=r"pip install 'dipole\[openvino\]'"):
        export_policy(make_policy(), "openvino", tmp_path / "export")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o.pop("keypoint"), "no 'keypoint'.*the policy needs agent_pos, keypoint"),
        (lambda o: o.update(keypoint=torch.zeros(1, 2, 4, 2)), r"shape \[1, 2, 4, 2\].*B, 2, 3, 2"),
    ],
)
def test_observations_that_do_not_fit_are_refused(exports, change, message):
    exported = load_exported(exports("onnx", IMPLICIT))
    observation = exported.fake_observation(1)
    change(observation)
    with pytest.raises(ConfigError, match=message):
        exported.predict(observation)


def test_weights_of_eight_bits_are_within_half_a_scale():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 900)).astype(np.float32)
    weight[3] = 0
    numbers, scales = quantised(weight, axis=1)
    assert numbers.dtype == np.int8
    assert scales.shape == (5, 1)
    assert np.all(np.abs(numbers * scales - weight) <= 0.501 * scales)
    turned = quantised(weight.T, axis=0)
    assert np.array_equal(turned[0], numbers.T)


@pytest.mark.heavy
def test_int8_makes_a_smaller_file_of_the_large_matrices(tmp_path):
    policy = make_policy(down_dims=[32, 64])
    for runtime in ("openvino", "openvino_int8"):
        export_policy(policy, runtime, tmp_path / runtime)
    whole, small = (
        (tmp_path / name / "model.bin").stat().st_size for name in ("openvino", "openvino_int8")
    )
    assert small < 0.5 * whole


@pytest.mark.heavy
@pytest.mark.parametrize("runtime", ["openvino_bf16", "openvino_int8"])
def test_low_precision_is_near_the_policy_and_says_how_near(tmp_path, runtime):
    policy, folder = make_policy(down_dims=[32, 64]), tmp_path / "export"
    schema = export_policy(policy, runtime, folder)
    exported = load_exported(folder)
    assert exported.runtime == runtime
    if runtime == "openvino_int8":
        assert schema["parity"]["largest_difference"] > 1e-4, "nothing was rounded"
    assert schema["parity"]["largest_difference"] <= schema["parity"]["tolerance"]
    observation, noise = policy.fake_observation(2), torch.randn(2, 8, 2)
    ours = policy.predict(observation, noise=noise)
    assert normalised_difference(policy, ours, exported.predict(observation, noise=noise)) < 0.3


@pytest.mark.heavy
def test_compiled_code_gives_the_chunks_of_its_policy_and_is_loaded_by_name_alone(tmp_path):
    policy, folder = make_policy(DDIM(steps=1)), tmp_path / "compiled"
    export_policy(policy, "aotinductor", folder, batch_sizes=[2])
    with pytest.raises(ConfigError, match=r"native code.*say runtime=aotinductor"):
        load_exported(folder)
    exported = load_exported(folder, "aotinductor")
    observation, noise = policy.fake_observation(2), torch.randn(2, 8, 2)
    ours = policy.predict(observation, noise=noise)
    theirs = exported.predict(observation, noise=noise)
    assert normalised_difference(policy, ours, theirs) < 1e-4
    with pytest.raises(ConfigError, match=r"batches of 2, not for 3.*batch_sizes=\[3\]"):
        exported.predict(exported.fake_observation(3))


@pytest.mark.parametrize("faster", [1, 2])
def test_openvino_takes_the_faster_number_of_threads(exports, monkeypatch, faster):
    made, clock = [], [0.0]

    class Request:
        def __init__(self, threads):
            self.threads, self.runs = threads, 0

        def infer(self, arrays):
            self.runs += 1
            clock[0] += 1.0 if self.threads == faster else 2.0
            return [np.full((len(arrays[0]), 8, 2), float(self.threads), np.float32)]

    def request(self, batch_size, threads):
        made.append((batch_size, threads))
        return Request(threads)

    monkeypatch.setattr(openvino_runtime._Requests, "_request", request)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    exported = load_exported(exports("openvino", IMPLICIT), threads=2)
    for batch_size in (3, 1, 3):
        chunk = exported.predict(exported.fake_observation(batch_size))
        assert chunk.unique().tolist() == [faster]
    assert made == [(3, 1), (3, 2), (1, 1), (1, 2)]

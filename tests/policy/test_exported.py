"""What an artefact is trusted with and can be asked for, without a runtime of its own."""

import json
from pathlib import Path

import pytest
import torch

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core.files import write_manifest
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.runtimes import runnable
from dipole.policy.runtimes.export import ParityError, _describe, _parity
from dipole.policy.runtimes.exported import FORMAT, ExportedPolicy, load_exported
from dipole.policy.runtimes.guidance import check_built_in
from dipole.policy.runtimes.program import SamplingProgram, Start
from dipole.policy.runtimes.runnable import load_runnable

FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))
UNET = {"name": "unet1d", "down_dims": [8], "n_groups": 4, "time_embed_dim": 8}


def make_policy(**head):
    torch.manual_seed(0)
    config = PolicyConfig(denoiser=UNET, head={"name": "diffusion", **head})
    return Policy(config, FEATURES, WindowSpec(2, 8, 4)).eval().requires_grad_(False)


def exported(policy, fallback=None):
    """An export of the policy that computes a chunk of zeros."""
    program = SamplingProgram(policy)
    schema = _describe(policy, program, "test")
    zeros = torch.zeros(1, 8, 2).numpy()
    found = ExportedPolicy(Path("test"), schema, lambda arrays: zeros)
    found.fallback = fallback
    return found


def test_known_parts_are_left_to_the_policy_that_was_exported_with_the_same_noise():
    policy = make_policy()
    observation, noise = policy.fake_observation(1), torch.randn(1, 8, 2)
    mask = torch.zeros(1, 8, 2)
    mask[:, :3] = 1
    known = KnownChunk(torch.zeros(1, 8, 2), mask, InpaintingGuidance("replace"))
    found = exported(policy, policy).predict(observation, noise=noise, known=known)
    assert torch.equal(found, policy.predict(observation, noise=noise, known=known))
    with pytest.raises(ConfigError, match="takes no known parts"):
        exported(policy).predict(observation, known=known)


def test_it_supports_what_it_computes_and_known_parts_where_its_policy_does():
    plain, prefixed = make_policy(), make_policy(prefix={"probability": 0.5, "max_length": 4})
    assert exported(plain).supports == {"noise"}
    assert exported(plain, plain).supports == {"noise", "known"}
    assert exported(prefixed, prefixed).supports == {"noise", "known", "prefix"}
    assert exported(prefixed).max_prefix == 0
    assert exported(prefixed, prefixed).max_prefix == 4


def test_the_schema_says_how_often_the_network_is_evaluated():
    policy = make_policy(solver={"name": "heun", "steps": 3})
    found = exported(policy)
    assert found.evaluations_per_chunk == policy.evaluations_per_chunk == 5


@pytest.fixture
def native(tmp_path):
    """An artefact that says that it holds native code."""
    policy = make_policy()
    schema = _describe(policy, SamplingProgram(policy), "aotinductor")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    write_manifest(tmp_path, FORMAT)
    return tmp_path


@pytest.mark.parametrize("runtime", [None, "auto"])
def test_native_code_is_not_loaded_unless_it_is_asked_for_by_name(native, runtime):
    with pytest.raises(ConfigError, match=r"native code.*say runtime=aotinductor"):
        load_runnable(native, runtime=runtime)
    assert load_exported(native, "aotinductor").runtime == "aotinductor"


def test_another_part_than_that_of_an_export_is_refused(native):
    with pytest.raises(ConfigError, match="part=left: the export's numbers are those of"):
        load_runnable(native, runtime="aotinductor", part="left")


@pytest.mark.parametrize(
    ("schema", "scale", "fits"),
    [
        ({}, None, True),
        ({}, 1.0, True),
        ({}, 2.0, False),
        ({"guidance_scale": 2.0}, None, True),
        ({"guidance_scale": 2.0}, 2.0, True),
        ({"guidance_scale": 2.0}, 1.0, False),
        ({"guidance_scale": 0.0}, 1.0, False),
    ],
)
def test_an_export_has_one_scale_of_guidance(schema, scale, fits):
    if fits:
        check_built_in(schema, scale, ())
    else:
        with pytest.raises(ConfigError, match="the export's scale is part of it"):
            check_built_in(schema, scale, ())


def test_costs_are_refused_before_anything_is_loaded(native):
    costs = [{"name": "obstacle", "scale": 1.0}]
    with pytest.raises(ConfigError, match="costs need gradients"):
        load_runnable(native, runtime="aotinductor", costs=costs)


def test_chunks_that_are_not_numbers_are_no_parity():
    policy = make_policy()
    found = exported(policy)
    found._run = lambda arrays: torch.full((1, 8, 2), torch.nan).numpy()
    with pytest.raises(ParityError, match="differs by nan"):
        _parity(policy, found, 1e-4, 1)


def test_costs_are_not_exported_on_the_way_to_the_faster_runtime(monkeypatch):
    policy = make_policy()
    policy.costs = [CostTerm("obstacle", 1.0)]
    monkeypatch.setattr(runnable, "is_installed", lambda name: True)
    monkeypatch.setattr(runnable, "_seconds_of", lambda *_: {"eager": 1.0})
    monkeypatch.setattr(runnable, "_export_to_temporary", pytest.fail)
    assert runnable._fastest(policy, {}, 1, 100, print) is policy


def test_steps_without_fresh_noise_are_given_zeros():
    policy = make_policy(solver={"name": "ddpm", "steps": 3})
    program = SamplingProgram(policy)
    start = Start(program)
    tensors = start(*program.examples(2))
    named = dict(zip(start.outputs, tensors, strict=True))
    fresh = named["fresh_noise"]
    assert fresh.shape == (3, 2, 8, 2)
    assert not fresh[2].any()
    assert fresh[:2].all()


def test_a_camera_that_is_said_to_be_absent_is_done_without():
    features = Features(
        {"front": Feature((16, 16, 3), kind="image"), "x": Feature((3,))},
        Feature((2,), kind="action"),
    )
    backbone = {"name": "resnet", "stem": "patches", "widths": [16], "blocks": [1]}
    encoder = {"name": "image", "backbone": backbone, "dim": 4, "camera_dropout": 0.2}
    torch.manual_seed(0)
    config = PolicyConfig(encoder=encoder, denoiser=UNET)
    policy = Policy(config, features, WindowSpec(2, 8, 4)).eval().requires_grad_(False)
    program = SamplingProgram(policy)
    given = program.named(program.examples(2))
    observation = {name: given[f"observation.{name}"] for name in ("front", "x")}
    chunks = []
    for present in (1.0, 0.0):
        given["present.front"] = torch.full((2,), present)
        if not present:
            del observation["front"]
        chunks.append(program(*given.values()))
        expected = policy.predict(observation, noise=given["noise"])
        assert torch.allclose(chunks[-1], expected, atol=1e-5)
    assert not torch.allclose(*chunks, atol=1e-3)


def test_a_checkpoint_s_export_keeps_its_policy_for_known_parts(monkeypatch):
    policy = make_policy()
    monkeypatch.setattr("dipole.policy.runtimes.export.export_policy", lambda *_, **__: {})
    monkeypatch.setattr(runnable, "load_exported", lambda *_: exported(policy))
    found = runnable._export_to_temporary(policy, {}, "openvino", 1)
    assert found.fallback is policy

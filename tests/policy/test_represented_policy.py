"""A policy whose actions are relative to what it observes: whoever asks it gives and gets absolute
numbers, before and after training, from a checkpoint, an export, a robot's loop."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dipole.data import ConfigError, Features, WindowSpec
from dipole.data.loading.statistics import Statistics
from dipole.deploy.chunks.prefix import known_prefix, whole_prefix
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.types import Ticket
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, load_policy, policy_config, save_checkpoint
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported

WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
HAND = {
    "of": "pose",
    "groups": [
        {"columns": [0, 1, 2], "frame": "current"},
        {"columns": [3, 4, 5, 6, 7, 8], "kind": "rotation_6d"},
    ],
}
TURN = [{"columns": [3, 4, 5, 6], "transform": "quaternion_to_6d"}]


def features(to, hidden=True):
    """Poses are stored with quaternions; the network is told only how the last ones differ."""
    pose = {"shape": [10], "convert": TURN}
    if hidden:
        pose["represent"] = {"to": "relative", **HAND}
    action = {"shape": [10], "convert": TURN, "represent": {"to": to, **HAND}}
    return Features.from_dict({"observation": {"pose": pose}, "action": action})


def made(to, hidden=True):
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(denoiser=SMALL), features(to, hidden), WINDOW)
    rng = np.random.default_rng(0)
    numbers = rng.uniform(-1.5, 1.5, (50, 10))
    policy.fit({"pose": Statistics.of(numbers), "action": Statistics.of(numbers)})
    policy.solver = DDIM(steps=3)
    return policy.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["relative", "delta"])
def policy(request):
    return made(request.param)


def stored(rng, *lead, angle=None):
    """x, y, z, a quaternion, a gripper."""
    vectors = rng.normal(size=(int(np.prod(lead)), 3))
    if angle is not None:
        vectors *= angle / np.linalg.norm(vectors, axis=1, keepdims=True)
    q = Rotation.from_rotvec(vectors).as_quat().reshape(*lead, 4)
    return np.float32(np.concatenate([rng.normal(size=(*lead, 3)), q, rng.random((*lead, 1))], -1))


def observed(seed=0, rows=1, **options):
    return {"pose": stored(np.random.default_rng(seed), rows, 2, **options)}


def assert_same(chunk, other, atol=1e-4):
    chunk, other = (torch.as_tensor(each).clone().numpy() for each in (chunk, other))
    side = np.sign((chunk[..., 3:7] * other[..., 3:7]).sum(-1, keepdims=True))
    chunk[..., 3:7] *= side  # q and -q are one rotation
    assert np.allclose(chunk, other, atol=atol)


def known_chunk(values, frames, method="replace"):
    mask = np.zeros(values.shape, np.float32)
    mask[:, frames] = 1.0
    guidance = InpaintingGuidance(method)
    return KnownChunk(torch.from_numpy(values), torch.from_numpy(mask), guidance)


def noise():
    return torch.randn(1, 8, 10, generator=torch.Generator().manual_seed(0))


def test_a_network_that_says_stay_gives_the_pose_that_is_observed(monkeypatch):
    for to in ("relative", "delta"):
        policy = made(to)
        stay = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1, 0, 0.5]).expand(1, 8, 10)
        monkeypatch.setattr(policy, "unnormalize_action", lambda _, stay=stay: stay)
        seen = observed(angle=np.pi)
        chunk = policy.predict(seen).numpy()
        expected = np.repeat(seen["pose"][:, 1:], 8, 1)
        expected[:, 0] = seen["pose"][:, 0 if to == "delta" else 1]
        expected[..., 7] = 0.5
        assert_same(chunk, expected, atol=1e-5)


@pytest.mark.parametrize("angle", [None, np.pi, np.pi - 1e-4])
def test_a_chunk_to_begin_from_comes_back(policy, angle):
    chunk = stored(np.random.default_rng(1), 2, 8, angle=angle)
    found = policy.predict(observed(rows=2), init=(torch.from_numpy(chunk), 0.0))
    assert_same(found, chunk)


def test_moving_and_turning_the_world_moves_and_turns_the_chunk(policy):
    seen = observed()
    chunk = policy.predict(seen, noise=noise()).numpy()
    turn, shift = Rotation.from_rotvec([0.3, -1.0, 2.0]), np.array([5.0, -3.0, 1.0])

    def moved(values):
        flat = values.reshape(-1, 8)
        place = turn.apply(flat[:, :3]) + shift
        q = (turn * Rotation.from_quat(flat[:, 3:7])).as_quat()
        return np.float32(np.hstack([place, q, flat[:, 7:]])).reshape(values.shape)

    again = policy.predict({"pose": moved(seen["pose"])}, noise=noise()).numpy()
    assert_same(again, moved(chunk))


@pytest.mark.parametrize("method", ["replace", "identity", "jacobian"])
@pytest.mark.parametrize("unknown", [0.0, np.nan])
def test_what_is_known_is_expressed_in_the_frame_of_the_new_observation(policy, method, unknown):
    left = stored(np.random.default_rng(3), 1, 8)
    values = left.copy()
    values[:, 4:] = unknown
    seen = observed(7)

    def chunk(given):
        known = known_chunk(given, slice(0, 4), method)
        return policy.predict(seen, torch.Generator().manual_seed(0), known=known).numpy()

    found = chunk(values)
    assert np.array_equal(found, chunk(left))
    if method == "replace":
        assert_same(found[:, :4], left[:, :4], atol=1e-3)


def test_deltas_cannot_hold_the_end_of_a_chunk_alone():
    end = known_chunk(stored(np.random.default_rng(3), 1, 8), slice(7, 8))
    chunk = made("relative").predict(observed(), noise=noise(), known=end)
    assert_same(chunk[:, 7:], end.values[:, 7:], atol=1e-3)
    with pytest.raises(ConfigError, match="known from its beginning without a gap"):
        made("delta").predict(observed(), known=end)


def test_a_plan_ends_where_it_is_to_end_in_the_frame_of_where_it_begins():
    def plan(to):
        config = PolicyConfig(denoiser=SMALL, known={"last": "pose", "method": "replace"})
        return Policy(config, features(to), WINDOW).eval().requires_grad_(False)

    policy = plan("relative")
    policy.solver = DDIM(steps=3)
    seen = observed(3)
    assert_same(policy.predict(seen, noise=noise())[:, 7], seen["pose"][:, 1], atol=1e-3)
    with pytest.raises(ConfigError, match="actions that are deltas cannot say where"):
        plan("delta")


def test_a_robots_prefix_is_absolute_and_stays_so(policy):
    plan = stored(np.random.default_rng(5), 7)
    for make in (known_prefix, whole_prefix):
        known = make([plan[0]], plan[1:], WINDOW, delay=3)
        assert np.array_equal(known["values"][:7], plan)
    known = {**known_prefix([plan[0]], plan[1:], WINDOW, delay=3), "form": 0}  # replace
    compute = PolicyCompute(policy)
    seen = {name: value[0] for name, value in observed(2).items()}
    chunk = compute(Ticket(0, 0, 0.0, 0), seen, known)["action"]
    assert chunk.shape == (8, 8)
    assert_same(chunk[:4], plan[:4], atol=1e-3)
    assert spec_of(policy).observation == {"pose": (8,)}
    assert spec_of(policy).action_size == 8


def test_a_cost_is_of_absolute_actions(policy):
    def far(chunk):
        seen.append(chunk.detach())
        return -chunk[..., 0].sum(1)  # the further along the world's first axis, the better

    seen = []
    pose = observed()
    pose["pose"][..., :3] += 90
    free = policy.predict(pose, noise=noise())
    pulled = policy.predict(pose, noise=noise(), costs=[CostTerm(far, 0.1)])
    assert 80 < seen[0][..., :3].mean() < 100
    assert ((pulled - free)[..., 0] > 0).all()


def test_a_checkpoint_keeps_it_and_one_without_it_is_as_before(policy, tmp_path):
    saved = Checkpoint(policy_config(policy), {"ema": policy.state_dict()}, {})
    save_checkpoint(tmp_path / "c", saved)
    loaded = load_policy(tmp_path / "c")
    assert loaded.features == policy.features
    loaded.solver = policy.solver
    assert torch.equal(
        loaded.predict(observed(), noise=noise()), policy.predict(observed(), noise=noise())
    )
    plain = replace(policy.features, action=replace(policy.features.action, represent=None))
    assert "represent" not in json.dumps(plain.action.to_dict())


def test_a_fake_observation_can_be_predicted_from(policy):
    fake = policy.fake_observation(3)
    assert fake["pose"].shape == (3, 2, 8)
    assert torch.isfinite(policy.predict(fake)).all()


def test_without_its_pose_it_cannot_predict():
    action = features("relative").action
    unknown = Features.from_dict({"observation": {"pose": {"shape": [10]}, "q": {"shape": [2]}},
                                  "action": action.to_dict()})  # fmt: skip
    with pytest.raises(ConfigError, match="relative to 'pose', which is no observation"):
        Policy(
            PolicyConfig(denoiser=SMALL),
            replace(unknown, observation={"q": unknown.observation["q"]}),
            WINDOW,
        )


@pytest.mark.heavy
@pytest.mark.parametrize(("runtime", "to"), [("onnx", "relative"), ("openvino", "delta")])
def test_an_export_decodes_outside_its_graph(tmp_path, runtime, to):
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    policy = made(to)
    schema = export_policy(policy, runtime, tmp_path / "e")
    assert schema["outputs"][0]["units"].endswith("relative to a pose as features say")
    exported = load_exported(tmp_path / "e", runtime)
    ours = policy.predict(observed(4, rows=3), torch.Generator().manual_seed(1))
    theirs = exported.predict(observed(4, rows=3), torch.Generator().manual_seed(1))
    assert_same(theirs, ours, atol=1e-3)

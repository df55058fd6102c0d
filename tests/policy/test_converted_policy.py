"""A policy whose rotations and angles are converted: trained, kept, evaluated, exported, deployed.

Whoever asks it gives and gets the robot's numbers: quaternions.
"""

import json

import gymnasium
import numpy as np
import pytest
import torch

from dipole.data import (
    ConfigError,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Statistics,
    Windows,
    WindowSpec,
)
from dipole.deploy import (
    ActionSpec,
    Channel,
    DryRun,
    LoopConfig,
    Reading,
    RealClock,
    Robot,
    RobotSpec,
)
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop import run as run_module
from dipole.deploy.loop.run import RunConfig, run_policy
from dipole.deploy.robots.fit import check_fit
from dipole.deploy.robots.groups import ActionGroup
from dipole.deploy.safety.limits import Limits
from dipole.envs import evaluate
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, load_policy, policy_config, save_checkpoint
from dipole.policy.diffusion.guidance import InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.execution.executor import Executor, NotFiniteError
from dipole.policy.normalizer import over_pixels
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported

WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper")
POSE = [
    {"columns": [3, 4, 5, 6], "transform": "quaternion_to_6d"},
    {"columns": [7], "transform": "range_to_unit", "options": {"low": 0.0, "high": 0.08}},
]
TASK = {
    "observation": {"pose": {"shape": [10], "convert": POSE}, "angle": {
        "shape": [2], "convert": [{"columns": [0], "transform": "angle_to_sin_cos"}]}},
    "action": {"shape": [10], "convert": POSE, "names": NAMES},
}  # fmt: skip


def poses(n, phase=0.0):
    """A hand that turns about z, whose quaternion changes its sign on the way."""
    t = np.linspace(0, 4, n) + phase
    half = np.stack([0 * t, 0 * t, np.sin(t / 2), np.cos(t / 2)], -1)
    half[n // 2 :] *= -1
    grip = 0.04 + 0.04 * np.sin(t)
    return np.column_stack([np.cos(t), np.sin(t), 0 * t, half, grip]).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "poses"
    with EpisodeWriter(path, fps=10.0) as writer:
        for phase in (0.0, 0.5, 1.0):
            frames = poses(30, phase)
            angle = np.angle(np.exp(1j * np.linspace(0, 9, 30)))[:, None]
            writer.add_episode({"pose": frames, "angle": angle, "action": frames})
    return EpisodeStore.open(path)


@pytest.fixture(scope="module")
def policy(store):
    """Trained for a few steps."""
    features = Features.from_dict({**TASK, "fps": 10.0})
    windows = Windows(store, WINDOW, features)
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(denoiser=SMALL), features, WINDOW)
    policy.fit(windows.statistics())
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    batch = windows.gather(np.arange(16))
    tensors = {
        "observation": {k: torch.as_tensor(v) for k, v in batch["observation"].items()},
        "action": torch.as_tensor(batch["action"]),
    }
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = policy.loss(tensors)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    policy.solver = DDIM(steps=3)
    return policy.eval().requires_grad_(False)


def observation(rows=1):
    frames = poses(2)
    angle = np.array([[3.1], [-3.1]], np.float32)
    return {
        "pose": np.repeat(frames[None], rows, 0),
        "angle": np.repeat(angle[None], rows, 0),
    }


def assert_poses(actions):
    assert actions.shape[-1] == 8
    assert np.linalg.norm(actions[..., 3:7], axis=-1) == pytest.approx(1.0, abs=1e-5)


def test_windows_hold_converted_numbers_and_no_sign(store):
    features = Features.from_dict(TASK)
    batch = Windows(store, WINDOW, features).gather(np.array([10]))
    turn = np.float32(poses(30))[:, 3:7]
    assert np.dot(turn[14], turn[15]) < 0  # q and -q in the data
    action = batch["action"][0]
    assert action.shape == (8, 10)
    assert np.abs(np.diff(action[:, 3:9], axis=0)).max() < 0.15
    assert np.abs(action[:, 9]).max() <= 1.0
    assert batch["observation"]["angle"].shape == (1, 2, 2)


def test_a_chunk_is_in_the_robots_numbers_and_the_sign_of_what_is_seen_is_the_same(policy):
    noise = torch.randn(1, 8, 10, generator=torch.Generator().manual_seed(0))
    chunk = policy.predict(observation(), noise=noise).numpy()
    assert_poses(chunk)
    other = observation()
    other["pose"][..., 3:7] *= -1
    assert np.allclose(policy.predict(other, noise=noise).numpy(), chunk, atol=1e-6)


def test_a_checkpoint_keeps_the_conversions_by_name_and_predicts_the_same(policy, tmp_path):
    saved = Checkpoint(policy_config(policy), {"ema": policy.state_dict()}, {})
    save_checkpoint(tmp_path / "c", saved)
    written = json.loads((tmp_path / "c" / "config.json").read_text())["features"]
    assert written["action"]["convert"] == POSE
    loaded = load_policy(tmp_path / "c")
    assert loaded.features == policy.features
    loaded.head.solver = policy.head.solver
    noise = torch.randn(1, 8, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        loaded.predict(observation(), noise=noise), policy.predict(observation(), noise=noise)
    )
    written["action"]["convert"][0]["transform"] = "quaternion_to_7d"
    with pytest.raises(ConfigError, match="did you mean 'quaternion_to_6d'"):
        Features.from_dict(written)


def test_an_observation_that_holds_no_rotation_is_named(policy):
    seen = observation()
    seen["pose"][0, 1, 3:7] = 0
    with pytest.raises(DataError, match=r"observation 'pose': .* is no quaternion_xyzw"):
        policy.predict(seen)


def test_a_chunk_that_holds_no_rotation_is_found_where_any_nan_is(policy, monkeypatch):
    nothing = torch.zeros(16, 8, 10)
    monkeypatch.setattr(policy, "unnormalize_action", lambda _: nothing)
    executor = Executor(policy, 1)
    executor.reset(0, {k: v[0, 0] for k, v in observation().items()}, seed=0)
    with pytest.raises(NotFiniteError):
        executor.act([0])


def test_what_is_known_of_a_chunk_is_given_in_the_robots_numbers(policy):
    known = np.zeros((1, 8, 8), np.float32)
    known[0, :3] = poses(3)
    mask = np.zeros((1, 8, 8), np.float32)
    mask[0, :3] = 1.0
    given = KnownChunk(
        torch.from_numpy(known), torch.from_numpy(mask), InpaintingGuidance("replace")
    )
    chunk = policy.predict(observation(), torch.Generator().manual_seed(0), known=given).numpy()
    side = np.sign((chunk[0, :3, 3:7] * known[0, :3, 3:7]).sum(-1, keepdims=True))
    chunk[0, :3, 3:7] *= side  # q and -q are one rotation
    assert np.allclose(chunk[0, :3], known[0, :3], atol=1e-3)
    assert_poses(chunk)


@pytest.mark.parametrize("form", ["replace", "identity", "jacobian"])
@pytest.mark.parametrize("unknown", [0.0, np.nan])
def test_what_is_not_known_of_a_chunk_may_be_anything(policy, form, unknown):
    """The position alone is known: where the quaternion would stand are no rotations."""
    known = np.full((1, 8, 8), unknown, np.float32)
    known[0, :3, :4] = poses(3)[:, :4]
    mask = np.zeros((1, 8, 8), np.float32)
    mask[0, :3, :4] = 1.0  # a fourth of a quaternion says nothing

    def chunk(values):
        given = KnownChunk(
            torch.from_numpy(values), torch.from_numpy(mask), InpaintingGuidance(form)
        )
        return policy.predict(observation(), torch.Generator().manual_seed(0), known=given).numpy()

    whole = np.where(mask > 0, known, poses(8)).astype(np.float32)
    found = chunk(known)
    assert np.array_equal(found, chunk(whole))
    if form == "replace":
        assert np.allclose(found[0, :3, :3], poses(3)[:, :3], atol=1e-5)


def test_a_chunk_to_begin_from_is_given_in_the_robots_numbers(policy):
    chunk = poses(8)[None]
    found = policy.predict(observation(), init=(torch.from_numpy(chunk), 0.0)).numpy()
    side = np.sign((found[0, :, 3:7] * chunk[0, :, 3:7]).sum(-1, keepdims=True))
    found[0, :, 3:7] *= side  # q and -q are one rotation
    assert np.allclose(found, chunk, atol=1e-5)


def test_observations_in_half_precision_are_converted(policy):
    half = {name: torch.as_tensor(v).to(torch.bfloat16) for name, v in observation().items()}
    chunk = policy.predict(half, torch.Generator().manual_seed(0)).numpy()
    whole = {name: value.float() for name, value in half.items()}
    assert np.array_equal(chunk, policy.predict(whole, torch.Generator().manual_seed(0)).numpy())


def test_an_export_converts_outside_its_graph(policy, tmp_path):
    pytest.importorskip("onnxruntime")
    schema = export_policy(policy, "onnx", tmp_path / "e")
    assert schema["outputs"][0]["shape"] == ["B", 8, 10]
    exported = load_exported(tmp_path / "e")
    noise = torch.randn(1, 8, 10, generator=torch.Generator().manual_seed(0))
    ours = policy.predict(observation(), noise=noise).numpy()
    theirs = exported.predict(observation(), noise=noise).numpy()
    assert np.allclose(theirs, ours, atol=1e-4)
    assert spec_of(exported).observation == {"pose": (8,), "angle": (1,)}
    assert spec_of(exported).action_size == 8


class Hand(gymnasium.Env):
    """It is at once where it is sent, and refuses what is no pose."""

    action_space = gymnasium.spaces.Box(-9, 9, (8,), np.float32)

    def __init__(self, observation=("pose", "angle")):
        self.at = poses(2)[0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.age = poses(2)[0], 0
        return self._look(), {}

    def step(self, action):
        assert_poses(action)
        self.at, self.age = action, self.age + 1
        return self._look(), 1.0, False, self.age == 6, {"is_success": True}

    def _look(self):
        return {"pose": np.float32(self.at), "angle": np.float32([3.1])}


def test_a_simulator_gets_and_gives_its_own_numbers(policy):
    evaluation = evaluate(policy, Hand, episodes=2, seed=0, picture=False)
    assert evaluation.metrics["success_rate"] == 1.0


LIMITS = Limits((-9.0,) * 3 + (-1.0,) * 4, (9.0,) * 3 + (1.0,) * 4, (90.0,) * 7, (9000.0,) * 7)
GRIP = Limits((-0.1,), (0.2,), (9.0,), (900.0,))


class Arm(Robot):
    """Takes poses with quaternions."""

    spec = RobotSpec(
        {"pose": Channel((8,), quaternions=(3,)), "angle": Channel((1,), unit="rad")},
        ActionSpec.of(
            ActionGroup("hand", "pose", NAMES[:7], "m", "pose", tuple(range(7)),
                        rotation="quaternion_xyzw", limits=LIMITS),
            ActionGroup("grip", "gripper", NAMES[7:], "", "pose", (7,), limits=GRIP),
        ),
    )  # fmt: skip

    def __init__(self):
        self.at = np.float32(poses(2)[0])

    def connect(self):
        pass

    def observe(self):
        return Reading(RealClock().now(), {"pose": self.at, "angle": np.float32([3.1])})

    def command(self, action):
        raise AssertionError("a dry run sends nothing")

    hold = stop = close = connect


def test_a_robot_fits_by_its_own_numbers(policy):
    spec = spec_of(policy)
    assert spec.observation == {"pose": (8,), "angle": (1,)}
    assert spec.action_size == 8
    assert spec.meaning_of("action").names == NAMES
    assert check_fit(Arm.spec, spec) == []


def test_a_robot_is_sent_quaternions_of_length_one(policy, tmp_path, monkeypatch):
    loop = LoopConfig(max_observation_age=2.0, call_timeout=2.0, max_limited=None,
                      max_approach=None)  # fmt: skip
    config = RunConfig(loop, 0.5, "now", True, None, tmp_path)
    robots = []

    class Shown(DryRun):
        def __init__(self, robot, *words, **options):
            super().__init__(robot, *words, **options)
            robots.append(self)

    monkeypatch.setattr(run_module, "DryRun", Shown)
    run_policy(Arm(), lambda: ThreadInference(spec_of(policy), PolicyCompute(policy)), config)
    assert len(robots[0].commands) > 3
    assert_poses(np.stack(robots[0].commands))


def test_data_that_hold_no_rotation_are_named(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"pose": np.zeros((20, 8)), "action": poses(20)})
    features = Features.from_dict({"observation": {"pose": TASK["observation"]["pose"]},
                                   "action": TASK["action"]})  # fmt: skip
    windows = Windows(EpisodeStore.open(tmp_path / "a"), WINDOW, features)
    with pytest.raises(DataError, match=r"'pose'.*\[0.0, 0.0, 0.0, 0.0\] is no quaternion_xyzw"):
        windows.gather(np.array([0]))


def test_a_shape_that_does_not_fit_the_conversion_is_refused():
    with pytest.raises(ConfigError, match="column 6 for quaternion_to_6d, and there are 5"):
        Feature((7,), convert=POSE[:1])
    with pytest.raises(ConfigError, match="for vectors of states and actions"):
        Feature((4, 4, 3), kind="image", convert=POSE[:1])


def test_units_and_names_follow_into_what_the_network_sees():
    action = Feature((10,), kind="action", convert=POSE, names=NAMES,
                     units=("m",) * 3 + ("",) * 4 + ("m",))  # fmt: skip
    assert action.stored_shape == (8,)
    assert action.network_names[3:] == ("r11", "r12", "r13", "r21", "r22", "r23", "gripper")
    assert action.network_units == ("m",) * 3 + ("",) * 7
    assert Feature.from_dict(json.loads(json.dumps(action.to_dict()))) == action
    with pytest.raises(ConfigError, match="given numbers in 'm'"):
        Feature((1,), units="m", convert=[{"columns": [0], "transform": "degrees_to_radians"}])


# Depth --------------------------------------------------------------------------------------------


def test_depth_is_read_as_float32_and_all_its_pixels_have_one_scale(tmp_path):
    depth = np.arange(20 * 6, dtype=np.uint16).reshape(20, 2, 3, 1)
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"depth": depth, "action": np.zeros((20, 2))})
    features = Features({"depth": Feature((2, 3, 1), kind="depth")}, Feature((2,), kind="action"))
    windows = Windows(EpisodeStore.open(tmp_path / "a"), WINDOW, features)
    assert windows.gather(np.array([0]))["observation"]["depth"].dtype == np.float32
    found = over_pixels(Statistics.of(depth))
    assert found.min.tolist() == np.zeros((2, 3, 1)).tolist()
    assert found.max.tolist() == np.full((2, 3, 1), 119.0).tolist()
    assert found.mean.ravel()[0] == pytest.approx(59.5)
    assert found.std.ravel()[0] == pytest.approx(depth.std(), rel=0.03)


def test_encoders_that_cannot_see_depth_say_so():
    features = Features({"depth": Feature((2, 3, 1), kind="depth")}, Feature((2,), kind="action"))
    with pytest.raises(ConfigError, match=r"cannot encode depth"):
        Policy(PolicyConfig(denoiser=SMALL), features, WINDOW)
    numbers = {"name": "join", "parts": {"state": {"name": "state"}}}
    with pytest.raises(ConfigError, match=r"no part of policy.encoder encodes 'depth'"):
        Policy(PolicyConfig(encoder=numbers), features, WINDOW)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"shape": [4, 4]}, "is needed"),
        ({"shape": [4, 4, 3]}, "is needed"),
        ({"shape": [4, 4, 1], "normalize": "gaussian"}, "its pixels share one range"),
    ],
)
def test_depth_is_one_number_a_pixel(entries, message):
    with pytest.raises(ConfigError, match=message):
        Feature.from_dict({"kind": "depth", **entries})

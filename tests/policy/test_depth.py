"""Depth in metres, from the store to the network, beside colour cameras of other sizes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dipole.data import (
    ConfigError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Statistics,
    WindowSpec,
)
from dipole.data.loading.mixture.mixture import Mixture, MixturePart
from dipole.data.loading.windows import Windows
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder
from dipole.policy.encoders.cameras.views import View, ViewConfig
from dipole.policy.normalizer import Normalizer
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.program import SamplingProgram

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import TINY_RESNET

WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
EYES = {
    "name": "image",
    "backbone": TINY_RESNET,
    "dim": 8,
    "crop": 0.75,
    "augment": {"brightness": 0.5},
}
FEATURES = Features.from_dict(
    {
        "observation": {
            "front": {"shape": [32, 32, 3], "kind": "image"},
            "front_depth": {"shape": [32, 32, 1], "kind": "depth", "range": [0.5, 2.0]},
            "wrist_depth": {"shape": [24, 40, 1], "kind": "depth", "range": [0.1, 1.0],
                            "normalize": "log"},
            "state": {"shape": [2]},
        },
        "action": {"shape": [2]},
    }
)  # fmt: skip


def frames(n, rng=None):
    rng = rng or np.random.default_rng(0)
    depth = rng.uniform(0.1, 3, (n, 32, 32, 1)).astype(np.float32)
    depth[:, 0] = 0  # not measured
    return {
        "front": rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        "front_depth": depth,
        "wrist_depth": rng.uniform(0.05, 2, (n, 24, 40, 1)).astype(np.float32),
        "state": rng.normal(size=(n, 2)).astype(np.float32),
        "action": rng.normal(size=(n, 2)).astype(np.float32),
    }


def test_what_is_outside_the_range_or_not_measured_is_at_its_ends():
    feature = Feature((1, 7, 1), kind="depth", range=[0.5, 2.0])
    depth = np.float32([0.1, 0.5, 1.25, 3.0, 0.0, np.nan, np.inf]).reshape(1, 7, 1)
    assert feature.apply(depth).ravel().tolist() == [0.5, 0.5, 1.25, 2.0, 2.0, 2.0, 2.0]
    normalizer = Normalizer.from_statistics(
        "limits", Statistics.within(*feature.depth_range.limits, feature.shape, 1)
    )
    found = normalizer.normalize(feature.apply(depth)).ravel()
    assert found.tolist() == pytest.approx([-1, -1, 0, 1, 1, 1, 1], abs=1e-6)


def test_the_logarithm_of_depth_has_its_middle_at_the_geometric_mean():
    feature = Feature((1, 3, 1), kind="depth", range=[0.1, 10.0], normalize="log")
    depth = np.float32([0.1, 1.0, 10.0]).reshape(1, 3, 1)
    seen = feature.apply(depth)
    assert seen.ravel().tolist() == pytest.approx(np.log([0.1, 1, 10]), abs=1e-6)
    assert feature.depth_range.limits == pytest.approx((np.log(0.1), np.log(10)))
    assert feature.invert(seen) == pytest.approx(depth, rel=1e-6)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"range": [2.0, 0.5]}, "near, 0 or more, and far"),
        ({"range": [0.0, 1.0], "normalize": "log"}, "near, above 0"),
        ({"normalize": "log"}, "give its range"),
        ({"range": 3}, r"\[near, far\] is needed"),
        ({"kind": "state", "range": [0.0, 1.0]}, "are for kind depth"),
    ],
)
def test_a_range_that_cannot_be_is_refused(entry, said):
    with pytest.raises(ConfigError, match=said):
        Feature.from_dict({"shape": [4, 4, 1], "kind": "depth", **entry})


def test_depth_and_the_pictures_of_its_camera_are_cut_at_the_same_place():
    views = [
        View(shape, ViewConfig(crop=(8, 8)), Augmentation(shift=2), "front", shape[2] == 1)
        for shape in ((16, 16, 3), (16, 16, 1))
    ]
    rows = torch.arange(16.0).view(16, 1, 1).expand(16, 16, 1)
    pictures = rows.expand(4, 2, 16, 16, 1)
    place = views[0].draw_place(4, torch.device("cpu"))
    colours = views[0](pictures.expand(-1, -1, -1, -1, 3).to(torch.uint8), place) * 255
    depth = views[1](pictures, place)
    assert depth.shape == (8, 3, 8, 8)
    assert torch.allclose(colours, 2 * depth - 1)
    assert len({picture[0, 0, 0].item() for picture in colours}) > 1
    features = Features.from_dict(
        {
            "observation": {
                "eye_depth": {"shape": [16, 16, 1], "kind": "depth", "range": [0.0, 1.0]},
                "eye": {"shape": [16, 16, 3], "kind": "image"},
            },
            "action": {"shape": [1]},
        }
    )
    encoder = CamerasEncoder(features, WINDOW, EYES["backbone"], {"name": "mean"}, crop=8)
    assert encoder.cameras == ["eye", "eye_depth"]
    seen = {"eye": pictures.expand(-1, -1, -1, -1, 3).to(torch.uint8), "eye_depth": pictures}
    viewed = encoder._viewed(seen)
    assert viewed["eye"].dtype == torch.uint8
    assert torch.allclose(viewed["eye"].float(), 2 * viewed["eye_depth"] - 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "depth"
    depth = {"kind": "depth", "units": "m"}
    with EpisodeWriter(path, features={"front_depth": depth, "wrist_depth": depth}) as writer:
        for seed in range(2):
            writer.add_episode(frames(12, np.random.default_rng(seed)))
    return EpisodeStore.open(path)


def test_depth_is_trained_on_and_predicted_from_as_a_simulator_gives_it(store):
    windows = Windows(store, WINDOW, FEATURES)
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(encoder=EYES, denoiser=SMALL), FEATURES, WINDOW)
    policy.fit(windows.statistics())
    batch = windows.gather(np.arange(2))
    assert batch["observation"]["front_depth"].min() == 0.5
    tensors = {
        "observation": {k: torch.as_tensor(v) for k, v in batch["observation"].items()},
        "action": torch.as_tensor(batch["action"]),
    }
    policy.loss(tensors).backward()
    seen, _ = policy.normalizers.normalize(tensors["observation"], {})
    for name in ("front_depth", "wrist_depth"):
        assert (seen[name].min().item(), seen[name].max().item()) == pytest.approx((-1, 1))
    policy = policy.eval().requires_grad_(False)
    policy.solver = DDIM(steps=2)
    interface = Interface.of(FEATURES, EnvSpec("mine"), {})
    live = {name: value[0] for name, value in frames(1).items() if name != "action"}
    live["front_depth"][5] = np.nan
    one = interface.observe(live)
    stacked = {name: np.stack([value, value])[None] for name, value in one.items()}
    assert torch.isfinite(policy.predict(stacked)).all()
    nearer = {**stacked, "front_depth": np.full_like(stacked["front_depth"], 0.7)}
    noise = torch.zeros(1, 8, 2)
    assert not torch.equal(
        policy.predict(stacked, noise=noise), policy.predict(nearer, noise=noise)
    )
    assert policy.fake_observation(1)["wrist_depth"].min() >= 0.1 - 1e-6


def test_datasets_of_a_mixture_have_one_scale_of_depth(store):
    straight = replace(FEATURES.observation["wrist_depth"], normalize="limits")
    own = replace(FEATURES, observation={**FEATURES.observation, "wrist_depth": straight})
    with pytest.raises(ConfigError, match=r"'near'.*'wrist_depth': range of depth, or normalize"):
        Mixture([MixturePart(Windows(store, WINDOW, own), 1.0, "near")], FEATURES)


def test_an_export_says_that_depth_with_a_range_is_converted():
    policy = Policy(PolicyConfig(encoder=EYES, denoiser=SMALL), FEATURES, WINDOW)
    units = {port.name: port.units for port in SamplingProgram(policy.eval()).inputs}
    assert units["observation.wrist_depth"] == "the robot's, converted as features say"
    assert units["observation.state"] == "the robot's"


def test_what_a_policy_looks_at_in_depth_is_shown_from_near_to_far(store):
    policy = Policy(PolicyConfig(encoder=EYES, denoiser=SMALL), FEATURES, WINDOW)
    policy.fit(Windows(store, WINDOW, FEATURES).statistics())
    seen = {name: value[:2] for name, value in frames(2).items() if name != "action"}
    for metres, shade in ((0.5, 0), (1.25, 128), (2.0, 255)):
        seen["front_depth"] = np.full_like(seen["front_depth"], metres)
        assert np.unique(policy.eval().saliency(seen)["front_depth"].picture).tolist() == [shade]


def test_a_depth_camera_may_be_missing(store):
    eyes = {**EYES, "camera_dropout": 0.1}
    policy = Policy(PolicyConfig(encoder=eyes, denoiser=SMALL), FEATURES, WINDOW)
    policy.solver = DDIM(steps=2)
    batch = Windows(store, WINDOW, FEATURES).gather(np.arange(2))
    observation = {k: torch.as_tensor(v) for k, v in batch["observation"].items()}
    missing = {"front_depth": torch.tensor([True, False])}
    _, absent = policy.normalizers.normalize(observation, missing)
    assert absent == missing
    assert "wrist_depth" in policy.optional
    policy.eval().predict({k: v for k, v in observation.items() if k != "wrist_depth"})


def test_depth_that_a_simulator_calls_so_is_stored_as_depth(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode(frames(3))
    assert EpisodeStore.open(tmp_path / "a").schema("front_depth")["kind"] == "depth"


@pytest.mark.heavy
def test_an_export_is_given_depth_in_metres(store, tmp_path):
    pytest.importorskip("onnxruntime")
    policy = Policy(PolicyConfig(encoder=EYES, denoiser=SMALL), FEATURES, WINDOW)
    policy.fit(Windows(store, WINDOW, FEATURES).statistics())
    policy.solver = DDIM(steps=2)
    policy.eval().requires_grad_(False)
    export_policy(policy, "onnx", tmp_path / "e")
    stacked = {k: v[:2][None] for k, v in frames(2).items() if k != "action"}
    ours = policy.predict(stacked, torch.Generator().manual_seed(0))
    theirs = load_exported(tmp_path / "e").predict(stacked, torch.Generator().manual_seed(0))
    assert torch.allclose(ours, theirs, atol=1e-4)

"""Which observations the aspects of quality are measured on, and in what numbers."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dipole.data import EpisodeStore, EpisodeWriter, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.loading.task_data import TaskData
from dipole.envs.quality.aspects import measure_aspects
from dipole.envs.quality.held_out import held_out_windows
from dipole.envs.quality.likelihood import demonstrated_likelihood
from dipole.envs.quality.picture import _chunks_panel, aspects_picture
from dipole.envs.quality.sampling import sample_chunks
from dipole.envs.quality.settings import AspectSettings
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.processes import EDM, Flow, VariancePreserving

EXECUTED = slice(1, 4)


def task(val_ratio=0.5):
    """Pictures and a pose: a position, and a quaternion that the network sees as six numbers."""
    convert = [{"columns": [3, 4, 5, 6], "transform": "quaternion_to_6d"}]
    return {
        "name": "poses",
        "observation": {
            "camera": {"shape": [8, 8, 3], "kind": "image", "source": "camera"},
            "pose": {"shape": [9], "kind": "state", "source": "pose", "convert": convert},
        },
        "action": {"shape": [9], "kind": "action", "source": "action", "convert": convert},
        "window": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
        "split": {"val_ratio": val_ratio, "seed": 0},
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "poses.zarr"
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=5.0) as writer:
        for length in (12, 9, 10, 11):
            position = rng.normal(0, [1, 10, 1e-7], (length, 3)).cumsum(0)
            turn = np.linspace(0, 1, length)[:, None]
            quaternion = np.concatenate([np.zeros((length, 2)), np.sin(turn), np.cos(turn)], 1)
            pose = np.concatenate([position, quaternion], 1).astype(np.float32)
            pictures = rng.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)
            writer.add_episode({"camera": pictures, "pose": pose, "action": pose})
    return path


@pytest.fixture(scope="module")
def config(dataset):
    data = TaskData.open(task(), str(dataset))
    return {"run": {"task": task(), "dataset": str(dataset)}, "dataset": data.describe()}


class Oracle:
    """Repeats the pose that it sees, with noise: in the robot's numbers."""

    window = WindowSpec(n_obs_steps=2, horizon=6, n_action_steps=3)
    device = torch.device("cpu")

    def predict(self, observation, generator=None):
        assert observation["camera"].dtype == torch.uint8
        pose = observation["pose"][:, -1:]  # [B, 1, 7]
        noise = torch.stack([torch.randn(6, 7, generator=each) for each in generator])
        noise[..., 3:] = 0
        return pose + noise


def test_windows_are_of_held_out_episodes_in_the_robot_s_numbers(config, dataset):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 100)
    data = TaskData.open(task(), str(dataset))
    assert found.windows == len(data.validation)
    assert len(found) == len(data.validation)  # executed actions are never padding
    assert found.observation["pose"].shape[1:] == (2, 7)
    assert found.observation["camera"].dtype == np.uint8
    assert found.action.shape[1:] == (6, 9)
    assert np.linalg.norm(found.demonstrated()[..., 3:], axis=-1) == pytest.approx(1, abs=1e-5)
    actions = data.train.statistics()["action"]
    assert found.scale[:2] == pytest.approx(actions.std[:2])
    assert found.scale[2] == 1  # hardly moves


def test_windows_that_are_fewer_than_all_are_spread_evenly(config):
    every = held_out_windows(config, "CHECKPOINT", EXECUTED, 100)
    some = held_out_windows(config, "CHECKPOINT", EXECUTED, 3)
    assert some.action.tolist() == every.action[[0, (len(every) - 1) // 2, -1]].tolist()
    assert some.windows == len(every)


def test_a_moment_says_its_episode_and_the_frame_that_is_seen_last(config, dataset):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 100)
    stored, moments = EpisodeStore.open(dataset), found.moments(5)
    assert len(moments) == 5
    for moment in moments:
        episode, frame = map(
            int, re.fullmatch(r"episode (\d+)   frame (\d+)", moment.where).groups()
        )
        picture = stored["camera"][stored.episode_starts[episode] + frame]
        assert np.array_equal(moment.observation["camera"][-1], picture)
    held_out = TaskData.open(task(), str(dataset)).validation.episodes
    episodes = {int(moment.where.split()[1]) for moment in moments}
    assert episodes == set(held_out.tolist())


def test_a_moment_of_a_mixture_says_which_dataset_it_is_of(dataset):
    parts = [{"path": str(dataset), "name": name} for name in ("kitchen", "office")]
    mixture = {**task(), "datasets": parts}
    data = TaskData.open(mixture, None)
    config = {"run": {"task": mixture}, "dataset": data.describe()}
    first, last = held_out_windows(config, "CHECKPOINT", EXECUTED, 100).moments(2)
    episodes = data.parts[0].held_out.episodes  # the same of both
    assert first.where == f"kitchen   episode {episodes[0]}   frame 0"
    assert last.where.startswith(f"office   episode {episodes[-1]}   frame ")


def test_frames_that_repeat_the_last_action_are_left_out(config):
    every = held_out_windows(config, "CHECKPOINT", EXECUTED, 100)
    long = held_out_windows(config, "CHECKPOINT", slice(1, 6), 100)
    assert 0 < len(long) < len(every)


def test_demonstrated_chunks_in_the_robot_s_numbers_are_at_no_distance(config):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 100)
    again = found.standardized(found.demonstrated(), EXECUTED)
    assert again == pytest.approx(found.standardized_action(EXECUTED), abs=1e-5)


def test_a_sample_s_noise_is_its_own_whatever_is_drawn_beside_it(config):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 5)
    chunks = sample_chunks(Oracle(), found.observation, 7, seed=0)
    assert chunks.shape == (5, 7, 6, 7)
    noise = chunks - found.observation["pose"][:, None, -1:]
    assert len(np.unique(noise[:, :, 0, 0].round(4))) == 35
    again = sample_chunks(Oracle(), found.observation, 7, seed=0)
    assert again.tolist() == chunks.tolist()
    assert sample_chunks(Oracle(), found.observation, 7, seed=1).tolist() != chunks.tolist()


@pytest.mark.parametrize("action_axes", [[0], [0, 1], None])
def test_any_policy_is_measured_and_drawn(config, action_axes):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 8)
    settings = AspectSettings(observations=8, samples=4)
    metrics = {
        "per_episode": [
            {"mode": "left", "success": True},
            {"mode": "right", "success": True},
            {"mode": "right", "success": False},
            {"mode": None, "success": True},
        ],
    }
    aspects = measure_aspects(Oracle(), found, EXECUTED, settings, hz=5.0, metrics=metrics)
    assert aspects.values["mode_entropy"] == 1
    assert aspects.values["modes"] == {"left": 1, "right": 1}
    assert aspects.samples.shape == (8, 4, 3, 9)
    assert aspects.values["log_likelihood"] is None
    if action_axes is not None:
        chosen = {n: getattr(aspects, n)[..., action_axes] for n in ("samples", "demonstrated")}
        aspects = SimpleNamespace(**{**vars(aspects), **chosen})
    assert aspects_picture(aspects).std() > 0


def test_a_single_number_over_time_fills_its_panel_whatever_its_size():
    time, action = np.linspace(0, 1, 8)[:, None], np.linspace(0, 50, 8)[:, None]
    points = np.concatenate([time, action], -1)
    panel = np.asarray(_chunks_panel(points[None], points, over_time=True)).min(-1) < 128
    for axis in (0, 1):
        drawn = panel.any(axis).nonzero()[0]
        assert drawn[-1] - drawn[0] > 0.8 * panel.shape[axis]


class Gaussian:
    """p(chunk | observation) = N(the last pose, 0.3), with the best denoiser of it; normalised, a
    chunk's numbers are divided by 20."""

    device, deviation = torch.device("cpu"), 0.3

    def __init__(self, features, process):
        self.features, self.head = features, self
        self.process = process

    def seen(self, observation):
        named = self.features.observation
        return {k: torch.as_tensor(named[k].apply(value)) for k, value in observation.items()}

    def normalize_action(self, chunks, observation):
        return torch.as_tensor(self.features.action.apply(chunks)) / 20

    def encode(self, observation):
        assert observation["camera"].dtype == torch.uint8
        return observation["pose"][:, -1:] / 20  # [B, 1, 9]

    def prepared_times(self, table):
        return [step.level.time for step in table]

    def estimators(self, table, times, context):
        assert len(times) == len(table)

        def at(level):
            def estimate(x):
                variance = (level.signal * self.deviation) ** 2 + level.noise**2
                pull = level.signal * self.deviation**2 / variance
                clean = context + pull * (x - level.signal * context)
                return Estimate(clean, (x - level.signal * clean) / level.noise)

            return estimate

        return [at(step.level) for step in table]


@pytest.mark.parametrize("process", [VariancePreserving(), Flow(), EDM()])
def test_the_log_likelihood_is_that_of_what_was_demonstrated(config, process):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 20)
    policy = Gaussian(found.features, process)
    mean = found.features.observation["pose"].apply(found.observation["pose"])[:, -1:]
    squares = ((found.action - mean) / 20 / policy.deviation) ** 2
    right = -squares.mean((1, 2)) / 2 - np.log(policy.deviation * (2 * np.pi) ** 0.5)
    each = demonstrated_likelihood(policy, found, 40, seed=0)
    assert each == pytest.approx(right, abs=0.1)
    assert np.ptp(right) > 0.5


def test_a_policy_without_a_noise_process_has_no_log_likelihood(config):
    found = held_out_windows(config, "CHECKPOINT", EXECUTED, 20)
    assert demonstrated_likelihood(Oracle(), found, 40, seed=0) is None


def test_what_has_no_held_out_observations_is_told(config, dataset):
    with pytest.raises(ConfigError, match="does not say which task it was trained on"):
        held_out_windows({}, "CHECKPOINT", EXECUTED, 9)
    none = {
        "run": {"task": task(val_ratio=0), "dataset": str(dataset)},
        "dataset": config["dataset"],
    }
    with pytest.raises(ConfigError, match="CHECKPOINT: no episode was held out"):
        held_out_windows(none, "CHECKPOINT", EXECUTED, 9)
    few = held_out_windows(config, "CHECKPOINT", EXECUTED, 3)
    with pytest.raises(ConfigError, match="3 held-out observations are too few"):
        measure_aspects(Oracle(), few, EXECUTED, AspectSettings())

"""docs/transforms.md, followed to the letter."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dipole.data import COLUMN_TRANSFORMS, EpisodeWriter, Features
from dipole.data.loading.task_data import TaskData
from dipole.data.transforms.column_transform import make_transform
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import DDIM

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "transforms.md").read_text()
SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}


def block(kind, number=0, page=PAGE):
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[number]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """The page's task, with a dataset as it says."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with EpisodeWriter("pick.zarr", fps=10) as writer:
        for _ in range(10):
            q = rng.normal(size=(30, 4))
            q /= np.linalg.norm(q, axis=1, keepdims=True)
            pose = np.hstack([rng.normal(size=(30, 3)), q, rng.uniform(0, 0.08, (30, 1))])
            wrist = rng.uniform(-np.pi, np.pi, (30, 1))
            writer.add_episode({"pose": pose, "wrist": wrist, "action": pose})
    return yaml.safe_load(block("yaml"))


def test_the_pages_task_trains_and_predicts_in_the_robots_numbers(task):
    data = TaskData.open(task, None)
    policy = Policy(PolicyConfig(denoiser=SMALL), data.features, data.train.spec)
    policy.fit(data.train.statistics())
    batch = data.train.gather(np.arange(4))
    assert batch["action"].shape == (4, 16, 10)
    assert batch["observation"]["wrist"].shape == (4, 2, 2)
    loss = policy.loss(
        {
            "observation": {k: torch.as_tensor(v) for k, v in batch["observation"].items()},
            "action": torch.as_tensor(batch["action"]),
        }
    )
    loss.backward()
    policy.solver = DDIM(steps=2)
    seen = policy.eval().fake_observation(2)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        "pose": (2, 2, 8),
        "wrist": (2, 2, 1),
    }
    chunk = policy.predict(seen).numpy()
    assert chunk.shape == (2, 16, 8)
    assert np.linalg.norm(chunk[..., 3:7], axis=-1) == pytest.approx(1.0, abs=1e-5)


def test_the_pages_relative_actions_train_and_predict_absolute_poses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def poses(n):
        q = rng.normal(size=(n, 4))
        return np.hstack([rng.normal(size=(n, 3)), q / np.linalg.norm(q, axis=1, keepdims=True)])

    with EpisodeWriter("reach.zarr", fps=10) as writer:
        for _ in range(4):
            action = np.hstack([poses(20), rng.random((20, 1))])
            writer.add_episode({"pose": poses(20), "goal": poses(20), "action": action})
    data = TaskData.open(yaml.safe_load(block("yaml", 1)), None)
    assert any("action relative to pose" in line for line in data.summary())
    policy = Policy(PolicyConfig(denoiser=SMALL), data.features, data.train.spec)
    policy.fit(data.train.statistics())
    pose = data.train.gather(np.arange(4))["observation"]["pose"][:, -1]
    assert np.allclose(pose, [0, 0, 0, 1, 0, 0, 0, 1, 0], atol=1e-6)
    policy.solver = DDIM(steps=2)
    chunk = policy.eval().predict(policy.fake_observation(2)).numpy()
    assert chunk.shape == (2, 16, 8)
    assert np.linalg.norm(chunk[..., 3:7], axis=-1) == pytest.approx(1.0, abs=1e-5)


def test_the_page_of_observations_is_read():
    page = (Path(__file__).resolve().parents[2] / "docs" / "observations.md").read_text()
    task = yaml.safe_load(block("yaml", page=page))
    features = Features.from_dict({k: task[k] for k in ("observation", "action")})
    assert features.observation["wrist_depth"].depth_range.is_log


def test_the_pages_transform_of_ones_own_is_registered_and_inverted():
    exec(compile(block("python"), "docs/transforms.md", "exec"), {"__name__": "page"})
    transform = make_transform("logarithm", {"smallest": 1.0})
    values = np.array([0.0, 1.0, 9.0])
    assert transform.apply(values) == pytest.approx(np.log([1.0, 2.0, 10.0]))
    assert transform.invert(transform.apply(values)) == pytest.approx(values)
    COLUMN_TRANSFORMS._table.pop("logarithm")


def test_the_page_lists_every_transform():
    for name in COLUMN_TRANSFORMS.names():
        assert f"`{name}`" in PAGE

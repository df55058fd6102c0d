"""From pixels, end to end: `dipole train task=pusht_image`, resumed exactly, and evaluated."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import EpisodeWriter
from dipole.envs.pusht.environment import PushT
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_tensors
from dipole.policy.core.components import POOLINGS, build

TINY = [
    "task=pusht_image",
    "policy=unet_image_small",
    "policy.encoder.backbone.widths=[16]",
    "policy.encoder.backbone.blocks=[1]",
    "policy.encoder.augment={crop: true, shift: 2, brightness: 0.2, contrast: 0.2, hue: 0.1, "
    "cutout: 0.3, blur: 0.5, noise: 0.05}",
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=4",
    "train.device=cpu",
    "train.deterministic=true",
    "train.warmup_steps=1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Push-T as a camera sees it, while the agent wanders about; the public dataset's keys."""
    path = tmp_path_factory.mktemp("data") / "pixels.zarr"
    env = PushT(observation=("image", "state"))
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for seed in range(3):
            frames = [env.reset(seed=seed)[0]]
            actions = (256 + rng.normal(0, 20, (24, 2)).cumsum(0)).astype(np.float32)
            frames += [env.step(action)[0] for action in actions[:-1]]
            writer.add_episode(
                {
                    "img": np.stack([frame["image"] for frame in frames]),
                    "state": np.stack([frame["state"] for frame in frames]),
                    "action": actions,
                }
            )
    return path


@pytest.mark.parametrize("policy", ["unet_image", "unet_image_small", "unet_image_pretrained"])
@pytest.mark.parametrize("pooling", ["spatial_softmax", "mean"])
def test_every_recipe_of_pictures_takes_every_pooling(policy, pooling):
    words = ["task=pusht_image", f"policy={policy}", f"policy.encoder.pooling.name={pooling}"]
    chosen = compose("train", words)["policy"]["encoder"]["pooling"]
    assert build(POOLINGS, chosen, channels=4).dim == {"mean": 4, "spatial_softmax": 64}[pooling]


def train(dataset, output, *words):
    return main(["train", f"dataset={dataset}", f"output={output}", *TINY, *words])


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train(dataset, output, "train.steps=6", "train.checkpoint_every=3") == 0
    return output


def test_resuming_with_images_and_augmentation_is_exact(run, dataset, tmp_path):
    words = ["train.steps=6", "train.checkpoint_every=3"]
    assert train(dataset, tmp_path / "broken", *words) == 0
    checkpoints_of(tmp_path / "broken")[-1].rename(tmp_path / "lost")  # died before step 6
    assert main(["train", f"resume={tmp_path / 'broken'}"]) == 0
    for stem in ("model", "ema", "training"):
        ours = read_tensors(checkpoints_of(run)[-1], stem)
        theirs = read_tensors(checkpoints_of(tmp_path / "broken")[-1], stem)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_evaluating_renders_only_what_the_policy_looks_at(run, tmp_path, monkeypatch):
    drawn = []
    draw = PushT._draw
    monkeypatch.setattr(PushT, "_draw", lambda env, size: drawn.append(size) or draw(env, size))
    words = [f"checkpoint={run}", "episodes=1", "video_episodes=0", f"output={tmp_path}"]
    assert main(["evaluate", *words, "solver.steps=2"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    steps = metrics["per_episode"][0]["steps"]
    chunks = -(-steps // 8)
    # Before the evaluation one look, and a start with two chunks to see what a step costs; then
    # To = 2 before every chunk after the first.
    assert drawn == [96] * (1 + 1 + 2 * 2 + 1 + 2 * (chunks - 1))


@pytest.mark.heavy
def test_a_video_shows_what_the_policy_sees_and_a_picture_where_it_looks(run, tmp_path):
    words = [f"checkpoint={run}", "episodes=2", "video_views=true", f"output={tmp_path}"]
    few = ["environment.max_steps=12", "solver.steps=2", "runtime=eager"]
    assert main(["evaluate", *words, *few]) == 0
    with av.open(tmp_path / "episodes.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 1 + 12
    assert frames[0].shape[1] == 2 * 256 + 8  # of one episode; the other is below it
    assert Image.open(tmp_path / "looks.png").width == WIDTH


ASPECTS = ["aspects=true", "aspects_observations=20", "aspects_samples=2", "aspects_likelihood=0"]
WIDTH = 2 * (2 * 320 + 4 + 8)  # of looks.png: two tiles, each a picture beside its heat map


def evaluate(run, output, *words):
    fast = ["solver.steps=2", "runtime=eager"]
    return main(["evaluate", f"checkpoint={run}", f"output={output}", *fast, *words])


@pytest.fixture(scope="module")
def robot_s(dataset, tmp_path_factory):
    """A policy of a task without a simulator."""
    output = tmp_path_factory.mktemp("robot") / "run"
    words = ["task.environment=null", "task.split.val_ratio=0.6", "train.steps=3"]
    assert train(dataset, output, *words) == 0
    return output


def test_without_a_simulator_a_picture_shows_where_it_looks_in_demonstrations(
    robot_s, tmp_path, capsys
):
    assert evaluate(robot_s, tmp_path, *ASPECTS) == 0
    names = ["aspects.png", "looks.png", "metrics.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert str(tmp_path / "looks.png") in capsys.readouterr().out.splitlines()
    picture = Image.open(tmp_path / "looks.png").convert("RGB")
    assert picture.size == (WIDTH, 2 * 22 + 4 * (320 + 32))  # eight tiles below two lines
    first, last = (np.asarray(picture)[y : y + 320, 4:324] for y in (44 + 28, 44 + 3 * 352 + 28))
    assert first.std() > 0
    assert not np.array_equal(first, last)


def test_without_a_simulator_picture_false_leaves_it_out(robot_s, tmp_path):
    assert evaluate(robot_s, tmp_path, *ASPECTS, "picture=false") == 0
    assert not (tmp_path / "looks.png").exists()


def test_with_a_simulator_demonstrations_have_a_picture_beside_the_episodes_own(run, tmp_path):
    words = ["episodes=1", "environment.max_steps=10"]
    assert evaluate(run, tmp_path / "with", *words, *ASPECTS) == 0
    assert evaluate(run, tmp_path / "without", *words) == 0
    own, alone = ((tmp_path / name / "looks.png").read_bytes() for name in ("with", "without"))
    assert own == alone
    assert Image.open(tmp_path / "with/looks_held_out.png").width == WIDTH
    assert not (tmp_path / "without/looks_held_out.png").exists()


def test_training_says_what_is_seen_of_a_camera(dataset, tmp_path, capsys):
    words = ["policy.encoder.resize=[72,80]", "policy.encoder.crop=64", "train.steps=1"]
    assert train(dataset, tmp_path / "run", *words) == 0
    said = "camera image: 96×96, resized to 72×80, seen 64×64"
    assert said in capsys.readouterr().out


def test_a_loaded_policy_is_what_was_trained(run):
    policy = load_policy(run)
    assert policy.encoder.parts["cameras"].views["image"].size == (84, 84)
    observation = policy.fake_observation(2)
    chunks = [policy.predict(observation, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*chunks)


def test_a_task_with_images_has_no_dataset_of_its_own(tmp_path, capsys):
    assert main(["train", "task=pusht_image", "policy=unet_image_small"]) == 2
    assert "task 'pusht_image' has no dataset of its own: give dataset=PATH" in (
        capsys.readouterr().err
    )


def test_an_image_task_with_a_policy_that_cannot_see_says_which_can(dataset, tmp_path, capsys):
    words = ["train", "task=pusht_image", f"dataset={dataset}", f"output={tmp_path / 'run'}"]
    assert main(words) == 2
    assert "the state encoder cannot encode image" in capsys.readouterr().err

"""`dipole evaluate aspects=true`, end to end, on a policy that was hardly trained."""

import json

import numpy as np
import pytest
from PIL import Image

from dipole.apps.main import main
from dipole.data import EpisodeWriter
from dipole.data.core.errors import ConfigError
from dipole.deploy.evaluation.aspects import open_held_out
from dipole.envs.quality.aspects import _action_errors
from dipole.envs.quality.held_out import held_out_windows
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, find_checkpoint, read_config
from dipole.policy.runtimes.exported import FORMAT

TINY = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
TRAINING = ["train.batch_size=8", "train.device=cpu", "train.steps=1", "train.evaluate_every=0"]


def write_pushes(path, lengths=(30, 40, 25, 35)):
    """States and actions that Push-T could have."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in lengths:
            positions = 256 + rng.normal(0, 8, (length, 4)).cumsum(0)
            angle = rng.normal(0, 0.1, (length, 1)).cumsum(0)
            state = np.concatenate([positions, angle], 1).astype(np.float32)
            writer.add_episode({"state": state, "action": state[:, :2]})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aspects")
    dataset = write_pushes(folder / "pushes.zarr")
    words = [f"dataset={dataset}", f"output={folder / 'run'}", "task.split.val_ratio=0.5"]
    assert main(["train", *words, *TINY, *TRAINING]) == 0
    return folder / "run"


def evaluate(run, output, *words):
    fast = ["episodes=2", "video_episodes=0", "solver.steps=2", "runtime=eager"]
    return main(["evaluate", f"checkpoint={run}", f"output={output}", *fast, *words])


ASPECTS = ["aspects=true", "aspects_observations=10", "aspects_samples=3", "aspects_likelihood=4"]


def test_aspects_are_in_the_metrics_in_a_picture_and_printed(run, tmp_path, capsys):
    assert evaluate(run, tmp_path, *ASPECTS) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    aspects = metrics["aspects"]
    assert (aspects["observations"], aspects["samples"], aspects["frames"]) == (10, 3, [1, 9])
    low, high = aspects["energy_score_ci95"]
    assert low <= aspects["energy_score"] <= high
    assert aspects["energy_score"] == pytest.approx(aspects["error"] - aspects["spread"] / 2)
    assert 0 <= aspects["precision"] <= 1
    assert 0 <= aspects["recall"] <= 1
    assert aspects["evaluations_per_chunk"] == metrics["evaluations_per_chunk"] == 2
    assert aspects["jerk"] == metrics["jerk"] > aspects["demonstrated_jerk"] > 0
    assert aspects["seam_jump"] == metrics["seam_jump"] > 0
    assert aspects["chunk_ms"] == metrics["policy_ms"]["p50"] / 16
    assert aspects["mode_entropy"] is None
    low, high = aspects["log_likelihood_ci95"]
    assert low <= aspects["log_likelihood"] <= high
    assert np.asarray(Image.open(tmp_path / "aspects.png")).std() > 0
    printed = capsys.readouterr().out
    assert "10 held-out observations, 3 chunks each" in printed
    assert "  energy distance " in printed


@pytest.fixture(scope="module")
def robot_s(tmp_path_factory):
    """A policy of a task without a simulator, whose actions have names and units."""
    folder = tmp_path_factory.mktemp("robot")
    dataset = write_pushes(folder / "pushes.zarr")
    words = [f"dataset={dataset}", f"output={folder / 'run'}", "task.split.val_ratio=0.5"]
    assert main(["train", *words, *TINY, *TRAINING, "task.environment=null"]) == 0
    return folder / "run"


def test_without_a_simulator_chunks_are_compared_with_held_out_demonstrations(
    robot_s, tmp_path, capsys
):
    words = [f"checkpoint={robot_s}", f"output={tmp_path}", "solver.steps=2", "runtime=eager"]
    assert main(["evaluate", *words, *ASPECTS]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "per_episode" not in metrics
    assert metrics["n_action_steps"] == 8
    assert metrics["checkpoint"]
    errors = metrics["aspects"]["action_errors"]
    assert [(each["name"], each["unit"]) for each in errors] == [("x", "px"), ("y", "px")]
    for each in errors:
        assert each["error_ci95"][0] <= each["error"] <= each["error_ci95"][1]
        assert f"  error of {each['name']}" in printed
        assert f"{each['error']:.4g} px" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aspects.png", "metrics.json"]
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert "without episodes to pair: compare energy_score" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word", ["episodes=3", "workers=2", "keep_episodes=kept.zarr", "delay=1", "video=failures"]
)
def test_without_a_simulator_what_is_of_episodes_is_refused(robot_s, word, capsys):
    assert main(["evaluate", f"checkpoint={robot_s}", "aspects=true", word]) == 2
    assert f"{word}: the task has no simulator" in capsys.readouterr().err


def test_errors_of_the_action_s_numbers_are_means_in_the_robot_s_units(run):
    held_out = held_out_windows(read_config(find_checkpoint(run)), "CHECKPOINT", slice(1, 9), 12)
    demonstrated = held_out.demonstrated()
    offsets = np.array([3.0, -0.5])
    chunks = demonstrated[:, None] + np.stack([offsets, 3 * offsets])[None, :, None]
    found = _action_errors(held_out, chunks, slice(1, 9))
    assert [each["error"] for each in found] == pytest.approx([6.0, 1.0], rel=1e-4)


def test_they_change_no_episode(run, tmp_path):
    for name, words in (("with", [*ASPECTS, "threads=2"]), ("without", [])):
        assert evaluate(run, tmp_path / name, *words) == 0
    found, without = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("with", "without")
    )
    assert found["per_episode"] == without["per_episode"]
    assert "aspects" not in without
    assert not (tmp_path / "without/aspects.png").exists()


def test_data_that_moved_are_named_by_dataset(run, tmp_path, capsys):
    dataset = run.parent / "pushes.zarr"
    moved = dataset.rename(tmp_path / "moved.zarr")
    try:
        assert evaluate(run, tmp_path / "a", *ASPECTS) == 2
        error = capsys.readouterr().err
        assert f"{dataset}" in error
        assert "Where they moved, give dataset=PATH; without them set aspects=false" in error
        assert not (tmp_path / "a").exists()
        assert evaluate(run, tmp_path / "b", *ASPECTS, f"dataset={moved}") == 0
        other = write_pushes(tmp_path / "other.zarr", (30, 30, 30, 30))
        assert evaluate(run, tmp_path / "c", *ASPECTS, f"dataset={other}") == 2
        assert "is not the dataset that" in capsys.readouterr().err
    finally:
        moved.rename(dataset)


def test_an_export_finds_the_data_of_its_checkpoint(run, tmp_path):
    newest = checkpoints_of(run)[-1]
    policy = load_policy(newest)
    config = {"aspects": True, "aspects_observations": 10, "dataset": None, "part": None}

    def held_out_of(checkpoint):
        schema = {**FORMAT, "source": {"checkpoint": str(checkpoint)}}
        (tmp_path / "schema.json").write_text(json.dumps(schema))
        return open_held_out(config | {"n_action_steps": None}, tmp_path, policy)

    assert len(held_out_of(newest)) == 10
    with pytest.raises(ConfigError, match="an export does not say which data were held out"):
        held_out_of(tmp_path / "gone")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aspects=true", "aspects_samples=1"], "aspects_samples is 1; it must be at least 2"),
        (["aspects_observations=3"], "aspects_observations is 3; it must be at least 4"),
        (["dataset=x"], "dataset=x is for aspects=true alone"),
        (["aspect=true"], "aspects"),
    ],
)
def test_settings_that_cannot_work(words, said, run, tmp_path, capsys):
    assert evaluate(run, tmp_path / "a", *words) == 2
    assert said in capsys.readouterr().err

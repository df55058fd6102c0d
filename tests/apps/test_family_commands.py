"""Record, train, evaluate, in families of simulators; MetaWorld's: test_metaworld_commands.py."""

import json

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore

pytestmark = pytest.mark.heavy
TINY = [
    "train.steps=4",
    "train.batch_size=8",
    "train.warmup_steps=1",
    "train.device=cpu",
    "policy.denoiser.down_dims=[8,16]",
]


@pytest.mark.parametrize(
    ("task", "package", "steps", "by_other_definitions"),
    [
        ("fetch/push", "gymnasium_robotics", 50, {"any_step", "last_step"}),
        ("maze/umaze", "gymnasium_robotics", 30, set()),
        ("aloha/transfer_cube", "gym_aloha", 200, {"touched", "transferred"}),
    ],
)
def test_a_family_is_demonstrated_trained_on_and_evaluated(
    tmp_path, capsys, task, package, steps, by_other_definitions
):
    pytest.importorskip(package)
    data, run, found = (str(tmp_path / name) for name in ("D.zarr", "RUN", "EVAL"))
    words = [f"task={task}", "expert=scripted", "episodes=3", "minimum=2", f"output={data}"]
    assert main(["record", *words]) == 0
    assert f"train with: dipole train task={task} dataset={data}\n" in capsys.readouterr().out
    assert EpisodeStore.open(data).n_episodes == 3
    assert main(["train", f"task={task}", f"dataset={data}", f"output={run}", *TINY]) == 0
    assert f"evaluate with: dipole evaluate checkpoint={run}\n" in capsys.readouterr().out
    assert main(["evaluate", f"checkpoint={run}", "episodes=2", f"output={found}"]) == 0
    metrics = json.loads((tmp_path / "EVAL/metrics.json").read_text())
    assert [each["seed"] for each in metrics["per_episode"]] == [0, 1]
    assert all(each["steps"] >= steps for each in metrics["per_episode"])
    assert set(metrics.get("successes", {})) >= by_other_definitions
    assert (tmp_path / "EVAL/episodes.mp4").exists()
    assert len((tmp_path / "EVAL/episodes.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("task", "package", "seen"),
    [
        ("fetch/push_image", "gymnasium_robotics", {"external_camera_0": np.uint8}),
        (
            "metaworld/image_depth",
            "metaworld",
            {"corner2_near": np.uint8, "corner2_near_depth": np.float32},
        ),
        ("aloha/transfer_cube_cameras", "gym_aloha", {"top": np.uint8, "right_wrist": np.uint8}),
    ],
)
def test_a_task_of_cameras_is_demonstrated_trained_on_and_evaluated(
    tmp_path, capsys, task, package, seen
):
    pytest.importorskip(package)
    data, run, found = (str(tmp_path / name) for name in ("D.zarr", "RUN", "EVAL"))
    assert main(["record", f"task={task}", "episodes=2", f"output={data}"]) == 0
    eyes = "policy=unet_image_small objective=auxiliary"
    line = f"train with: dipole train task={task} {eyes} dataset={data}\n"
    assert line in capsys.readouterr().out
    store = EpisodeStore.open(data)
    assert {name: store.schema(name)["dtype"] for name in seen} == {
        name: np.dtype(dtype).name for name, dtype in seen.items()
    }
    eyes = [
        "policy=unet_image_small",
        "objective=auxiliary",
        "policy.encoder.backbone.widths=[16,16]",
    ]
    words = [f"task={task}", f"dataset={data}", f"output={run}", *eyes, *TINY]
    assert main(["train", *words, "+task.environment.options.max_steps=8"]) == 0
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", f"output={found}"]) == 0
    metrics = json.loads((tmp_path / "EVAL/metrics.json").read_text())
    assert [each["steps"] for each in metrics["per_episode"]] == [8]


def test_places_that_are_recorded_are_learned_as_places_and_relative_to_the_gripper(tmp_path):
    pytest.importorskip("gymnasium_robotics")
    data = str(tmp_path / "D.zarr")
    words = ["task=fetch/push_absolute", "episodes=2", f"output={data}"]
    assert main(["record", *words]) == 0
    store = EpisodeStore.open(data)
    assert store.environment["actions"] == "absolute"
    for task in ("push_absolute", "push_relative"):
        run, found = (str(tmp_path / f"{task}_{name}") for name in ("RUN", "EVAL"))
        words = [f"task=fetch/{task}", f"dataset={data}", f"output={run}", *TINY]
        assert main(["train", *words, "+task.environment.options.max_steps=8"]) == 0
        words = [f"checkpoint={run}", "episodes=1", f"output={found}"]
        assert main(["evaluate", *words, f"keep_episodes={found}.zarr"]) == 0
        kept = EpisodeStore.open(f"{found}.zarr")
        assert kept.environment["actions"] == "absolute"
        executed = kept["action"][:]
        assert 0.8 < executed[:, 0].mean() < 1.75  # metres

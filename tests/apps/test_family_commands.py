"""The three lines that every family of simulators has: record, train, evaluate."""

import json

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
        ("maze/umaze", "gymnasium_robotics", 30, None),
        ("aloha/transfer_cube", "gym_aloha", 200, {"touched", "transferred"}),
        ("metaworld/reach", "metaworld", 1, None),
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
    assert set(metrics.get("successes", {})) >= (by_other_definitions or set())
    assert (tmp_path / "EVAL/episodes.mp4").exists()
    assert len((tmp_path / "EVAL/episodes.csv").read_text().splitlines()) == 3


def test_a_set_is_evaluated_by_task(tmp_path):
    pytest.importorskip("metaworld")
    data, run, found = (str(tmp_path / name) for name in ("D.zarr", "RUN", "EVAL"))
    task = "task=metaworld/mt10"
    assert main(["record", task, "episodes=2", f"output={data}"]) == 0
    short = "+task.environment.options.max_steps=10"
    assert main(["train", task, f"dataset={data}", f"output={run}", short, *TINY]) == 0
    assert main(["evaluate", f"checkpoint={run}", "episodes=11", f"output={found}"]) == 0
    per_task = json.loads((tmp_path / "EVAL/metrics.json").read_text())["per_task"]
    assert len(per_task) == 10
    assert per_task["reach"]["episodes"] == 2  # episodes 0 and 10
    assert all("success_ci95" in each for each in per_task.values())

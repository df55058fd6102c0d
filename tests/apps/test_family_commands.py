"""Record, train, evaluate, in families of simulators; MetaWorld's: test_metaworld_commands.py."""

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

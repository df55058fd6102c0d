"""docs/data-import.md, followed to the letter: what it shows works."""

import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.data.convert import convert
from dipole.apps.main import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.export.lerobot import export_lerobot
from dipole.data.sources.registry import open_source

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data-import.md").read_text()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A humanoid's recordings as LeRobot has them, called SOURCE as on the page."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with EpisodeWriter("robot.zarr", fps=30) as writer:
        for _ in range(4):
            joints = rng.normal(size=(30, 26)).cumsum(0)
            writer.add_episode({"observation.state": joints, "action": joints}, "pick it up")
    export_lerobot(open_source("robot.zarr"), tmp_path / "SOURCE")


def commands():
    """Lines of the page that begin with `dipole`, without their comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("dipole ")]


@pytest.mark.slow
def test_from_the_dataset_to_a_trained_policy_and_out_again(source, tmp_path):
    task = tmp_path / "my_configs" / "task" / "my_task.yaml"
    task.parent.mkdir(parents=True)
    task.write_text(re.search(r"```yaml\n(name:.*?)```", PAGE, re.DOTALL)[1])
    # The rest is of other keys or datasets, wants a camera, or is an error that the page shows.
    others = {"observation.state,action", "policy=unet_image_small", "unitree_g1:"}
    others |= {"monday.zarr", "--mirror", "--concatenate", "--resize", "recording.mcap"}
    chosen = [line for line in commands() if not others & set(line)]
    assert [line[:2] for line in chosen] == [
        ["data", "convert"],
        ["data", "info"],
        ["data", "validate"],
        ["train", "--config-dir"],
        ["data", "convert"],
    ]
    for line in chosen:
        shorter = ["train.steps=2", "train.batch_size=4", "train.threads=1"]
        as_written = [word for word in line if not word.startswith("train.steps=")]
        assert main(as_written + (shorter if line[0] == "train" else [])) == 0
    assert EpisodeStore.open("my_task.zarr").tasks == ["pick it up"] * 4
    assert (tmp_path / "my_task_lerobot/meta/info.json").is_file()
    assert (tmp_path / "runs/mine/checkpoints").is_dir()


def test_the_table_of_the_options_names_all_in_the_order_in_which_they_are_applied():
    table = PAGE.split("The options are applied in this order:")[1].split("\n\n")[1]
    named = [re.findall(r"`--([a-z]+)", row.split("|")[1]) for row in table.splitlines()[2:]]
    order = list(dict.fromkeys(name for row in named for name in row))
    options = {*inspect.signature(convert).parameters} - {"source", "destination", "to"}
    assert set(order) == options
    made = ("rename", "concatenate", "dtype", "keys", "resample", "shift", "resize", "also")
    assert [name for name in order if name in made] == [*made]

"""`dipole data info` and `dipole data validate`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.data import main
from dipole.apps.terminal.errors import UsageError
from dipole.data import DataError, EpisodeStore, EpisodeWriter, Windows, WindowSpec

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "data-format.md"


@pytest.fixture
def path(write):
    return write([30, 20], fps=10, environment={"id": "pusht", "version": "gym-pusht 0.1.8"})


def test_info_prints_what_is_in_a_dataset(path, capsys):
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    for text in (
        "2 (shortest 20, median 25, longest 30 frames)",
        "50 (0.1 minutes)",
        "10 Hz",
        "pusht gym-pusht 0.1.8",
        "windows 16/2/8",
        "4×4×3",
        "uint8",
    ):
        assert text in printed


def test_info_never_cuts_a_key(tmp_path, capsys, monkeypatch):
    """Task files name keys as they are printed here."""
    key = "observation.images.cam_high_left_wrist"
    with EpisodeWriter(tmp_path / "arm.zarr") as writer:
        writer.add_episode({key: np.zeros((3, 4, 4, 3), np.uint8), "action": np.zeros((3, 2))})
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["info", str(tmp_path / "arm.zarr")]) == 0
    assert key in capsys.readouterr().out


def test_info_as_json(path, capsys):
    assert main(["info", str(path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["episodes"], info["frames"], info["fps"]) == (2, 50, 10.0)
    assert info["windows"] == {"16/2/8": 36}
    assert info["episode_lengths"] == {"shortest": 20, "median": 25, "longest": 30}
    assert info["arrays"][0] == {
        "key": "action",
        "kind": "action",
        "shape": [2],
        "dtype": "float32",
        "units": "",
        "n_bytes": 400,
        "chunk_frames": 8192,
    }


def test_info_of_the_human_data(human_path, capsys):
    assert main(["info", str(human_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == {"16/2/8": 24_208}


def test_info_of_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no dataset here"):
        main(["info", str(tmp_path / "none")])


def test_validate_exits_0_for_a_sound_dataset(path, capsys):
    assert main(["validate", str(path)]) == 0
    assert "sound (0 problems" in capsys.readouterr().out.replace("\n", " ")


def test_validate_exits_1_where_there_are_problems(path, capsys):
    (path / "data/state/c/0/0").unlink()
    assert main(["validate", str(path)]) == 1
    assert "not to be trained on (1 problems" in capsys.readouterr().out.replace("\n", " ")


def test_validate_as_json(path, capsys):
    (path / "data/state/c/0/0").unlink()
    assert main(["validate", "--json", str(path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["findings"][0]["where"] == "state"


def test_a_mistyped_command_is_refused():
    with pytest.raises(UsageError, match=r"no such command 'infos'\. Did you mean 'info'"):
        main(["infos", "x"])


def test_the_examples_of_the_format_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writing, reading = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(writing.splitlines()) <= 30
    exec(writing, {})
    values = {}
    exec(reading, values)
    assert values["store"].n_episodes == 20
    assert values["store"].schema("joints")["units"] == "rad"
    store = EpisodeStore.open("my_task.zarr.zip")
    assert len(values["windows"]) == len(Windows(store, WindowSpec(2, 16, 8))) > 0
    assert main(["validate", "my_task.zarr.zip"]) == 0


def test_info_lists_tasks_within_episodes_and_depth_with_its_units(tmp_path, capsys):
    path = tmp_path / "pick.zarr"
    with EpisodeWriter(path, features={"depth": {"kind": "depth", "units": "mm"}}) as writer:
        for task in ([(0, "pick"), (5, "place")], "pick", [(0, "pick"), (3, "wipe")]):
            depth = np.full((20, 4, 4, 1), 7, np.uint16)
            writer.add_episode({"depth": depth, "action": np.zeros((20, 2))}, task)
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "'pick', 'place', 'wipe'; the task changes within 2 of 3 episodes" in printed
    depth = next(line for line in printed.splitlines() if "depth" in line)
    assert [part.strip() for part in depth.split("│")[2:6]] == ["depth", "4×4×1", "uint16", "mm"]
    assert main(["info", str(path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["tasks"] == ["pick", "place", "wipe"]
    assert info["episodes_of_several_tasks"] == 2

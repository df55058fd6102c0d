"""Integers of whole episodes: their seeds, whether they succeeded."""

import numpy as np
import pytest
import zarr

from dipole.apps.main import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.core.errors import DataError

FRAMES = {"state": np.linspace(0, 1, 40).reshape(20, 2), "action": np.ones((20, 2))}


def write(path, *numbers):
    with EpisodeWriter(path, fps=10) as writer:
        for each in numbers:
            writer.add_episode(FRAMES, numbers=each)
    return path


def numbers_of(path):
    with EpisodeStore.open(path) as store:
        return {name: values.tolist() for name, values in store.episode_numbers().items()}


@pytest.mark.parametrize("name", ["mine.zarr", "mine.zarr.zip"])
def test_what_is_known_of_an_episode_is_read_again(tmp_path, name):
    path = write(tmp_path / name, {"seed": 7, "success": True}, {"seed": -2, "success": False})
    assert numbers_of(path) == {"seed": [7, -2], "success": [1, 0]}


def test_any_zarr_reader_finds_them(tmp_path):
    path = write(tmp_path / "mine.zarr", {"seed": 2**40})
    assert zarr.open_group(path, mode="r")["meta/seed"][:].tolist() == [2**40]


def test_an_interrupted_recording_has_those_of_all_its_episodes(tmp_path):
    path = tmp_path / "mine.zarr"
    writer = EpisodeWriter(path)
    writer.add_episode(FRAMES, numbers={"seed": 3})
    writer.leave()
    with EpisodeWriter.resume(path) as writer:
        assert writer.episode_numbers == [{"seed": 3}]
        writer.add_episode(FRAMES, numbers={"seed": 4})
    with EpisodeWriter.resume(path) as writer:
        writer.add_episode(FRAMES, numbers={"seed": 9})
    assert numbers_of(path) == {"seed": [3, 4, 9]}


def test_a_number_that_some_episodes_lack_is_that_of_none(tmp_path):
    path = write(tmp_path / "mine.zarr", {"seed": 1, "success": 1}, {"seed": 2, "success": 1})
    with EpisodeWriter.resume(path) as writer:
        writer.add_episode(FRAMES, numbers={"seed": 3})
    assert numbers_of(path) == {"seed": [1, 2, 3]}


def test_demonstrations_from_the_start_have_no_prelude_where_others_have_one(tmp_path):
    path = write(tmp_path / "mine.zarr", {"seed": 1}, {"seed": 2, "prelude_steps": 12})
    assert numbers_of(path) == {"seed": [1, 2], "prelude_steps": [0, 12]}


def test_a_number_that_some_episodes_lack_can_be_given_to_them(tmp_path):
    with EpisodeWriter(tmp_path / "mine.zarr") as writer:
        for numbers in ({"success": 1}, {}):
            writer.add_episode(FRAMES, numbers=numbers)
        writer.complete_numbers("success", 0)
        writer.complete_numbers("seed", 0)  # nobody has one
    assert numbers_of(tmp_path / "mine.zarr") == {"success": [1, 0]}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"seed": 0.5}, "'seed' is 0.5: an integer of 64 bits is needed"),
        ({"seed": 2**63}, "an integer of 64 bits is needed"),
        ({"episode_ends": 1}, "choose another name"),
        ({"a/b": 1}, "key 'a/b'"),
    ],
)
def test_what_is_no_number_of_an_episode_is_refused(tmp_path, numbers, said):
    with EpisodeWriter(tmp_path / "mine.zarr") as writer:
        with pytest.raises(DataError, match=said):
            writer.add_episode(FRAMES, numbers=numbers)
        writer.add_episode(FRAMES)


def test_a_list_of_another_length_is_an_error(tmp_path):
    path = write(tmp_path / "mine.zarr", {"seed": 1})
    zarr.open_group(path)["meta/seed"].resize((2,))
    with pytest.raises(DataError, match="meta/seed"):
        numbers_of(path)


def test_a_conversion_keeps_them(tmp_path):
    one = write(tmp_path / "one.zarr", {"seed": 1, "success": 1}, {"seed": 2, "success": 0})
    two = write(tmp_path / "two.zarr", {"seed": 5})
    words = ["--also", str(two), "--episodes", "1-2"]
    assert main(["data", "convert", str(one), str(tmp_path / "both.zarr"), *words]) == 0
    assert numbers_of(tmp_path / "both.zarr") == {"seed": [2, 5]}


def test_frames_that_no_seed_gives_have_none(tmp_path):
    one = write(tmp_path / "one.zarr", {"seed": 1, "success": 1})
    assert main(["data", "convert", str(one), str(tmp_path / "slow.zarr"), "--resample", "5"]) == 0
    assert numbers_of(tmp_path / "slow.zarr") == {"success": [1]}


def test_info_says_how_many_succeeded(tmp_path, capsys):
    path = write(tmp_path / "mine.zarr", {"seed": 1, "success": 1}, {"seed": 8, "success": 0})
    assert main(["data", "info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "1 to 8" in said
    assert "1 of 2" in said

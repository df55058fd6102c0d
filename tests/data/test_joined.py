"""Several datasets become one: `dipole data convert A OUT --also B`."""

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.registry import open_source

ARM = {"id": "arm", "version": "1"}


def write(path, lengths, first=0.0, fps=10.0, keys=("state", "action"), environment=ARM):
    with EpisodeWriter(path, fps=fps, environment=environment) as writer:
        for number, length in enumerate(lengths):
            episode = {key: np.full((length, 2), float(first + number)) for key in keys}
            writer.add_episode(episode, task=f"task {first + number:g}")
    return path


def test_episodes_follow_one_another_with_their_tasks(tmp_path):
    a, b = write(tmp_path / "a.zarr", [3, 2]), write(tmp_path / "b.zarr.zip", [4], first=7)
    assert main(["data", "convert", str(a), str(tmp_path / "c.zarr"), f"--also={b}"]) == 0
    store = EpisodeStore.open(tmp_path / "c.zarr")
    assert store.episode_ends.tolist() == [3, 5, 9]
    assert store["action"][:, 0].tolist() == [0, 0, 0, 1, 1, 7, 7, 7, 7]
    assert store.tasks == ["task 0", "task 1", "task 7"]
    assert (store.fps, store.environment) == (10.0, ARM)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fps": 20.0}, "20 frames a second"),
        ({"fps": None}, "records no frame rate"),
        ({"environment": None}, "an unknown environment"),
        ({"environment": ARM | {"version": "2"}}, "recorded in arm 2"),
        ({"keys": ("joints", "action")}, "keys action, joints"),
        ({"environment": {"id": "leg", "version": "1"}}, "recorded in leg 1"),
    ],
)
def test_datasets_that_do_not_agree_are_refused_by_name(tmp_path, other, said):
    a, b = write(tmp_path / "a.zarr", [3]), write(tmp_path / "b.zarr", [3], **other)
    with pytest.raises(DataError, match=rf"b\.zarr.*{said}.*a\.zarr"):
        joined([open_source(a), open_source(b)])


def test_what_a_dataset_does_not_record_can_be_said(tmp_path):
    a = write(
        tmp_path / "a.zarr", [3], fps=None, environment=None, keys=("state", "extra", "action")
    )
    b, out = write(tmp_path / "b.zarr", [4]), tmp_path / "c.zarr"
    said = ["--keys=state,action", "--fps=10", "--environment=arm"]
    assert main(["data", "convert", str(a), str(out), f"--also={b}", *said]) == 0
    store = EpisodeStore.open(out)
    assert store.episode_ends.tolist() == [3, 7]
    assert set(store.keys()) == {"state", "action"}
    assert (store.fps, store.environment) == (10.0, {"id": "arm"})


def test_it_can_be_said_of_one_dataset_alone(tmp_path):
    a, out = write(tmp_path / "a.zarr", [3], fps=None, environment=None), tmp_path / "c.zarr"
    assert main(["data", "convert", str(a), str(out), "--fps=12.5", "--environment=arm"]) == 0
    assert (EpisodeStore.open(out).fps, EpisodeStore.open(out).environment) == (12.5, {"id": "arm"})


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("--fps=20", "recorded at 10 frames a second, not 20"),
        ("--environment=leg", "recorded in 'arm', not in 'leg'"),
        ("--fps=fast", "--fps"),
        ("--fps=-1", "--fps -1: a positive number is needed"),
        ("--keys=joints,action", "a.zarr: no key 'joints'"),
    ],
)
def test_what_is_said_may_not_contradict_what_is_recorded(tmp_path, capsys, word, answer):
    a, b = write(tmp_path / "a.zarr", [3]), write(tmp_path / "b.zarr", [3])
    assert main(["data", "convert", str(a), str(tmp_path / "c.zarr"), f"--also={b}", word]) != 0
    assert answer in capsys.readouterr().err


def test_names_in_another_order_are_told_from_the_first_that_names_them(tmp_path):
    def named(name, names, row):
        features = {"state": {"names": names}} if names else {}
        with EpisodeWriter(tmp_path / name, fps=10.0, features=features) as writer:
            writer.add_episode({"state": np.tile(row, (3, 1)), "action": np.zeros((3, 2))})
        return open_source(tmp_path / name)

    nameless = named("a.zarr", None, [1.0, 2.0])
    both = joined([nameless, named("b.zarr", ["x", "y"], [3.0, 4.0])])
    assert both.info.frames["state"].names == ("x", "y")
    three = joined([nameless, open_source(tmp_path / "b.zarr"), named("c", ["y", "x"], [6.0, 5.0])])
    rows = [three.open(ref).read("state", 0, 1)[0].tolist() for ref in three.episodes()]
    assert rows == [[1, 2], [3, 4], [5, 6]]

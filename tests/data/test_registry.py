"""Formats are recognised by what lies there; one's own is added to the table."""

import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import FORMATS, Format, format_of, open_source

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()


@pytest.fixture
def formats():
    """Formats that a test adds are taken away again."""
    before = dict(FORMATS._table)
    yield
    FORMATS._table.clear()
    FORMATS._table.update(before)


@pytest.mark.usefixtures("formats")
def test_the_source_on_the_architecture_page_works_as_it_stands(tmp_path):
    code = re.search(r"## A source of one's own.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "docs/architecture.md", "exec"), {})
    (tmp_path / "theirs").mkdir()
    for number in range(2):
        rows = np.full((3, 4), number)
        np.savetxt(tmp_path / f"theirs/{number}.csv", rows, delimiter=",")
    convert(open_source(tmp_path / "theirs"), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store["action"][:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert store.tasks == ["push it"] * 2
    assert store.schema("tip")["names"] == ["x", "y"]


@pytest.mark.usefixtures("formats")
def test_a_plugins_format_goes_before_those_that_come_with_the_package(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    assert format_of(tmp_path) == "npz"
    FORMATS.add("zz mine")(Format("mine", lambda path: True, lambda path: None))
    assert format_of(tmp_path) == "zz mine"


def make_lerobot(path):
    (path / "meta").mkdir(parents=True)
    (path / "meta/info.json").write_text("{}")


def make_zarr(path):
    path.mkdir()
    (path / ".zgroup").write_text("{}")


def make_hdf5(path):
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 2))


def make_minari(path):
    (path / "data").mkdir(parents=True)
    make_hdf5(path / "data/main_data.hdf5")


def make_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".zgroup", "{}")


def make_mcap(path):
    path.mkdir()
    (path / "a.mcap").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (make_lerobot, "LeRobot"),
        (make_zarr, "zarr"),
        (make_zip, "zarr"),
        (make_hdf5, "robomimic"),
        (make_minari, "Minari"),
        (make_mcap, "MCAP"),
    ],
)
def test_a_dataset_is_recognised_by_its_files(tmp_path, make, name):
    make(tmp_path / "it")
    assert format_of(tmp_path / "it") == name


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("run.bag", "ROS 1 bags: convert them to MCAP"),
        ("run.db3", "ros2 bag convert"),
        ("demo.pkl", "never loaded because that executes"),
        ("train.parquet", "give the folder that holds meta/"),
        ("0.mp4", "EpisodeWriter and Clip"),
    ],
)
def test_what_is_not_known_is_answered_with_what_it_looks_like(tmp_path, file, said):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / file).write_bytes(b"x")
    for place in (tmp_path / "theirs", tmp_path / "theirs" / file):
        with pytest.raises(DataError, match=said):
            open_source(place)


def test_a_folder_around_a_dataset_is_answered_with_the_folder_inside(tmp_path):
    make_zarr(tmp_path / "inner.zarr")
    with pytest.raises(DataError, match=r"'inner.zarr' in it is one: give that. Known"):
        open_source(tmp_path)
    make_hdf5(tmp_path / "demos.hdf5")
    with pytest.raises(DataError, match=r"'demos.hdf5' in it is one: give that, and others with"):
        open_source(tmp_path)


def test_nothing_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no dataset here"):
        open_source(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"The folder is empty.*Known are ALOHA: .*; zarr: "):
        open_source(tmp_path)

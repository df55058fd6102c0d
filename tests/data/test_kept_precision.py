"""float64 of other people's formats: kept where float32 is too coarse, or said."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dipole.apps.commands.data import main
from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.core.precision import steps_vanish
from dipole.data.sources.combine.converted import converted, parse_convert
from dipole.data.sources.registry import open_source
from dipole.data.store.schema import FrameSchema

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import MemorySource, pair

EAST = 445_000.0 + np.maximum(np.arange(600) - 300, 0)[:, None] * 0.001  # stands still at first
STEPS = np.linspace(0, 1, 600)[:, None]


def write_npz(path, *episodes):
    path.mkdir()
    for number, values in enumerate(episodes):
        np.savez(path / f"{number}.npz", action=STEPS, pos=values)


def write_robomimic(path, *episodes):
    with h5py.File(path, "w") as file:
        for number, values in enumerate(episodes):
            file[f"data/demo_{number}/actions"] = STEPS
            file[f"data/demo_{number}/obs/pos"] = values


def write_aloha(path, *episodes):
    path.mkdir()
    for number, values in enumerate(episodes):
        with h5py.File(path / f"{number}.hdf5", "w") as file:
            file["action"], file["observations/pos"] = STEPS, values


@pytest.fixture(params=[write_npz, write_robomimic, write_aloha], ids=lambda w: w.__name__)
def write(request):
    return request.param


def test_the_whole_first_episode_says_whether_float64_is_needed(write, tmp_path):
    write(tmp_path / "theirs", EAST)
    convert(open_source(tmp_path / "theirs"), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert np.array_equal(store["pos"][:], EAST)
    assert store["action"].dtype == np.float32


@pytest.mark.parametrize("to", [[], ["--to", "lerobot"]])
def test_a_later_episode_that_needs_float64_is_refused_with_what_to_do(write, tmp_path, to):
    write(tmp_path / "theirs", STEPS, EAST)
    words = ["convert", str(tmp_path / "theirs"), str(tmp_path / "ours"), "--fps", "10", *to]
    with pytest.raises(DataError, match=r"'pos', episode 1: float64 .*say --dtype pos=float64"):
        main(words)
    assert main([*words, "--dtype", "pos=float64"]) == 0
    (key,) = {"pos", "observation.pos"} & {*open_source(tmp_path / "ours").info.frames}
    source = open_source(tmp_path / "ours")
    assert np.array_equal(source.open(source.episodes()[1]).read(key, 0, 600), EAST)


def test_float32_can_be_asked_for(write, tmp_path):
    write(tmp_path / "theirs", STEPS, EAST)
    words = ["convert", str(tmp_path / "theirs"), str(tmp_path / "ours.zarr")]
    assert main([*words, "--dtype", "pos=float32"]) == 0
    assert EpisodeStore.open(tmp_path / "ours.zarr")["pos"].dtype == np.float32


def test_columns_beside_converted_ones_are_looked_at_too(tmp_path):
    action = np.concatenate([EAST, np.rad2deg(STEPS)], 1)
    source = MemorySource([pair(600, action=action)])
    source.info.frames["action"] = FrameSchema((2,), np.dtype(np.float32), "action")
    made = converted(source, [parse_convert("action:1=degrees_to_radians")])
    with pytest.raises(DataError, match="say --dtype action=float64"):
        convert(made, tmp_path / "ours.zarr")


def test_numbers_that_float32_holds_as_they_are_lose_nothing():
    assert steps_vanish(EAST)
    assert not steps_vanish(EAST.astype(np.float32).astype(np.float64))
    assert not steps_vanish(np.float64([[2.0**24], [2.0**24 + 2]]))
    assert not steps_vanish(EAST[:0])


def test_numbers_of_mcap_stay_apart(tmp_path):
    pytest.importorskip("mcap_ros2.writer")
    from test_mcap import Message, at_rate, command, write

    def place(n):
        return "geometry_msgs/msg/Point", Message(
            x=4_649_776.0 + 0.01 * n, y=float(EAST[n, 0]), z=0.0
        )

    sent = [(10 * n, "/utm", place(n)) for n in range(600)]
    sent += [(10 * n, "/action", command(0.01 * n)) for n in range(600)]
    sent += [(10 * n, "/late", command(float(EAST[n, 0]))) for n in range(600)]
    sent += [(10 * n, "/coarse", command(float(np.float32(4e5 + n / 9)))) for n in range(600)]
    source = at_rate(write(tmp_path / "a.mcap", sent), 100)
    dtypes = {key: schema.dtype.name for key, schema in source.info.frames.items()}
    assert dtypes == {
        "utm": "float64", "action": "float32", "late": "float32", "coarse": "float32"
    }  # fmt: skip
    utm = source.open(source.episodes()[0]).read("utm", 0, 600)
    assert np.array_equal(utm[:, 0], 4_649_776.0 + 0.01 * np.arange(600))
    words = ["convert", str(tmp_path / "a.mcap"), str(tmp_path / "ours.zarr"), "--fps", "100"]
    with pytest.raises(DataError, match=r"'late', episode 0: .*--dtype late=float64"):
        main(words)
    assert main([*words, "--dtype", "late=float64"]) == 0
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert np.array_equal(store["late"][:], EAST)
    assert np.array_equal(store["utm"][:], utm)

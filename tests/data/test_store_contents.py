"""What a store says of itself: format, schema, depth, language, its fingerprint."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.inspection.validate import validate
from dipole.data.recording.record import record_episode

ROOT = Path(__file__).resolve().parents[2]


def edit_attributes(path, **said):
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["attributes"] |= said
    file.write_text(json.dumps(metadata))
    return path


def test_a_dataset_of_a_newer_format_is_refused_by_name(write):
    path = edit_attributes(write([6]), dipole_format=2)
    with pytest.raises(DataError, match="dipole_format is 2, and this version reads up to 1"):
        EpisodeStore.open(path)
    assert "dipole_format is 2" in validate(path).problems[0].message


@pytest.mark.parametrize("said", [0, "1", True, 1.0])
def test_a_format_that_is_no_number_is_refused(write, said):
    with pytest.raises(DataError, match="attribute 'dipole_format' is"):
        EpisodeStore.open(edit_attributes(write([6]), dipole_format=said))


BAD_SCHEMAS = {
    "2 names for frames of shape": {"names": ["a", "b"], "shape": [3]},
    "names for frames of shape": {"names": ["a", "b"]},
    "2 units for frames of shape": {"units": ["m", "rad"], "shape": [3]},
    "kind 'picture'": {"kind": "picture"},
    "names 'abc'": {"names": "abc"},
    "depth of int64": {"kind": "depth", "dtype": "int64"},
    "depth of shape": {"kind": "depth", "dtype": "float32", "shape": [3]},
}


@pytest.mark.parametrize("message", BAD_SCHEMAS)
def test_a_schema_that_does_not_fit_is_a_problem_for_open_and_validate(write, message):
    path = edit_attributes(write([6]), schema={"state": BAD_SCHEMAS[message]})
    with pytest.raises(DataError, match=message):
        EpisodeStore.open(path)
    assert any(message in problem.message for problem in validate(path).problems)


def test_a_schema_names_no_files(write):
    path = edit_attributes(write([6]), schema={"../../x": {"kind": "state"}})
    with pytest.raises(DataError, match=r"key '\.\./\.\./x'; use letters"):
        EpisodeStore.open(path)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)], ids=str)
def test_depth_is_a_kind_of_its_own_with_its_units(tmp_path, dtype, shape):
    features = {"depth": {"kind": "depth", "units": "mm"}}
    frames = np.arange(5 * 24).reshape(5, *shape).astype(dtype)
    with EpisodeWriter(tmp_path / "a.zarr", features=features, images="jpeg") as writer:
        writer.add_episode({"depth": frames, "action": np.zeros((5, 2))})
    store = EpisodeStore.open(tmp_path / "a.zarr")
    said = {"kind": "depth", "shape": list(shape), "dtype": dtype, "units": "mm"}
    assert store.schema("depth") == said
    assert np.array_equal(store["depth"][:], frames)


def test_depth_of_another_form_is_refused(tmp_path):
    for frames in (np.zeros((5, 4, 6, 3), np.float32), np.zeros((5, 4, 6), np.uint8)):
        with (
            pytest.raises(DataError, match="depth of"),
            EpisodeWriter(tmp_path / "a", features={"depth": {"kind": "depth"}}) as writer,
        ):
            writer.add_episode({"depth": frames, "action": np.zeros((5, 2))})


def test_a_label_map_is_stored_without_loss_whatever_images_are_stored_as(tmp_path):
    labels = np.random.default_rng(0).integers(0, 5, (3, 16, 16, 1), dtype=np.uint8)
    touch = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 2), dtype=np.uint8)
    features = {"labels": {"kind": "state"}}
    with EpisodeWriter(tmp_path / "a", features=features, images="jpeg") as writer:
        writer.add_episode({"labels": labels, "touch": touch, "action": np.zeros((3, 2))})
    store = EpisodeStore.open(tmp_path / "a")
    assert np.array_equal(store["labels"][:], labels)
    assert np.array_equal(store["touch"][:], touch)


@pytest.fixture
def spoken(tmp_path):
    """Three episodes of 4, 3 and 5 frames; the task changes in the first and the last."""
    with EpisodeWriter(tmp_path / "a.zarr", fps=10) as writer:
        writer.add_episode({"action": np.ones((4, 2))}, [(0, "pick"), (2, "place")])
        writer.add_episode({"action": np.ones((3, 2))}, "place")
        writer.add_episode({"action": np.ones((5, 2))}, [(0, ""), (1, "pick")])
    return tmp_path / "a.zarr"


def test_tasks_are_kept_by_episode_and_by_frame(spoken):
    store = EpisodeStore.open(spoken)
    assert store.tasks == ["pick", "place", ""]
    assert store.task_words == ["pick", "place", ""]
    assert [store.task_spans(n) for n in (0, 1, -1)] == [
        ((0, "pick"), (2, "place")),
        ((0, "place"),),
        ((0, ""), (1, "pick")),
    ]
    assert store.task_numbers().tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0]
    assert validate(spoken).ok
    with pytest.raises(IndexError):
        store.task_spans(3)


def test_without_words_there_are_none(write):
    store = EpisodeStore.open(write([2, 3]))
    assert (store.tasks, store.task_spans(1)) == (["", ""], ())
    assert store.task_numbers().tolist() == [0] * 5


def test_one_task_an_episode_needs_no_spans(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr") as writer:
        writer.add_episode({"action": np.ones((4, 2))}, [(0, "push"), (2, "push")])
    assert not (tmp_path / "a.zarr/meta/task_spans").exists()
    assert EpisodeStore.open(tmp_path / "a.zarr").task_spans(0) == ((0, "push"),)


@pytest.mark.parametrize(
    "task",
    [[(1, "late")], [(0, "a"), (0, "b")], [(0, "a"), (4, "b")], [(0, 5)], [(0,)], [(-1, "a")]],
)
def test_spans_that_do_not_cover_the_episode_are_refused(tmp_path, task):
    writer = EpisodeWriter(tmp_path / "a")
    with pytest.raises(DataError, match=r"episode 0: (a )?task span"):
        writer.add_episode({"action": np.ones((4, 2))}, task)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[0, 0], [2, 1], [4, 1], [7, 9], [8, 0]], "task 9 at frame 7"),
        ([[0, 0], [5, 1], [7, 2]], "no span begins with episode 1"),
        ([[0, 1], [4, 1], [7, 2]], "first task of episode 0"),
        ([[0, 0], [4, 1], [4, 1], [7, 2]], "must increase"),
    ],
)
def test_spans_that_contradict_the_episodes_are_a_problem(spoken, spans, message):
    import zarr

    group = zarr.open_group(spoken, mode="r+")
    del group["meta/task_spans"]
    spans = np.array(spans, np.int64)
    array = group.create_array("meta/task_spans", shape=spans.shape, chunks=(9, 2), dtype="i8")
    array[:] = spans
    with pytest.raises(DataError, match=message):
        EpisodeStore.open(spoken)
    assert any(message in problem.message for problem in validate(spoken).problems)


@pytest.mark.parametrize("span", [(0, 11), (-1, 2), (10, 12), (40, 50)])
def test_reading_beyond_the_end_is_an_index_error(write, write_v2, span):
    for path in (write([6, 4]), write_v2([10])):
        with pytest.raises(IndexError, match="of 10 in 'state'"):
            EpisodeStore.open(path)["state"].read(*span)
    assert EpisodeStore.open(path)["state"].read(10, 10).shape == (0, 3)


def test_a_store_is_closed_with_its_block(write):
    path = write([6], name="a.zarr.zip")
    with EpisodeStore.open(path) as store:
        assert store["action"].read(0, 6).shape == (6, 2)
    with pytest.raises((ValueError, OSError, DataError)):
        store["state"].read(0, 6)


@pytest.mark.parametrize("changed", [0, 1, 500, 999])
def test_any_changed_action_changes_the_fingerprint(tmp_path, write_v2, changed):
    actions = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)

    def written(name, actions):
        with EpisodeWriter(tmp_path / name) as writer:
            writer.add_episode({"action": actions})
        return EpisodeStore.open(tmp_path / name)

    one, same = written("a.zarr", actions), written("same.zarr.zip", actions)
    actions[changed] += 1e-3
    other = written("b.zarr", actions)
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.has_fingerprint(one.legacy_fingerprint())
    assert not one.has_fingerprint(other.fingerprint())


def test_a_changed_action_of_version_2_changes_it_too(write_v2):
    import zarr

    path = write_v2([40])
    before = EpisodeStore.open(path).fingerprint()
    array = zarr.open_group(path, mode="r+")["data/action"]
    array[17] = [5.0, 5.0]
    assert EpisodeStore.open(path).fingerprint() != before


def test_the_fingerprint_is_of_all_keys_whichever_are_opened(write):
    path = write([6, 4])
    whole = EpisodeStore.open(path).fingerprint()
    assert EpisodeStore.open(path, keys=["action"]).fingerprint() == whole


def test_the_words_are_part_of_the_fingerprint(spoken):
    before = EpisodeStore.open(spoken).fingerprint()
    edit_attributes(spoken, tasks=["pick", "put", ""])
    assert EpisodeStore.open(spoken).fingerprint() != before


def test_stamps_of_float64_stay_float64_where_float32_would_make_them_equal(tmp_path):
    stamps = 1.7e9 + np.arange(4)[:, None] / 30
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"time": stamps, "state": stamps - 1.7e9, "action": np.zeros((4, 2))})
    store = EpisodeStore.open(tmp_path / "a")
    assert np.array_equal(store["time"][:], stamps)
    assert store["state"].dtype == np.float32


@pytest.mark.parametrize("dtype", ["<f8", ">f8"])
def test_positions_that_float32_cannot_tell_apart_stay_float64(tmp_path, dtype):
    walk = np.random.default_rng(0).normal(size=(200, 1)).cumsum(0) * 0.1
    utm, gps = (4649776.0 + walk).astype(dtype), (47.3769 + 1e-4 * walk).astype(dtype)
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"utm": utm, "gps": gps, "action": walk.astype(dtype)})
    store = EpisodeStore.open(tmp_path / "a")
    assert np.array_equal(store["utm"][:], utm)
    assert np.array_equal(store["gps"][:], gps)
    assert store["action"].dtype == np.float32


def test_what_hardly_moves_is_float32_and_no_error_in_a_later_episode(tmp_path):
    resting = 0.8 + 1e-5 * np.random.default_rng(0).normal(size=(50, 1))
    with EpisodeWriter(tmp_path / "a") as writer:
        for block in (resting, 300 + resting, 300 + 100 * resting):
            writer.add_episode({"block": block, "action": np.zeros((50, 1))})
    assert EpisodeStore.open(tmp_path / "a")["block"].dtype == np.float32


def test_stamps_that_were_begun_as_float32_are_an_error_that_says_what_to_declare(tmp_path):
    writer = EpisodeWriter(tmp_path / "a")
    writer.add_episode({"time": np.arange(4) / 30, "action": np.zeros((4, 2))})
    with pytest.raises(DataError, match=r"features={'time': {'dtype': 'float64'}}"):
        writer.add_episode({"time": 1.7e9 + np.arange(4) / 30, "action": np.zeros((4, 2))})


def test_stamps_of_hdf5_stay_distinct(tmp_path):
    h5py = pytest.importorskip("h5py")
    from dipole.data.convert import convert
    from dipole.data.sources.registry import open_source

    stamps = 1.7e9 + np.arange(4)[:, None] / 30
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.random.default_rng(0).normal(size=(4, 2))
        demo["obs/time"] = stamps
    convert(open_source(tmp_path / "t.hdf5"), tmp_path / "t.zarr")
    assert np.array_equal(EpisodeStore.open(tmp_path / "t.zarr")["time"][:], stamps)


PLAIN_ZARR = """
import sys, zarr
assert not any(name.startswith("dipole") for name in sys.modules)
print(zarr.open_group(sys.argv[1], mode="r")["data/camera"][:].sum())
"""


@pytest.mark.parametrize("images", ["jxl", "jpeg"])
def test_plain_zarr_reads_images_through_the_entry_points(tmp_path, images):
    camera = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    with EpisodeWriter(tmp_path / "a.zarr", images=images) as writer:
        writer.add_episode({"camera": camera, "action": np.zeros((3, 2))})
    paths = [*sys.path]
    if not any(e.name == f"dipole_{images}" for e in entry_points(group="zarr.codecs")):
        # Installed before the entry points came: give the process those of pyproject.toml.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        info = tmp_path / "site/dipole_codecs-1.dist-info"
        info.mkdir(parents=True)
        lines = [f"{k} = {v}" for k, v in project["entry-points"]["zarr.codecs"].items()]
        (info / "entry_points.txt").write_text("\n".join(["[zarr.codecs]", *lines]))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dipole-codecs\nVersion: 1\n")
        paths.insert(0, str(info.parent))
    code = f"import sys; sys.path[:] = {paths!r}\n{PLAIN_ZARR}"
    command = [sys.executable, "-c", code, str(tmp_path / "a.zarr")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == EpisodeStore.open(tmp_path / "a.zarr")["camera"][:].sum()


class Punishing:
    """Every step costs, and the third ends it."""

    def reset(self, *, seed=None):
        self.steps = 0
        return {"state": np.zeros(1)}, {}

    def step(self, action):
        self.steps += 1
        return {"state": np.zeros(1)}, -float(self.steps), self.steps == 3, False, {}


class Still:
    def reset(self, seed):
        pass

    def act(self, observation):
        return np.zeros(1)


def test_the_largest_of_negative_rewards_is_negative():
    assert record_episode(Punishing(), Still(), 0).max_reward == -1.0

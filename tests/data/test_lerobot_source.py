"""LeRobot datasets as a source: numbers, words, order and time, and what is not taken."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.lerobot.columns import loses_precision, numbers
from dipole.data.sources.lerobot.data_files import DataFile
from dipole.data.sources.registry import open_source

_spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)

LENGTHS = [7, 5, 9]
CAMERA = corpus.CAMERA
FIRST = "data/chunk-000/episode_000000.parquet"
SECOND = "data/chunk-000/episode_000001.parquet"
WHOLE = "data/chunk-000/file-000.parquet"


def opened(source, number):
    return source.open(source.episodes()[number])


def frames_of_all(source, key):
    return np.concatenate([e.read(key, 0, e.n_frames) for e in map(source.open, source.episodes())])


@pytest.fixture
def v21(tmp_path):
    """A sound dataset of three episodes, version 2.1."""
    return corpus.write_v21(tmp_path / "theirs", LENGTHS)


@pytest.fixture
def v30(tmp_path):
    """The same, version 3.0, in one file."""
    return corpus.write_v30(tmp_path / "theirs", LENGTHS)


# Where files lie.


@pytest.mark.parametrize(
    "key", ["../../pwned", "/etc/pwned", "observation/pwned", "..", ".pwned", "a\\b", "a\0b"]
)
@pytest.mark.parametrize("dtype", ["video", "image", "float32"])
def test_a_key_that_names_another_folder_is_refused_and_nothing_is_written(v21, key, dtype):
    feature = {"dtype": dtype, "shape": [16, 24, 3], "names": None}
    corpus.edit_info(v21, lambda info: info["features"].update({key: feature}))
    before = sorted(v21.parent.rglob("*"))
    with pytest.raises(DataError, match="names a feature"):
        convert(open_source(v21), v21.parent / "ours.zarr")
    assert sorted(v21.parent.rglob("*")) == before


def test_a_dataset_cannot_name_files_outside_itself(v21):
    path = v21 / "meta/info.json"
    good = path.read_text()
    path.write_text(good.replace("data/chunk", "../other/chunk"))
    with pytest.raises(DataError, match="outside the dataset"):
        open_source(v21)
    path.write_text(good.replace("{episode_index:06d}", "{episode_index.__class__}"))
    with pytest.raises(DataError, match="refused"):
        open_source(v21)
    path.write_text(good.replace("data/chunk-{episode_chunk:03d}", "/etc"))
    with pytest.raises(DataError, match="outside the dataset"):
        open_source(v21)


def test_a_dataset_in_the_hubs_cache_is_read_through_its_links(v30, tmp_path):
    snapshot = corpus.as_hub_cache(v30, tmp_path / "hub")
    convert(open_source(snapshot), tmp_path / "ours.zarr")
    assert EpisodeStore.open(tmp_path / "ours.zarr")["action"][:, 0].tolist() == list(range(21))


def test_a_link_into_another_datasets_blobs_is_refused(v30, tmp_path):
    snapshot = corpus.as_hub_cache(v30, tmp_path / "hub")
    secret = tmp_path / "hub/datasets--me--other/blobs/0"
    secret.parent.mkdir(parents=True)
    secret.write_bytes((v30 / WHOLE).read_bytes())
    (snapshot / WHOLE).unlink()
    (snapshot / WHOLE).symlink_to(secret)
    with pytest.raises(DataError, match="lies outside the dataset"):
        opened(open_source(snapshot), 0)


def test_a_link_out_of_a_plain_folder_is_refused(v21, tmp_path):
    outside = tmp_path / "outside.parquet"
    outside.write_bytes((v21 / FIRST).read_bytes())
    (v21 / FIRST).unlink()
    (v21 / FIRST).symlink_to(outside)
    with pytest.raises(DataError, match=r"episode 0: .*lies outside the dataset"):
        opened(open_source(v21), 0)


@pytest.mark.parametrize("name", ["meta/info.json", "meta/tasks.parquet", WHOLE])
def test_a_file_that_was_not_downloaded_is_said_to_be_so(v30, tmp_path, name):
    snapshot = corpus.as_hub_cache(v30, tmp_path / "hub")
    (snapshot / os.path.dirname(name) / os.readlink(snapshot / name)).unlink()
    with pytest.raises(DataError, match="it was not downloaded"):
        opened(open_source(snapshot), 0)


def test_files_that_are_not_needed_may_be_links_to_nothing(v30, tmp_path):
    snapshot = corpus.as_hub_cache(v30, tmp_path / "hub")
    (snapshot / "README.md").symlink_to("../../blobs/gone")
    convert(open_source(snapshot), tmp_path / "ours.zarr")
    assert EpisodeStore.open(tmp_path / "ours.zarr").n_frames == 21


# Words.


@pytest.mark.parametrize("write", [corpus.write_v21, corpus.write_v30])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed-size-list", "list"])
def test_numbers_and_words(tmp_path, write, fixed):
    convert(open_source(write(tmp_path / "theirs", LENGTHS, fixed=fixed)), tmp_path / "ours.zarr")
    store, frame = EpisodeStore.open(tmp_path / "ours.zarr"), np.arange(21)
    assert store.episode_ends.tolist() == [7, 12, 21]
    assert store["observation.state"][:, 0].tolist() == frame.tolist()
    assert np.array_equal(store["action"][:], np.stack([frame, -frame], 1))
    assert store["action"].dtype == np.float32
    assert (store.fps, store.environment) == (10, {"id": "arm", "version": ""})
    assert store.tasks == ["push it", "pull it", "push it"]
    assert store.keys() == ["action", "observation.state"]  # nothing that merely counts
    assert store.schema("observation.state")["names"] == ["x", "y", "z"]


@pytest.mark.parametrize("name", ["task", "__index_level_0__"])
def test_tasks_are_found_under_both_names_of_their_column(tmp_path, name):
    source = open_source(corpus.write_v30(tmp_path / "theirs", LENGTHS, index_name=name))
    assert [opened(source, n).tasks[0][1] for n in range(3)] == ["push it", "pull it", "push it"]


def test_tasks_change_within_an_episode(tmp_path):
    tasks = [[1, 1, 0, 0, 0, 1, 1], [0] * 5, [2] * 3 + [1] * 6]
    source = open_source(corpus.write_v30_files(tmp_path / "theirs", LENGTHS, tasks=tasks))
    assert opened(source, 0).tasks == ((0, "pull it"), (2, "push it"), (5, "pull it"))
    assert opened(source, 1).tasks == ((0, "push it"),)
    assert opened(source, 2).tasks == ((0, "let go"), (3, "pull it"))
    assert "task_index" not in source.info.frames


def test_the_first_task_is_that_of_the_first_frame_and_not_of_the_metadata(tmp_path):
    tasks = [[2] * 7, [1] * 5, [0] * 9]  # meta/episodes lists all three words for each, sorted
    source = open_source(corpus.write_v30_files(tmp_path / "theirs", LENGTHS, tasks=tasks))
    words = [episode.tasks[0][1] for episode in map(source.open, source.episodes())]
    assert words == ["let go", "pull it", "push it"]


def test_a_task_without_words_is_named_with_its_frame(tmp_path):
    tasks = [[0] * 7, [0, 0, 0, 8, 8], [0] * 9]
    source = open_source(corpus.write_v30_files(tmp_path / "theirs", LENGTHS, tasks=tasks))
    with pytest.raises(DataError, match="episode 1, frame 3: task_index 8"):
        opened(source, 1)


def test_two_words_for_one_number_are_refused(v21):
    path = v21 / "meta/tasks.jsonl"
    path.write_text(path.read_text() + '{"task_index": 1, "task": "leave it"}\n')
    with pytest.raises(DataError, match="task 1 is both 'pull it' and 'leave it'"):
        open_source(v21)


def test_without_task_index_the_words_of_the_metadata_are_taken_where_they_are_one(v21):
    for file in (v21 / "data").rglob("*.parquet"):
        rows = pq.read_table(file)
        pq.write_table(rows.drop_columns(["task_index"]), file)
    lines = (v21 / "meta/episodes.jsonl").read_text().splitlines()
    lines[2] = json.dumps({"episode_index": 2, "length": 9, "tasks": ["pull it", "push it"]})
    (v21 / "meta/episodes.jsonl").write_text("\n".join(lines))
    source = open_source(v21)
    assert [opened(source, n).tasks for n in range(3)] == [((0, "push it"),), ((0, "pull it"),), ()]
    assert "episode 2: meta/ says the tasks 'pull it', 'push it'" in source.info.warnings[0]


# Time and order.


def with_column(v21, name, values):
    corpus.replace_column(v21 / SECOND, name, pa.array(values))
    return open_source(v21)


def test_a_jump_of_the_time_stamps_is_said_with_its_frame(v21):
    source = with_column(v21, "timestamp", np.float32([0, 0.1, 0.2, 0.8, 0.9]))
    assert opened(source, 1).n_frames == 5
    (warning,) = source.info.warnings
    assert "episode 1: timestamp jumps by 0.6 s before frame 3 (5 frames are missing" in warning


def test_time_that_runs_back_is_refused_with_its_frame(v21):
    source = with_column(v21, "timestamp", np.float32([0, 0.1, 0.2, 0.1, 0.4]))
    with pytest.raises(DataError, match=r"episode 1: timestamp of frame 3 is 0.1 s, after 0.2 s"):
        opened(source, 1)


def test_rows_at_another_rate_than_is_said_are_refused(v21):
    source = with_column(v21, "timestamp", np.float32(np.arange(5) / 7))
    with pytest.raises(DataError, match=r"episode 1: timestamp runs at 7 frames a second.*fps 10"):
        opened(source, 1)


def test_a_frame_that_is_missing_is_said(v21):
    source = with_column(v21, "frame_index", [0, 1, 3, 4, 5])
    assert opened(source, 1).read("action", 0, 5)[:, 0].tolist() == [7, 8, 9, 10, 11]
    assert "episode 1: frame_index 2 is missing" in source.info.warnings[0]


def test_a_frame_that_is_there_twice_is_refused(v21):
    source = with_column(v21, "frame_index", [0, 1, 2, 2, 4])
    with pytest.raises(DataError, match="episode 1: frame_index 2 is there twice"):
        opened(source, 1)


def test_rows_are_taken_in_the_order_of_their_frames(v21):
    source = with_column(v21, "frame_index", [4, 3, 2, 1, 0])
    corpus.replace_column(v21 / SECOND, "timestamp", pa.array(np.float32([4, 3, 2, 1, 0]) / 10))
    assert opened(open_source(v21), 1).read("action", 1, 4)[:, 0].tolist() == [10, 9, 8]
    assert source.info.warnings == ()


def test_an_episode_that_is_listed_twice_alike_is_taken_once(v21):
    path = v21 / "meta/episodes.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[1])
    source = open_source(v21)
    assert [ref.id for ref in source.episodes()] == [0, 1, 2]
    assert "episode 1 is listed twice in meta/, alike" in source.info.warnings[0]


def test_an_episode_that_is_listed_twice_differently_is_refused(v21, tmp_path):
    path = v21 / "meta/episodes.jsonl"
    path.write_text(path.read_text() + '{"episode_index": 1, "tasks": ["pull it"], "length": 4}\n')
    with pytest.raises(DataError, match=r"episode 1 is listed twice .* as 5 frames .*4 frames"):
        open_source(v21)
    source = corpus.write_v30(tmp_path / "three", LENGTHS)
    file = source / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(file).to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows, {**rows[0], "length": 6}]), file)
    with pytest.raises(DataError, match="episode 0 is listed twice"):
        open_source(source)


def test_episodes_in_any_order_of_files_and_row_groups(tmp_path):
    lengths = [3, 4, 5, 2, 6, 1]
    for groups in (False, True):
        folder = tmp_path / f"groups_{groups}"
        source = open_source(
            corpus.write_v30_files(
                folder, lengths, file_of=[2, 0, 1, 0, 2, 1], row_groups=groups, cameras=["cam"]
            )
        )
        assert frames_of_all(source, "action")[:, 0].tolist() == list(range(21))
        assert corpus.levels(frames_of_all(source, "cam")).tolist() == pytest.approx(
            [4 * n for n in range(21)], abs=2
        )


def test_an_episode_with_fewer_rows_than_is_said_is_named(v30):
    rows = pq.read_table(v30 / WHOLE)
    pq.write_table(rows.slice(0, 10), v30 / WHOLE)
    source = open_source(v30)
    assert opened(source, 0).n_frames == 7
    with pytest.raises(DataError, match="episode 1: 3 frames of 5"):
        opened(source, 1)


# Columns.


@pytest.mark.parametrize(
    ("rows", "frame", "count"),
    [([[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]], 1, 1), ([[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]], 0, 3)],
)
def test_rows_of_different_lengths_are_refused_with_their_frame(rows, frame, count):
    column = pa.array(rows, pa.list_(pa.float32()))  # six numbers in three frames of two
    with pytest.raises(DataError, match=f"frame {40 + frame}: a list of {count} numbers"):
        numbers(column, (2,), "here", 40)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3)])
def test_lists_of_another_length_than_the_shape_are_refused(kind):
    with pytest.raises(DataError, match=r"3 numbers a frame; meta/info.json says shape \[2\]"):
        numbers(pa.array([[1, 2, 3]] * 4, kind), (2,), "here")


def test_an_empty_entry_is_refused_with_its_frame():
    with pytest.raises(DataError, match="frame 1: empty"):
        numbers(pa.array([[1.0], None, [2.0]]), (1,), "here")
    with pytest.raises(DataError, match="frame 12: empty"):
        numbers(pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, None]]), (2,), "here", 10)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        ([["x", "y"]], ("x", "y")),
        ({"motors": ["x", "y"]}, ("x", "y")),
        ({"y": 1, "x": 0}, ("x", "y")),
        ({"left": ["x"], "right": ["y"]}, ("x", "y")),
        (["x"], ()),
        (None, ()),
    ],
)
def test_names_of_joints_in_all_their_forms(v21, names, expected):
    corpus.edit_info(v21, lambda info: info["features"]["action"].update(names=names))
    assert open_source(v21).info.frames["action"].names == expected


def test_what_is_not_taken_is_said_with_the_reason(v21):
    def change(info):
        info["features"] |= {
            "language_instruction": {"dtype": "string", "shape": [1]},
            "observation.audio": {"dtype": "audio", "shape": [16000]},
            "left wrist": {"dtype": "float32", "shape": [2]},
            "observation.nothing": {"dtype": "float32", "shape": [0]},
            "observation.broken": {"dtype": "float32"},
        }

    corpus.edit_info(v21, change)
    source = open_source(v21)
    assert sorted(source.info.frames) == ["action", "observation.state"]
    left_out = source.info.left_out
    assert left_out["language_instruction"] == "text and sound are not stored"
    assert "use letters, digits" in left_out["left wrist"]
    assert left_out["observation.nothing"] == "frames of shape [0]"
    assert "KeyError('shape')" in left_out["observation.broken"]


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_both_second_versions_and_rates_that_are_no_whole_numbers(v21, version):
    corpus.edit_info(v21, lambda info: info.update(codebase_version=version, fps=10.0))
    assert open_source(v21).info.format == f"LeRobot {version}"
    corpus.edit_info(v21, lambda info: info.update(fps=9.97))
    source = open_source(v21)
    assert source.info.fps == 9.97
    assert opened(source, 0).n_frames == 7


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(1.7e9 + np.arange(21) / 30, np.float64), (np.arange(21) / 30, np.float32)],
)
def test_float64_stays_where_float32_would_merge_its_values(v30, tmp_path, values, dtype):
    rows = pq.read_table(v30 / WHOLE)
    pq.write_table(rows.append_column("observation.clock", pa.array(values)), v30 / WHOLE)
    feature = {"dtype": "float64", "shape": [1], "names": None}
    corpus.edit_info(v30, lambda info: info["features"].update({"observation.clock": feature}))
    source = open_source(v30)
    assert source.info.frames["observation.clock"].dtype == dtype
    convert(source, tmp_path / "ours.zarr")
    stored = EpisodeStore.open(tmp_path / "ours.zarr")["observation.clock"][:].ravel()
    assert len(set(stored.tolist())) == 21
    assert np.abs(stored - values).max() < 1e-6


def test_float64_of_a_later_episode_that_is_not_kept_is_said(v21):
    corpus.edit_info(v21, lambda info: info["features"]["action"].update(dtype="float64"))
    values = (1.7e9 + np.arange(10) / 30).reshape(5, 2)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 2)
    corpus.replace_column(v21 / SECOND, "action", column)
    source = open_source(v21)
    assert source.info.frames["action"].dtype == np.float32
    opened(source, 1).read("action", 0, 5)
    assert "'action', episode 1: float64 numbers that float32" in source.info.warnings[0]


def test_precision_is_a_matter_of_extent_and_not_of_size():
    assert not loses_precision(np.full((5, 1), 1.7e9))  # constant
    assert not loses_precision(np.linspace(-1, 1, 500)[:, None])
    assert loses_precision(np.stack([np.zeros(5), 1e6 + np.arange(5) * 0.01], 1))


@pytest.mark.parametrize("place", [WHOLE, "meta/episodes/chunk-000/file-000.parquet"])
def test_a_column_that_is_small_in_the_file_and_huge_in_memory_is_refused(v30, monkeypatch, place):
    monkeypatch.setattr("dipole.data.sources.lerobot.tables.LARGEST", 8 * 20_000)
    rows = pq.read_table(v30 / place)
    pq.write_table(pa.concat_tables([rows] * (20_000 // len(rows) + 1)), v30 / place)
    assert (v30 / place).stat().st_size < 500_000
    with pytest.raises(DataError, match=r"'episode_index' would take 160,\d+ bytes of memory"):
        opened(open_source(v30), 0)


# Cost.


def test_each_file_is_opened_once_and_each_column_read_once(tmp_path, monkeypatch):
    lengths = [3] * 12
    theirs = corpus.write_v30_files(tmp_path / "theirs", lengths, files=4)
    reads, files = [], []
    read, begin = pq.ParquetFile.read, DataFile.__init__
    monkeypatch.setattr(
        pq.ParquetFile, "read", lambda self, columns: reads.append(columns) or read(self, columns)
    )
    monkeypatch.setattr(
        DataFile,
        "__init__",
        lambda self, folder, name, cache: files.append(name) or begin(self, folder, name, cache),
    )
    source = open_source(theirs)
    for episode in map(source.open, source.episodes()):
        for key in source.info.frames:
            episode.read(key, 0, 3)
    assert files == [f"data/chunk-000/file-{n:03d}.parquet" for n in range(4)]
    assert reads.count(["action"]) == reads.count(["observation.state"]) == 4
    assert len(reads) == 2 + 4 * 3  # meta/; and the counters, state and action of each file


def test_columns_are_kept_up_to_a_number_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("dipole.data.sources.lerobot.data_files.CACHE_BYTES", 100)
    source = open_source(corpus.write_v30_files(tmp_path / "theirs", [3] * 12, files=4))
    for key in ("action", "observation.state", "action"):
        assert frames_of_all(source, key)[:, 0].tolist() == list(range(36))


def test_many_episodes_are_listed_without_opening_their_files(tmp_path):
    count = 76_000
    theirs = corpus.write_v30_files(tmp_path / "theirs", [2, 2])
    zeros = [0] * count
    rows = {"episode_index": list(range(count)), "length": [2] * count, "tasks": [["x"]] * count}
    rows |= {"data/chunk_index": zeros, "data/file_index": list(range(count))}
    pq.write_table(pa.table(rows), theirs / "meta/episodes/chunk-000/file-000.parquet")
    source = open_source(theirs)
    assert len(source.episodes()) == count
    assert source.episodes()[-1].id == count - 1
    assert opened(source, 0).n_frames == 2

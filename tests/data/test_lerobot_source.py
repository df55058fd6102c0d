"""LeRobot datasets as a source: numbers, words, order and time."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus
from lerobot_rows import LENGTHS, SECOND, WHOLE, frames_of_all, opened

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

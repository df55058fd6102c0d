"""The columns of LeRobot datasets: shapes, names and precision, and what is not taken."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.core.precision import loses_precision
from dipole.data.sources.lerobot.columns import numbers
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus
from lerobot_rows import SECOND, WHOLE, opened


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

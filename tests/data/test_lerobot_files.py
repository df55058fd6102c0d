"""The files of LeRobot datasets: where they may lie, and how often they are opened."""

import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.lerobot.data_files import DataFile
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus
from lerobot_rows import FIRST, WHOLE, frames_of_all, opened

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

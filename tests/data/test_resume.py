"""Nothing that is whole is lost: recordings killed, damaged and gone on with, in every format."""

import errno
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.registry import open_source
from dipole.data.store.array_appender import ENCODINGS
from dipole.data.store.writer import StoreWriter

_spec = importlib.util.spec_from_file_location("crashes", Path(__file__).with_name("crashes.py"))
crashes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(crashes)

N = len(crashes.LENGTHS)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)  # for time's sake
    for name in ("CHUNK_BYTES", "SHARD_BYTES", "MOST_CHUNKS"):
        monkeypatch.setattr(f"dipole.data.store.zarr.encoding.{name}", 0)
    crashes.small_shards()


def files(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def whole(folder, images):
    """The recording without any interruption."""
    crashes.record(folder / "whole" / "mine.zarr", images)
    return files(folder / "whole" / "mine.zarr")


def interrupted(path, images, n_episodes):
    """A recording that ended with an exception behind some episodes; its unfinished folder."""
    writer = EpisodeWriter(path, fps=10, features=crashes.FEATURES, images=images)
    for number in range(n_episodes):
        writer.add_episode(crashes.episode(number), f"task {number % 2}")
    writer.leave()
    return path.parent / f".{path.name}.partial" / "store"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.zarr", "mine.zarr.zip"])
@pytest.mark.parametrize("images", ENCODINGS)
def test_killed_at_random_writes_a_recording_is_the_same_bit_for_bit(tmp_path, images, name):
    kills = 10 if name == "mine.zarr" else 5  # of each format
    path = tmp_path / "killed" / name
    path.parent.mkdir()
    command = [sys.executable, crashes.__file__, str(path), images, str(kills), "7"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    crashes.record(tmp_path / "whole" / name, images)
    read = files if path.is_dir() else Path.read_bytes
    assert read(path) == read(tmp_path / "whole" / name)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-9])


def flip(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    file.write_bytes(raw)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink], ids=lambda f: f.__name__)
@pytest.mark.parametrize("images", ENCODINGS)
def test_a_damaged_shard_costs_its_episodes_and_those_behind(tmp_path, images, harm):
    path = tmp_path / "mine.zarr"
    store = interrupted(path, images, 5)  # episodes end at 3, 8, 9, 18, 20
    harm(store / "data/camera/c/2/0/0/0")  # frames 8 to 11
    writer = EpisodeWriter.resume(path)
    assert writer.n_episodes == 2
    assert writer.dropped.startswith("3 of 5 episodes, from number 2 on")
    writer.leave()
    crashes.record(path, images)
    assert files(path) == whole(tmp_path, images)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink], ids=lambda f: f.__name__)
@pytest.mark.parametrize("images", ENCODINGS)
def test_so_does_a_damaged_shard_that_is_being_filled(tmp_path, images, harm):
    path = tmp_path / "mine.zarr"
    store = interrupted(path, images, 4)  # 18 frames: the last shard holds 16 and 17
    harm(store / "unfinished/camera.4")
    crashes.record(path, images)
    assert files(path) == whole(tmp_path, images)


@pytest.mark.parametrize("images", ENCODINGS)
def test_leftovers_of_writes_that_were_cut_short_do_no_harm(tmp_path, images):
    path = tmp_path / "mine.zarr"
    store = interrupted(path, images, 3)
    for name in ("data/camera/c/1.7d1a.partial", "data/state/zarr.json.0b.partial"):
        (store / name).write_bytes(b"half")
    with open(store / "unfinished/commits", "ab") as commits:
        commits.write(b"dpl1 half a record")
    crashes.record(path, images)
    assert files(path) == whole(tmp_path, images)


def test_a_failed_episode_is_taken_back_over_several_shards(tmp_path):
    path = tmp_path / "mine.zarr"
    with EpisodeWriter(path, fps=10, features=crashes.FEATURES) as writer:
        for number in range(N):
            long = {key: np.repeat(a[:1], 50, 0) for key, a in crashes.episode(number).items()}
            writer._store.array("camera", (8, 8, 3), np.dtype(np.uint8)).append(long["camera"])
            with pytest.raises(
                DataError, match=r"50 frames of 'camera' where 0 are expected|no frames"
            ):
                writer._store.commit_episode(0)
            writer._store.rollback()
            writer.add_episode(crashes.episode(number), f"task {number % 2}")
    assert files(path) == whole(tmp_path, "zstd")


@pytest.mark.parametrize("images", ENCODINGS)
@pytest.mark.parametrize("n_before", [1, 2, 5])
def test_episodes_appended_to_a_finished_dataset_are_as_if_never_finished(
    tmp_path, images, n_before
):
    path = tmp_path / "mine.zarr"
    interrupted(path, images, n_before)
    EpisodeWriter.resume(path).close()
    before = files(path)
    with EpisodeWriter.resume(path) as writer:
        assert writer.n_episodes == n_before
        for number in range(n_before, N):
            writer.add_episode(crashes.episode(number), f"task {number % 2}")
        assert files(path) == before  # readers meanwhile find what was there
    assert files(path) == whole(tmp_path, images)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_exception_while_appending_leaves_the_dataset_and_the_new_episodes(tmp_path):
    path = tmp_path / "mine.zarr"
    interrupted(path, "zstd", 2)
    EpisodeWriter.resume(path).close()
    before = files(path)
    with pytest.raises(KeyboardInterrupt) as caught, EpisodeWriter.resume(path) as writer:  # noqa: PT012
        writer.add_episode(crashes.episode(2), "task 0")
        raise KeyboardInterrupt
    assert "3 episodes" in caught.value.__notes__[0]
    assert files(path) == before
    crashes.record(path, "zstd")
    assert files(path) == whole(tmp_path, "zstd")


def test_a_dataset_that_changed_while_it_was_appended_to_is_not_replaced(tmp_path):
    path = tmp_path / "mine.zarr"
    interrupted(path, "zstd", 1)
    EpisodeWriter.resume(path).close()
    writer = EpisodeWriter.resume(path)
    writer.add_episode(crashes.episode(1))
    shutil.rmtree(path)
    path.mkdir()
    (path / "zarr.json").write_text("another")
    with pytest.raises(DataError, match="is no longer the dataset that was appended to"):
        writer.close()
    assert files(path) == {"zarr.json": b"another"}


def test_what_cannot_be_gone_on_with_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no recording, nor an unfinished one"):
        EpisodeWriter.resume(tmp_path / "a.zarr")
    with EpisodeWriter(tmp_path / "a.zarr.zip") as writer:
        writer.add_episode(crashes.episode(0))
    with pytest.raises(DataError, match="nothing can be appended to a zip"):
        EpisodeWriter.resume(tmp_path / "a.zarr.zip")
    interrupted(tmp_path / "b.zarr", "zstd", 1)
    with pytest.raises(DataError, match=r"something unfinished lies in .*EpisodeWriter\.resume"):
        EpisodeWriter(tmp_path / "b.zarr")


def test_two_writers_of_one_dataset_are_refused(tmp_path):
    interrupted(tmp_path / "a.zarr", "zstd", 1)
    first = EpisodeWriter.resume(tmp_path / "a.zarr")
    with pytest.raises(DataError, match="another process is writing it already"):
        EpisodeWriter.resume(tmp_path / "a.zarr")
    first.close()
    assert EpisodeStore.open(tmp_path / "a.zarr").n_episodes == 1


def test_what_was_begun_is_demanded_of_later_episodes_too(tmp_path):
    path = tmp_path / "mine.zarr"
    interrupted(path, "zstd", 1)
    with pytest.raises(DataError, match="has no 'camera'"), EpisodeWriter.resume(path) as writer:
        writer.add_episode({"state": np.zeros((2, 3)), "action": np.zeros((2, 2))})


def test_a_recording_under_way_is_not_said_to_be_left_over(tmp_path):
    first = EpisodeWriter(tmp_path / "a.zarr")
    first.add_episode(crashes.episode(0))
    with pytest.raises(DataError, match="another process is writing it already"):
        EpisodeWriter(tmp_path / "a.zarr")
    with pytest.raises(DataError, match="another process is writing it already"):
        convert(open_source("bundled:pusht"), tmp_path / "a.zarr")
    first.close()
    assert EpisodeStore.open(tmp_path / "a.zarr").n_episodes == 1


def test_what_is_refused_leaves_no_folder(tmp_path):
    zarr.open_group(tmp_path / "theirs", mode="w", zarr_format=2)
    with pytest.raises(DataError, match="no meta/episode_ends"):
        EpisodeWriter.resume(tmp_path / "theirs")
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/a\.zarr: nothing can be written there"):
        EpisodeWriter(tmp_path / "file/a.zarr")
    monkeypatch.setattr("filelock.FileLock.acquire", _read_only)
    with pytest.raises(DataError, match=r"b\.zarr: nothing can be written there .*Read-only"):
        convert(open_source("bundled:pusht"), tmp_path / "b.zarr")


def _read_only(*arguments, **options):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("images", ENCODINGS)
def test_a_journal_damaged_from_its_beginning_is_no_empty_recording(tmp_path, images):
    store = interrupted(tmp_path / "mine.zarr", images, 4)
    commits = store / "unfinished/commits"
    commits.write_bytes(b"dpl2" + commits.read_bytes()[4:])
    before = files(store)
    with pytest.raises(DataError, match=r"commits: damaged from its beginning"):
        EpisodeWriter.resume(tmp_path / "mine.zarr")
    assert files(store) == before


def test_a_journal_damaged_later_costs_the_episodes_behind_and_says_so(tmp_path):
    store = interrupted(tmp_path / "mine.zarr", "zstd", 4)
    commits = store / "unfinished/commits"
    raw = commits.read_bytes()
    last = raw.rindex(b"dpl1")
    commits.write_bytes(raw[:last] + b"dpl2" + raw[last + 4 :])
    with EpisodeWriter.resume(tmp_path / "mine.zarr") as writer:
        assert writer.n_episodes == 3
        assert "episodes from number 3 on" in writer.dropped
    assert EpisodeStore.open(tmp_path / "mine.zarr").n_episodes == 3


def test_a_disk_that_is_full_when_the_journal_is_begun_anew_costs_nothing(tmp_path, monkeypatch):
    path = tmp_path / "mine.zarr"
    with EpisodeWriter(path, fps=10, features=crashes.FEATURES) as writer:
        monkeypatch.setattr("dipole.data.store.writer._LARGE_JOURNAL", 0)
        monkeypatch.setattr(writer._store, "_snapshot_bytes", 0)
        for number in range(N):
            with monkeypatch.context() as full:
                full.setattr("dipole.data.store.journal.write_whole", _no_space)
                writer.add_episode(crashes.episode(number), f"task {number % 2}")
            assert writer.n_episodes == number + 1
    assert files(path) == whole(tmp_path, "zstd")


def _no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("images", ENCODINGS)
def test_a_full_disk_is_named_and_the_recording_goes_on(tmp_path, monkeypatch, images):
    path = tmp_path / "mine.zarr"
    with EpisodeWriter(path, fps=10, features=crashes.FEATURES, images=images) as writer:
        for number in range(N):
            with monkeypatch.context() as full:
                full.setattr("dipole.data.store.journal.write_all", _no_space)
                with pytest.raises(DataError, match=r"mine\.zarr\.partial: the disk is full"):
                    writer.add_episode(crashes.episode(number), f"task {number % 2}")
            assert writer.n_episodes == number
            writer.add_episode(crashes.episode(number), f"task {number % 2}")
        with monkeypatch.context() as full:
            full.setattr("dipole.data.store.array_appender.write_all", _no_space)
            with pytest.raises(DataError, match="the disk is full"):
                writer.close()
    EpisodeWriter.resume(path).close()
    assert files(path) == whole(tmp_path, images)


EVENTS = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from(["add", "fail", "reopen", "finish"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_any_order_of_episodes_failures_and_restarts_gives_the_same_store(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("any")
    writer, kept = StoreWriter(folder / "one"), []

    def append(to, length, number):
        values = np.random.default_rng(number).normal(size=(length, 2)).astype(np.float32)
        to.array("action", (2,), np.dtype(np.float32)).append(values)
        return values

    for number, (length, event) in enumerate(events):
        values = append(writer, length, number)
        if event == "fail":
            writer.rollback()
            continue
        writer.commit_episode(length, [(0, "first"), (1, "then")][:length])
        kept.append(values)
        if event == "finish":
            writer.finish({"fps": 10.0})
        if event == "reopen":
            append(writer, length, number)  # lost with the writer
            writer.close()
        if event in ("finish", "reopen"):
            writer = StoreWriter(folder / "one")
        assert (writer.n_episodes, writer.n_frames) == (len(kept), sum(map(len, kept)))
    if not kept:
        return
    writer.finish({"fps": 10.0})
    store = EpisodeStore.open(folder / "one")
    assert np.array_equal(store["action"][:], np.concatenate(kept))
    assert store.episode_ends.tolist() == np.cumsum([len(k) for k in kept]).tolist()
    expected = [((0, "first"), (1, "then"))[: len(k)] for k in kept]
    assert [store.task_spans(n) for n in range(len(kept))] == expected
    assert validate(folder / "one").ok

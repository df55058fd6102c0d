"""Files of others that are damaged, or not meant well: an error that names the file, or the right
frames, and never more memory than the frames take.
"""

import bz2
import importlib.util
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import DataError, EpisodeStore
from dipole.data.sources.registry import open_source
from dipole.data.sources.warning_lines import shortened
from dipole.data.sources.zarr_store import ExtractedFiles


def _of(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lerobot, rlds = _of("lerobot_corpus"), _of("test_rlds")


def read_all(path):
    source = open_source(path)
    try:
        for ref in source.episodes():
            episode = source.open(ref)
            for key in source.info.frames:
                episode.read(key, 0, episode.n_frames)
    finally:
        source.close()
    return source


def error_of(path):
    """What reading everything is refused with, None where it reads; any other error is raised."""
    try:
        read_all(path)
    except DataError as error:
        return str(error)
    return None


def write_hdf5(path, n=6):
    with h5py.File(path, "w") as file:
        for number in range(2):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.full((n, 2), number, np.float32)
            demo.create_dataset("obs/state", data=np.ones((n, 3)), chunks=(2, 3))
        file["mask/train"] = np.array([b"demo_0"])
    return path


# HDF5


@pytest.mark.parametrize("mark", [b"TREE", b"SNOD", b"HEAP"])
def test_damaged_groups_of_hdf5_are_named(tmp_path, mark):
    raw = write_hdf5(tmp_path / "a.hdf5").read_bytes()
    places = [n for n in range(len(raw)) if raw.startswith(mark, n)]
    assert places
    refused = 0
    for place in places:
        (tmp_path / "a.hdf5").write_bytes(raw[:place] + b"XXXX" + raw[place + 4 :])
        said = error_of(tmp_path / "a.hdf5")
        assert said is None or "a.hdf5" in said
        refused += said is not None
    assert refused > len(places) // 2  # the rest is what is not read


@pytest.mark.parametrize("chunks", [None, (2, 3)])
def test_frames_that_were_never_written_are_refused_and_not_read_as_0(tmp_path, chunks):
    path = write_hdf5(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        array = file.create_dataset("data/demo_0/obs/force", (6, 3), "f4", chunks=chunks)
        if chunks:
            array[:4] = 1
    source = open_source(path)
    episode = source.open(source.episodes()[0])
    if chunks:
        assert episode.read("force", 0, 4).tolist() == [[1, 1, 1]] * 4
    with pytest.raises(DataError, match=r"obs/force, frames \d to 5: damaged .*never written"):
        episode.read("force", 0, 6)


def test_a_mask_that_claims_billions_of_names_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.create_dataset("mask/valid", (10**12,), "S8")
    with pytest.raises(DataError, match="mask/valid has 1,000,000,000,000 entries"):
        open_source(path)


# npz


def write_npz(folder, n=5):
    folder.mkdir()
    arrays = {"action": np.ones((n, 2)), "state": np.arange(3.0 * n).reshape(n, 3)}
    np.savez_compressed(folder / "a.npz", **arrays)
    return folder


def test_an_npz_with_any_byte_changed_reads_or_is_named(tmp_path):
    file = write_npz(tmp_path / "npz") / "a.npz"
    raw = file.read_bytes()
    refused = 0
    for place in range(len(raw)):
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
        said = error_of(tmp_path / "npz")
        assert said is None or "npz" in said
        refused += said is not None
    assert refused > len(raw) // 4


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8), st.booleans())
def test_frames_of_an_npz_are_read_in_any_order(tmp_path_factory, ranges, fortran):
    folder = tmp_path_factory.mktemp("npz")
    values = np.arange(40 * 3.0).reshape(40, 3)
    stored = np.asfortranarray(values) if fortran else values
    np.savez_compressed(folder / "a.npz", action=stored, state=stored)
    source = open_source(folder)
    episode = source.open(source.episodes()[0])
    for start, n in ranges:
        stop = min(start + n, 40)
        assert np.array_equal(episode.read("state", start, stop), values[start:stop])


def test_an_npz_that_becomes_gigabytes_takes_the_memory_of_the_frames_read(tmp_path):
    folder = write_npz(tmp_path / "npz", n=200)
    header = {"descr": "|u1", "fortran_order": False, "shape": (200, 400, 400, 3)}
    with (
        zipfile.ZipFile(folder / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("camera.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(200):
            member.write(bytes(400 * 400 * 3))
    source = open_source(folder)
    episode = source.open(source.episodes()[0])
    tracemalloc.start()
    for start in range(0, 200, 10):
        assert not episode.read("camera", start, start + 10).any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20  # of 92 MiB


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_zipfile_would_decompress_without_a_bound_are_refused(tmp_path, method):
    folder = write_npz(tmp_path / "npz")
    content = io.BytesIO()
    np.save(content, np.zeros((5, 2)))
    with zipfile.ZipFile(folder / "b.npz", "w", method) as archive:
        archive.writestr("action.npy", content.getvalue())
    with pytest.raises(DataError, match=r"b\.npz: .*neither stored nor deflated"):
        read_all(folder)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("videos/camera/0.mp4", bytes(64))
    with pytest.raises(DataError, match="neither stored nor deflated"):
        ExtractedFiles(tmp_path / "a.zip").file("camera", "videos/camera/0.mp4")


def test_stamps_of_an_npz_stay_distinct(tmp_path):
    (tmp_path / "npz").mkdir()
    stamps = 1.7e9 + np.arange(10) / 30
    np.savez(tmp_path / "npz/a.npz", action=np.ones((10, 2)), stamp=stamps)
    source = open_source(tmp_path / "npz")
    assert source.info.frames["stamp"].dtype == np.float64
    assert source.info.frames["action"].dtype == np.float32


# LeRobot and RLDS


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("episodes.jsonl", '"length": 4', '"length": 99999999999999999999'),
        ("episodes.jsonl", '"episode_index": 0', '"episode_index": 1e999'),
        ("tasks.jsonl", '"task_index": 0', '"task_index": 1e999'),
    ],
)
def test_numbers_that_no_integer_holds_are_named(tmp_path, file, old, new):
    lerobot.write_v21(tmp_path / "a", [4, 5])
    place = tmp_path / "a/meta" / file
    assert old in place.read_text()
    place.write_text(place.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"a/meta: damaged"):
        open_source(tmp_path / "a")


def test_parquet_whose_names_are_no_text_is_named_on_one_line(tmp_path):
    lerobot.write_v30(tmp_path / "a", [4, 5])
    for place, harm in (("tasks.parquet", b"\xff"), ("tasks.parquet", b"")):
        file = tmp_path / "a/meta" / place
        raw = file.read_bytes()
        file.write_bytes(raw.replace(b"task_index", harm * 10) if harm else raw[:40] + raw[60:])
        with pytest.raises(DataError, match=r"tasks\.parquet") as caught:
            open_source(tmp_path / "a")
        assert "\n" not in str(caught.value)
        file.write_bytes(raw)


def test_a_video_of_a_codec_that_is_not_known_is_named(tmp_path):
    lerobot.write_v21(tmp_path / "a", [4, 5], camera="video")
    for file in (tmp_path / "a").rglob("*.mp4"):
        raw = file.read_bytes()
        assert b"avc1" in raw
        file.write_bytes(raw.replace(b"avc1", b"zzzz"))
    with pytest.raises(DataError, match=r"episode_000000\.mp4"):
        read_all(tmp_path / "a")


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"featuresDict": [1]},
        {"featuresDict": {"features": {"steps": {"tensor": {"shape": [3]}}}}},
        {"featuresDict": {"features": {"steps": {"tensor": {"shape": {"dimensions": 3}}}}}},
        {"sequence": {"feature": {"tensor": {"shape": {"dimensions": ["-1", "-4"]}}}}},
    ],
)
def test_shapes_that_are_none_are_taken_for_not_declared(tmp_path, said):
    root = tmp_path / "theirs"
    root.mkdir()
    content = rlds.record(rlds.example(rlds.episode(0, 3)))
    (root / "robot.tfrecord-00000-of-00001").write_bytes(content)
    steps = {"featuresDict": {"features": {"steps": said}}}
    (root / "features.json").write_text(json.dumps(steps))
    assert open_source(root).info.frames["state"].shape == (4,)


# What later episodes have


def test_keys_that_only_later_episodes_have_are_said(tmp_path):
    for name, extra in (("0", {}), ("1", {"force": np.ones((5, 1))})):
        (tmp_path / "npz").mkdir(exist_ok=True)
        np.savez(tmp_path / f"npz/{name}.npz", action=np.ones((5, 2)), **extra)
        (tmp_path / "aloha").mkdir(exist_ok=True)
        with h5py.File(tmp_path / f"aloha/{name}.hdf5", "w") as file:
            file["action"] = np.ones((5, 2))
            for key, values in extra.items():
                file[f"observations/{key}"] = values
        with h5py.File(tmp_path / "traj.h5", "a") as file:
            file[f"traj_{name}/actions"] = np.ones((5, 2))
            for key, values in extra.items():
                file[f"traj_{name}/{key}"] = values
    (tmp_path / "rlds").mkdir()
    episodes = [rlds.episode(0, 3), rlds.episode(1, 3) | {"steps/force": np.ones(3)}]
    content = b"".join(rlds.record(rlds.example(episode)) for episode in episodes)
    (tmp_path / "rlds/a.tfrecord").write_bytes(content)
    for name in ("npz", "aloha", "traj.h5", "rlds"):
        (warning,) = read_all(tmp_path / name).info.warnings
        assert "force is left out, because the first episode does not have it" in warning


def test_warnings_of_one_sort_are_a_few_lines():
    warnings = [f"episode {n}: frame {n + 1} is missing" for n in range(1000)]
    lines = shortened(["actions have one axis", *warnings])
    assert lines[:2] == ("actions have one axis", "episode 0: frame 1 is missing")
    assert lines[-1] == "and 995 more like it: episode 999: frame 1000 is missing"
    assert len(lines) == 7


# Where a store is expected


def test_datasets_of_other_formats_are_answered_with_the_command_that_converts_them(tmp_path):
    write_hdf5(tmp_path / "a.hdf5")
    write_npz(tmp_path / "npz")
    lerobot.write_v21(tmp_path / "lerobot", [4])
    for name, format in (
        ("a.hdf5", "HDF5"), ("npz", "npz"), ("npz/a.npz", "npz"), ("lerobot", "LeRobot"),
    ):  # fmt: skip
        place = tmp_path / name
        command = rf"{name}: {format}, which is not read as it is\. Convert it by `dipole data"
        with pytest.raises(DataError, match=command):
            EpisodeStore.open(place)


def test_bz2_makes_gigabytes_of_what_zipfile_reads_at_once():
    """Why such members are refused: 4 KiB are the least that zipfile decompresses at once."""
    compressor = bz2.BZ2Compressor()
    raw = b"".join(compressor.compress(bytes(2**20)) for _ in range(64)) + compressor.flush()
    assert len(raw) < 2**12

"""RLDS in TFRecord files, written here by the formats' descriptions, and episodes in .npz files."""

import contextlib
import gzip
import io
import json
import struct
import zipfile

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source
from dipole.data.sources.rlds.reader import find_records
from dipole.data.sources.rlds.tfrecord import parse_example


def varint(value):
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values):
    if isinstance(values, list):
        return field(1, b"".join(field(1, value) for value in values))
    if values.dtype.kind == "f":
        return field(2, field(1, values.astype("<f4").tobytes()))
    return field(3, field(1, b"".join(varint(int(value)) for value in values.ravel())))


def example(features):
    entries = [
        field(1, field(1, name.encode()) + field(2, feature(v))) for name, v in features.items()
    ]
    return field(1, b"".join(entries))


def checksum(content):
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(content):
    length = struct.pack("<Q", len(content))
    return length + checksum(length) + content + checksum(content)


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def episode(number, n):
    return {
        "steps/action": np.arange(n * 2, dtype=np.float32) + number,
        "steps/observation/image": [png(10 * number + k) for k in range(n)],
        "steps/observation/state": np.arange(n * 4, dtype=np.float32),
        "steps/is_first": np.arange(n) == 0,
        "steps/is_last": np.arange(n) == n - 1,
        "steps/reward": -np.arange(n),
        "steps/language_instruction": [b"pick"] * (n - 1) + [b"place"],
        "episode_metadata/file_path": [b"somewhere"],
    }


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "theirs"
    root.mkdir()
    parts = [[episode(0, 3), episode(1, 4)], [episode(2, 2)]]
    for part, episodes in enumerate(parts):
        name = f"robot-train.tfrecord-{part:05d}-of-00002"
        (root / name).write_bytes(b"".join(record(example(e)) for e in episodes))
    return root


def test_steps_become_frames_and_words_become_tasks(folder, tmp_path):
    convert(open_source(folder), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.keys() == ["action", "image", "reward", "state"]
    assert store.episode_ends.tolist() == [3, 7, 9]
    assert store["action"][3].tolist() == [1, 2]
    assert store["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12, 13, 20, 21]
    assert store["reward"][1:3].tolist() == [-1, -2]
    assert store["state"].shape == (9, 4)
    assert store.task_spans(1) == ((0, "pick"), (3, "place"))


def test_declared_shapes_are_used(folder):
    tensor = {"tensor": {"shape": {"dimensions": ["2", "2"]}, "dtype": "float32"}}
    steps = {
        "featuresDict": {
            "features": {"observation": {"featuresDict": {"features": {"state": tensor}}}}
        }
    }
    declared = {"featuresDict": {"features": {"steps": {"sequence": {"feature": steps}}}}}
    (folder / "features.json").write_text(json.dumps(declared))
    assert open_source(folder).info.frames["state"].shape == (2, 2)


def test_a_damaged_record_is_named(folder):
    file = sorted(folder.iterdir())[0]
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="00000-of-00002: record 0: its checksum is wrong"):
        open_source(folder)


def test_a_file_that_is_cut_short_is_named(folder):
    file = sorted(folder.iterdir())[1]
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match="00001-of-00002: record 0: the file is cut short"):
        open_source(folder)


def test_a_compressed_file_is_answered_with_what_to_do(folder):
    file = sorted(folder.iterdir())[0]
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(DataError, match="a compressed one: decompress it first"):
        open_source(folder)


def test_numbers_that_do_not_fit_the_steps_are_refused(folder):
    with open(sorted(folder.iterdir())[1], "ab") as file:
        file.write(record(example({**episode(3, 4), "steps/action": np.zeros(7, np.float32)})))
    source = open_source(folder)
    with pytest.raises(DataError, match="episode 3: steps/action has 7 entries, 8 expected"):
        source.open(source.episodes()[3]).read("action", 0, 4)


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2):
        (tmp_path / f"{number}.tfrecord").write_bytes(record(example(episode(number, 2))))
    names = [path.name for path in find_records(tmp_path)]
    assert names == ["2.tfrecord", "9.tfrecord", "10.tfrecord"]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_example_or_an_error_of_ours(content):
    with contextlib.suppress(DataError):
        assert isinstance(parse_example(content, "here"), dict)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(width=32)), st.binary())
def test_an_example_reads_as_it_was_written(integers, floats, raw):
    features = {
        "i": np.array(integers, np.int64),
        "f": np.array(floats, np.float32),
        "b": [raw],
    }
    parsed = parse_example(example(features), "here")
    assert np.array_equal(parsed["i"], features["i"])
    assert np.array_equal(parsed["f"], features["f"], equal_nan=True)
    assert parsed["b"] == [raw]


# Episodes in .npz files


def write_npz(root, lengths=(3, 4), **more):
    root.mkdir()
    for number, n in enumerate(lengths):
        arrays = {"actions": np.full((n, 2), number), "observation/state": np.zeros((n, 5))}
        arrays |= {key: make(n) for key, make in more.items()}
        np.savez_compressed(root / f"episode_{number}.npz", **arrays)
    return root


def test_each_npz_is_an_episode(tmp_path):
    source = write_npz(tmp_path / "theirs", image=lambda n: np.zeros((n, 8, 8, 3), np.uint8))
    convert(open_source(source), tmp_path / "ours.zarr", images="jpeg")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.keys() == ["action", "image", "state"]
    assert store.episode_ends.tolist() == [3, 7]
    assert store["action"][:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_npz_files_are_in_the_order_of_their_numbers(tmp_path):
    source = open_source(write_npz(tmp_path / "theirs", lengths=(3,) * 12))
    assert [ref.name for ref in source.episodes()] == [f"episode_{n}.npz" for n in range(12)]


def test_objects_in_npz_are_left_out_without_loading_them(tmp_path):
    source = write_npz(tmp_path / "theirs", info=lambda n: np.array([{}] * n, object))
    assert "object" in open_source(source).info.left_out["info"]


def test_arrays_of_different_lengths_are_refused(tmp_path):
    source = open_source(write_npz(tmp_path / "theirs", slow=lambda n: np.zeros((n // 2, 1))))
    with pytest.raises(DataError, match=r"episode_0.npz: its arrays have different numbers"):
        source.open(source.episodes()[0])


def test_an_array_that_claims_absurd_sizes_is_refused(tmp_path):
    root = write_npz(tmp_path / "theirs")
    with zipfile.ZipFile(root / "episode_0.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        claim = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
        np.lib.format.write_array_header_1_0(header, claim)
        archive.writestr("actions.npy", header.getvalue())
    with pytest.raises(DataError, match="bytes, too many"):
        open_source(root)

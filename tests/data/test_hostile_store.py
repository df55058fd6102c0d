"""Datasets that mean harm or are of other tools: nothing outside the folder, nothing unbounded."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.inspection.validate import validate
from dipole.data.store.publish import publish
from dipole.data.store.writer import StoreWriter
from dipole.data.store.zarr.image_codec import encode_image
from dipole.data.store.zarr.jxl_header import jxl_size
from dipole.data.store.zarr.tree import FolderTree

_spec = importlib.util.spec_from_file_location("bombs", Path(__file__).with_name("bombs.py"))
bombs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bombs)

FLOAT = np.dtype(np.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_no_chunk_takes_more_memory_than_its_array_says(tmp_path):
    folder = tmp_path / "bombs"
    for name, (codec, chunk) in bombs.compressed().items():
        assert len(chunk) < 500_000
        bombs.write_v2(folder / f"{name}.zarr", codec, chunk)
    jxl = {"id": "imagecodecs_jpegxl"}
    bombs.write_v2(folder / "jxl.zarr", jxl, bombs.image("JXL"), (1, 8, 8, 3), "|u1")
    bombs.write_v2(tmp_path / "plain.zarr", None, bytes(bombs.LARGE))
    bombs.zip_deflated(tmp_path / "plain.zarr", folder / "member.zarr.zip")
    command = [sys.executable, bombs.__file__, str(folder), str(48 * 2**20)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
    assert set(said) == {path.name for path in folder.iterdir()}
    assert "is too large for a chunk of 480,000 bytes" in said.pop("member.zarr.zip")
    assert [message for message in said.values() if "damaged" not in message] == []
    assert "3000×3000, 8×8 expected" in said["jxl.zarr"]


def test_the_size_of_a_jpeg_xl_image_is_read_from_its_header():
    for height, width in [(1, 1), (8, 8), (96, 128), (480, 640), (3, 700), (1025, 9), (256, 256)]:
        frame = np.zeros((height, width, 3), np.uint8)
        assert jxl_size(encode_image(frame, "JXL")) == (height, width)
    for raw in (b"", b"\xff\x0a", b"\x89PNG" + bytes(40), b"\x00\x00\x00\x0cJXL \r\n\x87\n" * 3):
        with pytest.raises(ValueError, match="JPEG XL"):
            jxl_size(raw)


@pytest.mark.parametrize("key", ["../x", "a/b", "/etc/x", "..", "", "zarr.json", "a\\b", "a" * 201])
def test_keys_that_are_no_plain_names_are_refused_before_anything_is_written(tmp_path, key):
    writer = StoreWriter(tmp_path / "in" / "a.zarr")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="key"):
        writer.array(key, (2,), FLOAT)
    with pytest.raises(DataError, match="key"):
        writer.add_video(key, None, 10.0)
    with pytest.raises(DataError, match="key"):
        EpisodeWriter(tmp_path / "b", features={key: {"kind": "state"}})
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    writer = StoreWriter(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/data/state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"data/state/zarr\.json lies outside of it"):
        writer.array("state", (2,), FLOAT)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("separator", [5, "/../../elsewhere/", "", None, ["."]])
def test_a_separator_makes_no_path_of_a_chunk_s_numbers(write_v2, separator):
    path = write_v2([20])
    file = path / "data/state/.zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dimension_separator": separator}))
    with pytest.raises(DataError, match=r"data/state/\.zarray: separator .*'\.' or '/'"):
        EpisodeStore.open(path)["state"]
    assert EpisodeStore.open(path).keys() == ["action", "camera"]


def test_the_same_of_version_3(write):
    path = write([20])
    file = path / "data/state/zarr.json"
    encoding = {"name": "default", "configuration": {"separator": "/../../"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chunk_key_encoding": encoding}))
    with pytest.raises(DataError, match="separator"):
        EpisodeStore.open(path)["state"]


def test_an_encrypted_zip_is_said_to_be_one(write):
    path = write([20], name="a.zarr.zip")
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = raw.find(mark)
        while found >= 0:
            raw[found + at] |= 1
            found = raw.find(mark, found + 4)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"zarr\.json is encrypted: unpack the zip"):
        EpisodeStore.open(path)
    assert not validate(path).ok


def test_damaged_deflated_metadata_is_an_error_for_a_person(write, tmp_path):
    bombs.zip_deflated(write([20]), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        entry = archive.getinfo("data/state/zarr.json")
    raw = bytearray((tmp_path / "b.zip").read_bytes())
    start = entry.header_offset + 30 + len(entry.filename)
    raw[start : start + 40] = b"\xff" * 40
    (tmp_path / "b.zip").write_bytes(raw)
    with pytest.raises(DataError, match=r"data/state/zarr\.json cannot be read"):
        EpisodeStore.open(tmp_path / "b.zip")["state"]


def test_publishing_never_overwrites_what_came_a_moment_ago(tmp_path):
    for kind in ("file", "folder"):
        written, target = tmp_path / f"new {kind}", tmp_path / kind
        for path, content in ((written, "new"), (target, "precious")):
            if kind == "folder":
                path.mkdir()
                path = path / "inside"  # noqa: PLW2901
            path.write_text(content)
        with pytest.raises(DataError, match="exists already"):
            publish(written, target)
        kept = target / "inside" if kind == "folder" else target
        assert kept.read_text() == "precious"


def test_so_it_is_where_the_system_cannot_rename_without_replacing(tmp_path, monkeypatch):
    monkeypatch.setattr("dipole.data.store.publish._rename_with", lambda *_: False)
    test_publishing_never_overwrites_what_came_a_moment_ago(tmp_path)
    publish(tmp_path / "new file", tmp_path / "elsewhere")
    publish(tmp_path / "new folder", tmp_path / "folder elsewhere")
    assert (tmp_path / "elsewhere").read_text() == "new"
    assert (tmp_path / "folder elsewhere/inside").read_text() == "new"


# What other tools leave out, and what is not understood of theirs


def foreign(path, version, **arrays):
    """A store as zarr-python 3 writes it by default: chunks of nothing but zeros are left out."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for key, values in arrays.items():
        group.create_array(
            f"data/{key}", shape=values.shape, chunks=(20, *values.shape[1:]), dtype=values.dtype
        )[:] = values
    group.create_array("meta/episode_ends", shape=(2,), chunks=(2,), dtype="i8")[:] = [30, 60]
    return path


def noise(columns):
    return np.random.default_rng(columns).normal(size=(60, columns)).astype(FLOAT)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("closed", [range(20, 40), range(0), range(7)], ids=str)
def test_chunks_that_zarr_python_3_left_out_are_their_fill_value_and_that_is_said(
    tmp_path, version, closed
):
    gripper = np.zeros((60, 1), FLOAT)
    gripper[closed] = 1
    path = foreign(tmp_path / "a.zarr", version, action=noise(2), gripper=gripper)
    store = EpisodeStore.open(path)
    with pytest.warns(UserWarning, match=r"[123] chunks of array 'gripper' .*write_empty_chunks"):
        assert np.array_equal(store["gripper"].read(0, 60), gripper)
    assert np.array_equal(store["gripper"].take(np.array([59, 3])), gripper[[59, 3]])


def test_a_lost_chunk_of_other_numbers_stays_an_error_that_names_the_option(tmp_path):
    path = foreign(tmp_path / "a.zarr", 2, action=noise(2), state=noise(3))
    (path / "data/state/1.0").unlink()
    with pytest.raises(DataError, match=r"frames 20 to 39: .*config={'write_empty_chunks': True}"):
        EpisodeStore.open(path)["state"].read(0, 60)
    assert EpisodeStore.open(path, keys=["action"])["action"].read(0, 60).shape == (60, 2)


def test_our_own_stores_never_read_a_missing_chunk(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr") as writer:
        writer.add_episode({"action": np.zeros((60, 2))})
    (tmp_path / "a.zarr/data/action/c/0/0").unlink()
    with pytest.raises(DataError, match="is missing"):
        EpisodeStore.open(tmp_path / "a.zarr")


def other_codec(path):
    edit = path / "data/extra/.zarray"
    edit.write_text(
        json.dumps(json.loads(edit.read_text()) | {"compressor": {"id": "imagecodecs_webp"}})
    )


def other_dtype(path):
    edit = path / "data/extra/.zarray"
    edit.write_text(json.dumps(json.loads(edit.read_text()) | {"dtype": "<M8[ns]"}))


def other_length(path):
    edit = path / "data/extra/.zarray"
    edit.write_text(json.dumps(json.loads(edit.read_text()) | {"shape": [2, 3]}))


@pytest.mark.parametrize("spoil", [other_codec, other_dtype, other_length])
def test_one_array_that_cannot_be_read_does_not_block_the_others(tmp_path, spoil):
    path = foreign(tmp_path / "a.zarr", 2, action=noise(2), extra=noise(3))
    spoil(path)
    store = EpisodeStore.open(path)
    assert (store.keys(), list(store.unreadable)) == (["action"], ["extra"])
    assert store["action"].read(0, 60).shape == (60, 2)
    with pytest.raises(DataError, match="leave 'extra' out: --keys action"):
        store["extra"]
    with pytest.raises(DataError, match="leave 'extra' out: --keys action"):
        store.require_readable()
    assert EpisodeStore.open(path, keys=["action"]).unreadable == {}
    with pytest.raises(DataError, match="extra"):
        EpisodeStore.open(path, keys=["extra"])
    with pytest.raises(DataError, match="no array 'atcion', did you mean 'action'"):
        EpisodeStore.open(path, keys=["atcion"])
    assert not validate(path).ok


def test_jpeg_xl_of_umi_is_read(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    raw = [encode_image(frame, "JXL") for frame in frames]
    bombs.write_v2(tmp_path / "a.zarr", {"id": "imagecodecs_jpegxl"}, raw[0], (4, 8, 8, 3), "|u1")
    folder = tmp_path / "a.zarr/data/action"
    said = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(json.dumps(said | {"chunks": [1, 8, 8, 3]}))
    for number, chunk in enumerate(raw):
        (folder / f"{number}.0.0.0").write_bytes(chunk)
    assert np.array_equal(EpisodeStore.open(tmp_path / "a.zarr")["action"][:], frames)


COMPRESSORS = ("zlib", "gzip", "bz2", "lzma", "lz4", "zstd")
CHAINS = [{"compressors": [{"id": name}]} for name in COMPRESSORS] + [
    {
        "filters": [{"id": "delta", "dtype": "<i4", "astype": "<i2"}],
        "compressors": [{"id": "zlib"}],
    },
    {"filters": [{"id": "shuffle", "elementsize": 4}], "compressors": [{"id": "lz4"}]},
    {"compressors": [{"id": "crc32"}]},
    {"order": "F", "compressors": [{"id": "gzip"}]},
]


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_every_chain_of_codecs_gives_what_zarr_gives(tmp_path, chain):
    import numcodecs

    codecs = {k: [numcodecs.get_codec(c) for c in v] for k, v in chain.items() if k != "order"}
    values = np.arange(3, 60 * 4 + 3, dtype=np.int32).reshape(60, 2, 2)
    path = foreign(tmp_path / "a.zarr", 2, action=noise(2))
    group = zarr.open_group(path, mode="r+")
    options = {"order": chain["order"]} if "order" in chain else {}
    group.create_array(
        "data/more", shape=values.shape, chunks=(7, 2, 2), dtype="i4", **codecs, **options
    )[:] = values
    assert np.array_equal(EpisodeStore.open(path)["more"][:], values)


def test_transposed_chunks_of_version_3_are_read(tmp_path):
    values = np.arange(60 * 6, dtype=np.int32).reshape(60, 2, 3)
    path = foreign(tmp_path / "a.zarr", 3, action=noise(2))
    zarr.open_group(path, mode="r+").create_array(
        "data/more",
        shape=values.shape,
        chunks=(7, 2, 3),
        dtype="i4",
        filters=[zarr.codecs.TransposeCodec(order=(2, 0, 1))],
        compressors=[zarr.codecs.GzipCodec()],
    )[:] = values
    assert np.array_equal(EpisodeStore.open(path)["more"][:], values)


def write_secret(folder):
    """Numbers of a store, in a folder beside it."""
    folder.mkdir()
    (folder / "0.0").write_bytes(b"secret numbers of 40 bytes, five of 8 by")
    return folder


@pytest.mark.parametrize("link", ["the chunk", "its folder", "all arrays", "the attributes"])
def test_a_link_out_of_a_store_is_not_followed(tmp_path, link):
    secret = write_secret(tmp_path / "secret")
    path = tmp_path / "a.zarr"
    bombs.write_v2(path, None, bytes(40), shape=(5, 2))
    array = path / "data/action"
    if link == "the chunk":
        (array / "0.0").unlink()
        (array / "0.0").symlink_to(secret / "0.0")
    elif link == "its folder":
        array.rename(secret / "action")
        array.symlink_to(secret / "action")
    elif link == "all arrays":
        (path / "data").rename(secret / "data")
        (path / "data").symlink_to(secret / "data")
    else:
        (secret / ".zattrs").write_text("{}")
        (path / ".zattrs").symlink_to(secret / ".zattrs")
    with pytest.raises(DataError, match=r"a\.zarr: .* lies outside the dataset"):
        EpisodeStore.open(path)["action"][:]
    assert not validate(path).ok


def test_links_within_a_store_and_into_the_hubs_blobs_are_followed(tmp_path):
    repository = tmp_path / "datasets--me--mine"
    path = repository / "snapshots/abc/a.zarr"
    bombs.write_v2(path, None, np.ones((5, 2), "<f4").tobytes(), shape=(5, 2))
    blobs = repository / "blobs"
    blobs.mkdir()
    (path / "data/action/0.0").rename(blobs / "123")
    (path / "data/action/0.0").symlink_to("../../../../../blobs/123")
    (path / "data/same").symlink_to("action")
    for given in (path, path.parent / "linked.zarr"):
        if given != path:
            given.symlink_to("a.zarr")
        assert EpisodeStore.open(given)["same"][:].tolist() == [[1, 1]] * 5


def test_a_length_of_billions_behind_one_sound_chunk_ends_validation_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    bombs.write_v2(path, None, np.arange(8, dtype="<f4").tobytes(), shape=(4, 2))
    huge = 10**12
    file = path / "data/action/.zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [huge, 2]}))
    chunk = path / "data/action/0.0"
    (path / f"data/action/{huge // 4 - 1}.0").write_bytes(chunk.read_bytes())
    (path / "meta/episode_ends/0").write_bytes(huge.to_bytes(8, "little"))
    looked_at = []
    size = FolderTree.size
    monkeypatch.setattr(
        FolderTree, "size", lambda tree, name: (looked_at.append(name), size(tree, name))[1]
    )
    found = validate(path)
    assert not found.ok
    assert len(looked_at) < 20_000


def test_missing_chunks_are_counted_up_to_a_bound(tmp_path):
    path = tmp_path / "a.zarr"
    bombs.write_v2(path, None, bytes(32), shape=(4, 2))
    huge = 10**12
    file = path / "data/action/.zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [huge, 2]}))
    (path / f"data/action/{huge // 4 - 1}.0").write_bytes(bytes(32))
    (path / "meta/episode_ends/0").write_bytes(huge.to_bytes(8, "little"))
    with pytest.warns(UserWarning, match="or more chunks of array 'action' are not there"):
        assert EpisodeStore.open(path)["action"][100:104].tolist() == [[0, 0]] * 4

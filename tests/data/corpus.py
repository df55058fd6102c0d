"""Ways in which a dataset can be bad: each takes a sound folder and returns the bad path."""

import json
import shutil
import struct
import zipfile

import numpy as np
import zarr

HUGE = 10**12


def zip_of(path):
    target = path.with_name(path.name + ".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path))
    return target


def edit(path, name, **values):
    metadata = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(metadata | values))
    return path


def flip(file, at):
    raw = bytearray(file.read_bytes())
    raw[at] ^= 0xFF
    file.write_bytes(raw)


def chunk_of(path, key):
    """The file of the last chunk (v2) or shard (v3)."""
    return max(
        file
        for file in (path / f"data/{key}").rglob("*")
        if "zarr" not in file.name and file.is_file()
    )


def nothing_there(path):
    return path.with_name("elsewhere.zarr")


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()
    return path


def not_a_zip(path):
    other = path.with_name("demos.hdf5")
    other.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return other


def zip_with_the_folder_inside(path):
    target = path.with_name("nested.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path.parent))
    return target


def truncated_zip(path):
    target = zip_of(path)
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    return target


def damaged_zip_member(path):
    target, member = zip_of(path), chunk_of(path, "state").relative_to(path).as_posix()
    with zipfile.ZipFile(target) as archive:
        entry = archive.getinfo(member)
    flip(target, entry.header_offset + 30 + len(member) + entry.file_size // 4)
    return target


def missing_chunk(path):
    chunk_of(path, "state").unlink()
    return path


def empty_chunk(path):
    chunk_of(path, "state").write_bytes(b"")
    return path


def truncated_chunk(path):
    chunk = chunk_of(path, "state")
    chunk.write_bytes(chunk.read_bytes()[:-7])
    return path


def chunk_of_another_size(path):
    """A sound chunk, but of half the frames: as if the metadata were another array's."""
    from numcodecs import Blosc

    chunk_of(path, "state").write_bytes(Blosc().encode(np.zeros((4, 3), np.float32)))
    return path


def missing_chunk_inside_a_shard(path):
    """The index says that the first chunk was never written; its checksum is right."""
    import google_crc32c

    shard = chunk_of(path, "state")
    metadata = json.loads((path / "data/state/zarr.json").read_text())
    outer = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    inner = metadata["codecs"][0]["configuration"]["chunk_shape"][0]
    size = 16 * (outer // inner)
    raw = shard.read_bytes()
    index = bytearray(raw[-size - 4 : -4])
    index[:16] = b"\xff" * 16
    shard.write_bytes(
        raw[: -size - 4] + index + struct.pack("<I", google_crc32c.value(bytes(index)))
    )
    return path


def flipped_bit_inside_a_shard(path):
    flip(chunk_of(path, "state"), 20)
    return path


def flipped_bit_in_a_shard_index(path):
    flip(chunk_of(path, "state"), -2)
    return path


def object_array(path):
    return edit(path, "data/state/.zarray", dtype="|O", filters=[{"id": "pickle"}])


def pickled_numbers(path):
    return edit(path, "data/state/.zarray", filters=[{"id": "pickle"}])


def text_array(path):
    return edit(path, "data/state/.zarray", dtype="<U8")


def variable_length_v3(path):
    return edit(path, "data/state/zarr.json", data_type="string")


def record_v3(path):
    return edit(path, "data/state/zarr.json", data_type={"name": "structured"})


def unknown_codec_v3(path):
    return edit(path, "data/state/zarr.json", codecs=[{"name": "numcodecs.pickle"}])


def broken_json(path):
    (path / "data/state/.zarray").write_text('{"shape": [10,')
    return path


def broken_attributes(path):
    return edit(path, "zarr.json", attributes={"fps": "ten"})


def enormous_metadata(path):
    (path / "data/state/.zarray").write_bytes(b" " * (17 * 2**20))
    return path


def absurd_length(path):
    for key in ("state", "action", "camera"):
        shape = json.loads((path / f"data/{key}/.zarray").read_text())["shape"]
        edit(path, f"data/{key}/.zarray", shape=[HUGE, *shape[1:]])
    ends = path / "meta/episode_ends"
    shutil.rmtree(ends)
    zarr.open_group(path, mode="r+").create_array(
        "meta/episode_ends", shape=(1,), chunks=(1,), dtype="i8"
    )[:] = HUGE
    return path


def absurd_chunk(path):
    return edit(path, "data/state/.zarray", chunks=[HUGE, 3])


def absurd_frame(path):
    return edit(path, "data/state/.zarray", shape=[30, HUGE], chunks=[8, 3])


def absurd_episode_count(path):
    return edit(path, "meta/episode_ends/.zarray", shape=[HUGE])


def absurd_shard(path):
    grid = {"name": "regular", "configuration": {"chunk_shape": [10922 * 10**9, 3]}}
    return edit(path, "data/state/zarr.json", chunk_grid=grid)


def negative_shape(path):
    return edit(path, "data/state/.zarray", shape=[-30, 3])


def other_rank(path):
    return edit(path, "data/state/.zarray", shape=[30, 3, 1])


def no_episode_ends(path):
    shutil.rmtree(path / "meta/episode_ends")
    return path


def with_ends(path, ends, dtype="i8"):
    shutil.rmtree(path / "meta/episode_ends")
    group = zarr.open_group(path, mode="r+")
    ends = np.array(ends, dtype)
    group.create_array("meta/episode_ends", shape=ends.shape, chunks=ends.shape, dtype=dtype)[:] = (
        ends
    )
    return path


def ends_out_of_order(path):
    return with_ends(path, [20, 10, 30])


def ends_twice_the_same(path):
    return with_ends(path, [10, 10, 30])


def ends_of_floats(path):
    return with_ends(path, [10, 20, 30], "f8")


def ends_in_a_table(path):
    return with_ends(path, [[10], [20], [30]])


def ends_past_the_frames(path):
    return with_ends(path, [10, 20, 31])


def one_array_shorter(path):
    shutil.rmtree(path / "data/state")
    group = zarr.open_group(path, mode="r+")
    group.create_array("data/state", shape=(29, 3), chunks=(29, 3), dtype="f4")[:] = 1
    return path


def no_arrays(path):
    shutil.rmtree(path / "data")
    return path

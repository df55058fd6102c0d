"""The recording's file: whatever it holds, it is read up to the damage, or refused by name."""

import contextlib
import json
import os
import shutil
import struct
import sys
import tracemalloc
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dipole.apps.main import main
from dipole.data.core.errors import DataError
from dipole.deploy import Channel, LoopConfig
from dipole.deploy.recording import file_format
from dipole.deploy.recording.file_format import (
    MAGIC,
    Record,
    has_end,
    pack,
    parts,
    read_recording,
)
from dipole.deploy.recording.plain import from_plain
from dipole.deploy.recording.replay import replay
from dipole.deploy.recording.to_dataset import to_dataset
from dipole.deploy.recording.to_mcap import export_mcap
from dipole.deploy.types import PolicySpec

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import FORMAT_1, Handwritten, fly
from virtual_robot import WINDOW, spec

FEW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a short recording with records of every kind, and its records."""
    path = tmp_path_factory.mktemp("recording") / "flight.rec"
    kept = Handwritten(path)
    kept.state(0, "ARMED")
    kept.actions(0, 3)
    kept.recorder._queue.drop("act")
    kept.act(4, hold="wait")
    kept.recorder.outcome({"success": 0.5})
    kept.state(5, "STOPPED")
    kept.close()
    return path.read_bytes(), list(read_recording(path))


def same(a, b):
    return (a.kind, a.values, a.missing) == (b.kind, b.values, b.missing) and all(
        np.array_equal(a.arrays[name], b.arrays[name]) for name in {*a.arrays, *b.arrays}
    )


def written(path, *pieces):
    path.write_bytes(b"".join(pieces))
    return path


def sealed(header, body=b""):
    """A record with this header, and a checksum that is right."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = header + body
    return struct.pack("<QII", len(data), zlib.crc32(data), len(header)) + data


def use(path):
    """Read, replay and export a recording, each of which may refuse it."""
    dataset, mcap = path.with_suffix(".zarr"), path.with_suffix(".mcap")
    for call in (
        lambda: list(read_recording(path)),
        lambda: list(replay(path)),
        lambda: to_dataset(path, dataset, 1),
        lambda: export_mcap(path, mcap),
    ):
        with contextlib.suppress(DataError):
            call()
    mcap.unlink(missing_ok=True)
    shutil.rmtree(dataset, ignore_errors=True)


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (5,)])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1", "?", "f2", "i8"])
def test_records_come_back_as_they_were(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    record = Record("act", {"now": 1.5, "hold": "é"}, {"a": array, "b": array.T}, {"act": 3})
    (again,) = read_recording(written(tmp_path / "one.rec", MAGIC, pack(record)))
    assert (again.kind, again.values, again.missing) == ("act", record.values, {"act": 3})
    for name, value in record.arrays.items():
        assert again.arrays[name].dtype == np.dtype(dtype).newbyteorder("=")
        assert again.arrays[name].shape == value.shape
        assert np.array_equal(again.arrays[name], value)


def test_a_picture_is_not_copied_to_be_packed():
    picture = np.zeros((100, 100, 3), np.uint8)
    packed = parts(Record("act", {}, {"seen.camera": picture}))
    assert np.shares_memory(np.asarray(packed[2]), picture)


def test_an_array_that_is_no_number_is_not_packed():
    with pytest.raises(TypeError, match="dtype <U1 are not recorded"):
        pack(Record("act", {}, {"a": np.array(["a"])}))


def test_what_could_not_be_read_again_is_not_packed(monkeypatch):
    monkeypatch.setattr(file_format, "LARGEST", 1000)
    with pytest.raises(ValueError, match="too large to be read again"):
        pack(Record("act", {}, {"a": np.zeros(1000, np.uint8)}))


def test_a_recording_cut_off_anywhere_is_read_up_to_there(tmp_path, whole):
    data, records = whole
    ends = [len(MAGIC)]
    for record in records:
        ends.append(ends[-1] + len(pack(record)))
    assert ends[-1] == len(data)
    path = written(tmp_path / "cut.rec", data)
    for cut in range(len(data) - 1, len(MAGIC) - 1, -1):
        os.truncate(path, cut)
        again = list(read_recording(path))
        assert len(again) == sum(end <= cut for end in ends[1:])
        assert not again or same(again[-1], records[len(again) - 1])


def test_a_cut_recording_is_exported_up_to_there(tmp_path, whole):
    """Cut at every 97th byte, because each one is read four times."""
    data, _ = whole
    for cut in range(0, len(data), 97):
        use(written(tmp_path / "cut.rec", data[:cut]))


def test_a_recording_without_its_end_says_so(tmp_path, whole, capsys):
    data, _ = whole
    for cut in range(len(MAGIC), len(data), 11):
        assert not has_end(written(tmp_path / "cut.rec", data[:cut]))
    assert has_end(written(tmp_path / "whole.rec", data))
    assert not has_end(written(tmp_path / "zeros.rec", data, bytes(100)))
    main(["replay", str(tmp_path / "zeros.rec")])
    assert "the recording has no end" in capsys.readouterr().out
    main(["replay", str(tmp_path / "whole.rec")])
    assert "the recording has no end" not in capsys.readouterr().out


@pytest.mark.parametrize("zeros", [1, 16, 4096, 100_000])
def test_zeros_at_the_end_are_what_a_file_system_lost(tmp_path, whole, zeros):
    data, records = whole
    path = written(tmp_path / "zeros.rec", data, bytes(zeros))
    assert len(list(read_recording(path))) == len(records)


@FEW
@given(flips=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_flipped_bits_are_found_or_cut_the_recording_short(tmp_path, whole, flips):
    data, records = whole
    changed = bytearray(data)
    for flip in flips:
        byte, bit = divmod(flip % (8 * len(data)), 8)
        changed[byte] ^= 1 << bit
    path = written(tmp_path / "flipped.rec", bytes(changed))
    again = []
    with contextlib.suppress(DataError):
        again.extend(read_recording(path))
    assert len(again) <= len(records)
    assert all(map(same, again, records))
    use(path)


@settings(FEW, max_examples=25)
@given(flip=st.integers(0, 10**6), cut=st.integers(0, 10**6))
def test_a_damaged_recording_of_format_1_is_read_up_to_there_too(tmp_path, flip, cut):
    changed = bytearray(FORMAT_1.read_bytes())
    changed[flip % len(changed)] ^= 1 << flip % 8
    use(written(tmp_path / "old.rec", bytes(changed[: 10_000 + cut % 70_000])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["now", "hold", "captured", "captured_times", "clamps", "time", "state",
                         "reason", "ticket", "error", "seconds", "lost", "dropped"])  # fmt: skip
ARRAYS = st.lists(
    st.tuples(
        st.sampled_from(["action", "command", "seen.x", "last", "wanted"]),
        st.sampled_from(["<f8", "<f4", "|u1", "O", "<U9", "<M8[s]", 3, None]) | JSON,
        st.lists(st.integers(-2, 2**66), max_size=3) | JSON,
    ),
    max_size=2,
)
HEADERS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["begin", "act", "command", "state", "result", "outcome"]) | JSON,
        "values": st.dictionaries(NAMES, JSON) | JSON,
        "arrays": ARRAYS | JSON,
    },
    optional={"missing": st.dictionaries(NAMES, JSON) | JSON},
)


@FEW
@given(header=HEADERS | JSON, body=st.binary(max_size=40))
def test_a_record_of_anything_is_refused_by_name(tmp_path, whole, header, body):
    """Also where its checksum is right, after a beginning that is well-formed."""
    _, records = whole
    start = MAGIC + b"".join(map(pack, records[:5]))
    use(written(tmp_path / "made.rec", start, sealed(header, body)))


PLAIN = {"now": 0.7, "hold": "", "clamps": [], "captured": 0.7, "time": 0.7, "state": "RUN",
         "reason": "", "error": "", "seconds": 0.1, "lost": False, "captured_times": {},
         "ticket": {"chunk_id": 1, "epoch": 1, "observation_time": 0.6, "consumed": 3}}  # fmt: skip


@FEW
@given(
    kind=st.sampled_from(["act", "command", "state", "result"]),
    name=st.sampled_from(sorted(PLAIN)),
    value=JSON,
    array=st.sampled_from(["action", "command", "seen.x", "last"]),
    body=st.lists(st.floats(width=64), max_size=4),
)
def test_a_record_with_one_wrong_value_is_refused_by_name(
    tmp_path, whole, kind, name, value, array, body
):
    _, records = whole
    start = MAGIC + b"".join(map(pack, records[:5]))
    header = {"kind": kind, "values": PLAIN | {name: value},
              "arrays": [[array, "<f8", [len(body)]]]}  # fmt: skip
    use(written(tmp_path / "made.rec", start, sealed(header, np.array(body, "<f8").tobytes())))


@settings(FEW, max_examples=50)
@given(
    place=st.sampled_from(["robot", "loop", "policy", "dry_run"]),
    name=st.sampled_from(
        ["observation", "action", "limits", "policy_hz", "control_hz", "align_to",
         "sensor_latency", "window", "merger", "action_size"]
    ),
    value=JSON,
)  # fmt: skip
def test_a_beginning_with_one_wrong_value_is_refused_by_name(tmp_path, whole, place, name, value):
    _, records = whole
    begin = dict(records[0].values)
    inside = begin[place] if isinstance(begin[place], dict) else {}
    begin[place] = {**inside, name: value} if inside else value
    header = {"kind": "begin", "values": begin, "arrays": []}
    rest = b"".join(map(pack, records[1:]))
    use(written(tmp_path / "made.rec", MAGIC, sealed(header), rest))


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<QII", 900_000_000, 0, 100) + b"{",
        struct.pack("<QII", 900_000_000, 0, 4_000_000) + b"{",
        sealed({"kind": "x", "values": {}, "arrays": [["a", "|u1", [900_000_000]]]}, b"1"),
        sealed({"kind": "x", "values": {}, "arrays": [["a", "|u1", [-1]]] * 500}, bytes(10_000)),
        sealed({"kind": "x", "values": {}, "arrays": [["a", "<f8", [1 << 30] * 30]]}),
        sealed(b"[" * 100_000),
    ],
)
def test_no_more_memory_is_taken_than_the_file_is_large(tmp_path, record):
    path = written(tmp_path / "large.rec", MAGIC, record)
    tracemalloc.start()
    with contextlib.suppress(DataError):
        assert list(read_recording(path)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 + 10 * path.stat().st_size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"x" + data[1:], "not a dipole recording"),
        (lambda data: data.replace(b"recording 2", b"recording 3", 1), "of a newer dipole"),
        (lambda data: data[:200] + b"\x00" + data[201:], "damaged"),
        (lambda data: MAGIC + b"\xff" * 40, "damaged"),
        (lambda data: MAGIC, "no beginning"),
    ],
)
def test_a_damaged_recording_is_named(tmp_path, damage, message):
    fly(tmp_path / "flight.rec", seconds=1.0)
    path = written(tmp_path / "damaged.rec", damage((tmp_path / "flight.rec").read_bytes()))
    with pytest.raises(DataError, match=message):
        list(replay(path))


@pytest.mark.parametrize(
    "value", [spec(), LoopConfig(merger_options={"steps": 4}), PolicySpec({"x": (2,)}, 2, WINDOW)]
)
def test_what_a_run_was_made_with_comes_back_from_json(value):
    assert from_plain(type(value), json.loads(json.dumps(asdict(value)))) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": [2], "colour": "red"}, "Channel has no field 'colour'"),
        ({"shape": "two"}, "'two' is no list"),
        ({"shape": [2.5]}, "2.5 is not of type int"),
        ({"shape": [2], "unit": 3}, "3 is not of type str"),
        ([2], "is no table"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises((TypeError, ValueError), match=message):
        from_plain(Channel, values)

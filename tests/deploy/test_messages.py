"""Messages: what comes back, and what is refused before anything is allocated for it."""

import contextlib
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dipole.deploy.wire.codec import MessageError, MessageLimits, pack, unpack

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", ">f4", ">i2"]
some_arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(np.dtype(dtype), arrays.array_shapes(min_dims=0, min_side=0))
)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
messages = st.recursive(
    plain | some_arrays,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ARRAY = {b"__ndarray__": True, b"data": b"\0" * 24, b"dtype": "<f4", b"shape": [2, 3]}


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(messages)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_packed_comes_back(message):
    assert same(message, unpack(pack(message)))


def test_an_array_is_written_as_openpi_writes_it():
    assert msgpack.unpackb(pack({"a": np.zeros((2, 3), "<f4")})) == {"a": ARRAY}
    number = {b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}
    assert msgpack.unpackb(pack(np.float32(1.5))) == number
    assert unpack(msgpack.packb(number)) == 1.5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"dtype": "O"}, "dtype 'O' is none of"),
        ({b"dtype": "<c8"}, "dtype '<c8' is none of"),
        ({b"dtype": "<f4,<f4"}, "is none of"),
        ({b"dtype": 3}, "dtype 3 is none of"),
        ({b"shape": [2, 4]}, r"shape \[2, 4\] and dtype float32 has 24 bytes"),
        ({b"shape": [2**40, 2**40]}, "has 24 bytes"),
        ({b"shape": [-2, -3]}, "an array's shape"),
        ({b"shape": [1] * 9 + [6]}, "an array's shape"),
        ({b"shape": [True, 6]}, "an array's shape"),
        ({b"shape": 6}, "an array's shape"),
        ({b"data": "text"}, "data is str"),
        ({b"data": None}, "data is NoneType"),
    ],
)
def test_an_array_that_makes_no_sense_is_refused(changed, said):
    with pytest.raises(MessageError, match=said):
        unpack(msgpack.packb({**ARRAY, **changed}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ends too early"),
        (b"\x93\x01", "ends too early"),
        (b"\xdd\xff\xff\xff\xff", "ends too early"),  # 2^32 entries, none of them there
        (b"\xdf\xff\xff\xff\xff", "ends too early"),
        (b"\xc6\xff\xff\xff\xff12", "not readable"),  # 2^32 bytes
        (b"\xc1", "not readable"),
        (b"\xa1\xff", "utf-8"),
        (b"\x01\x02", "1 bytes follow"),
        (b"\xd6\xff\x00\x00\x00\x00", "extension type"),  # a time stamp
        (b"\x91" * 2000, "nested more than 8 deep"),
        (b"\x81\xa1x" * 2000, "nested more than 8 deep"),
        (b"\x81\x01\x02", "key 1"),
        (b"\x82\xa1x\x02\xa1x\x02", "or twice"),
        (msgpack.packb([0] * 5000), "more than 4096 values"),
        (msgpack.packb("x" * 20_000), "not readable"),
    ],
)
def test_a_message_that_cannot_be_trusted_is_refused(data, said):
    with pytest.raises(MessageError, match=said):
        unpack(data)


def test_a_message_that_is_too_large_is_not_looked_at():
    with pytest.raises(MessageError, match="101 bytes; 100 are allowed"):
        unpack(b"\0" * 101, MessageLimits(size=100))


@pytest.mark.parametrize("value", [object(), np.array([None]), np.zeros(2, "c8"), {"x": 2**70}])
def test_what_has_no_place_in_a_message_is_not_sent(value):
    with pytest.raises(MessageError, match="cannot be sent"):
        pack(value)


def mutations():
    """Whole messages with bytes changed, cut off, doubled or put in."""
    good = pack({"ticket": {"chunk_id": 1}, "observation": {"x": np.zeros((2, 2), np.float32)}})
    places = st.integers(0, len(good) - 1)
    changed = st.tuples(places, st.integers(0, 255)).map(
        lambda c: good[: c[0]] + bytes([c[1]]) + good[c[0] + 1 :]
    )
    inserted = st.tuples(places, st.binary(max_size=8)).map(
        lambda c: good[: c[0]] + c[1] + good[c[0] :]
    )
    return changed | inserted | places.map(lambda n: good[:n]) | st.binary(max_size=200)


@given(mutations())
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
def test_malformed_messages_are_read_or_refused(data):  # more of them: test_server_fuzzing.py
    with contextlib.suppress(MessageError):
        unpack(data)


def test_reading_takes_memory_in_proportion_to_the_message_whatever_it_holds():
    """Empty lists are the worst: one byte each in the message, sixty and more in memory."""
    level = b"\x90"
    for _ in range(7):
        level = b"\xdc\x00\x40" + level * 64
        if len(level) > 2**20:
            break
    tracemalloc.start()
    with pytest.raises(MessageError, match="values"):
        unpack(level)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(level) + 2**20

"""Messages between two interpreters: what goes in comes out, and nothing else is read."""

import contextlib
import os

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dipole.envs.interpreter.process import _shared_file
from dipole.envs.interpreter.spaces import described
from dipole.envs.interpreter.standalone import wire
from dipole.envs.interpreter.standalone.wire import IN_MEMORY, Memory, WireError, pack, unpack

DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?"),
    arrays.complex_number_dtypes(endianness="?"),
    arrays.unicode_string_dtypes(min_len=1, max_len=3),
    arrays.byte_string_dtypes(min_len=1, max_len=3),
    arrays.datetime64_dtypes(),
    arrays.timedelta64_dtypes(),
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def memory():
    descriptor = _shared_file()
    yield Memory(descriptor)
    os.close(descriptor)


def assert_same(found, sent):
    if isinstance(sent, dict):
        assert list(found) == list(sent)
        for name in sent:
            assert_same(found[name], sent[name])
    elif isinstance(sent, list):
        assert len(found) == len(sent)
        for each, other in zip(found, sent, strict=True):
            assert_same(each, other)
    elif isinstance(sent, np.ndarray):
        assert (found.dtype, found.shape) == (sent.dtype, sent.shape)
        assert found.tobytes() == sent.tobytes()
    else:
        assert type(found) is type(sent)
        assert repr(found) == repr(sent)  # nan too


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_values_and_arrays_of_any_kind_come_out_as_they_went_in(sent):
    assert_same(unpack(pack(sent)), sent)


def test_large_arrays_go_through_the_memory_which_grows(memory):
    for size in (IN_MEMORY, 5 * IN_MEMORY, 100):
        sent = {"one": np.arange(size, dtype=np.uint8), "two": np.arange(size, dtype=">f8")[::-1]}
        message = pack(sent, memory)
        assert len(message) < 300 or size == 100
        assert_same(unpack(message, memory), sent)


def test_what_was_read_stays_as_it_is_when_the_memory_is_written_again(memory):
    first = unpack(pack(np.zeros(IN_MEMORY, np.uint8), memory), memory)
    pack(np.ones(IN_MEMORY, np.uint8), memory)
    assert first.sum() == 0
    first += 1  # the caller's own


class Tensor:
    """As torch's, on another device."""

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return np.ones(2)


def test_numbers_of_numpy_stay_numbers_and_tensors_are_arrays():
    assert unpack(pack(np.bool_(True))) is np.True_
    assert type(unpack(pack(np.float32(1.5)))) is np.float32
    assert unpack(pack(Tensor())).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "value", [object(), np.array([None]), np.zeros(2, "i4,f8"), 2**70, {"a": [print]}, "\ud800"]
)
def test_what_cannot_be_sent_is_an_error(value):
    with pytest.raises(WireError, match="cannot be sent"):
        pack(value)


def of_array(kind, *parts):
    return msgpack.packb(msgpack.ExtType(kind, msgpack.packb(list(parts))))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        pack([1, 2])[:-1],
        pack([1, 2]) + b"\0",
        b"\xc1",
        msgpack.packb(msgpack.ExtType(77, b"abc")),
        msgpack.packb(msgpack.ExtType(wire.ARRAY, b"\xff\xff")),
        of_array(wire.ARRAY, "<f4", [2], b"12345678901"),
        of_array(wire.ARRAY, "<f4", [-2], b"12345678"),
        of_array(wire.ARRAY, "<f4", [True, 2], b"12345678"),
        of_array(wire.ARRAY, "|O", [1], b"12345678"),
        of_array(wire.ARRAY, "<f3", [1], b"123"),
        of_array(wire.ARRAY, "<f4", [2], 8),
        of_array(wire.SHARED, "<f4", [2**40], 0),
        of_array(wire.SHARED, "<f4", [2], -1),
        of_array(wire.SHARED, "<f4", [2], b"12345678"),
    ],
)
def test_what_is_no_message_is_an_error(message, memory):
    with pytest.raises(WireError):
        unpack(message, memory)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data):
    with contextlib.suppress(WireError):
        unpack(data)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(1, 20), st.data())
def test_a_truncated_message_is_an_error(sent, missing, data):
    message = pack(sent)
    kept = data.draw(st.integers(0, max(0, len(message) - missing)))
    if kept < len(message):
        with pytest.raises(WireError):
            unpack(message[:kept])


def test_what_is_no_space_is_an_error():
    for said in ({}, {"kind": "Box"}, {"kind": "Dict", "spaces": 3}, 7):
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
            described(said)
    assert repr(described({"kind": "other", "text": "Graph(7)"})) == "Graph(7)"

"""Transforms of columns: their numbers, against scipy where it has them, and their inverses."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from dipole.data.core.errors import ConfigError
from dipole.data.transforms import rotation
from dipole.data.transforms import rotation_arrays as arrays
from dipole.data.transforms.column_transform import COLUMN_TRANSFORMS, make_transform
from dipole.data.transforms.conversion import Conversion, Conversions, stored_size

pytestmark = pytest.mark.filterwarnings("ignore:Gimbal lock")
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, database=None)
TURNED = Rotation.concatenate(
    [
        Rotation.random(200, np.random.default_rng(0)),
        Rotation.identity(1),
        Rotation.from_rotvec(math.pi * np.eye(3)),
        Rotation.from_rotvec(1e-9 * np.eye(3)),
        Rotation.from_euler("xyz", [[0.3, math.pi / 2, 0.2], [1.0, -math.pi / 2, 0.0]]),
    ]
)
Q = TURNED.as_quat()
ROWS = TURNED.as_matrix()[:, :2].reshape(-1, 6)
COLUMNS = np.swapaxes(TURNED.as_matrix()[:, :, :2], 1, 2).reshape(-1, 6)


def same(q, turned):
    return (Rotation.from_quat(q) * turned.inv()).magnitude().max() < 2e-7


@pytest.mark.parametrize(
    ("name", "options", "stored"),
    [
        ("quaternion_to_6d", {}, Q),
        ("quaternion_to_6d", {}, -3 * Q),
        ("quaternion_to_6d", {"order": "wxyz"}, Q[:, [3, 0, 1, 2]]),
        ("rotation_vector_to_6d", {}, TURNED.as_rotvec()),
        ("matrix_to_6d", {}, TURNED.as_matrix().reshape(-1, 9)),
        ("euler_to_6d", {}, TURNED.as_euler("xyz")),
        ("euler_to_6d", {"sequence": "ZYX", "degrees": True}, TURNED.as_euler("ZYX", True)),
        ("euler_to_6d", {"sequence": "zxz"}, TURNED.as_euler("zxz")),
    ],
)
def test_six_numbers_are_two_rows_of_the_matrix_or_its_columns_as_scipy_has_them(
    name, options, stored
):
    rows = make_transform(name, options).apply(stored)
    assert np.allclose(rows, ROWS, atol=1e-7)
    columns = make_transform(name, {**options, "layout": "columns"}).apply(stored)
    assert np.allclose(columns, COLUMNS, atol=1e-7)


def test_the_inverse_of_six_numbers_is_the_rotation_that_was_stored():
    assert same(make_transform("quaternion_to_6d", {}).invert(ROWS), TURNED)
    assert same(make_transform("quaternion_to_6d", {"layout": "columns"}).invert(COLUMNS), TURNED)
    w_first = make_transform("quaternion_to_6d", {"order": "wxyz"}).invert(ROWS)
    assert same(w_first[:, [1, 2, 3, 0]], TURNED)
    vectors = make_transform("rotation_vector_to_6d", {}).invert(ROWS)
    assert same(Rotation.from_rotvec(vectors).as_quat(), TURNED)
    matrices = make_transform("matrix_to_6d", {}).invert(ROWS)
    assert np.allclose(matrices.reshape(-1, 3, 3), TURNED.as_matrix(), atol=1e-7)
    euler = make_transform("euler_to_6d", {"sequence": "XYZ", "degrees": True})
    found = Rotation.from_euler("XYZ", euler.invert(ROWS), degrees=True)
    assert same(found.as_quat(), TURNED)
    assert same(make_transform("6d_to_quaternion", {}).apply(ROWS), TURNED)
    found = make_transform("6d_to_rotation_vector", {}).apply(ROWS)
    assert same(Rotation.from_rotvec(found).as_quat(), TURNED)


@pytest.mark.parametrize("w", [3, 0])
def test_of_both_quaternions_of_a_rotation_the_one_with_positive_w_is_written(w):
    order = {3: "xyzw", 0: "wxyz"}[w]
    turned = Rotation.from_rotvec(np.linspace(-6, 6, 25)[:, None] * np.array([0.6, 0, 0.8]))
    six = turned.as_matrix().reshape(-1, 9)[:, :6]
    assert (make_transform("quaternion_to_6d", {"order": order}).invert(six)[:, w] >= 0).all()
    assert (make_transform("6d_to_quaternion", {"order": order}).apply(six)[:, w] >= 0).all()


SEQUENCES = [a + b + c for a in "xyz" for b in "xyz" for c in "xyz" if b not in (a, c)]


@pytest.mark.parametrize("sequence", [*SEQUENCES, *(s.upper() for s in SEQUENCES)])
def test_euler_angles_of_every_sequence_are_scipys(sequence):
    q = arrays.from_euler(TURNED.as_euler(sequence), sequence)
    assert same(q, TURNED)
    found = arrays.to_euler(Q, sequence)
    assert same(Rotation.from_euler(sequence, found).as_quat(), TURNED)
    assert np.allclose(found[:200], TURNED.as_euler(sequence)[:200], atol=1e-9)


@pytest.mark.parametrize("representation", list(rotation.SIZES))
def test_many_rotations_at_once_are_those_one_by_one(representation):
    written = arrays.from_quaternions(Q, representation)
    for row, q in zip(written, Q, strict=True):
        one = rotation.from_quaternion((q if q[3] >= 0 else -q).tolist(), representation, row)
        assert np.allclose(row, one, atol=1e-12)
    back = arrays.to_quaternions(written, representation)
    for row, q in zip(written, back, strict=True):
        assert rotation.angle(rotation.to_quaternion(row, representation), q) < 1e-7


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_of_many_is_slerp_of_each(t):
    a, b = Q[:-1], Q[1:]
    found = arrays.slerp(a, b, np.full(len(a), t))
    for p, q, middle in zip(a, b, found, strict=True):
        if rotation.angle(p, q) < 3.1:  # half a turn has two ways
            assert rotation.angle(rotation.slerp(p, q, t), middle) < 1e-7


def test_a_quaternion_is_written_with_the_same_sign_whatever_came_before():
    canonical = make_transform("canonical_quaternion", {})
    half = 1 / math.sqrt(2)
    assert np.allclose(canonical.apply(np.array([0, 0, -2.0, -2.0])), [0, 0, half, half])
    assert np.allclose(canonical.apply(np.array([0, -1.0, 0, 0])), [0, 1, 0, 0])
    assert np.allclose(canonical.apply(-Q), canonical.apply(Q))
    towards = make_transform("canonical_quaternion", {"towards": [0, 0, -1, 0]})
    assert np.allclose(towards.apply(np.array([0, 0, 0.6, 0.8])), [0, 0, -0.6, -0.8])
    w_first = make_transform("canonical_quaternion", {"order": "wxyz"})
    assert np.allclose(w_first.apply(np.array([-0.6, 0.8, 0, 0])), [0.6, -0.8, 0, 0])


def test_angles_become_sine_and_cosine_and_come_back_within_half_a_turn():
    pairs = make_transform("angle_to_sin_cos", {})
    assert np.allclose(pairs.apply(np.array([0.0, math.pi / 2])), [0, 1, 1, 0])
    assert np.allclose(pairs.invert(np.array([0.0, 3.0, 0.5, 0.5])), [0, math.pi / 4])
    assert np.allclose(pairs.invert(pairs.apply(np.array([7.0]))), [7.0 - 2 * math.pi])
    degrees = make_transform("angle_to_sin_cos", {"degrees": True})
    assert np.allclose(degrees.invert(degrees.apply(np.array([170.0, -179.0]))), [170, -179])
    assert pairs.names(("wrist",)) == ("wrist_sin", "wrist_cos")


def test_a_measured_range_becomes_minus_one_to_one():
    gripper = make_transform("range_to_unit", {"low": 0.0, "high": 0.08})
    assert np.allclose(gripper.apply(np.array([0.0, 0.02, 0.08])), [-1, -0.5, 1])
    assert np.allclose(gripper.invert(np.array([-1, -0.5, 1, 1.1])), [0, 0.02, 0.08, 0.084])
    closing = make_transform("range_to_unit", {"low": 255, "high": 0})
    assert np.allclose(closing.apply(np.array([255.0, 0.0])), [-1, 1])


def test_degrees_become_radians_in_numbers_and_units():
    radians = make_transform("degrees_to_radians", {})
    assert np.allclose(radians.apply(np.array([180.0, -90.0])), [math.pi, -math.pi / 2])
    assert radians.units(("degrees", "deg/s", "")) == ("rad", "rad/s", "rad")
    with pytest.raises(ConfigError, match="given numbers in 'm'"):
        radians.units(("m",))


OPTIONS = {"range_to_unit": {"low": -2.0, "high": 3.0}}
SIZES = {"quaternion_to_6d": 4, "rotation_vector_to_6d": 3, "matrix_to_6d": 9, "euler_to_6d": 3,
         "canonical_quaternion": 4, "6d_to_quaternion": 6, "6d_to_rotation_vector": 6}  # fmt: skip


@pytest.mark.parametrize("name", COLUMN_TRANSFORMS.names())
@SETTINGS
@given(data=st.data())
def test_there_and_back_and_there_is_there(name, data):
    """apply(invert(apply(x))) == apply(x), whatever x, for any leading axes."""
    transform = make_transform(name, OPTIONS.get(name, {}))
    size = SIZES.get(name, 2)
    shape = (*data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3, min_side=1)), size)
    x = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-3, 3)))
    try:
        there = transform.apply(x)
    except ValueError:
        return  # no rotation
    assert there.shape == (*shape[:-1], transform.output_size(size))
    again = transform.apply(transform.invert(there))
    written = {"canonical_quaternion": rotation.XYZW, "6d_to_quaternion": rotation.XYZW,
               "6d_to_rotation_vector": rotation.VECTOR}.get(name)  # fmt: skip
    if written:  # of half a turn both signs are right
        ends = (arrays.to_quaternions(each, written) for each in (again, there))
        pairs = zip(*(each.reshape(-1, 4) for each in ends), strict=True)
        assert max((rotation.angle(p, q) for p, q in pairs), default=0) < 1e-5
    else:
        assert np.allclose(again, there, atol=1e-5)
    names = tuple(f"a.{i}" for i in range(size))
    assert len(transform.names(names)) == len(transform.units(("",) * size)) == there.shape[-1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quaternion_to_6d", [0.0, 0, 0, 0]),
        ("quaternion_to_6d", [math.nan, 0, 0, 1]),
        ("matrix_to_6d", [1.0, 0, 0, 2, 0, 0, 0, 0, 0]),
        ("rotation_vector_to_6d", [math.inf, 0, 0]),
        ("canonical_quaternion", [0.0, 0, 0, 0]),
    ],
)
def test_numbers_that_are_no_rotation_are_refused(name, values):
    with pytest.raises(ValueError, match="no direction"):
        make_transform(name, {}).apply(np.array(values))


def test_what_a_network_gives_that_is_no_rotation_is_not_a_number():
    """So that whoever looks whether actions are finite finds it; an exception would end a run."""
    invert = make_transform("quaternion_to_6d", {}).invert
    found = invert(np.array([[1.0, 0, 0, 0, 1, 0], [1.0, 0, 0, 2, 0, 0], [0.0] * 6]))
    assert np.allclose(found[0], [0, 0, 0, 1])
    assert np.isnan(found[1:]).all()


POSE = [
    Conversion((3, 4, 5, 6), "quaternion_to_6d"),
    Conversion((7,), "range_to_unit", {"low": 0.0, "high": 0.1}),
]


def test_what_a_transform_makes_stands_where_its_first_column_stood():
    pose = Conversions(POSE, 8)
    frame = np.array([1.0, 2, 3, 0, 0, 0, 1, 0.1])
    converted = pose.apply(frame)
    assert np.allclose(converted, [1, 2, 3, 1, 0, 0, 0, 1, 0, 1])
    assert np.allclose(pose.invert(converted), frame)
    assert pose.output_size == 10
    assert stored_size(POSE, 10) == 8
    early = Conversions([Conversion((3, 1), "angle_to_sin_cos")], 4)
    assert np.allclose(early.apply(np.array([5.0, 0, 6, math.pi / 2])), [5, 1, 0, 0, 1, 6])
    assert np.allclose(early.invert(np.array([5.0, 1, 0, 0, 1, 6])), [5, 0, 6, math.pi / 2])


def test_as_many_columns_as_before_stay_where_they_were():
    apart = Conversions([Conversion((2, 0), "range_to_unit", {"low": 0, "high": 2})], 3)
    assert np.allclose(apart.apply(np.array([0.0, 7, 1])), [-1, 7, 0])
    assert np.allclose(apart.invert(np.array([-1.0, 7, 0])), [0, 7, 1])
    assert apart.names(("a", "b", "c")) == ("a", "b", "c")


def test_names_and_units_follow_their_columns():
    pose = Conversions(POSE, 8)
    names = ("x", "y", "z", "ee_qx", "ee_qy", "ee_qz", "ee_qw", "gripper")
    assert pose.names(names) == (
        "x", "y", "z", "ee_r11", "ee_r12", "ee_r13", "ee_r21", "ee_r22", "ee_r23", "gripper"
    )  # fmt: skip
    assert pose.names(()) == ()
    assert pose.units(("m",) * 3 + ("",) * 4 + ("m",)) == ("m",) * 3 + ("",) * 7
    assert pose.units("") == ""


def test_a_weight_of_stored_columns_is_the_least_of_those_that_are_converted_together():
    weights = np.array([1.0, 1, 1, 1, 0.5, 1, 1, 0])
    assert Conversions(POSE, 8).spread(weights).tolist() == [1, 1, 1, *[0.5] * 6, 0]


def test_a_conversion_is_plain_json_and_can_be_sent_to_a_process():
    for each in POSE:
        assert Conversion.from_dict(json.loads(json.dumps(each.to_dict()))) == each
        assert pickle.loads(pickle.dumps(each)) == each
    assert POSE[0].to_dict() == {"columns": [3, 4, 5, 6], "transform": "quaternion_to_6d"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"columns": [0, 1], "transform": "quaternion_to_6d"}, "takes 4 columns, and 2 are given"),
        ({"columns": [0] * 4, "transform": "quaternion_to_6d"}, "different whole numbers"),
        ({"columns": [-1], "transform": "angle_to_sin_cos"}, "counted from 0"),
        ({"columns": [0.5], "transform": "angle_to_sin_cos"}, "counted from 0"),
        ({"columns": [0], "transform": "angle_to_sincos"}, "did you mean 'angle_to_sin_cos'"),
        ({"columns": [0], "transform": "range_to_unit"}, "missing 2 required"),
        ({"columns": [0], "transform": "range_to_unit", "options": {"low": 1, "high": 1}},
         "two different finite numbers"),
        ({"columns": [0], "transform": "range_to_unit", "options": {"low": "0", "high": 1}},
         "low is '0'"),
        ({"columns": [0], "transform": "angle_to_sin_cos", "options": {"degree": True}},
         "did you mean 'degrees'"),
        ({"columns": [0, 1, 2], "transform": "euler_to_6d", "options": {"sequence": "xxz"}},
         "three axes"),
        ({"columns": [0, 1, 2], "transform": "euler_to_6d", "options": {"sequence": "xYz"}},
         "three axes"),
        ({"columns": [0, 1, 2, 3], "transform": "quaternion_to_6d", "options": {"order": "w"}},
         "choose xyzw or wxyz"),
        ({"columns": [0], "transfrom": "angle_to_sin_cos"}, "did you mean 'transform'"),
        ({"columns": [0]}, "needs columns and the name"),
        ("angle_to_sin_cos", "a table with columns"),
    ],
)  # fmt: skip
def test_a_conversion_that_cannot_be_is_refused_by_its_value(entry, message):
    with pytest.raises(ConfigError, match=message):
        Conversion.from_dict(entry)


def test_a_column_is_converted_once_and_has_to_be_there():
    twice = [Conversion((0,), "angle_to_sin_cos"), Conversion((0, 1), "degrees_to_radians")]
    with pytest.raises(ConfigError, match="column 0 is converted twice"):
        Conversions(twice, 2)
    with pytest.raises(ConfigError, match="column 1 for degrees_to_radians, and there are 1"):
        Conversions(twice[1:], 1)

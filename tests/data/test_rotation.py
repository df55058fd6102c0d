"""Rotations, against scipy: whatever the numbers, the same rotation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dipole.data.transforms import rotation as ro

REPRESENTATIONS = [*ro.SIZES]
SETTINGS = settings(max_examples=200, deadline=None, derandomize=True, database=None)

numbers = st.floats(-1.0, 1.0)
directions = st.tuples(numbers, numbers, numbers).filter(lambda v: np.linalg.norm(v) > 1e-3)
# Near 0 and pi formulas differ from those between.
angles = st.one_of(
    st.floats(0.0, math.pi), st.floats(0.0, 1e-7), st.sampled_from([0.0, math.pi]),
    st.floats(math.pi - 1e-7, math.pi),
)  # fmt: skip


@st.composite
def rotations(draw):
    axis = np.array(draw(directions))
    return Rotation.from_rotvec(draw(angles) * axis / np.linalg.norm(axis))


def same(q, other):
    """Whether two rotations are the same but for rounding; q: a quaternion, other: scipy's."""
    return (Rotation.from_quat(q) * other.inv()).magnitude() < 2e-8


def written(turned, representation):
    """As an action writes it, by scipy alone."""
    q = turned.as_quat()
    return {
        ro.XYZW: lambda: q,
        ro.WXYZ: lambda: q[[3, 0, 1, 2]],
        ro.VECTOR: turned.as_rotvec,
        ro.MATRIX: turned.as_matrix().ravel,
        ro.SIX: turned.as_matrix()[:2].ravel,
        ro.SIX_COLUMNS: turned.as_matrix()[:, :2].T.ravel,
    }[representation]()


@SETTINGS
@given(rotations(), rotations())
def test_products_inverses_and_angles(a, b):
    p, q = a.as_quat().tolist(), b.as_quat().tolist()
    assert same(ro.multiply(p, q), a * b)
    assert same(ro.inverse(p), a.inv())
    assert ro.angle(p, q) == pytest.approx((a * b.inv()).magnitude(), abs=2e-8)
    assert ro.angle(p, [-x for x in q]) == pytest.approx(ro.angle(p, q), abs=1e-12)


@SETTINGS
@given(rotations(), st.sampled_from([-1.0, 1.0]))
def test_logarithm_and_exponential(a, sign):
    q = (sign * a.as_quat()).tolist()
    vector = ro.logarithm(q)
    assert np.linalg.norm(vector) <= math.pi + 1e-12
    assert same(ro.exponential(vector), a)
    if a.magnitude() < 3.1:  # at pi both signs of the vector are right
        assert np.allclose(vector, a.as_rotvec(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("theta", [0.0, 1e-300, 1e-12, 1e-5, 0.99e-4, 1.01e-4, 1.0, math.pi, 7.0])
def test_the_exponential_is_exact_near_zero_too(theta):
    found = ro.exponential([0.0, theta, 0.0])
    assert found == pytest.approx([0.0, math.sin(theta / 2), 0.0, math.cos(theta / 2)], rel=1e-14)


@pytest.mark.parametrize("theta", [1e-12, 1e-9, 1e-7, 1e-5, 1.0, 3.0, math.pi - 1e-9])
def test_the_logarithm_keeps_its_precision_near_zero_and_near_pi(theta):
    q = [0.0, 0.0, math.sin(theta / 2), math.cos(theta / 2)]
    assert ro.logarithm(q) == pytest.approx([0.0, 0.0, theta], rel=1e-12)


@SETTINGS
@given(rotations(), rotations())
def test_between_is_the_short_way_in_the_fixed_frame(a, b):
    way = ro.between(a.as_quat().tolist(), b.as_quat().tolist())
    assert np.linalg.norm(way) <= math.pi + 1e-12
    assert same((Rotation.from_rotvec(way) * a).as_quat(), b)


@SETTINGS
@given(rotations(), rotations(), st.floats(0.0, 1.0), st.sampled_from([-1.0, 1.0]))
def test_slerp(a, b, t, sign):
    found = ro.slerp(a.as_quat().tolist(), (sign * b.as_quat()).tolist(), t)
    apart = (a * b.inv()).magnitude()
    if apart < 3.1:  # half a turn has two ways
        assert same(found, Slerp([0, 1], Rotation.concatenate([a, b]))(t))
    assert ro.angle(a.as_quat().tolist(), found) == pytest.approx(t * apart, abs=2e-8)


@SETTINGS
@given(st.lists(rotations(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_mean(all_of_them, random):
    several = Rotation.concatenate(all_of_them)
    weights = np.array([random.uniform(0.1, 1.0) for _ in all_of_them])
    signs = np.array([[random.choice((-1.0, 1.0))] for _ in all_of_them])
    rows = several.as_quat()
    values = np.linalg.eigvalsh((rows * weights[:, None]).T @ rows)
    if values[-1] - values[-2] > 0.05:  # else there are several means
        found = ro.mean(signs * rows, weights)
        assert (Rotation.from_quat(found) * several.mean(weights).inv()).magnitude() < 1e-6


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_every_representation_is_read_and_written_as_scipy_does(representation):
    rng = np.random.default_rng(0)
    for turned in [*Rotation.random(200, rng), Rotation.identity(),
                   *Rotation.from_rotvec(math.pi * np.eye(3))]:  # fmt: skip
        numbers = written(turned, representation)
        q = ro.to_quaternion(numbers, representation)
        assert same(q, turned)
        assert math.hypot(*q) == pytest.approx(1.0, abs=1e-12)
        assert np.allclose(ro.from_quaternion(q, representation, numbers), numbers, atol=1e-8)


@pytest.mark.parametrize("representation", [ro.XYZW, ro.WXYZ, ro.SIX, ro.SIX_COLUMNS])
def test_numbers_of_any_length_are_read(representation):
    rng = np.random.default_rng(1)
    for turned in Rotation.random(50, rng):
        for length in (1e-3, 0.2, 30.0, 1e200):
            numbers = length * written(turned, representation)
            assert same(ro.to_quaternion(numbers, representation), turned)


def test_two_rows_that_are_not_perpendicular_are_made_so():
    turned = ro.to_quaternion([2.0, 0, 0, 3.0, 0.5, 0], ro.SIX)
    assert same(turned, Rotation.identity())


def test_of_equal_writings_the_nearest_is_chosen():
    q = Rotation.from_rotvec([0, 0, 0.1]).as_quat()
    assert np.allclose(ro.from_quaternion(q, ro.XYZW, -q), -q)
    assert np.allclose(ro.from_quaternion(q, ro.VECTOR, [0, 0, 6.0]), [0, 0, 0.1 + 2 * math.pi])
    assert np.allclose(ro.from_quaternion(q, ro.VECTOR, [0, 0, -6.0]), [0, 0, 0.1 - 2 * math.pi])
    assert ro.from_quaternion([0, 0, 0, 1.0], ro.VECTOR, [0, 0, 0.2]) == [0, 0, 0]


@SETTINGS
@given(rotations())
def test_matrices(a):
    q = a.as_quat().tolist()
    assert np.allclose(ro.matrix(q), a.as_matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "representation"),
    [
        ([0.0] * 4, ro.XYZW),
        ([1e-9] * 4, ro.WXYZ),
        ([1e308] * 4, ro.XYZW),
        ([math.nan, 0, 0, 1], ro.XYZW),
        ([math.inf, 0, 0, 1], ro.WXYZ),
        ([math.inf, 0, 0], ro.VECTOR),
        ([math.nan, 0, 0], ro.VECTOR),
        ([0.0] * 6, ro.SIX),
        ([1.0, 2, 3, 2, 4, 6], ro.SIX),
        ([1.0, 2, 3, 0, 0, 0], ro.SIX),
    ],
)
def test_numbers_that_are_no_rotation_are_refused(numbers, representation):
    with pytest.raises(ValueError, match=r"direction|domain|finite"):
        ro.to_quaternion(np.array(numbers, np.float64), representation)

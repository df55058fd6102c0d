"""Where rotation vectors and angles stand among the entries of an array, by what its names say, or
its numbers."""

import re
from collections.abc import Collection, Iterator

import numpy as np

from dipole.data.transforms.rotation import VECTOR
from dipole.data.transforms.rotation_arrays import from_quaternions, slerp, to_quaternions

TURNS = {"rad": 2 * np.pi, "deg": 360.0}
NEARLY = 0.1  # of a turn, by which a jump may differ from it
SLACK = 1.01  # by how much of pi or of a turn numbers may be more than that
NEAR = 0.6  # radians between two frames that are as good as the same rotation

_VECTOR = re.compile(r"axis_?angles?|rot_?vecs?|rotation_?vectors?", re.IGNORECASE)
_LAST = ("xyz", "012")


def rotation_vector_columns(
    key: str, names: tuple[str, ...], shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The columns of each rotation vector (axis times angle) in a vector, in order.

    By a key such as "eef_rot_axis_angle" whose vectors have three entries, or by three names in a
    row that say the same and differ in their last letter only, as x, y, z or 0, 1, 2.
    """
    if len(shape) != 1:
        return []
    if shape == (3,) and _VECTOR.search(key):
        return [(0, 1, 2)]
    found: list[tuple[int, ...]] = []
    for start in range(len(names) - 2):
        three = names[start : start + 3]
        stems = {name[:-1] for name in three}
        last = "".join(name[-1:] for name in three).lower()
        if len(stems) == 1 and last in _LAST and _VECTOR.search(stems.pop()):
            found.append((start, start + 1, start + 2))
    return found


def interpolated_vectors(
    before: np.ndarray, after: np.ndarray, share: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Rotation vectors [n, 3] along the arc from `before` to `after` [n, 3], radians.

    share: of the way that is gone, [n]. nearest: vectors [n, 3]; of all that write a rotation, the
    one that is nearest to these is given.
    """
    ends = to_quaternions(before, VECTOR), to_quaternions(after, VECTOR)
    found = from_quaternions(slerp(*ends, share), VECTOR)
    angle = np.linalg.norm(found, axis=1, keepdims=True)
    axis = found / np.where(angle > 0, angle, 1.0)
    turns = np.round(((nearest * axis).sum(1, keepdims=True) - angle) / TURNS["rad"])
    return np.asarray(found + turns * TURNS["rad"] * axis)


def flipping_vectors(
    numbers: np.ndarray, known: Collection[int], units: tuple[str, ...]
) -> Iterator[tuple[int, ...]]:
    """Three columns in a row of an episode [N, columns] that flip at half a turn, as rotation
    vectors do: from one frame to the next the numbers jump, and the rotation stays.

    known: Columns that are something else. units: Of each column, canonical; "" where unknown.
    """
    start = 0
    while start + 3 <= numbers.shape[1]:
        columns = tuple(range(start, start + 3))
        free = not any(c in known or units[c] not in ("", "rad") for c in columns)
        if free and len(flips_of(numbers[:, start : start + 3], alone=False)):
            yield columns
            start += 3
        else:
            start += 1


def wrapping_columns(
    numbers: np.ndarray, known: Collection[int], units: tuple[str, ...]
) -> Iterator[int]:
    """Columns of an episode [N, columns], without units, that span one turn at most and jump by
    about one from one frame to the next, as angles do.

    known: Columns that are something else. units: Of each column; "" where unknown.
    """
    for column, values in enumerate(numbers.T):
        if units[column] or column in known or len(np.unique(values)) <= 2:
            continue
        span, jumps = np.ptp(values), np.abs(np.diff(values))
        if any(
            span < SLACK * turn and (np.abs(jumps - turn) < NEARLY * turn).any()
            for turn in TURNS.values()
        ):
            yield column


def flips_of(vectors: np.ndarray, alone: bool = True) -> np.ndarray:
    """The frames before which rotation vectors [N, 3], radians, jump while the rotation stays.

    alone: Also where one column does by itself, as an angle would. Nothing is found in vectors of
    more than half a turn.
    """
    nothing = np.empty(0, np.int64)
    if len(vectors) < 2 or np.linalg.norm(vectors, axis=1).max() > SLACK * np.pi:
        return nothing
    steps = np.diff(vectors, axis=0)
    jumps = np.linalg.norm(steps, axis=1) > np.pi
    if not alone:
        jumps &= np.abs(steps).max(1) <= (1 - NEARLY) * TURNS["rad"]
    at = np.flatnonzero(jumps)
    if not len(at):
        return nothing
    before, after = (to_quaternions(vectors[each], VECTOR) for each in (at, at + 1))
    return np.asarray(at[np.abs((before * after).sum(1)) > np.cos(NEAR / 2)] + 1)

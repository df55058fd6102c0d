"""Where quaternions stand among the entries of an array, by what its names say, or its numbers."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

UNIT = 0.01  # by how much the length of four numbers that look like a quaternion differs from 1

_LAST_LETTER = re.compile(r"(.*?)([xyzw])", re.IGNORECASE)
_ORDERS = ("xyzw", "wxyz")
_KEY = re.compile(r"(^|[^a-z])quat(ernion)?s?([^a-z]|$)", re.IGNORECASE)


def quaternion_columns(
    key: str, names: tuple[str, ...], shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The columns of each quaternion in a vector, in the order in which they stand.

    By four names in a row that differ in their last letter only, as x, y, z, w or w, x, y, z; or by
    a key such as "eef_quat" whose vectors have four entries.
    """
    if len(shape) != 1:
        return []
    if not names:
        return [(0, 1, 2, 3)] if shape == (4,) and _KEY.search(key) else []
    found: list[tuple[int, ...]] = []
    start = 0
    while start + 4 <= len(names):
        if _is_quaternion(names[start : start + 4]):
            found.append(tuple(range(start, start + 4)))
            start += 4
        else:
            start += 1
    return found


def unnamed_quaternions(
    numbers: np.ndarray, named: Iterable[tuple[int, ...]]
) -> Iterator[tuple[int, ...]]:
    """Four columns in a row of an episode [N, columns] whose length is 1 in every frame.

    named: Columns that are known already. Columns that take two values at most, as flags do, are
    none of a quaternion that turns: two at least must take more.
    """
    known = {column for columns in named for column in columns}
    turning = np.array([len(np.unique(column)) > 2 for column in numbers.T])
    start = 0
    while start + 4 <= numbers.shape[1]:
        columns = tuple(range(start, start + 4))
        four = numbers[:, start : start + 4]
        if (
            known.isdisjoint(columns)
            and turning[start : start + 4].sum() >= 2
            and (np.abs(np.linalg.norm(four, axis=1) - 1) <= UNIT).all()
        ):
            yield columns
            start += 4
        else:
            start += 1


def _is_quaternion(names: tuple[str, ...]) -> bool:
    parts = [_LAST_LETTER.fullmatch(name) for name in names]
    if not all(parts):
        return False
    stems = {part[1] for part in parts if part}
    letters = "".join(part[2] for part in parts if part).lower()
    return len(stems) == 1 and letters in _ORDERS

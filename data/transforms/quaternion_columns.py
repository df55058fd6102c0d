"""Where quaternions stand among the entries of an array, by what its names say."""

import re

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


def _is_quaternion(names: tuple[str, ...]) -> bool:
    parts = [_LAST_LETTER.fullmatch(name) for name in names]
    if not all(parts):
        return False
    stems = {part[1] for part in parts if part}
    letters = "".join(part[2] for part in parts if part).lower()
    return len(stems) == 1 and letters in _ORDERS

"""The rule by which depth changes its size, the same for a dataset as in a policy."""

from typing import Any


def nearest_line(lines: Any, have: int, want: int) -> Any:
    """Of `want` new lines (rows or columns), the old one that each shows: that in which its middle
    lies, and of two beside the middle the later one.

    lines: Numbers of new lines, 0 to want - 1, integers of numpy or torch; have: the number of old
    ones. In whole numbers, so that no library rounds otherwise.
    """
    return (2 * lines + 1) * have // (2 * want)

"""Warnings of a source for a person: a dataset of many odd episodes says it in a few lines."""

import re
from collections import Counter
from collections.abc import Iterable

MOST_ALIKE = 5  # of warnings that differ in their numbers only


def shortened(warnings: Iterable[str]) -> tuple[str, ...]:
    """The first MOST_ALIKE of each sort, and how many more there are of it.

    >>> shortened(f"episode {n} is listed twice" for n in range(9))[-2:]
    ('episode 4 is listed twice', 'and 4 more like it: episode 8 is listed twice')
    """
    counts: Counter[str] = Counter()
    lines: list[str] = []
    last: dict[str, str] = {}
    for warning in warnings:
        sort = re.sub(r"[0-9]+(\.[0-9]+)?", "#", warning)
        counts[sort] += 1
        last[sort] = warning
        if counts[sort] <= MOST_ALIKE:
            lines.append(warning)
    more = [
        f"and {count - MOST_ALIKE} more like it: {last[sort]}"
        for sort, count in counts.items()
        if count > MOST_ALIKE
    ]
    return (*lines, *more)

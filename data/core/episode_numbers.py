"""Episode numbers as a person writes them: "0-3,5,7-9"."""

import re
from collections.abc import Sequence

from dipole.data.core.errors import ConfigError

MOST = 10_000_000  # numbers that a person may mean: a slip such as 1-10000000000 is an error


def parse_episode_numbers(text: str) -> tuple[int, ...]:
    """Numbers and ranges in their order, each once.

    Raises ConfigError for anything else, also for a range that runs backwards.

    >>> parse_episode_numbers("1,4-7,5")
    (1, 4, 5, 6, 7)
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part.strip())
        if match is None:
            raise ConfigError(f"episodes {text!r}: write numbers and ranges, such as 1,4-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(
                f"episodes {text!r}: {first}-{last} runs backwards and selects nothing; "
                f"write {last}-{first}"
            )
        if last - first >= MOST:
            raise ConfigError(f"episodes {text!r}: {first}-{last} are more than {MOST:,}")
        numbers |= dict.fromkeys(range(first, last + 1))
    return tuple(numbers)


def format_episode_numbers(numbers: Sequence[int]) -> str:
    """Increasing numbers for a person.

    >>> format_episode_numbers([0, 1, 2, 3, 5, 7, 8])
    '0-3,5,7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)

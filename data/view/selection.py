"""Which episodes are shown: those a person names, or an even sample of all."""

from collections.abc import Iterator

from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.errors import ConfigError


def parse_episodes(text: str, n_episodes: int) -> list[int]:
    """Episode numbers from "0,7,20-24", in this order, each once.

    Raises ConfigError for anything that is not a number or range, and for episodes that are not
    there.
    """
    numbers = parse_episode_numbers(text)
    if max(numbers) >= n_episodes:
        raise ConfigError(f"episodes {text!r}: there are {n_episodes}, numbered from 0")
    return list(numbers)


def even_order(n_episodes: int) -> Iterator[int]:
    """All episodes, such that any first few are spread over the dataset; 0 is the first.

    The van der Corput sequence: 0, 1/2, 1/4, 3/4, 1/8, ... of the way through.

    >>> list(even_order(5))
    [0, 4, 2, 1, 3]
    """
    digits = max(n_episodes - 1, 1).bit_length()
    for number in range(2**digits):
        mirrored = int(f"{number:0{digits}b}"[::-1], 2)
        if mirrored < n_episodes:
            yield mirrored

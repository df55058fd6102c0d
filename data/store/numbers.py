"""Integers of whole episodes, such as the seed that an episode began with.

meta/seed      [episodes]   the seed of each episode
meta/success   [episodes]   1 where it succeeded, 0 where it failed
meta/state_not_finite       1 where the simulator's state became NaN or infinite, which ended it

Any name will do, and any tool that reads zarr can read them.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.schema import check_key
from dipole.data.store.zarr.tree import Tree

SEED, SUCCESS = "seed", "success"
PRELUDE = "prelude_steps"  # between the seed's start and the first frame
NOT_FINITE = "state_not_finite"
ABSENT = {PRELUDE: 0, NOT_FINITE: 0}  # what an episode has that does not say it, where others do
TAKEN = ("episode_ends", "task_index", "task_spans")  # other lists of meta/


def check_numbers(where: str, numbers: Mapping[str, object]) -> dict[str, int]:
    """The numbers of an episode; raises DataError, beginning with `where`, for anything else."""
    checked: dict[str, int] = {}
    for name, value in numbers.items():
        check_key(where, name)
        if name in TAKEN:
            raise DataError(f"{where}: a number cannot be called {name!r}: choose another name")
        if not isinstance(value, bool | int | np.integer | np.bool_) or abs(int(value)) >= 2**63:
            raise DataError(f"{where}: {name!r} is {value!r}: an integer of 64 bits is needed")
        checked[name] = int(value)
    return checked


def number_lists(episodes: Sequence[Mapping[str, int]]) -> dict[str, list[int] | None]:
    """Each name's number in every episode; None for a name that some episodes lack."""
    names = dict.fromkeys(name for numbers in episodes for name in numbers)
    whole = [{**{name: ABSENT[name] for name in names if name in ABSENT}, **n} for n in episodes]
    return {
        name: [numbers[name] for numbers in whole]
        if all(name in numbers for numbers in whole)
        else None
        for name in names
    }


def without_seed(numbers: Mapping[str, int]) -> dict[str, int]:
    """Of an episode whose frames are others than those that its seed gave."""
    return {name: value for name, value in numbers.items() if name != SEED}


def names_of_numbers(files: Tree) -> Iterable[str]:
    """The lists of meta/ that are numbers of episodes, or may be."""
    return [name for name in files.folders("meta") if name not in TAKEN]

"""Success, as an environment's info tells it: true or false, 1 or 0, or several of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError

SUCCESS = ("is_success", "success")  # where it is looked for if a task does not say
NAMED = 8  # entries in a message


def truth(value: Any, place: str) -> bool:
    """Whether an entry of info says success; of an array, whether any of its numbers does.

    place: Of the entry, with dots for nested ones, as `environment.success` names it.
    Raises ConfigError for what is neither true nor false: a text, a dictionary, a distance.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if not _is_true_or_false(value):
        raise ConfigError(
            f"info's {place!r} is {_described(value)}, which tells no success: it has to be true "
            f"or false, or 1 or 0{_hint(value, place)}"
        )
    return bool(np.any(value))


def by_other_definitions(info: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(name, whether it holds) of `info["successes"]`; one that is None is left out."""
    successes = info.get("successes")
    if isinstance(successes, Mapping):
        for name, value in successes.items():
            if value is not None:
                yield str(name), truth(value, f"successes.{name}")


def _is_true_or_false(value: Any) -> bool:
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of different lengths
        return False
    of_two = numbers.dtype.kind in "iuf" and bool(((numbers == 0) | (numbers == 1)).all())
    return numbers.dtype.kind == "b" or of_two


def _described(value: Any) -> str:
    kind = "dictionary" if isinstance(value, Mapping) else type(value).__name__
    return f"{value!r:.80}, a {kind}"


def _hint(value: Any, place: str) -> str:
    if isinstance(value, Mapping) and value:
        named = [f"{place}.{key}" for key in list(value)[:NAMED]]
        return f". Did you mean environment.success={' or '.join(named)}?"
    return ". Name another entry by environment.success=ENTRY"

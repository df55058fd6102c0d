"""Sequences as people declare them: tuples, lists or arrays; never one value, never a text."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError


def as_tuple(what: str, values: Any) -> tuple[Any, ...]:
    """Values as a tuple.

    what: whose they are, for the error. Raises ConfigError for one value, and for a text.

    >>> as_tuple("names", ["shoulder", "elbow"])
    ('shoulder', 'elbow')
    """
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return tuple(values.tolist())
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{what} is {values!r}: a tuple or a list is needed, as ({values!r},)")
    return tuple(values)


def whole_numbers(what: str, values: Any) -> tuple[int, ...]:
    """Values as a tuple of ints; raises ConfigError as `as_tuple`, and for other numbers.

    what: whose they are, for the error.
    """
    found = as_tuple(what, values)
    try:
        return tuple(operator.index(value) for value in found)
    except TypeError:
        raise ConfigError(f"{what} is {found}: whole numbers are needed") from None


def numbers(what: str, values: Any) -> tuple[float, ...]:
    """Values as a tuple of floats; raises ConfigError as `as_tuple`, and for what is no number.

    what: whose they are, for the error.
    """
    found = as_tuple(what, values)
    try:
        if any(isinstance(value, str) for value in found):
            raise TypeError
        return tuple(float(value) for value in found)
    except (TypeError, ValueError):
        raise ConfigError(f"{what} is {found}: numbers are needed") from None

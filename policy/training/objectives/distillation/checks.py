"""Options of methods that cannot be: refused, with their names and values."""

import math
from collections.abc import Sequence
from typing import Any

from dipole.data.core.errors import ConfigError


def check_choice(option: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        choices = ", ".join(map(str, known))
        raise ConfigError(f"objective.{option} is {value!r}: choose {choices}")


def check_share(option: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"objective.{option} is {value}: a share lies between 0 and 1")


def check_weight(option: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"objective.{option} is {value}: a number of 0 or more is needed")


def check_decay(option: str, value: float | None) -> None:
    """Of a moving average, which at 1 would never move."""
    if value is None or not 0 <= value < 1:
        raise ConfigError(f"objective.{option} is {value}: from 0 to below 1 is needed")


def check_begin(value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"objective.begin is {value}: a share of the run below 1 is needed")


def numbers(option: str, value: Any, such_as: Sequence[float]) -> tuple[Any, ...]:
    """A list of at least one number; such_as: An example, of whole ones where they are to be."""
    kinds = int if all(isinstance(each, int) for each in such_as) else (int, float)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not value or not all(isinstance(each, kinds) for each in value):
        whole = "whole " if kinds is int else ""
        raise ConfigError(
            f"objective.{option} is {value!r}: a list of {whole}numbers is needed, such as "
            f"{list(such_as)}"
        )
    return tuple(value)

"""Components by name: encoders, denoisers, heads, solvers, environments, transforms.

It lives in the lowest package because every one above it registers by name, plugins too
(`plugins.py`): they are imported before a name is said to be unknown. A name is all that a file
may hold: loading a configuration or a checkpoint never imports or calls what the file says.
"""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, Generic, TypeVar

from dipole.data.core.errors import ConfigError
from dipole.data.core.plugins import load_plugins

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def check_options(
    what: str,
    name: str,
    component: Callable[..., Any],
    options: Iterable[str],
    given: Collection[str] = (),
) -> None:
    """Raise ConfigError for an option that a component has not, with the nearest that it has.

    what, name: of the component, for the message. given: parameters that are the caller's own.
    """
    parameters = inspect.signature(component).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return  # it takes any, and says itself what it cannot use
    known = [each for each in parameters if each not in given]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{what} {name!r} has no option {option!r}{nearest(option, known) or '.'} "
                f"Known: {', '.join(known) or 'none'}"
            )


class Registry(Generic[T]):
    """A table of named components; an unknown name answers with the nearest known one.

    >>> SOLVERS: Registry[str] = Registry("solver")
    >>> SOLVERS.add("ddim")("the thing")
    'the thing'
    >>> SOLVERS["ddmi"]
    Traceback (most recent call last):
    dipole.data.core.errors.ConfigError: unknown solver 'ddmi', did you mean 'ddim'? Known: ddim
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._table: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Register the decorated component; a name is given once."""

        def register(component: T) -> T:
            if name in self._table:
                raise ValueError(f"{self.what} {name!r} is registered twice")
            self._table[name] = component
            return component

        return register

    def names(self) -> list[str]:
        load_plugins()
        return sorted(self._table)

    def __contains__(self, name: object) -> bool:
        if name not in self._table:
            load_plugins()
        return name in self._table

    def __getitem__(self, name: str) -> T:
        if name not in self:
            hint = nearest(str(name), self._table) or ";"
            known = ", ".join(self.names()) or "none"
            failures = "".join(f". Plugin {failure}" for failure in load_plugins().values())
            raise ConfigError(f"unknown {self.what} {name!r}{hint} Known: {known}{failures}")
        return self._table[name]

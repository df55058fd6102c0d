"""The tables of components and the one way to build from them."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_type_hints

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import fitted
from dipole.data.core.registry import Registry, check_options

T = TypeVar("T")

ENCODERS: Registry[Callable[..., Any]] = Registry("encoder")
BACKBONES: Registry[Callable[..., Any]] = Registry("backbone")
POOLINGS: Registry[Callable[..., Any]] = Registry("pooling")
DENOISERS: Registry[Callable[..., Any]] = Registry("denoiser")
HEADS: Registry[Callable[..., Any]] = Registry("head")
OBJECTIVES: Registry[Callable[..., Any]] = Registry("objective")
PROCESSES: Registry[Callable[..., Any]] = Registry("process")
PREDICTIONS: Registry[Callable[..., Any]] = Registry("prediction")
SOLVERS: Registry[Callable[..., Any]] = Registry("solver")
COSTS: Registry[Callable[..., Any]] = Registry("cost")


def named(table: Registry[Callable[..., T]], config: Mapping[str, Any]) -> Callable[..., T]:
    """What `config["name"]` names. Raises ConfigError where it names nothing."""
    if "name" not in config:
        raise ConfigError(f"the {table.what} has no name; known: {', '.join(table.names())}")
    return table[config["name"]]


def build(table: Registry[Callable[..., T]], config: Mapping[str, Any], **given: Any) -> T:
    """The component that `config["name"]` names, with the config's other entries as options.

    given: what the caller provides (features, dimensions). Raises ConfigError for an unknown name
    or option, naming the nearest known one, for one that is missing, and for a value of another
    type.
    """
    options = {key: value for key, value in config.items() if key != "name"}
    component = named(table, config)
    check_options(table.what, config["name"], component, options, given)
    _refuse_missing(table.what, config["name"], component, {*given, *options})
    hints = _hints(component)
    what = f"of {table.what} {config['name']!r}"
    return component(
        **given,
        **{k: fitted(v, hints.get(k, Any), f"option {k!r} {what}") for k, v in options.items()},
    )


def _refuse_missing(
    what: str, name: str, component: Callable[..., Any], known: Collection[str]
) -> None:
    for key, parameter in inspect.signature(component).parameters.items():
        is_one = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if is_one and parameter.default is parameter.empty and key not in known:
            raise ConfigError(f"{what} {name!r} needs {key!r}: give it a value")


def _hints(component: Callable[..., Any]) -> dict[str, Any]:
    """Types of its parameters, as far as they are said and can be found."""
    is_class = isinstance(component, type)
    try:
        return get_type_hints(component.__init__ if is_class else component)
    except (NameError, TypeError):  # of a plugin: a name that exists for a type checker alone
        return {}

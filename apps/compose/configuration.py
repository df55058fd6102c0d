"""From a command line to a plain dictionary: hydra finds and merges our configurations and the
user's.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dipole.apps.compose.options import Options, read_options
from dipole.apps.compose.overrides import OverrideChecker, given
from dipole.apps.compose.secrets import printable
from dipole.apps.terminal.errors import UsageError

Config = dict[str, Any]
MODULE = "dipole.configs"


def compose(config_name: str, argv: list[str]) -> Config:
    """The composed configuration of one job, plain and resolved: dicts, lists, numbers, strings.

    config_name: a primary file of configs/, "train" or "evaluate". argv: settings and options.
    Beside the file's own keys, "overrides" holds what the command line set, by dotted key.
    Raises UsageError for anything mistyped.
    """
    options = read_options(argv, config_name)
    if options.multirun:
        raise UsageError("several jobs were asked for where one is composed: leave out --multirun")
    with checking(config_name, options) as checker:
        parsed = checker.check(options.overrides, multirun=False)
        config = checker.compose(options.overrides)
        require_values(config_name, config)
        return plain(config) | {"overrides": given(parsed)}


@contextmanager
def checking(config_name: str, options: Options) -> Iterator[OverrideChecker]:
    """Hydra over our configurations and the user's folders; its errors become UsageErrors."""
    with hydra_errors_said():
        GlobalHydra.instance().clear()
        with hydra.initialize_config_module(MODULE, version_base="1.3"):
            loader: ConfigLoader = GlobalHydra.instance().config_loader()
            yield OverrideChecker(config_name, loader, options.search_path)


@contextmanager
def hydra_errors_said() -> Iterator[None]:
    """Whatever hydra refuses is a mistyped command line."""
    try:
        yield
    except HydraException as error:
        raise UsageError(_first_lines(error)) from error
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from error


def _first_lines(error: Exception) -> str:
    """Hydra's message, and its cause where the message names none."""
    text = str(error).strip()
    cause = str(error.__cause__ or "").splitlines()
    return f"{text}: {cause[0]}" if cause and cause[0] not in text else text


def require_values(config_name: str, config: DictConfig) -> None:
    """Raises UsageError where a setting that has no default is not given."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UsageError(f"{missing[0]} is not set: dipole {config_name} {missing[0]}=VALUE")


def plain(config: DictConfig) -> Config:
    """Resolved, in plain dicts and lists."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def as_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(printable(config))


def as_typed(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by dotted key; lists and empty mappings are leaves."""
    if not isinstance(node, Mapping) or not node:
        yield prefix, node
        return
    for name, value in node.items():
        yield from leaves(value, f"{prefix}.{name}" if prefix else str(name))


def resolved_in(saved: Config, changes: Config) -> Config:
    """Changes by dotted key, their interpolations resolved within a saved configuration.

    >>> resolved_in({"task": {"name": "mine"}}, {"output": "runs/${task.name}"})
    {'output': 'runs/mine'}
    """
    base = OmegaConf.create(saved)
    OmegaConf.set_struct(base, False)
    for key, value in changes.items():
        OmegaConf.update(base, key, value, merge=False)
    with hydra_errors_said():
        return {key: _plain_value(base, key) for key in changes}


def _plain_value(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key, throw_on_missing=True)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

"""From a command line to a plain dictionary: hydra composes our configurations and the user's.

    dipole train policy=unet train.seed=0,1 --multirun --config-dir my_configs

Hydra finds, merges and sweeps; it makes no folders, changes no directory and sets up no logging.
What was mistyped is found in `apps/overrides.py` before hydra is asked.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dipole.apps.errors import UsageError
from dipole.apps.overrides import Table

Config = dict[str, Any]
SECRETS = ("token",)  # settings whose values are never printed


def compose(config_name: str, argv: list[str]) -> Config:
    """The composed configuration of one job, plain and resolved: dicts, lists, numbers, strings.

    config_name: a primary file of configs/, "train" or "evaluate". argv: overrides and options.
    Beside the file's own keys, "overrides" holds what the command line set, by dotted key.
    Raises UsageError for anything mistyped.
    """
    options = _options(argv)
    if options.multirun:
        raise UsageError("several jobs were asked for where one is composed: leave out --multirun")
    return _jobs(config_name, options)[0]


def run(config_name: str, argv: list[str], job: Callable[[Config], int]) -> int:
    """Compose and call `job`, once for each combination with --multirun; the highest exit code.

    A sweep is composed whole before its first job starts; a job that fails does not stop the next.
    Job n of a sweep writes to output/n.
    """
    options = _options(argv)
    if options.help:
        print(_help(config_name, options))
        return 0
    jobs = _jobs(config_name, options)
    if options.cfg:
        for config in jobs:
            del config["overrides"]
        print("---\n".join(OmegaConf.to_yaml(_printable(config)) for config in jobs), end="")
        return 0
    if not options.multirun:
        return job(jobs[0])
    return max(_run_job(number, len(jobs), config, job) for number, config in enumerate(jobs))


def _run_job(number: int, count: int, config: Config, job: Callable[[Config], int]) -> int:
    from dipole.data.core.errors import (
        DipoleError,  # late: it brings torch, which --help does not need
    )

    given = _printable(config["overrides"])
    settings = " ".join(f"{key}={value}" for key, value in given.items())
    print(f"job {number} of 0-{count - 1}: {settings}", file=sys.stderr)
    try:
        return job(config)
    except DipoleError as error:
        print(f"job {number} failed: {error}", file=sys.stderr)
        return 1


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    options, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        setting = unknown[0].lstrip("-")
        raise UsageError(
            f"unknown option {unknown[0]!r}; settings are written without dashes: {setting}"
            + ("" if "=" in setting else "=VALUE")
        )
    for folder in options.config_dir:
        if not folder.is_dir():
            raise UsageError(f"--config-dir {folder}: there is no such folder")
    return options


def _jobs(config_name: str, options: argparse.Namespace) -> list[Config]:
    with _hydra(options.config_dir) as (loader, search_path):
        table = Table(config_name, loader, search_path)
        sweep = table.jobs(options.overrides, options.multirun)
        jobs = [_resolve(config_name, table.compose(words), words, table) for words in sweep]
    if options.multirun:
        if "output" not in jobs[0]:
            raise UsageError(f"dipole {config_name} runs one job at a time: leave out --multirun")
        shared = jobs[0]["output"]  # one folder for the sweep, unless the user names several
        for number, config in enumerate(jobs):
            parent = config["output"] if "output" in config["overrides"] else shared
            config["output"] = str(Path(parent) / str(number))
    return jobs


def _resolve(config_name: str, config: DictConfig, words: list[str], table: Table) -> Config:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UsageError(f"{missing[0]} is not set: dipole {config_name} {missing[0]}=VALUE")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()} | {"overrides": table.given(words)}


@contextmanager
def _hydra(config_dirs: list[Path]) -> Iterator[tuple[ConfigLoader, list[str]]]:
    """Hydra's loader over our configurations, and the override that adds the user's folders."""
    paths = ",".join(f'"file://{folder.resolve()}"' for folder in config_dirs)
    search_path = [f"hydra.searchpath=[{paths}]"] if config_dirs else []
    try:
        with hydra.initialize_config_module("dipole.configs", version_base="1.3"):
            yield GlobalHydra.instance().config_loader(), search_path
    except HydraException as error:
        raise UsageError(str(error).strip()) from error
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from error


def _help(config_name: str, options: argparse.Namespace) -> str:
    with _hydra(options.config_dir) as (loader, search_path):
        table = Table(config_name, loader, search_path)
        words = table.jobs(options.overrides, options.multirun)[0]
        settings = _settings(_printable(OmegaConf.to_container(table.compose(words))))
        groups = [f"  {group}={'|'.join(table.choices(group))}" for group in table.groups]
    return "\n".join(
        [
            f"usage: dipole {config_name} [KEY=VALUE ...] [--multirun] [--config-dir DIR] [--cfg]",
            "",
            "  --multirun, -m    run every combination of values given as KEY=A,B",
            "  --config-dir DIR  look for choices here too (task=mine is DIR/task/mine.yaml)",
            "  --cfg             print the composed configuration and stop",
            "",
            "Choices:",
            *groups,
            "",
            "Settings, at their present values (???: has to be given):",
            *(f"  {key}={_value(value)}" for key, value in settings),
        ]
    )


def _printable(node: Any, key: str = "") -> Any:
    """A configuration without the values of its secrets; where one comes from may be said."""
    if isinstance(node, dict):
        return {name: _printable(value, str(name)) for name, value in node.items()}
    secret = key.rpartition(".")[2] in SECRETS and node is not None
    return "***" if secret and not str(node).startswith("${oc.env:") else node


def _settings(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dictionary, by dotted key."""
    if not isinstance(node, dict) or not node:
        yield prefix, node
        return
    for name, value in node.items():
        yield from _settings(value, f"{prefix}.{name}" if prefix else str(name))


def _value(value: Any) -> str:
    """As it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)

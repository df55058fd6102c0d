"""The settings of a command line, checked one by one against what the configuration knows.

Hydra refuses what it does not know in its own terms; here the answer names the nearest known name.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # hydra's default sweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dipole.apps.errors import UsageError


class Table:
    """What may be set in one primary configuration: its groups, their choices, and its keys.

    search_path: the override that adds the user's folders, or nothing. Hydra must be initialised.
    """

    def __init__(self, config_name: str, loader: ConfigLoader, search_path: list[str]) -> None:
        self.config_name = config_name
        self._loader = loader
        self._search_path = search_path
        base = compose(config_name, search_path, return_hydra_config=True)
        chosen = base.hydra.runtime.choices
        self.groups = sorted(group for group in chosen if not str(group).startswith("hydra/"))

    def choices(self, group: str) -> list[str]:
        return sorted(
            self._loader.get_group_options(
                group, ObjectType.CONFIG, config_name=self.config_name, overrides=self._search_path
            )
        )

    def compose(self, words: list[str]) -> DictConfig:
        return compose(self.config_name, [*self._search_path, *words])

    def jobs(self, words: list[str], multirun: bool) -> list[list[str]]:
        """The overrides of each job of a sweep; without multirun, of the only one. All checked."""
        parsed = [_parse(word, self._loader) for word in words]
        for override in parsed:
            if override.is_sweep_override() and not multirun:
                raise UsageError(
                    f"{override.input_line!r} gives several values: add --multirun to run each, "
                    f"or brackets for one list"
                )
        if not multirun:
            self._check(parsed)
            return [words]
        jobs: list[list[str]] = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
        for job in jobs:
            self._check([_parse(word, self._loader) for word in job])
        return jobs

    def given(self, words: list[str]) -> dict[str, Any]:
        """What the overrides set, by dotted key: {"policy": "unet", "train.steps": 200}."""
        parsed = [_parse(word, self._loader) for word in words]
        return {override.key_or_group: override.value() for override in parsed}

    def _check(self, parsed: list[Override]) -> None:
        """Choices first, because they decide which keys there are."""
        choices = [override for override in parsed if override.key_or_group in self.groups]
        for override in choices:
            self._check_choice(override)
        config = self.compose([str(override.input_line) for override in choices])
        keys = list(_keys(OmegaConf.to_container(config)))
        for override in parsed:
            if override in choices or override.is_add() or override.is_force_add():
                continue
            self._check_key(override, keys)

    def _check_choice(self, override: Override) -> None:
        group, choice = override.key_or_group, override.value()
        known = self.choices(group)
        if override.is_delete() or choice in known:
            return
        raise UsageError(
            f"unknown choice {group}={choice}{_nearest(str(choice), known)} "
            f"Choices of {group}: {', '.join(known)}"
        )

    def _check_key(self, override: Override, keys: list[str]) -> None:
        key = override.key_or_group
        if key in keys or key.startswith("hydra."):
            return
        raise UsageError(
            f"unknown key {key!r}{_nearest_key(key, [*keys, *self.groups])} "
            f"`dipole {self.config_name} --help` lists them; +{override.input_line} adds a new one"
        )


def _parse(word: str, loader: ConfigLoader) -> Override:
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides([word])[0]
    except HydraException as error:
        key, equals, value = word.partition("=")
        remedy = f"quote the value: '{key}=\"{value}\"'" if equals else f"write {word}=VALUE"
        raise UsageError(f"cannot read {word!r}: {remedy}") from error


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a nested container, inner ones and list positions included."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for name, value in items:
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")


def _nearest_key(key: str, known: list[str]) -> str:
    """The nearest key; where none is near as a whole, the one whose last word is."""
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7) or [
        last[word] for word in difflib.get_close_matches(key.rpartition(".")[2], last, n=1)
    ]
    return f", did you mean {near[0]!r}?" if near else "."


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else "."

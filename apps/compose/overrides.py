"""The settings of a command line, checked one by one against what the configuration knows.

Hydra refuses what it does not know in its own terms; here the answer names the nearest known name.
"""

import difflib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra import compose
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dipole.apps.compose.options import PLACES
from dipole.apps.compose.secrets import printable_word
from dipole.apps.terminal.errors import UsageError

MOST_LISTED = 24  # choices of a group that a message lists
MOST_CHECKED = 256  # combinations of choices that are composed to be checked
EXTRAS = {"joblib": "dipole[sweeps]", "optuna": "dipole[sweeps]", "ray": "hydra-ray-launcher"}
OPEN = ("params", "search_space", "env_set", "additional_parameters")  # of hydra: any key


class OverrideChecker:
    """What may be set in one primary configuration: its groups, their choices, and its keys.

    search_path: the override that adds the user's folders, or nothing. Hydra must be initialised.
    """

    def __init__(self, config_name: str, loader: ConfigLoader, search_path: list[str]) -> None:
        self.config_name = config_name
        self.loader = loader
        self.search_path = search_path
        base = compose(config_name, search_path, return_hydra_config=True)
        chosen = [str(group) for group in base.hydra.runtime.choices]
        self.groups = sorted(group for group in chosen if not group.startswith("hydra/"))
        self._hydra_groups = sorted(group for group in chosen if group.startswith("hydra/"))

    def choices(self, group: str) -> list[str]:
        """The names that `group=` takes, the user's own among them.

        "metaworld/reach" for files of folders; what others include, "_base", is none of them.
        """
        files = self._entries(group, ObjectType.CONFIG)
        names = [name for name in files if not name.startswith("_")]
        for folder in self._entries(group, ObjectType.GROUP):
            if f"{group}/{folder}" not in self.groups:
                names += [f"{folder}/{name}" for name in self.choices(f"{group}/{folder}")]
        return sorted(names)

    def _entries(self, group: str, kind: ObjectType) -> list[str]:
        return list(
            self.loader.get_group_options(
                group, kind, config_name=self.config_name, overrides=self.search_path
            )
        )

    def compose(self, words: Sequence[str], with_hydra: bool = False) -> DictConfig:
        """The configuration with these settings; hydra's own part only if asked for."""
        words = self.with_block(words)
        return compose(
            self.config_name, [*self.search_path, *words], return_hydra_config=with_hydra
        )

    def with_block(self, words: Sequence[str]) -> list[str]:
        """A simulator that a task gives by its name alone, `environment: gym:Pusher-v5`, as a block
        that settings can be added to."""
        others, added = self.split(words)
        return [*others, *self.block(words), *added]

    def block(self, words: Sequence[str]) -> list[str]:
        """The word that `with_block` puts before the added settings, where one is needed."""
        others, added = self.split(words)
        place = PLACES.get(self.config_name, "")
        named = OmegaConf.select(self.compose(others), place) if added else None
        return [f"++{place}={{name: '{named}'}}"] if isinstance(named, str) else []

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """All but the added settings of a simulator, and these."""
        place = PLACES.get(self.config_name, "")
        added = [word for word in words if place and word.startswith(f"++{place}.")]
        return [word for word in words if word not in added], added

    def parse(self, words: Iterable[str]) -> list[Override]:
        """Raises UsageError for a setting that cannot be read."""
        return [_parse(word, self.loader) for word in words]

    def check(self, words: list[str], multirun: bool) -> list[Override]:
        """The settings as hydra reads them. Raises UsageError for the first that is mistyped."""
        parsed = self.parse(words)
        _refuse_repeated(parsed)
        for override in parsed:
            if override.is_sweep_override() and not multirun:
                raise UsageError(
                    f"{printable_word(str(override.input_line))!r} gives several values: add "
                    "--multirun to run each, or brackets for one list"
                )
        for combination in self._combinations_of_choices(parsed):
            self._check_keys(parsed, combination)
        return parsed

    def combinations(self, parsed: list[Override]) -> list[list[str]]:
        """The settings of each job of a sweep, in hydra's order."""
        each = [list(_values(override, self.loader)) for override in parsed]
        return [list(words) for words in itertools.product(*each)]

    def _combinations_of_choices(self, parsed: list[Override]) -> Iterator[tuple[str, ...]]:
        """Choices first, because they decide which keys there are."""
        choices = [override for override in parsed if self._is_group(override)]
        for override in choices:
            self._check_choice(override)
        each = [list(_values(override, self.loader)) for override in choices]
        yield from itertools.islice(itertools.product(*each), MOST_CHECKED)

    def _is_group(self, override: Override) -> bool:
        return override.key_or_group in (*self.groups, *self._hydra_groups)

    def _check_choice(self, override: Override) -> None:
        if override.is_delete():
            return
        group = override.key_or_group
        known = self.choices(group)
        for word in _values(override, self.loader):
            choice = word.partition("=")[2].strip("'\"")
            if choice in known:
                continue
            if group.startswith("hydra/") and choice.split("_")[0] in (*EXTRAS, "submitit"):
                raise UsageError(
                    f"{group}={choice} is not installed: "
                    f"pip install '{EXTRAS.get(choice.split('_')[0], 'dipole[sweeps]')}'"
                )
            raise UsageError(
                f"unknown choice {group}={choice}{_nearest(choice, known)} "
                f"{self._known(group, choice, known)}"
            )

    def _known(self, group: str, choice: str, known: list[str]) -> str:
        """The choices of a group, of many those that are near, and where a user's own may be."""
        if len(known) <= MOST_LISTED:
            said = f"Choices of {group}: {', '.join(known)}"
        else:
            near = difflib.get_close_matches(choice, known, n=5, cutoff=0.4) or known[:5]
            said = (
                f"There are {len(known)}, such as {', '.join(near)}; `dipole {self.config_name} "
                f"--help {group}` lists them"
            )
        if group != "task" or self.search_path:
            return said
        return f"{said}. One of your own, DIR/task/{choice}.yaml, is found by --config-dir DIR"

    def _check_keys(self, parsed: list[Override], choices: tuple[str, ...]) -> None:
        config = OmegaConf.to_container(self.compose(choices, with_hydra=True))
        keys = list(_keys(config))
        for override in parsed:
            if self._is_group(override):
                continue
            if override.is_add() or override.is_force_add():
                self._check_added(override, keys)
            else:
                self._check_key(override, keys)

    def _check_added(self, override: Override, keys: list[str]) -> None:
        """Nothing reads a setting beside those of the command; entries of its tables may be new."""
        key = override.key_or_group
        first = key.replace("/", ".").partition(".")[0]
        if first in keys or first == "hydra" or self.choices(key):
            return
        raise UsageError(f"unknown key {key!r}{nearest_key(key, self._top(keys))}")

    def _top(self, keys: list[str]) -> list[str]:
        return [*(key for key in keys if "." not in key and key != "hydra"), *self.groups]

    def _check_key(self, override: Override, keys: list[str]) -> None:
        key = override.key_or_group
        if key in keys or (key.startswith("hydra.") and set(OPEN) & set(key.split("."))):
            return
        mine = [name for name in keys if name.startswith("hydra.") == key.startswith("hydra.")]
        more = f"; +{printable_word(str(override.input_line))} adds a new one" if "." in key else ""
        raise UsageError(
            f"unknown key {key!r}{nearest_key(key, [*mine, *self.groups])} "
            f"`dipole {self.config_name} --help` lists them{more}"
        )


def given(parsed: list[Override]) -> dict[str, Any]:
    """What the settings of one job set, by dotted key: {"policy": "unet", "train.steps": 200}."""
    return {override.key_or_group: override.value() for override in parsed}


def keys_of(config: Any) -> list[str]:
    """Every dotted key of a nested container."""
    return list(_keys(config))


def nearest_key(key: str, known: list[str]) -> str:
    """The nearest key; where none is near as a whole, the one whose last word is."""
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7) or [
        last[word] for word in difflib.get_close_matches(key.rpartition(".")[2], last, n=1)
    ]
    return f", did you mean {near[0]!r}?" if near else "."


def _refuse_repeated(parsed: list[Override]) -> None:
    counts = Counter((override.type, override.key_or_group) for override in parsed)
    for (_, key), count in counts.items():
        if count > 1:
            raise UsageError(f"{key} is given {'twice' if count == 2 else f'{count} times'}")


def _values(override: Override, loader: ConfigLoader) -> Iterator[str]:
    """Each value of a setting that has several, as a setting of its own."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        yield str(override.input_line)
    elif not override.is_discrete_sweep():
        raise UsageError(
            f"{printable_word(str(override.input_line))!r} is a range to search in: add "
            "hydra/sweeper=optuna (docs/sweeps.md)"
        )
    else:
        for value in override.sweep_string_iterator():
            yield f"{key}={value}"


def _parse(word: str, loader: ConfigLoader) -> Override:
    if not word.partition("=")[0].strip("+~ "):
        raise UsageError(f"cannot read {word!r}: write KEY=VALUE")
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides([word])[0]
    except HydraException as error:
        shown = printable_word(word)
        raise UsageError(f"cannot read {shown!r}: {_remedy(word)}") from error


def _remedy(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return f"write {word}=VALUE"
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) > value.count(closing):
            return f"{closing!r} is missing"
    if printable_word(word) != word:
        return f"quote the value of {key}"
    return f"quote the value: '{key}=\"{value}\"'"


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


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else "."

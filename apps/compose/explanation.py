"""What a setting means: the comment beside it in the file that it comes from."""

import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.types import RunMode
from omegaconf import OmegaConf

from dipole.apps.compose.configuration import as_typed, leaves
from dipole.apps.compose.options import usage
from dipole.apps.compose.overrides import OverrideChecker, keys_of, nearest_key
from dipole.apps.compose.secrets import printable
from dipole.apps.terminal.errors import UsageError


def settings_help(checker: OverrideChecker, words: list[str], multirun: bool) -> str:
    """All settings of a command, at their present values. multirun: whether it may run several."""
    name = checker.config_name
    settings = leaves(printable(OmegaConf.to_container(checker.compose(words))))
    groups = [f"  {group}={'|'.join(checker.choices(group))}" for group in checker.groups]
    lines = [
        *usage(name, multirun),
        "",
        *(["Choices:", *groups, ""] if groups else []),
        "Settings, at their present values (???: has to be given):",
        *(f"  {key}={as_typed(value)}" for key, value in settings),
        "",
        f"`dipole {name} --help KEY` says what one means.",
    ]
    return "\n".join(lines)


def explain(checker: OverrideChecker, words: list[str], asked: Iterable[str]) -> str:
    """Meaning, present value and choices of each key that is asked about.

    Raises UsageError for a key that there is not.
    """
    config = OmegaConf.to_container(checker.compose(words))
    comments = key_comments(checker, words)
    keys = keys_of(config)
    blocks = []
    for key in asked:
        if key not in keys and key not in checker.groups:
            hint = nearest_key(key, [*keys, *checker.groups])
            raise UsageError(f"unknown key {key!r}{hint} `dipole {checker.config_name} --help`")
        blocks.append(_block(checker, config, comments, key.replace("/", "."), key))
    return "\n\n".join(blocks)


def _block(
    checker: OverrideChecker, config: Any, comments: dict[str, str], path: str, key: str
) -> str:
    value = printable(_select(config, path), path)
    settings = list(leaves(value)) if isinstance(value, dict) and value else []
    lines = [key if settings else f"{key}={as_typed(value)}"]
    meaning = comment_of(path, comments)
    lines += [f"  {meaning}"] if meaning else []
    group = next((name for name in checker.groups if name == path.replace(".", "/")), None)
    if group is not None:
        lines.append(f"  choices: {group}={'|'.join(checker.choices(group))}")
    for name, part in settings:
        said = comments.get(f"{path}.{name}", "")
        lines.append(f"  {path}.{name}={as_typed(part)}" + (f"  # {said}" if said else ""))
    return "\n".join(lines)


def comment_of(key: str, comments: dict[str, str]) -> str:
    """The comment of a key, or else of the nearest setting that it is a part of."""
    while key:
        if key in comments:
            return comments[key]
        key = key.rpartition(".")[0]
    return ""


def key_comments(checker: OverrideChecker, words: list[str]) -> dict[str, str]:
    """The comments of all files that make this configuration, by dotted key; the last file that
    explains a key counts. What a user's own file leaves unexplained, others of its group may say.
    """
    sources = _sources(checker, words)
    beside: dict[str, str] = {}
    own: dict[str, str] = {}
    for path, package in _files(checker, words):
        group = path.rpartition("/")[0]
        for name in checker.choices(group) if group else []:
            beside = _file_comments(_text(sources, f"{group}/{name}"), package) | beside
        text = _text(sources, path)
        own |= _file_comments(text, package)
        if file_comment(text) and package not in ("", "_global_"):
            own[package] = file_comment(text)
    return beside | own


def _files(checker: OverrideChecker, words: list[str]) -> list[tuple[str, str]]:
    """(path, package) of each file in the order of merging, hydra's own left out."""
    listed = checker.loader.compute_defaults_list(
        checker.config_name, [*checker.search_path, *words], RunMode.RUN
    )
    return [
        (str(default.config_path), default.package or "")
        for default in listed.defaults
        if default.config_path and not default.config_path.startswith("hydra")
    ]


def _file_comments(text: str, package: str) -> dict[str, str]:
    prefix = f"{package}." if package and package != "_global_" else ""
    return {f"{prefix}{key}": comment for key, comment in yaml_comments(text).items()}


def _sources(checker: OverrideChecker, words: list[str]) -> list[tuple[str, str]]:
    """(scheme, place) of each folder in which hydra looks for files."""
    runtime = checker.compose(words, with_hydra=True).hydra.runtime
    return [(source.schema, source.path) for source in runtime.config_sources]


def _text(sources: list[tuple[str, str]], path: str) -> str:
    """A configuration's file, wherever hydra finds it; "" where it is none."""
    for scheme, place in sources:
        if scheme == "file":
            file = Path(place) / f"{path}.yaml"
            if file.is_file():
                return file.read_text()
        elif scheme == "pkg" and not place.startswith("hydra"):
            module, _, folder = place.partition("/")
            packed = files(module).joinpath(folder, f"{path}.yaml")
            if packed.is_file():
                return packed.read_text()
    return ""


def file_comment(text: str) -> str:
    """The lines of comment at the beginning of a file."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(line for line in lines if not line.startswith("@package"))


def yaml_comments(text: str) -> dict[str, str]:
    """{dotted key: the comment behind its value, or on the lines above it}.

    >>> yaml_comments("ema: # moving average\\n  # of decay\\n  power: 0.75\\nseed: 42 # of all\\n")
    {'ema': 'moving average', 'ema.power': 'of decay', 'seed': 'of all'}
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    return dict(_node_comments(root, text.splitlines(), ""))


def _node_comments(
    node: yaml.MappingNode, lines: list[str], prefix: str
) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        comment = _behind(key, value, lines) or _above(key, lines)
        if comment:
            yield name, comment
        if isinstance(value, yaml.MappingNode):
            yield from _node_comments(value, lines, f"{name}.")


def _behind(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """After a value on the key's own line, or after the key whose value is a block below it."""
    line = key.end_mark.line
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    if block or value.start_mark.line != line:
        rest = lines[line][key.end_mark.column :]
    elif value.end_mark.line == line:
        rest = lines[line][value.end_mark.column :]
    else:
        return ""
    found = re.match(r"[\s:]*#\s*(.*)", rest)
    return found[1].strip() if found else ""


def _above(key: yaml.Node, lines: list[str]) -> str:
    found: list[str] = []
    number = key.start_mark.line - 1
    indent = " " * key.start_mark.column + "#"
    while number >= 0 and lines[number].startswith(indent):
        found.insert(0, lines[number].lstrip("# "))
        number -= 1
    at_top = number < 0  # what stands at the top of a file is about the file
    return "" if at_top else " ".join(found)


def _select(config: Any, key: str) -> Any:
    for name in key.split("."):
        if isinstance(config, list):
            config = config[int(name)]
        elif isinstance(config, dict) and name in config:
            config = config[name]
        else:
            return None
    return config

"""The options of a composed command; everything else on its command line is a setting."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from dipole.apps.terminal.errors import UsageError

SYNOPSIS = "[KEY=VALUE ...] [--multirun] [--config-dir DIR] [--cfg] [--help [KEY ...]]"
MULTIRUN = (
    "  --multirun, -m    run every combination of values given as KEY=A,B; hydra/launcher=joblib\n"
    "                    runs several at once, hydra/sweeper=optuna searches (docs/sweeps.md)\n"
)
HELP = (
    "  --config-dir DIR  look for choices here too (task=mine is DIR/task/mine.yaml)\n"
    "  --cfg             print the composed configuration and stop\n"
    "  --help KEY        what a setting means, its value and its choices"
)
FLAGS = {
    "-h": "help",
    "--help": "help",
    "-m": "multirun",
    "--multirun": "multirun",
    "--cfg": "cfg",
}
FOLDER = "--config-dir"
# Where a command keeps the settings of a simulator, which are not all in its files.
ENVIRONMENT = "environment."
PLACES = {
    "train": "task.environment",
    "record": "task.environment",
    "evaluate": "environment",
}


@dataclass(frozen=True)
class Options:
    """overrides: settings as they were typed; with `help` also the keys that are asked about."""

    overrides: list[str]
    help: bool = False
    multirun: bool = False
    cfg: bool = False
    config_dirs: tuple[Path, ...] = ()

    @property
    def search_path(self) -> list[str]:
        """The override that adds the user's folders, or nothing."""
        paths = ",".join(f'"file://{folder.resolve()}"' for folder in self.config_dirs)
        return [f"hydra.searchpath=[{paths}]"] if paths else []


def usage(name: str, multirun: bool) -> list[str]:
    """The first lines of a command's help. multirun: whether it may run several jobs."""
    synopsis = SYNOPSIS if multirun else SYNOPSIS.replace(" [--multirun]", "")
    return [f"usage: dipole {name} {synopsis}", "", (MULTIRUN if multirun else "") + HELP]


def read_options(argv: list[str], config_name: str = "") -> Options:
    """Raises UsageError for an unknown option, or a folder that does not exist.

    config_name: of the command, for its settings of a simulator.
    """
    settings: list[str] = []
    flags: set[str] = set()
    folders: list[Path] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            settings.append(word)
        elif option == FOLDER:
            if not equals and words and not words[0].startswith("-"):
                value = words.pop(0)
            folders.append(_folder(value))
        elif option == "--help" and value:
            flags.add("help")
            settings.append(value)
        elif option in FLAGS and not equals:
            flags.add(FLAGS[option])
            if option == "--cfg" and words[:1] == ["job"]:  # as hydra writes it
                words.pop(0)
        elif option in FLAGS:
            raise UsageError(f"{word}: {option} takes no value")
        else:
            raise UsageError(_unknown(word))
    return Options(
        with_environment(config_name, settings),
        "help" in flags,
        "multirun" in flags,
        "cfg" in flags,
        config_dirs=tuple(folders),
    )


def with_environment(config_name: str, words: list[str]) -> list[str]:
    """`environment.python=PATH` is the same setting of every command that has a simulator.

    Where the simulator is named beside it (`environment=NAME`), both hold: in any order, and
    whether the setting is written with "+", with "++" or with neither.
    """
    place = PLACES.get(config_name)
    if place is None:
        return words
    found = [(word, _setting(word, place)) for word in words]
    settings = [f"++{place}.{setting}" for _, setting in found if setting is not None]
    others = [word for word, setting in found if setting is None]
    return [*(_as_block(word, place) for word in others), *settings] if settings else words


def _setting(word: str, place: str) -> str | None:
    """`python=PATH` of `environment.python=PATH`; None for a word that is no simulator's setting.

    By the command's own name for it, `task.environment.python`, only where it is added by "+": one
    that has to be there already is left to hydra.
    """
    if "=" not in word:
        return None
    plain, added = word.lstrip("+"), word.startswith("+")
    for prefix in (ENVIRONMENT, f"{place}.") if added else (ENVIRONMENT,):
        if plain.startswith(prefix):
            return plain.removeprefix(prefix)
    return None


def _as_block(word: str, key: str) -> str:
    """`KEY=NAME` as a block that other settings can be added to: `KEY={name: NAME}`."""
    given, _, value = word.partition("=")
    if given.lstrip("+") != key or value in ("", "null") or value.startswith("{"):
        return word
    return f"{given}={','.join(f'{{name: {name}}}' for name in value.split(','))}"


def _folder(text: str) -> Path:
    if not text:
        raise UsageError(f"{FOLDER} needs a folder: {FOLDER} DIR")
    if not Path(text).expanduser().is_dir():
        raise UsageError(f"{FOLDER} {text}: there is no such folder")
    return Path(text).expanduser()


def _unknown(word: str) -> str:
    """Without what stands behind "=": it may be a secret."""
    option = word.partition("=")[0]
    near = difflib.get_close_matches(option, [*FLAGS, FOLDER], n=1, cutoff=0.75)
    if near:
        return f"unknown option {option!r}, did you mean {near[0]!r}?"
    setting = option.lstrip("-")
    return f"unknown option {option!r}; settings are written without dashes: {setting}=VALUE"

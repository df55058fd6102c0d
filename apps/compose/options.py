"""The words of a composed command that are no settings."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from dipole.apps.terminal.errors import UsageError

SYNOPSIS = "[KEY=VALUE ...] [--multirun] [--config-dir DIR] [--cfg] [--help [KEY ...]]"
HELP = (
    "  --multirun, -m    run every combination of values given as KEY=A,B; hydra/launcher=joblib\n"
    "                    runs several at once, hydra/sweeper=optuna searches (docs/sweeps.md)\n"
    "  --config-dir DIR  look for choices here too (task=mine is DIR/task/mine.yaml)\n"
    "  --cfg             print the composed configuration and stop\n"
    "  --help KEY        what a setting means, its value and its choices"
)


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


def read_options(argv: list[str]) -> Options:
    """Raises UsageError for an option that there is not, or a folder that is absent."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    try:
        read, unknown = parser.parse_known_intermixed_args(argv)
    except SystemExit as error:  # an option without its value; argparse has said so
        raise UsageError("--config-dir needs a folder: --config-dir DIR") from error
    if unknown:
        setting = unknown[0].lstrip("-")
        raise UsageError(
            f"unknown option {unknown[0]!r}; settings are written without dashes: {setting}"
            + ("" if "=" in setting else "=VALUE")
        )
    for folder in read.config_dir:
        if not folder.is_dir():
            raise UsageError(f"--config-dir {folder}: there is no such folder")
    return Options(read.overrides, read.help, read.multirun, read.cfg, tuple(read.config_dir))

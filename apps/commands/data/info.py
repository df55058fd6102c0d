"""`dipole data info`: what is in a dataset."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dipole.apps.terminal.tools import Work
from dipole.data.core.memory import format_bytes
from dipole.data.core.units import units_text
from dipole.data.inspection.other_formats import open_store
from dipole.data.inspection.summary import DatasetSummary, summarize

DATASET = "A folder or zip, or bundled:NAME such as bundled:pusht."
NO_TERMINAL = 200  # columns
AS_JSON = "Print JSON, for scripts and CI."


def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help=DATASET, show_default=False)],
    json: Annotated[bool, typer.Option("--json", help=AS_JSON)] = False,
) -> Work:
    """Print episodes, keys, units, rate and windows."""
    return lambda: _info(path, json)


def _info(path: str, as_json: bool) -> int:
    info = summarize(open_store(path))
    if as_json:
        print(json.dumps(info.to_dict(), indent=2))
    else:
        _print_info(info, _console())
    return 0


def _console() -> Console:
    """As wide as the terminal; in a file or a pipe as wide as the longest line."""
    console = Console()
    return console if console.is_terminal else Console(width=NO_TERMINAL)


def _print_info(info: DatasetSummary, console: Console) -> None:
    facts = Table.grid(padding=(0, 2))
    lengths = ", ".join(f"{name} {frames}" for name, frames in info.episode_lengths.items())
    for name, value in (
        ("dataset", info.path),
        ("episodes", f"{info.episodes:,} ({lengths} frames)"),
        ("frames", f"{info.frames:,}{_minutes(info.seconds)}"),
        ("frame rate", "not recorded" if info.fps is None else f"{info.fps:g} Hz"),
        ("environment", " ".join(map(str, info.environment.values())) or "not recorded"),
        *([("tasks", _tasks(info))] if any(info.tasks) else []),
        *([("seeds", "{} to {}".format(*info.seeds))] if info.seeds else []),
        *([] if info.successes is None else [("succeeded", _successes(info))]),
        *((f"windows {spec}", f"{count:,}") for spec, count in info.windows.items()),
        ("fingerprint", info.fingerprint),
    ):
        facts.add_row(name, escape(value))
    console.print(facts)
    keys = Table()
    longest = max(len(array.key) for array in info.arrays)
    keys.add_column("key", no_wrap=True, min_width=longest)  # task files need it whole
    for heading in ("kind", "shape", "dtype"):
        keys.add_column(heading, no_wrap=True)
    for heading in ("units", "in memory", "frames per chunk"):
        keys.add_column(heading, overflow="fold")
    for array in info.arrays:
        shape = "×".join(map(str, array.shape)) or "1"
        sizes = [format_bytes(array.n_bytes), f"{array.chunk_frames:,}"]
        said = [array.key, array.kind, shape, array.dtype, units_text(array.units)]
        keys.add_row(*map(escape, said), *sizes)
    console.print(keys)


def _tasks(info: DatasetSummary) -> str:
    tasks, changing = info.tasks, info.episodes_of_several_tasks
    more = f", and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    within = f"; the task changes within {changing} of {info.episodes} episodes" if changing else ""
    return ", ".join(repr(task) for task in tasks[:3]) + more + within


def _successes(info: DatasetSummary) -> str:
    return f"{info.successes} of {info.episodes}"


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f" ({seconds / 60:.1f} minutes)"

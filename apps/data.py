"""`dipole data`: look into a dataset, view it, validate it, and convert others' into one."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dipole.apps import data_view
from dipole.data.core.memory import format_bytes
from dipole.data.core.units import units_text
from dipole.data.inspection.other_formats import open_store
from dipole.data.inspection.summary import DatasetSummary, summarize
from dipole.data.inspection.validate import Validation, validate


def main(argv: list[str]) -> int:
    """Run `dipole data ARGV`. Returns 0, or 1 where `validate` found problems."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "convert":
        from dipole.apps.convert import run_convert

        return run_convert(arguments.source, arguments.destination, arguments.words)
    if arguments.command == "info":
        return _info(arguments.path, arguments.json)
    if arguments.command == "view":
        return data_view.view(arguments)
    return _validate(arguments.path, arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dipole data",
        description="Look into a dataset of demonstrations, check it, or bring in one of others.",
        epilog="for example: dipole data info bundled:pusht",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in (
        ("info", "print episodes, frames, keys, units, frame rate, environment and windows"),
        ("validate", "read everything and list what is wrong; exit code 1 where something is"),
    ):
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("path", help="a folder or zip, or bundled:NAME such as bundled:pusht")
        command.add_argument("--json", action="store_true", help="print JSON, for scripts and CI")
    data_view.add_parser(commands)
    _add_convert(commands)
    return parser


def _add_convert(commands: Any) -> None:
    from dipole.apps.convert import WORDS

    does = "bring in LeRobot, Diffusion Policy zarr or robomimic's HDF5, or write LeRobot v3.0"
    command = commands.add_parser(
        "convert",
        help=does,
        description=f"{does}. An interrupted conversion goes on when it is called again.",
        epilog=WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", help="the dataset to read; its format is found out")
    command.add_argument(
        "destination", help="a folder, or a name that ends in .zip; must not exist"
    )
    command.add_argument("words", nargs="*", metavar="WORD=VALUE", help="see below")


def _info(path: str, as_json: bool) -> int:
    info = summarize(open_store(path))
    if as_json:
        print(json.dumps(info.to_dict(), indent=2))
    else:
        _print_info(info, Console())
    return 0


def _validate(path: str, as_json: bool) -> int:
    console = Console(stderr=True)
    with console.status("reading") as status:
        found = validate(path, log=status.update)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        _print_findings(found, Console())
    return 0 if found.ok else 1


def _print_info(info: DatasetSummary, console: Console) -> None:
    facts = Table.grid(padding=(0, 2))
    lengths = ", ".join(f"{name} {frames}" for name, frames in info.episode_lengths.items())
    for name, value in (
        ("dataset", info.path),
        ("episodes", f"{info.episodes:,} ({lengths} frames)"),
        ("frames", f"{info.frames:,}{_minutes(info.seconds)}"),
        ("frame rate", "not recorded" if info.fps is None else f"{info.fps:g} Hz"),
        ("environment", " ".join(map(str, info.environment.values())) or "not recorded"),
        *([("tasks", _tasks(info.tasks))] if any(info.tasks) else []),
        *((f"windows {spec}", f"{count:,}") for spec, count in info.windows.items()),
        ("fingerprint", info.fingerprint),
    ):
        facts.add_row(name, escape(value))
    console.print(facts)
    keys = Table()
    longest = max(len(array.key) for array in info.arrays)
    keys.add_column("key", no_wrap=True, min_width=longest)  # task files need it whole
    for heading in ("kind", "shape", "dtype", "units", "in memory", "frames per chunk"):
        keys.add_column(heading, overflow="fold")
    for array in info.arrays:
        shape = "×".join(map(str, array.shape)) or "1"
        sizes = [format_bytes(array.n_bytes), f"{array.chunk_frames:,}"]
        said = [array.key, array.kind, shape, array.dtype, units_text(array.units)]
        keys.add_row(*map(escape, said), *sizes)
    console.print(keys)


def _tasks(tasks: list[str]) -> str:
    more = f", and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return ", ".join(repr(task) for task in tasks[:3]) + more


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f" ({seconds / 60:.1f} minutes)"


def _print_findings(found: Validation, console: Console) -> None:
    if found.findings:
        table = Table("level", "where", "what", title=escape(found.path), title_justify="left")
        for finding in found.findings:
            style = "red" if finding.level == "problem" else "yellow"
            table.add_row(
                f"[{style}]{finding.level}", escape(finding.where), escape(finding.message)
            )
        console.print(table)
    verdict = "sound" if found.ok else "not to be trained on"
    n_problems, n_warnings = len(found.problems), len(found.warnings)
    summary = f"{escape(found.path)}: {verdict} ({n_problems} problems, {n_warnings} warnings)"
    console.print(summary, soft_wrap=True)

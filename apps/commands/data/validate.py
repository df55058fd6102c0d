"""`dipole data validate`: everything that would spoil the training."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dipole.apps.commands.data.info import AS_JSON, DATASET
from dipole.apps.terminal.tools import Work
from dipole.data.inspection.validate import Validation
from dipole.data.inspection.validate import validate as validate_dataset


def validate(
    path: Annotated[str, typer.Argument(metavar="PATH", help=DATASET, show_default=False)],
    json: Annotated[bool, typer.Option("--json", help=AS_JSON)] = False,
) -> Work:
    """Read all of it, list what is wrong.

    The exit code is 1 if there are problems.
    """
    return lambda: _validate(path, json)


def _validate(path: str, as_json: bool) -> int:
    console = Console(stderr=True)
    with console.status("reading") as status:
        found = validate_dataset(path, log=status.update)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        _print_findings(found, Console())
    return 0 if found.ok else 1


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

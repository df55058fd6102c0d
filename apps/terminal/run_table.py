"""A table of training runs, the best first."""

import json
import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from dipole.policy.training.output.compared_runs import RunScore, RunTable, TrainedRun

SHOWN_SETTINGS = 6


def run_names(folders: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder that all are in, and what each is called there."""
    common = Path(os.path.commonpath([folder.absolute().parent for folder in folders]))
    return common, [str(folder.absolute().relative_to(common)) for folder in folders]


def run_table(table: RunTable, names: Sequence[str]) -> Table:
    """A row for each run. names: In the order of the table's runs."""
    shown = list(table.settings)[:SHOWN_SETTINGS]
    scores = [run.score for run in table.runs if run.score is not None]
    kinds = {score.name for score in scores}
    title = f"best {_words(kinds.pop())}" if len(kinds) == 1 else "best score"
    columns = ["run", *shown]
    columns += [title, "last", "episodes"] if scores else []
    columns += ["train loss", "validation loss", "steps", "minutes"]
    made = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for number, (name, run) in enumerate(zip(names, table.runs, strict=True)):
        settings = [_value(table.settings[key][number]) for key in shown]
        found = _score(run.score, len({each.name for each in scores}) > 1) if scores else []
        made.add_row(name, *settings, *found, *_rest(run))
    return made


def run_lines(table: RunTable) -> list[str]:
    """What the table has no place for."""
    lines = []
    more = list(table.settings)[SHOWN_SETTINGS:]
    if more:
        lines.append(f"{len(more)} more settings differ: {', '.join(more)} (--json has them all)")
    if not table.settings:
        lines.append("no setting differs")
    if table.ordered_by is not None:
        low = "lowest" if table.ordered_by.endswith("loss") else "highest"
        lines.append(f"the best first: {low} {_words(table.ordered_by)}")
    return [*lines, *table.notes]


def _score(score: RunScore | None, named: bool) -> list[str]:
    if score is None:
        return ["", "", ""]
    form = ".1%" if score.name == "success_rate" else ".4g"
    best = f"{score.best:{form}}"
    if score.ci95 is not None:
        best += f" ({score.ci95[0]:{form}} to {score.ci95[1]:{form}})"
    best += f" {_words(score.name)}" if named else ""
    return [best, f"{score.last:{form}}", "" if score.episodes is None else str(score.episodes)]


def _rest(run: TrainedRun) -> list[str]:
    losses = ["" if x is None else f"{x:.4g}" for x in (run.train_loss, run.validation_loss)]
    steps = f"{run.steps}" if run.steps == run.asked else f"{run.steps} of {run.asked}"
    return [*losses, steps, f"{run.minutes:.1f}"]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    """As it is typed on a command line."""
    return value if isinstance(value, str) else json.dumps(value)

"""`dipole compare`: whether one evaluation is better than others, or what training runs came to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dipole.apps.terminal.errors import UsageError
from dipole.apps.terminal.task_tables import comparison_by_task
from dipole.apps.terminal.tools import ToolCommand, Work, new_app, run_tool
from dipole.data.core.errors import DataError
from dipole.envs.compare import Comparison, compare, means
from dipole.envs.evaluation.paired import Estimate
from dipole.envs.evaluation.results_file import FILE, SCORE, SUCCESS, EvaluationResult, read_result

NO_TERMINAL, RUNS_NO_TERMINAL = 160, 400  # columns
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHOWN_SEEDS = 5
SWEEP, RUN = "sweep.json", "run.json"
RUNNING = ".jobs"  # of a sweep's folder, while it runs
HOW = (  # a policy was executed
    "weights", "runtime", "part", "guidance_scale", "costs", "n_action_steps", "delay", "merger",
    "merger_options", "control_hz", "interpolation", "limits", "solver",
)  # fmt: skip

app = new_app("Compare evaluations, episode by episode; or training runs, in a table.")


@app.command(cls=ToolCommand)
def command(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVAL_A EVAL_B | RUN_A RUN_B",
            help="Folders that `dipole evaluate` wrote, or their metrics.json, or sweeps of it: "
            "each against the first. Or runs of `dipole train`, or sweeps of it: the best first.",
            show_default=False,
        ),
    ],
    to_json: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write what is printed as JSON.", show_default=False
        ),
    ] = None,
    best: Annotated[
        bool,
        typer.Option("--best", help="Compare each with the one of the best score, from it down."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Compare even where the environment, its version or options differ."
        ),
    ] = False,
) -> Work:
    """Pair episodes by seed; print the differences with 95 % intervals, and what they mean.

    Of training runs, print the settings that differ, scores, losses, steps and minutes.
    """
    return lambda: _run(evaluations, to_json, force, best)


def main(argv: list[str]) -> int:
    return run_tool(app, argv, "compare")


def _run(paths: Sequence[Path], to_json: Path | None, force: bool, best: bool = False) -> int:
    paths = [each for path in paths for each in _jobs_of(path.expanduser())]
    runs = [path for path in paths if _is_run(path)]
    if runs:
        if len(runs) < len(paths):
            other = next(path for path in paths if path not in runs)
            raise UsageError(
                f"{runs[0]} is a training run and {other} is not: give runs, or evaluations"
            )
        return _compare_runs(runs, to_json, force)
    if not 2 <= len(paths) <= len(LETTERS):
        raise UsageError(f"{len(paths)} evaluations: two are needed, and at most {len(LETTERS)}")
    results = [read_result(path) for path in paths]
    if best:
        results.sort(key=lambda result: -means(result)[SCORE].value)
    comparisons = [compare(results[0], other, force=force) for other in results[1:]]
    _print(results, comparisons)
    if best and len(comparisons) > 1:
        print(
            f"A is the best of {len(results)} by these episodes, which makes its lead look larger "
            "than it is: confirm it by new evaluations, with another seed."
        )
    if to_json is not None:
        _write(to_json.expanduser(), _as_json(results, comparisons))
        print(to_json)
    return 0


def _compare_runs(runs: Sequence[Path], to_json: Path | None, force: bool) -> int:
    from dipole.apps.terminal.run_table import run_lines, run_names, run_table
    from dipole.policy.training.output.compared_runs import RunTable, TrainedRun

    if len(runs) < 2:
        raise UsageError(f"{runs[0]} alone: two runs are needed")
    if force:
        raise UsageError("--force is for evaluations: what runs cannot be compared by is said")
    common, names = run_names(runs)
    read = [TrainedRun.read(path) for path in runs]
    table = RunTable.of(read, names)
    named = {run.path: name for run, name in zip(read, names, strict=True)}
    console = _console(RUNS_NO_TERMINAL)
    console.print(escape(f"runs in {common}"), soft_wrap=True)
    console.print(run_table(table, [named[run.path] for run in table.runs]))
    for line in run_lines(table):
        console.print(escape(line), soft_wrap=True)
    if to_json is not None:
        _write(to_json.expanduser(), table.to_dict())
        print(to_json)
    return 0


def _is_run(path: Path) -> bool:
    return (path / RUN).is_file() and not (path / FILE).is_file()


def _jobs_of(path: Path) -> list[Path]:
    """The path itself, or the jobs of a sweep that have a result, or are runs."""
    if not (path / SWEEP).is_file() and not (path / RUNNING).is_dir():
        return [path]
    jobs = sorted((each for each in path.iterdir() if each.name.isdigit()), key=_number)
    found = [job for job in jobs if (job / FILE).is_file() or (job / RUN).is_file()]
    if not found:
        raise DataError(
            f"{path}: no job of this sweep is an evaluation or a training run; give a sweep of "
            "`dipole evaluate` or `dipole train`"
        )
    for job in [job for job in jobs if job not in found]:
        print(f"{job}: left out, it has no result (yet); {job / 'job.log'} says why")
    return found


def _console(no_terminal: int = NO_TERMINAL) -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=no_terminal)


def _number(folder: Path) -> int:
    return int(folder.name)


def _print(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> None:
    console = _console()
    for letter, result, how in zip(LETTERS, results, _differing(results), strict=False):
        checkpoint = result.terms.get("checkpoint") or "checkpoint not recorded"
        said = ", ".join([checkpoint, *(f"{name}={_typed(value)}" for name, value in how.items())])
        console.print(escape(f"{letter}: {result.path.parent} ({said})"), soft_wrap=True)
    console.print(_table(results, comparisons))
    for letter, comparison in zip(LETTERS[1:], comparisons, strict=False):
        if len(comparison.per_task) > 1:
            console.print(comparison_by_task(letter, comparison))
        for line in _lines(letter, comparison):
            console.print(escape(line), soft_wrap=True)
    if len(comparisons) > 1:
        print(f"Each of these {len(comparisons)} comparisons is at 95 % of its own.")


def _differing(results: Sequence[EvaluationResult]) -> list[dict[str, Any]]:
    """Of each evaluation, how its policy was executed where that is not the same in all."""
    executed = [_executed(result.terms) for result in results]
    names = dict.fromkeys(name for each in executed for name in each)
    differ = [name for name in names if any(e.get(name) != executed[0].get(name) for e in executed)]
    return [{n: each[n] for n in differ if each.get(n) is not None} for each in executed]


def _executed(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Of each option its own value. A solver that the first edition wrote is its name alone."""
    found: dict[str, Any] = {}
    for name in HOW:
        value = terms.get(name)
        if name == "solver" and not isinstance(value, dict):
            value = {"name": value}
        if isinstance(value, dict):
            found |= {f"{name}.{option}": each for option, each in value.items()}
        else:
            found[name] = value
    return found


def _typed(value: Any) -> str:
    """On one line, about as it is typed on a command line: [{name:obstacle,scale:10}]."""
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":")).replace('"', "")
    return str(value)


def _table(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> Table:
    """A row for each evaluation and each difference; columns are what all of them measured."""
    measures = [
        name for name in results[0].measures() if all(name in r.measures() for r in results)
    ]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "episodes", *(_title(name, results[0]) for name in measures)):
        table.add_column(title)
    rows = [
        (letter, len(result.episodes), means(result), "")
        for letter, result in zip(LETTERS, results, strict=False)
    ] + [
        (f"A - {letter}", each.pairs, each.differences, "+")
        for letter, each in zip(LETTERS[1:], comparisons, strict=False)
    ]
    for name, episodes, found, sign in rows:
        table.add_row(name, str(episodes), *(_shown(m, found[m], sign) for m in measures))
    return table


def _title(measure: str, result: EvaluationResult) -> str:
    return f"{measure} ({result.score_name})" if measure == SCORE else measure


def _shown(measure: str, estimate: Estimate, sign: str) -> str:
    form = f"{sign}.1%" if measure == SUCCESS else f"{sign}.4g"
    low, high = estimate.ci95
    return f"{estimate.value:{form}} ({low:{form}} to {high:{form}})"


def _lines(letter: str, comparison: Comparison) -> list[str]:
    """What a table has no place for, and the verdict."""
    lines = []
    for name, seeds in zip(("A", letter), comparison.unpaired, strict=True):
        if seeds:
            shown = ", ".join(map(str, seeds[:SHOWN_SEEDS]))
            more = ", ..." if len(seeds) > SHOWN_SEEDS else ""
            lines.append(f"{len(seeds)} of {name}'s seeds have no partner: {shown}{more}")
    if comparison.mcnemar_p is not None:
        lines.append(
            f"in {comparison.only_first} pairs A alone succeeded, in {comparison.only_second} "
            f"{letter} alone (McNemar's exact p = {comparison.mcnemar_p:.3g})"
        )
    return [*lines, comparison.sentence("A", letter)]


def _as_json(
    results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    evaluations = [
        {
            "path": str(result.path),
            "checkpoint": result.terms.get("checkpoint"),
            "differing": how,
            "episodes": len(result.episodes),
            "score_name": result.score_name,
            **{name: asdict(estimate) for name, estimate in means(result).items()},
        }
        for result, how in zip(results, _differing(results), strict=True)
    ]
    compared = [
        comparison.to_dict("A", letter)
        for letter, comparison in zip(LETTERS[1:], comparisons, strict=False)
    ]
    return {"evaluations": evaluations, "comparisons": compared}


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error

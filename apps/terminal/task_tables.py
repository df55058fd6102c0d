"""Tables of results by task, where an evaluation has several."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from dipole.envs.compare import Comparison
    from dipole.envs.evaluation.paired import Estimate, TaskDifference

NO_TERMINAL = 160  # columns


def print_tasks(metrics: Mapping[str, Any]) -> None:
    """`per_task` of an evaluation's metrics, the best task first; nothing where there is one task,
    or none."""
    if len(metrics.get("per_task", ())) < 2:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=NO_TERMINAL)
    console.print(tasks_table(metrics))


def tasks_table(metrics: Mapping[str, Any]) -> Table:
    """A row for each task, the best first, and one for their mean."""
    score = metrics["score_name"]
    knows = metrics["success_rate"] is not None
    titles = ["task", "episodes", *(["success", "at the end"] if knows else []), "return"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in [*titles, "max reward"]:
        table.add_column(title)
    tasks = metrics["per_task"].items()
    for name, found in sorted(tasks, key=lambda each: (-(each[1][score] or 0.0), each[0])):
        table.add_row(name, str(found["episodes"]), *_cells(found, knows))
    over = metrics["over_tasks"]
    table.add_section()
    table.add_row(f"mean over {over['tasks']} tasks", "", *_cells(over, knows), style="bold")
    return table


def _cells(found: Mapping[str, Any], knows: bool) -> list[str]:
    cells = []
    if knows:
        low, high = found["success_ci95"]
        cells.append(f"{found['success_rate']:.1%} ({low:.1%} to {high:.1%})")
        cells.append(f"{found['success_at_end_rate']:.1%}")
    low, high = found["return_ci95"]
    cells.append(f"{found['return_mean']:.4g} ({low:.4g} to {high:.4g})")
    return [*cells, f"{found['max_reward_mean']:.4g}"]


def comparison_by_task(letter: str, comparison: "Comparison") -> Table:
    """A row for each task, and one for the mean over tasks, of the score's differences.

    letter: What the second evaluation is called; the first is A.
    """
    share = comparison.score_name.startswith("success")
    form = ".1%" if share else ".4g"
    has_p = any(each.holm_p is not None for each in comparison.per_task.values())
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("task", "pairs", "A", letter, f"A - {letter}", *(["p (Holm)"] if has_p else [])):
        table.add_column(title)
    for name, found in comparison.per_task.items():
        table.add_row(name, *_difference(found, form))
    over = comparison.over_tasks["score"]
    title = f"mean over {len(comparison.per_task)} tasks"
    table.add_row(title, "", "", "", _signed(over, form), style="bold")
    return table


def _difference(found: "TaskDifference", form: str) -> list[str]:
    first, second = found.first["score"], found.second["score"]
    shown = _signed(found.differences["score"], form)
    p = [] if found.holm_p is None else [f"{found.holm_p:.3g}"]
    return [str(found.pairs), f"{first:{form}}", f"{second:{form}}", shown, *p]


def _signed(estimate: "Estimate", form: str) -> str:
    low, high = estimate.ci95
    return f"{estimate.value:+{form}} ({low:+{form}} to {high:+{form}})"

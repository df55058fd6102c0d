"""`dipole data replay`: whether recorded demonstrations still succeed in the simulator."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dipole.apps.commands.data.info import AS_JSON, DATASET, NO_TERMINAL
from dipole.apps.terminal.errors import UsageError
from dipole.apps.terminal.tools import Work, comma_list
from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.errors import ConfigError

if TYPE_CHECKING:
    from dipole.data.store.store import EpisodeStore
    from dipole.envs.experts.replay import ReplayedEpisode, ReplaySpec

TASK = "The task whose simulator it is, such as metaworld/reach."
CONFIG_DIR = "Look for tasks here too: --task mine is DIR/task/mine.yaml."
ENVIRONMENT = "The simulator; by default the one that the dataset was recorded in."
PYTHON = "The interpreter that has the simulator, of an environment of its own."
EPISODES = "Which are replayed, such as 0,7,20-24; by default all."
KEYS = "Which are compared; by default all that are recorded but pictures."
PICTURES = "Compare pictures too."
TOLERANCE = "How far a number may deviate, in its units."
WORKERS = "Processes."
MOST_ROWS = 20
UNSAID = (
    "note: the dataset does not say with which settings its simulator was made: those of "
    "demonstrations are taken. Where they were others, say them by --task"
)


def replay(
    path: Annotated[str, typer.Argument(metavar="PATH", help=DATASET, show_default=False)],
    task: Annotated[str | None, typer.Option(metavar="NAME", help=TASK, show_default=False)] = None,
    config_dir: Annotated[
        str | None,
        typer.Option("--config-dir", metavar="DIR", help=CONFIG_DIR, show_default=False),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(metavar="NAME", help=ENVIRONMENT, show_default=False)
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help=PYTHON, show_default=False)
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help=EPISODES, show_default=False)
    ] = None,
    keys: Annotated[str | None, typer.Option(metavar="KEYS", help=KEYS, show_default=False)] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help=PICTURES)] = False,
    tolerance: Annotated[float, typer.Option(metavar="NUMBER", help=TOLERANCE)] = 1e-3,
    workers: Annotated[int, typer.Option(metavar="N", help=WORKERS)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help=AS_JSON)] = False,
) -> Work:
    """Execute recorded demonstrations again, compare.

    Each begins from its recorded seed. The exit code is 1 if one that succeeded does not any more.
    """
    if task is not None and environment is not None:
        raise UsageError("--task and --environment exclude each other: a task names its simulator")
    if config_dir is not None and task is None:
        raise UsageError("--config-dir is where a task is looked for: give --task NAME too")
    if workers < 0:
        raise UsageError(f"--workers {workers}: it is at least 0")
    wanted = None if keys is None else comma_list(keys)
    where = {"task": task, "environment": environment, "python": python, "folder": config_dir}
    return lambda: _replay(path, where, episodes, wanted, pictures, tolerance, workers, as_json)


def _replay(
    path: str,
    where: dict[str, str | None],
    numbers: str | None,
    wanted: Sequence[str] | None,
    pictures: bool,
    tolerance: float,
    workers: int,
    as_json: bool,
) -> int:
    from dipole.data.store.store import EpisodeStore
    from dipole.envs.experts import replay

    with EpisodeStore.open(path) as store:
        spec, known = _environment(store, where)
        chosen = _episodes(store, numbers)
        replay.check_replayable(store, chosen)
        keys = replay.compared_keys(store, spec, wanted, known, pictures)
    plan = replay.ReplaySpec(path, spec, keys, tolerance)
    replayed = []
    with Console(stderr=True).status("replaying") as status:
        for each in replay.replay(plan, chosen, workers):
            replayed.append(each)
            status.update(f"episode {each.episode}, {len(replayed)} of {len(chosen)}")
    lost = sum(each.is_lost for each in replayed)
    if as_json:
        found = {"lost": lost, "episodes": [_plain(each) for each in replayed]}
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        console = Console()
        _print(plan, replayed, console if console.is_terminal else Console(width=NO_TERMINAL))
    return 1 if lost else 0


def _plain(each: "ReplayedEpisode") -> dict[str, Any]:
    """As JSON has it, which knows no infinity."""
    plain = asdict(each)
    for deviation in plain["deviations"].values():
        if not math.isfinite(deviation["largest"]):
            deviation["largest"] = None
    return plain


def _environment(store: "EpisodeStore", where: dict[str, str | None]) -> tuple[Any, Any]:
    """The simulator, and {stored key: entry} where a task says it."""
    from dipole.envs.contract import EnvSpec
    from dipole.envs.experts.replay import (
        demonstrated_in,
        recorded_environment,
        recorded_settings,
    )

    name, python = where["environment"], where["python"]
    if where["task"] is None:
        given = None if name is None else EnvSpec(name)
        if recorded_settings(store) is None:
            print(UNSAID, file=sys.stderr)
        return recorded_environment(store, given, python), None
    from dipole.apps.compose import compose
    from dipole.data.loading.features import Features
    from dipole.data.loading.task_data import check_task
    from dipole.envs.experts.recorded import RecordedKeys

    folder = [] if where["folder"] is None else ["--config-dir", where["folder"]]
    task = compose("record", [*folder, f"task={where['task']}", "output=none"])["task"]
    check_task(task)
    if task.get("environment") is None:
        raise ConfigError(f"task {task['name']!r} has no simulator to replay in")
    spec = demonstrated_in(EnvSpec.read(task["environment"]))
    spec = replace(spec, python=python or spec.python)
    features = Features.from_dict({key: task[key] for key in ("observation", "action")})
    return spec, RecordedKeys.of(features, spec).entries


def _episodes(store: "EpisodeStore", numbers: str | None) -> list[int]:
    if numbers is None:
        return list(range(store.n_episodes))
    chosen = parse_episode_numbers(numbers)
    absent = [number for number in chosen if number >= store.n_episodes]
    if absent:
        raise ConfigError(
            f"{store.path}: there is no episode {absent[0]}: there are {store.n_episodes}"
        )
    return [*chosen]


def _print(plan: "ReplaySpec", replayed: "Sequence[ReplayedEpisode]", console: Console) -> None:
    _print_keys(plan, replayed, console)
    _print_episodes(plan, replayed, console)
    succeeded = [each for each in replayed if each.recorded is not False]
    still = sum(not each.is_lost for each in succeeded)
    same = sum(each.first_frame is None for each in replayed)
    judged = any(each.success is not None for each in replayed)
    verdict = (
        f"{still} of {len(succeeded)} that succeeded still do"
        if judged
        else "the environment does not say what succeeds"
    )
    console.print(
        f"{escape(str(plan.dataset))} in {escape(plan.environment.id)}: {verdict}; {same} of "
        f"{len(replayed)} are the same within {plan.tolerance:g}",
        soft_wrap=True,
    )


def _print_keys(
    plan: "ReplaySpec", replayed: "Sequence[ReplayedEpisode]", console: Console
) -> None:
    table = Table("key", "largest deviation", "in episode", "episodes that deviate", "from frame")
    for key in plan.keys:
        by_episode = {each.episode: each.deviations[key] for each in replayed}
        worst = max(by_episode, key=lambda episode: by_episode[episode].largest)
        frames = [d.frame for d in by_episode.values() if d.frame is not None]
        largest = by_episode[worst].largest
        table.add_row(
            escape(key),
            f"{largest:.3g}",
            str(worst) if largest else "",
            str(len(frames)),
            str(min(frames)) if frames else "",
        )
    console.print(table)


def _print_episodes(
    plan: "ReplaySpec", replayed: "Sequence[ReplayedEpisode]", console: Console
) -> None:
    """Those that are not what they were."""
    other = [e for e in replayed if e.is_lost or e.first_frame is not None]
    if not other:
        return
    table = Table("episode", "seed", "recorded", "now", "first frame that deviates", "of")
    for each in other[:MOST_ROWS]:
        table.add_row(
            str(each.episode),
            str(each.seed),
            _outcome(each.recorded),
            _outcome(each.success),
            "" if each.first_frame is None else str(each.first_frame),
            f"{each.n_frames} frames" + _early(each),
        )
    console.print(table)
    if len(other) > MOST_ROWS:
        console.print(f"and {len(other) - MOST_ROWS} more")


def _outcome(success: bool | None) -> str:
    return "unknown" if success is None else "success" if success else "failure"


def _early(each: "ReplayedEpisode") -> str:
    return "" if each.executed == each.n_frames else f", over after {each.executed}"

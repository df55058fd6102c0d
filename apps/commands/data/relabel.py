"""`dipole data relabel`: a teacher's chunks at the frames of a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from dipole.apps.terminal.errors import UsageError
from dipole.apps.terminal.tools import Work
from dipole.data.core.episode_numbers import parse_episode_numbers
from dipole.data.core.errors import ConfigError

SOURCE = "The dataset to read; its format is recognised."
DESTINATION = "A folder, or a name that ends in .zip; must not exist."
TEACHER = "A run, or a checkpoint: its policy says what it would do at each frame."
EVERY = "Each so many-th frame of an episode is labelled."
LENGTH = "Actions of a label; by default as many as the teacher's chunks have from a frame on."
EPISODES = "Which are taken, such as 0,7,20-24; by default all."
STEPS = "Of the teacher's solver, instead of its own."


def relabel(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE, show_default=False)],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help=DESTINATION, show_default=False)
    ],
    teacher: Annotated[Path, typer.Option(metavar="RUN", help=TEACHER, show_default=False)],
    every: Annotated[int, typer.Option(metavar="N", help=EVERY)] = 1,
    length: Annotated[
        int | None, typer.Option(metavar="N", help=LENGTH, show_default=False)
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help=EPISODES, show_default=False)
    ] = None,
    solver_steps: Annotated[
        int | None, typer.Option(metavar="N", help=STEPS, show_default=False)
    ] = None,
) -> Work:
    """What a teacher would do at each frame of a dataset, stored beside what was done.

    Needs no simulator. Interrupted, it goes on when it is called again.
    """
    try:
        chosen = None if episodes is None else parse_episode_numbers(episodes)
    except ConfigError as error:
        raise UsageError(f"--episodes: {error}") from error
    solver = {} if solver_steps is None else {"steps": solver_steps}
    return lambda: _relabel(source, destination, teacher, every, length, solver, chosen)


def _relabel(
    source: str,
    destination: Path,
    teacher: Path,
    every: int,
    length: int | None,
    solver: dict[str, int],
    episodes: tuple[int, ...] | None,
) -> int:
    import dipole.envs  # noqa: F401  registers what features are made by
    from dipole.envs.experts.teaching.relabel import relabel as write
    from dipole.envs.experts.teaching.spec import TeachingSpec

    teaching = TeachingSpec.of(teacher, every=every, length=length, solver=solver)
    report = write(source, destination, teaching, episodes)
    keys = ", ".join(report.keys)
    print(f"{destination}: {report.n_episodes} episodes, {report.n_frames} frames: {keys}")
    return 0

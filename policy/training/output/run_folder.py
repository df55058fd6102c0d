"""A run's folder: one process trains in it, and none begins where another has."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dipole.data.core.errors import CheckpointError, ConfigError, DataError
from dipole.data.core.lock import exclusive

RUN_FILE, LOCK = "run.json", "lock"


@contextmanager
def new_run_folder(output: Path, rename: bool = False) -> Iterator[Path]:
    """The folder of a new run, made and locked while it lasts.

    rename: whether a folder beside it, "NAME-2", will do where this one is taken; for names that
    nobody chose. Raises ConfigError where it holds a run or another process begins one.
    """
    with ExitStack() as held:
        yield _claimed(output, rename, held)


def _claimed(output: Path, rename: bool, held: ExitStack) -> Path:
    for number in itertools.count(1):
        folder = output if number == 1 else output.with_name(f"{output.name}-{number}")
        try:
            refuse_run(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as tried:
                tried.enter_context(exclusive(folder / LOCK, f"run {folder}"))
                refuse_run(folder)  # it may have begun since
                held.push(tried.pop_all())
            return folder
        except DataError as error:
            if not rename:
                raise ConfigError(
                    f"output={output}: another process is beginning a run there: choose another "
                    "output"
                ) from error
        except ConfigError:
            if not rename:
                raise
    raise AssertionError("unreachable")


@contextmanager
def resumed_run_folder(output: Path) -> Iterator[None]:
    """The folder of a run that goes on, locked while it lasts.

    Raises ConfigError where there is no run, or another process trains it.
    """
    if not (output / RUN_FILE).exists():
        raise CheckpointError(f"resume={output}: no run there (it has no {RUN_FILE})")
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(output / LOCK, f"run {output}"))
        except DataError as error:
            raise ConfigError(f"resume={output}: another process trains it at present") from error
        yield


def refuse_run(output: Path) -> None:
    """Raises ConfigError where the folder holds a run."""
    if (output / RUN_FILE).exists():
        raise ConfigError(
            f"output={output} already holds a run: go on with it by `dipole train "
            f"resume={output}`, or choose another output"
        )

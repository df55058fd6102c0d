"""Which run goes on, and where: one of this machine, or one that object storage has a copy of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError, ConfigError, StorageError
from dipole.data.store.objects.url import ObjectUrl, is_url
from dipole.policy.training.output.different_settings import HOUSEKEEPING, different_settings
from dipole.policy.training.process.launch import Launch
from dipole.policy.training.run import read_run
from dipole.policy.training.storage.fetched_run import fetch_run, read_remote_run


@dataclass(frozen=True)
class RunToResume:
    """configuration: Reads what the run was begun, or last resumed, with. Every process may.
    on_this_machine: The folder where it goes on, after it was fetched where it has to be. One
        process does it."""

    configuration: Callable[[], dict[str, Any]]
    on_this_machine: Callable[[], str]


def run_to_resume(resume: str, output: str | None) -> RunToResume:
    """The run that `resume` names, a folder or a place in object storage.

    output: Where one of object storage goes on. Raises ConfigError where that is not said, and
        where a run of this machine would go on in another folder than its own.
    """
    if not is_url(resume):
        folder = Path(resume).expanduser()
        if output is not None and Path(output).expanduser().resolve() != folder.resolve():
            raise ConfigError(
                f"output={output}: a run goes on in its own folder, {resume}: leave output out. To "
                f"keep the run as it is, copy its folder and resume the copy; or begin another run "
                f"with its weights by train.init.from={resume}"
            )
        return RunToResume(lambda: read_run(folder), lambda: str(folder))
    if output is None:
        raise ConfigError(f"resume={resume}: say where it goes on on this machine: output=FOLDER")
    url, target = ObjectUrl.parse(resume), Path(output).expanduser()
    return RunToResume(
        lambda: read_remote_run(url)["config"],
        lambda: fetch_run(url, target, newer=Launch.of().begun_before(target) == target),
    )


def begun_before(output: Path, config: Mapping[str, Any]) -> str | None:
    """The run that an earlier start of this group of processes began: its folder; None where there
    is none.

    config: Of the run that is to be trained; `train.copy_to` is where its copy is. On a machine
        that has nothing of it, or an older checkpoint, it is fetched.
    Raises ConfigError where another launcher of the same name began it with other settings.
    """
    launch, copy_to = Launch.of(), config["train"].get("copy_to")
    begun = launch.begun_before(output)
    if begun is not None and not launch.restarts:
        _same_settings(read_run(begun), config, str(begun), launch.identity)
    if copy_to is None or not launch.identity:
        return None if begun is None else str(begun)
    url = ObjectUrl.parse(copy_to)
    try:
        copied = read_remote_run(url)
    except CheckpointError:  # no run there yet
        copied = {}
    except StorageError:
        if begun is None:
            raise
        copied = {}
    if copied.get("launch") != launch.identity:
        return None if begun is None else str(begun)
    if not launch.restarts:
        _same_settings(copied["config"], config, str(url), launch.identity)
    return fetch_run(url, begun or output, newer=True)


def _same_settings(
    begun: Mapping[str, Any], config: Mapping[str, Any], place: str, identity: str
) -> None:
    """Housekeeping aside: the machine may be another one."""
    found = different_settings([begun, config])
    changed = [
        f"{key} {old} → {new}" for key, (old, new) in found.items() if key not in HOUSEKEEPING
    ]
    if changed:
        raise ConfigError(
            f"{place} was begun by launcher {identity!r} (--rdzv-id), as this one is called, with "
            f"other settings ({', '.join(changed)}): go on with it by resume={place}, and the "
            "settings to change; or give a new run another --rdzv-id and output"
        )

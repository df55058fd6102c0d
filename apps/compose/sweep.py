"""Several jobs of one command: hydra launches and searches, each job has a process of its own.

    dipole train --multirun hydra/launcher=joblib train.seed=0,1

Job n writes to OUTPUT/n (see outputs.py), what it prints to OUTPUT/n/job.log. OUTPUT/sweep.json has
a row for each.
"""

import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from dipole.apps.compose.application import call_hydra, job_configuration
from dipole.apps.compose.configuration import require_values
from dipole.apps.compose.job import (
    DONE,
    FAILED,
    INTERRUPTED,
    LOOK,
    PATIENCE,
    RUNNING,
    JobRequest,
    JobState,
    Stop,
    described,
    run_in_process,
    say,
    summary,
)
from dipole.apps.compose.options import Options
from dipole.apps.compose.outputs import job_paths, sweep_folder
from dipole.apps.compose.overrides import MOST_CHECKED, OverrideChecker
from dipole.apps.compose.secrets import printable
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.environ import environment_variables
from dipole.data.store.objects.url import is_url

TRAININGS = ("train", "distill")  # whose runs go on, where a queue starts a job again, by:
RESUMING = "dipole.apps.commands.train:train"
STATES = ".jobs"  # of the sweep's folder, while it runs
YEAR = 365 * 24 * 60  # minutes


@dataclass(frozen=True)
class SweepJob:
    """Hydra's task function: picklable, so that launchers may call it anywhere.

    command: the primary configuration. function: "module:name" of the job. folder: the sweep's.
    output: the setting, the same for all jobs unless their own settings give others.
    told: settings that are the same for all jobs, which need not be repeated.
    """

    command: str
    function: str
    folder: str
    output: str
    told: tuple[str, ...] = ()
    sweeper: tuple[str, int] = ("", 0)  # host and process

    def __call__(self, composed: DictConfig) -> float | None:
        """Returns the score. A job that fails returns None, so that the others go on."""
        if self.sweeper != _here():
            # A terminal's Ctrl-C reaches every process; the sweep itself stops the jobs.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        number = int(HydraConfig.get().job.num)
        config = job_configuration(composed)
        # One folder for the sweep, unless the user's own names another for each job.
        parent = config["output"] if "output" in config["overrides"] else self.output
        folder, output = job_paths(self.command, str(parent), number)
        config["output"] = str(output)
        states = Path(self.folder) / STATES
        if Stop(states).asked():
            raise KeyboardInterrupt
        overrides = {k: v for k, v in config["overrides"].items() if k not in self.told}
        state = JobState(number, printable(overrides), str(output))
        begun = self.command in TRAININGS and _is_begun(states, number, output)
        if begun:
            config |= {"resume": str(output), "overrides": {}}  # with its own settings
        if not begun and self.command == "train" and _goes_on_here(config):
            config["overrides"].pop("output", None)  # in its own folder, which is not the job's
            state = replace(state, output=str(Path(config["resume"]).expanduser()))
        else:
            config["overrides"]["output"] = str(output)  # the job's own: no other name will do
        result = str(states / f"{number}.result")
        function = RESUMING if begun else self.function
        request = JobRequest(self.command, function, config, result)
        ended = run_in_process(request, state, states, folder / "job.log")
        if ended.state == INTERRUPTED:
            raise KeyboardInterrupt
        return ended.score


@dataclass(frozen=True)
class SweepPlan:
    """words: what hydra is told. jobs: settings of each, where they are known beforehand."""

    config_name: str
    task: SweepJob
    words: list[str]
    jobs: list[dict[str, Any]] | None


def plan_sweep(
    config_name: str, checker: OverrideChecker, parsed: list[Override], job: Callable[..., Any]
) -> SweepPlan:
    """Everything that hydra does not decide. Raises UsageError where there is no way to sweep."""
    hydras = [override for override in parsed if _is_hydra(override)]
    ours = [override for override in parsed if not _is_hydra(override)]
    one = [str(o.input_line) for o in [*hydras, *ours] if not o.is_sweep_override()]
    composed = checker.compose(one, with_hydra=True)
    search = _searches(composed)
    ours = _with_block(checker, ours, _known_jobs(checker, ours, search))
    first = checker.compose(_known_jobs(checker, ours, search)[0], with_hydra=False)
    require_values(config_name, first)
    if "output" not in first:
        raise UsageError(f"dipole {config_name} runs one job at a time: leave out --multirun")
    if "<" in job.__qualname__:
        raise ValueError(f"{job.__qualname__}: a sweep needs a job that other processes can import")
    combinations = [] if search else _jobs(checker, ours)
    if config_name == "train":
        _refuse_one_run(first, combinations, search)
    folder = str(sweep_folder(config_name, str(first.output)))
    words = [str(override.input_line) for override in hydras]
    words += _hydra_words(composed, hydras, first, folder, search)
    words += [str(override.input_line) for override in ours]
    told = tuple(o.key_or_group for o in ours if not o.is_sweep_override())
    jobs = None if search else [_settings(each, told) for each in combinations]
    function = f"{job.__module__}:{job.__qualname__}"
    task = SweepJob(config_name, function, folder, str(first.output), told, _here())
    return SweepPlan(config_name, task, words, jobs)


def run_sweep(plan: SweepPlan, options: Options) -> int:
    """Launch the jobs, write sweep.json and print its rows. 0 where all of them were done."""
    folder = Path(plan.task.folder)
    states = folder / STATES
    try:
        states.mkdir(parents=True)  # of two sweeps that begin here, one does
        if (folder / "sweep.json").exists():
            states.rmdir()
            raise FileExistsError
    except FileExistsError as error:
        raise UsageError(f"output={folder} already holds a sweep: choose another") from error
    say(f"sweep: {folder}")
    interrupted, stopped = False, ""
    try:
        with environment_variables(_waiting(plan)), _one_interrupt_for_all(states):
            call_hydra(plan.config_name, plan.task, options, plan.words)
    except KeyboardInterrupt:
        interrupted = True
    except UsageError:
        raise
    except Exception as error:  # of a launcher or a sweeper; the rows say which job was last
        stopped = f"{type(error).__name__}: {error}"
    _end_idle_workers(interrupted)
    rows = _rows(plan, states, interrupted)
    if stopped and all(row.state == DONE for row in rows):
        raise RuntimeError(stopped)
    if rows:
        _write(folder, rows)
    if not interrupted:  # a queue may start more of them later: they see that they should not
        shutil.rmtree(states, ignore_errors=True)
    (folder / "multirun.yaml").unlink(missing_ok=True)  # hydra's, with all its own settings
    for row in rows:
        print(f"{row.job}  {described(row.overrides)}  {summary(row)}")
    if interrupted:
        raise KeyboardInterrupt
    if stopped and any(row.state != FAILED for row in rows):
        say(f"the sweep stopped: {stopped}")
    print(folder / "sweep.json")
    return 0 if rows and all(row.state == DONE for row in rows) else 1


def _is_begun(states: Path, number: int, output: Path) -> bool:
    """Whether a queue starts a training again, which it ended for another or at its limit."""
    return (states / f"{number}.json").exists() and (output / "run.json").exists()


def _end_idle_workers(interrupted: bool) -> None:
    """joblib keeps its processes for a next call, of which there is none."""
    loky = sys.modules.get("joblib.externals.loky")
    if loky is not None:
        loky.get_reusable_executor().shutdown(wait=True, kill_workers=interrupted)


def _is_hydra(override: Override) -> bool:
    return override.is_hydra_override()


def _searches(composed: DictConfig) -> bool:
    """Whether a sweeper chooses the settings of the next job by the scores of those before."""
    return "BasicSweeper" not in str(OmegaConf.select(composed, "hydra.sweeper._target_"))


def _known_jobs(checker: OverrideChecker, ours: list[Override], search: bool) -> list[list[str]]:
    """Of a search, whose jobs are not known, as far as the settings are lists of values."""
    known = [o for o in ours if not o.is_sweep_override() or o.is_discrete_sweep()]
    if not search and len(known) < len(ours):
        known = ours  # its message says what to add
    return checker.combinations(known)


def _with_block(
    checker: OverrideChecker, ours: list[Override], jobs: list[list[str]]
) -> list[Override]:
    """As `OverrideChecker.with_block`, of all jobs. Raises UsageError where they would differ."""
    blocks = {tuple(checker.block(words)) for words in jobs[:MOST_CHECKED]}
    if len(blocks) > 1:
        raise UsageError(
            "the tasks of this sweep have different simulators, some of them by name alone, to "
            "which no setting can be added for all jobs: write `environment: {name: NAME}` in the "
            "tasks' files, or sweep one task at a time"
        )
    block = blocks.pop()
    others, added = checker.split([str(override.input_line) for override in ours])
    return checker.parse([*others, *block, *added]) if block else ours


def _jobs(checker: OverrideChecker, ours: list[Override]) -> list[list[Override]]:
    return [checker.parse(words) for words in checker.combinations(ours)]


def _refuse_one_run(first: DictConfig, jobs: list[list[Override]], search: bool) -> None:
    """Raises UsageError where several jobs would go on with one run, each after the one before.

    jobs: Of a search, whose jobs are not known, nothing: all of them may have what the first has.
    """
    said = [{override.key_or_group: override.value() for override in job} for job in jobs]
    runs = [str(job.get("resume", first.resume) or "") for job in said]
    runs += [str(first.resume or "")] * (2 if search else 0)
    counts = Counter(_place(run) for run in runs if run)
    for run in filter(None, runs):
        if counts[_place(run)] > 1:
            raise UsageError(
                f"resume={run}: several jobs of the sweep would train this one run, each where the "
                "one before ended. Give each job a run of its own, resume=A,B, or let new runs "
                f"begin with its weights: train.init.from={run}"
            )


def _place(run: str) -> str:
    return run.rstrip("/") if is_url(run) else str(Path(run).expanduser().resolve())


def _goes_on_here(config: dict[str, Any]) -> bool:
    """Whether a training goes on with a run of this machine."""
    return config["resume"] is not None and not is_url(str(config["resume"]))


def _settings(parsed: list[Override], told: tuple[str, ...]) -> dict[str, Any]:
    settings = {o.key_or_group: o.value() for o in parsed if o.key_or_group not in told}
    printed: dict[str, Any] = printable(settings)
    return printed


def _hydra_words(
    composed: DictConfig, hydras: list[Override], first: DictConfig, folder: str, search: bool
) -> list[str]:
    said = {override.key_or_group for override in hydras}
    words = []
    if "hydra.sweep.dir" not in said:
        words.append(f"hydra.sweep.dir={_quoted(folder)}")
    if search and "direction" in composed.hydra.sweeper and "hydra.sweeper.direction" not in said:
        words.append(f"hydra.sweeper.direction={_direction(first)}")
    launcher = str(OmegaConf.select(composed, "hydra.launcher._target_"))
    here = launcher.endswith("submitit_launcher.LocalLauncher")
    if here and "hydra.launcher.timeout_min" not in said:  # an hour, which is a queue's
        words.append(f"hydra.launcher.timeout_min={YEAR}")
    store = "hydra.launcher.ray.init.object_store_memory"
    if launcher.endswith("ray_launcher.RayLauncher") and store not in said:
        words.append(f"+{store}=null")  # its own size is refused by a cluster that runs
    if "optuna" in str(composed.hydra.sweeper.get("_target_")):
        if "hydra.sweeper.max_failure_rate" not in said:
            words.append("hydra.sweeper.max_failure_rate=1")  # one that fails stops no other
        _quiet_optuna()
    return words


def _quiet_optuna() -> None:
    """What it would say of each job is said already."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.CRITICAL)


def _direction(config: DictConfig) -> str:
    """Rewards and success rates are the better the higher, losses and differences the lower."""
    if "checkpoint" in config and "episodes" in config:  # dipole evaluate
        return "maximize"
    return "maximize" if OmegaConf.select(config, "train.evaluate_every") else "minimize"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _waiting(plan: SweepPlan) -> dict[str, str | None]:
    """Jobs beside each other share the cores: their threads sleep while they wait."""
    beside = any(word.startswith("hydra/launcher=") for word in plan.words)
    if not beside or "OMP_WAIT_POLICY" in os.environ:
        return {}
    return {"OMP_WAIT_POLICY": "PASSIVE"}


def _rows(plan: SweepPlan, states: Path, interrupted: bool) -> list[JobState]:
    rows = {row.job: row for row in _states(states)}
    for number, row in rows.items():
        if row.state == RUNNING:  # its launcher was killed
            lost = INTERRUPTED if interrupted else FAILED
            rows[number] = replace(row, state=lost, message="" if interrupted else "it was lost")
    for number, settings in enumerate(plan.jobs or ()):
        _, output = job_paths(plan.config_name, plan.task.output, number)
        missing = JobState(number, settings, str(output), state="not started")
        rows.setdefault(number, missing)
    return [rows[number] for number in sorted(rows)]


def _write(folder: Path, rows: list[JobState]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = ("job", "overrides", "state", "score", "score_name", "message", "seconds", "output")
    plain = [{key: value for key, value in asdict(row).items() if key in kept} for row in rows]
    beside = folder / "sweep.partial"
    beside.write_text(json.dumps(plain, indent=2) + "\n")
    beside.replace(folder / "sweep.json")


@contextmanager
def _one_interrupt_for_all(states: Path) -> Iterator[None]:
    """Meanwhile a first Ctrl-C lets every job save what it has and end; a second ends at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Stop(states).ask()
        if Stop.waiting_here:
            return  # that job's end is the sweep's
        until = time.monotonic() + PATIENCE
        while any(map(_is_running, _states(states))) and time.monotonic() < until:
            time.sleep(LOOK)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _here() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _is_running(row: JobState) -> bool:
    """As far as is known here: the processes of other machines are believed."""
    if row.state != RUNNING or row.host != socket.gethostname():
        return row.state == RUNNING
    stat = Path(f"/proc/{row.pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():  # no such folder on this system
        return True
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"  # ended, and not waited for
    except OSError:
        return False


def _states(states: Path) -> list[JobState]:
    return [JobState(**json.loads(path.read_text())) for path in states.glob("*.json")]

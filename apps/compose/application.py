"""A composed command: hydra's application, for one job or for a sweep."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from dipole.apps.compose.configuration import (
    MODULE,
    Config,
    as_yaml,
    checking,
    hydra_errors_said,
    plain,
    require_values,
)
from dipole.apps.compose.explanation import explain, settings_help
from dipole.apps.compose.options import Options, read_options
from dipole.apps.compose.outcome import Outcome
from dipole.apps.compose.outputs import refuse_urls
from dipole.apps.compose.overrides import OverrideChecker, given
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.environ import environment_variables

Job = Callable[[Config], Outcome | int]


def run(config_name: str, argv: list[str], job: Job, sweeps: bool = True) -> int:
    """Compose and call `job`, once, or with --multirun for each job of a sweep; the exit code.

    job: an importable function of a plain configuration, which may import torch only when it is
    called. sweeps: whether --multirun is possible. Raises UsageError for anything mistyped.
    """
    options = read_options(argv, config_name)
    with checking(config_name, options) as checker:
        if options.help:
            asked = [word for word in options.overrides if "=" not in word]
            words = [word for word in options.overrides if "=" in word]
            parsed = checker.check(words, options.multirun)
            shown = checker.combinations(parsed)[0]
            print(
                explain(checker, shown, asked) if asked else settings_help(checker, shown, sweeps)
            )
            return 0
        if options.multirun and not sweeps:
            raise UsageError("one job at a time: leave out --multirun")
        parsed = checker.check(options.overrides, options.multirun)
        if options.cfg:
            jobs = checker.combinations(parsed)
            print("---\n".join(_yaml(config_name, checker, words) for words in jobs), end="")
            return 0
        if options.multirun:
            from dipole.apps.compose.sweep import plan_sweep

            plan = plan_sweep(config_name, checker, parsed, job)
        else:
            require_values(config_name, checker.compose(options.overrides))
            options = replace(options, overrides=checker.with_block(options.overrides))
    if options.multirun:
        from dipole.apps.compose.sweep import run_sweep

        return run_sweep(plan, options)
    return _run_one(config_name, options, job)


def _run_one(config_name: str, options: Options, job: Job) -> int:
    task = _OneJob(config_name, job)
    call_hydra(config_name, task, options, options.overrides)
    if task.error is not None:
        raise task.error
    return task.outcome.code


class _OneJob:
    """Hydra's task function of a single job. Hydra would print its exception: it is kept."""

    def __init__(self, config_name: str, job: Job) -> None:
        self._config_name = config_name
        self._job = job
        self.outcome = Outcome()
        self.error: Exception | None = None

    def __call__(self, composed: DictConfig) -> float | None:
        try:
            config = job_configuration(composed)
            set_waiting_policy(self._config_name, config)
            self.outcome = Outcome.of(self._job(config))
        except Exception as error:
            self.error = error
        return self.outcome.score


def call_hydra(config_name: str, task: Any, options: Options, words: list[str]) -> None:
    """Let hydra compose, launch and sweep, as it does for a script of the user's own.

    task: called with each composed configuration. Raises UsageError for what hydra refuses.
    """
    application = hydra.main(
        config_path=f"pkg://{MODULE}", config_name=config_name, version_base="1.3"
    )(task)
    flags = ["--multirun"] if options.multirun else []
    GlobalHydra.instance().clear()
    # Hydra prints errors itself and exits, unless it is told to raise them.
    with (
        hydra_errors_said(),
        environment_variables({"HYDRA_FULL_ERROR": "1"}),
        _command_line([*flags, *options.search_path, *words]),
    ):
        application()


@contextmanager
def _command_line(words: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def job_configuration(composed: DictConfig) -> Config:
    """Plain, with what the command line set; called by hydra's task functions."""
    words = list(HydraConfig.get().overrides.task)
    config = plain(composed)
    refuse_urls(config)
    return config | {"overrides": given(OverridesParser.create().parse_overrides(words))}


def set_waiting_policy(config_name: str, config: Config) -> None:
    """Before torch is imported, which reads it: threads that spin while they wait make a shared
    machine many times slower, and halve a small network's training step where it is alone."""
    if not computes_alone(config_name, config):
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def computes_alone(config_name: str, config: Config) -> bool:
    """Whether the command starts nothing that computes beside it. Training notices by itself where
    others need the cores."""
    if config_name not in ("train", "distill"):
        return False
    workers = [config.get(group, {}).get("workers") for group in ("train", "evaluate")]
    return not any(workers)


def _yaml(config_name: str, checker: OverrideChecker, words: list[str]) -> str:
    config = checker.compose(words)
    require_values(config_name, config)
    return as_yaml(plain(config))

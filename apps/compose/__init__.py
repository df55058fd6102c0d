"""Composed commands: from KEY=VALUE to a plain configuration, by hydra, and from it to jobs.

    dipole train policy=unet train.seed=0,1 --multirun --config-dir my_configs

`options` reads the words that are no settings, `overrides` checks the settings one by one,
`configuration` composes, `explanation` says what a setting means, `application` calls hydra for one
job, `sweep` for several, each of them in a process of its own (`job`).
"""

from dipole.apps.compose.application import run
from dipole.apps.compose.configuration import compose
from dipole.apps.compose.outcome import Outcome

__all__ = ["Outcome", "compose", "run"]

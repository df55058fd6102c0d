"""Stages of progressive distillation: the student's steps in each, and how long it lasts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from dipole.data.core.errors import ConfigError
from dipole.policy.training.objectives.distillation.checks import numbers

STAGES = (8, 4, 2, 1)


@dataclass(frozen=True)
class Stages:
    """counts: Steps of the teacher, then of the student after each stage.
    shares: Of the run's steps, of each stage, in any unit.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, stages: Any, shares: Sequence[float] | None) -> Self:
        """Of an objective's options. Raises ConfigError for stages that do not divide the one
        before, and for another number of shares than there are stages."""
        counts = numbers("stages", stages, STAGES)
        if len(counts) < 2 or any(b < 1 or a <= b or a % b for a, b in pairwise(counts)):
            raise ConfigError(
                f"objective.stages is {list(stages)}: two or more numbers of steps are needed, "
                "each of which divides the one before, such as [16, 8, 4, 2, 1]"
            )
        later = len(counts) - 1
        parts = (1.0,) * later if shares is None else numbers("shares", shares, [1.0] * later)
        if len(parts) != later or not all(share > 0 for share in parts):
            raise ConfigError(
                f"objective.shares is {list(parts)}: {later} positive numbers are needed, one for "
                "each stage, that is for each of objective.stages but the first"
            )
        return cls(counts, parts)

    def student_steps(self, stage: int) -> int:
        return self.counts[stage + 1]

    def teacher_strides(self, stage: int) -> int:
        """Steps of the stage's teacher that are one of the student's."""
        return self.counts[stage] // self.counts[stage + 1]

    def is_over(self, stage: int, step: int, total_steps: int) -> bool:
        """Whether the next stage begins by this step; the last one is never over."""
        if stage + 1 == len(self.shares):
            return False
        return step * sum(self.shares) >= total_steps * sum(self.shares[: stage + 1])

"""Trajectory-segmented consistency: jumps within parts of a trajectory, which become fewer."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.policy import Policy
from dipole.policy.training.objectives.distillation.checks import numbers
from dipole.policy.training.objectives.distillation.methods.ctm import ConsistencyTrajectory

STAGES = (8, 4, 2, 1)


@OBJECTIVES.add("segmented")
class SegmentedConsistency(ConsistencyTrajectory):
    """`ConsistencyTrajectory` within k segments of the trajectory, the segment's end instead of the
    clean chunk, for fewer and fewer segments (Ren et al., 2024, "Hyper-SD", section 3.1; its
    adversarial term is left out):

        d(G_target(G(x_t, t, s), s, e), G_target(G_target(x_u, u, s), s, e)),  t > u >= s >= e

    with e the end of the segment of t. The stage of one segment is `ConsistencyTrajectory`.

    stages: Numbers of segments. The fewer, the longer a stage: its share of the run's steps is as
        1 / segments, since the last one is what one step of sampling needs.
    others: See `ConsistencyTrajectory`.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        stages: Sequence[int] = STAGES,
        levels: int = 8,
        spacing: str | None = None,
        order: int = 1,
        teacher_steps: int = 1,
        end_share: float = 0.5,
        metric: str = "huber",
        denoising: float = 0.1,
        denoising_rows: float = 0.25,
        target_decay: float = 0.95,
    ) -> None:
        super().__init__(
            policy,
            teacher,
            weights,
            train_encoder,
            levels,
            spacing,
            order,
            teacher_steps,
            end_share,
            metric,
            denoising,
            denoising_rows,
            target_decay,
        )
        self.stages: tuple[int, ...] = numbers("stages", stages, STAGES)
        falls = all(after < before for before, after in pairwise(self.stages))
        if not falls or not 1 <= self.stages[-1] <= self.stages[0] <= self.grid.steps:
            raise ConfigError(
                f"objective.stages is {list(stages)}: numbers of segments, each below the one "
                f"before, from {self.grid.steps}, the levels, to 1"
            )

    @classmethod
    def jumps(cls, options: Mapping[str, Any]) -> int:
        return int(numbers("stages", options.get("stages", STAGES), STAGES)[-1])

    def segments(self, step: int) -> int:
        whole = sum(1 / count for count in self.stages)
        ends = accumulate(1 / count / whole for count in self.stages)
        done = step / max(self.total_steps, 1)
        found = (count for count, end in zip(self.stages, ends, strict=True) if done < end - 1e-9)
        return next(found, self.stages[-1])

"""A regression student: the mean of the teacher's chunks. What others are compared with."""

from collections.abc import Mapping
from typing import Any, ClassVar

from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import ChunkBatch, Head, Loss
from dipole.policy.heads.regression import RegressionHead
from dipole.policy.policy import Batch
from dipole.policy.training.objectives.distillation.methods.reflow import PairDistillation


@OBJECTIVES.add("regression")
class Regression(PairDistillation):
    """E |f(observation) - the teacher's chunk|^2, a chunk drawn for each observation: the student
    has the head `regression` and learns their mean. Where the teacher's chunks differ (two ways
    around an obstacle), the mean lies between them; where they do not, it is all that is needed.

    steps, pool, reuse: See `PairDistillation`.
    teacher, weights, train_encoder: See `Distillation`.
    """

    head_class: ClassVar[type[Head]] = RegressionHead
    same_parts: ClassVar[tuple[str, ...]] = ("encoder",)

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        head = {"name": "regression"}
        head |= {k: v for k, v in policy["head"].items() if k == "counts_padding"}
        return {**policy, "head": head, "process": None, "prediction": None, "guidance": None}

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        _, chunk, context = self.pairs(batch)
        loss: Loss = self.policy.head.loss(ChunkBatch(chunk), context)
        return loss

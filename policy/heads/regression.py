"""The regression head: the mean of the chunks. What generative policies are compared with."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.data import Feature
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, HEADS, build
from dipole.policy.core.row_draws import mean_divisor
from dipole.policy.heads.base import ChunkBatch, Head, Loss, SampleRequest


@HEADS.add("regression")
class RegressionHead(Head):
    """Behaviour cloning by mean squared error: one evaluation of a network, given a chunk of 0.

    Where demonstrations of one observation differ, its chunk lies between them.

    action: The action's feature.
    horizon: Actions of a chunk, H.
    context: What encoders give.
    denoiser: The network, by name, with its options; it is told time 0.
    counts_padding: Whether actions past an episode's ends have a loss.
    """

    def __init__(
        self,
        action: Feature,
        horizon: int,
        context: ContextSpec,
        denoiser: Mapping[str, Any],
        counts_padding: bool = True,
    ) -> None:
        super().__init__()
        self.counts_padding = counts_padding
        self.shape = (horizon, torch.Size(action.shape).numel())
        self.denoiser = build(
            DENOISERS, denoiser, action_dim=self.shape[1], horizon=horizon, context=context
        )

    def loss(self, batch: ChunkBatch, context: Context) -> Loss:
        output = self._output(context).to(batch.actions.dtype)
        if batch.counted is None:
            return Loss(F.mse_loss(output, batch.actions))
        squared = F.mse_loss(output, batch.actions, reduction="none") * batch.counted
        return Loss(squared.sum() / mean_divisor(batch.counted.sum()))

    def sample(self, context: Context, request: SampleRequest) -> Tensor:
        return self._output(context)

    def _output(self, context: Context) -> Tensor:
        zeros = torch.zeros(context.rows, *self.shape, device=context.device)
        output: Tensor = self.denoiser(zeros, zeros[:, 0, 0], context)
        return output

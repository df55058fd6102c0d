"""What a denoiser is: a network from a noisy chunk, a time and a context to a prediction."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.core.row_draws import no_draws

Prepared = Any  # tensors, or nested tuples of tensors


class Denoiser(nn.Module):
    """(chunk [B, H, A], time, Context) -> prediction [B, H, A].

    It is built from `action_dim`, `horizon`, `context`, a `ContextSpec`, and options of its own. A
    network needs `forward` alone. One that can save work between the evaluations of a chunk
    implements the three others instead, and `forward` follows from them.

    extrapolates: Whether its output may lead far outside of [-1, 1], as guidance's does; then the
        noise follows from the clipped clean chunk.
    time_inputs: Numbers that it is told of a row or a token: its time, and with several what else a
        head tells, such as the time that it is asked to jump to; a time is then [..., inputs].
    rows_are_independent: Whether no row's output depends on another row, nor on random numbers, so
        that training may divide a batch among threads.
    batch_runner: What calls `forward` where it is set: `threaded_batch` divides rows so.
    """

    extrapolates = False
    time_inputs: int = 1
    rows_are_independent = False
    batch_runner: Callable[..., Tensor] | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        run = self.batch_runner or super().__call__
        with no_draws() if self.rows_are_independent else nullcontext():
            return run(*given, **named)

    def sharding_units(self) -> Sequence[nn.Module]:
        """Layers or blocks within, whose weights nothing reads but their own `forward`:
        train.sharding=full gathers one of them at a time."""
        return ()

    def forward(
        self, x: Tensor, time: Tensor, context: Context, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """What the network predicts.

        x: The noisy chunk, [B, H, A], as the prediction scales it.
        time: A row's, [B], or a token's, [B, H]; of several inputs [B, inputs] or [B, H, inputs].
        context: Of B rows.
        residuals: What a ControlNet branch adds; see each network.
        """
        of_time = self.prepared_lead(time)
        return self.predict(x, of_time, self.prepare_context(context), residuals)

    def prepared_lead(self, time: Tensor) -> Prepared:
        """`prepare_time` of times of rows or of tokens: tensors [B, ...] or [B, H, ...]."""
        lead = self.time_lead(time)
        of_time = self.prepare_time(time.reshape(-1, *time.shape[len(lead) :]))
        return map_tensors(lambda each: each.view(*lead, *each.shape[1:]), of_time)

    def time_lead(self, time: Tensor) -> torch.Size:
        """[B] or [B, H], of a time as `forward` takes it."""
        return time.shape if self.time_inputs == 1 else time.shape[:-1]

    def prepare_time(self, times: Tensor) -> Prepared:
        """What follows from the times [M], or [M, inputs], alone: tensors [M, ...] in nested
        tuples."""
        return times

    def prepared_after_prefix(self, prefix: Tensor, clean: Prepared, time: Prepared) -> Prepared:
        """A prepared time for each token: `clean` in the prefix, bool [B, H], `time` after it.

        clean, time: Of `prepare_time`, their tensors begin with [1].
        """
        if not isinstance(clean, Tensor):
            pairs = zip(clean, time, strict=True)
            return tuple(self.prepared_after_prefix(prefix, *pair) for pair in pairs)
        chosen = prefix.view(*prefix.shape, *[1] * (clean.dim() - 1))
        return torch.where(chosen, clean[:, None], time[:, None])

    def prepare_context(self, context: Context) -> Prepared:
        """What follows from the context alone: tensors [B, ...] in nested tuples."""
        return context

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """`forward` with a prepared time and context.

        time: Its tensors begin with [1] or [B], the time of a row, or with [B, H], of a token.
        """
        time = time.expand(x.shape[0], *time.shape[1:]) if time.dim() == 1 else time
        out: Tensor = self(x, time, context, residuals)
        return out


class DenoiserWrapper(Denoiser):
    """A denoiser that evaluates another one in its own way: what is prepared is the other's."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.time_inputs = denoiser.time_inputs

    def prepare_time(self, times: Tensor) -> Prepared:
        return self.denoiser.prepare_time(times)

    def prepared_after_prefix(self, prefix: Tensor, clean: Prepared, time: Prepared) -> Prepared:
        return self.denoiser.prepared_after_prefix(prefix, clean, time)

    def prepare_context(self, context: Context) -> Prepared:
        return self.denoiser.prepare_context(context)


def map_tensors(function: Any, nested: Prepared) -> Prepared:
    """The same nested tuples, of function(tensor) for each tensor."""
    if nested is None:
        return None
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, Context):
        return nested.map(function)
    return tuple(map_tensors(function, each) for each in nested)

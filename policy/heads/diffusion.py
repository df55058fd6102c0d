"""The diffusion head: a denoiser trained by noise prediction, sampled by a solver."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data import Feature
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, HEADS, build
from dipole.policy.denoisers.base import map_tensors
from dipole.policy.diffusion.noise import Generators, draw_noise
from dipole.policy.diffusion.schedules import ScheduleConfig, add_noise, cumulative_alphas, velocity
from dipole.policy.diffusion.solvers import (
    Known,
    SolverConfig,
    SolverStep,
    denoise,
    denoising_times,
    solver_table,
)


@HEADS.add("diffusion")
class DiffusionHead(nn.Module):
    """Learns p(chunk | context) by denoising (DDPM: Ho et al., 2020); chunks are normalised.

    solver: how `sample` draws, unless told otherwise; it may be replaced after training.
    counts_padding: whether actions past an episode's ends, which repeat its first or last one, have
    a loss (as published).
    """

    alphas: Tensor
    inpaints = True

    def __init__(
        self,
        action: Feature,
        horizon: int,
        context_dim: int,
        denoiser: Mapping[str, Any],
        schedule: Mapping[str, Any] | None = None,
        solver: Mapping[str, Any] | None = None,
        token_dim: int | None = None,
        counts_padding: bool = True,
    ) -> None:
        super().__init__()
        self.counts_padding = counts_padding
        self.schedule = from_mapping(ScheduleConfig, schedule or {}, "policy.head.schedule")
        self.solver = from_mapping(SolverConfig, solver or {}, "policy.head.solver")
        if self.schedule.clip_sample and action.normalize != "limits":
            raise ConfigError(
                f"clip_sample clips actions to [-1, 1], but they are normalised by "
                f"{action.normalize!r}: set action.normalize to limits, or clip_sample to false"
            )
        self.horizon, self.action_dim = horizon, torch.Size(action.shape).numel()
        self.denoiser = build(
            DENOISERS,
            denoiser,
            action_dim=self.action_dim,
            horizon=horizon,
            context=ContextSpec(context_dim, token_dim),
        )
        self.register_buffer("alphas", cumulative_alphas(self.schedule))
        denoising_times(
            self.solver, self.schedule.n_steps
        )  # refuse now what cannot be sampled later

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DiffusionHead":
        """Keep the noise levels in single precision at least: bf16 rounds the first one to 1."""
        alphas = self.alphas
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if torch.finfo(self.alphas.dtype).bits < torch.finfo(alphas.dtype).bits:
            self.alphas = alphas.to(self.alphas.device)
        return self

    def check_solver(self) -> None:
        """Refuse now a solver that would fail later."""
        denoising_times(self.solver, self.schedule.n_steps)

    def loss(self, actions: Tensor, context: Context, counted: Tensor | None = None) -> Tensor:
        """Mean squared error over a chunk. actions: [B, H, A], normalised. Scalar.

        counted: which numbers it is the mean over, bool [B, H, A]; None: all.
        """
        noise = torch.randn_like(actions)
        n_levels = self.schedule.n_steps
        time = torch.randint(n_levels, (actions.shape[0],), device=actions.device)  # [B]
        noisy = add_noise(actions, noise, time, self.alphas)
        target = self._target(actions, noise, time)
        predicted = self.denoiser(noisy, time, context).to(target.dtype)
        if counted is None:
            return F.mse_loss(predicted, target)
        squared = F.mse_loss(predicted, target, reduction="none") * counted
        return squared.sum() / counted.sum().clamp(min=1)

    def _target(self, actions: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        if self.schedule.prediction == "epsilon":
            return noise
        if self.schedule.prediction == "sample":
            return actions
        return velocity(actions, noise, time, self.alphas)

    def sample(
        self,
        context: Context,
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        known: Known | None = None,
        init: tuple[Tensor, float] | None = None,
        solver: SolverConfig | None = None,
    ) -> Tensor:
        """A chunk [B, H, A], normalised, for each row of the context.

        noise: [B, H, A], to begin from, instead of drawing it. known: parts that are given. init:
        (chunk [B, H, A], strength in [0, 1]): begin from this chunk, noised for the last `strength`
        of the steps (SDEdit: Meng et al., 2022); strength 1 is pure noise, 0 the chunk itself.
        """
        table = solver_table(solver or self.solver, self.alphas)
        rows, device = context.vector.shape[0], context.vector.device
        shape = (rows, self.horizon, self.action_dim)

        def draw() -> Tensor:
            return draw_noise(shape, generator, device)

        noise = draw() if noise is None else noise.to(device)
        x = noise
        if init is not None:
            chunk, strength = init
            if not 0 <= strength <= 1:
                raise ConfigError(f"the strength of init is {strength}: it lies between 0 and 1")
            table = table[len(table) - round(strength * len(table)) :]
            if strength < 1:
                first = table[0] if table else None
                x = chunk if first is None else first.alpha * chunk + first.sigma * noise
        if known is not None and not known.mask.any():
            known = None  # nothing is known: the same chunk as without, to the last bit
        predictors = self.predictors(table, context)
        return denoise(predictors, x, table, self.schedule, draw, known, noise)

    def predictors(self, table: Sequence[SolverStep], context: Context) -> list[Any]:
        """The denoiser at the time of each step of a solver's table."""
        prepared = self.denoiser.prepare_context(context)
        return [
            partial(self.denoiser.predict, time=time, context=prepared)
            for time in self.times(table)
        ]

    def times(self, table: Sequence[SolverStep]) -> list[Any]:
        """What the denoiser computes from the time of each step alone."""
        times = torch.tensor([step.time for step in table], device=self.alphas.device)
        prepared = self.denoiser.prepare_time(times)
        return [map_tensors(lambda each, i=i: each[i : i + 1], prepared) for i in range(len(times))]

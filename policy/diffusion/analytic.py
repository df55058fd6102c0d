"""Mixtures of Gaussians, of which the best possible denoiser is known: test beds without training.

For x = signal * clean + noise * epsilon and a mixture of components (weight w_k, mean m_k, standard
deviation s_k), with v_k = signal^2 s_k^2 + noise^2,

    p(x)       = sum_k w_k N(x; signal m_k, v_k)
    E[clean|x] = sum_k p(k|x) (m_k + signal s_k^2 / v_k (x - signal m_k))

which holds for any process: it is two numbers, signal and noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.diffusion.denoising import denoise
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate
from dipole.policy.diffusion.processes import Process
from dipole.policy.diffusion.solvers import Solver

Number = float | Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """Isotropic Gaussians in D dimensions; the D numbers may be arranged in any shape.

    means: [K, *shape].
    deviations: Standard deviation of each component, [K].
    weights: [K], positive; they are divided by their sum.
    """

    means: Tensor
    deviations: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        for name in ("deviations", "weights"):
            value = getattr(self, name)
            if value.shape != self.means.shape[:1] or not bool((value > 0).all()):
                raise ConfigError(
                    f"{name} is {value.tolist()}: {len(self.means)} positive numbers are needed, "
                    "one for each mean"
                )

    @classmethod
    def of(
        cls,
        means: Sequence[Sequence[float]],
        deviation: float,
        weights: Sequence[float] | None = None,
    ) -> "GaussianMixture":
        """From plain numbers, double precision; equal weights where none are given."""
        centres = torch.tensor(means, dtype=torch.float64)
        shares = [1.0] * len(means) if weights is None else weights
        spread = torch.full((len(means),), deviation, dtype=torch.float64)
        return cls(centres, spread, torch.tensor(shares, dtype=torch.float64))

    def sample(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws [rows, *shape]; generator: on the mixture's device."""
        chosen = torch.multinomial(self.weights, rows, replacement=True, generator=generator)
        shape = (rows, *self.means.shape[1:])
        means = self.means
        normal = torch.randn(shape, generator=generator, dtype=means.dtype, device=means.device)
        return self.means[chosen] + self._column(self.deviations[chosen], normal) * normal

    def clean(self, x: Tensor, signal: Number, noise: Number) -> Tensor:
        """The mean of what is clean, given x [B, *shape]: the best denoiser's answer.

        signal, noise: Numbers, or tensors that broadcast against [B].
        """
        signal, noise = self._row(signal, x), self._row(noise, x)  # [B or 1, 1]
        offsets = self._offsets(x, signal)  # [B, K, D]
        variances = (signal * self.deviations) ** 2 + noise**2  # [B or 1, K]
        gain = signal * self.deviations**2 / variances
        components = self.means.flatten(1) + gain[..., None] * offsets  # [B, K, D]
        posterior = self._log_joint(offsets, variances).softmax(1)  # [B, K]
        return (posterior[..., None] * components).sum(1).reshape(x.shape)

    def log_density(self, x: Tensor, signal: Number = 1.0, noise: Number = 0.0) -> Tensor:
        """log p(x) at a level, nats, [B]; by default of what is clean."""
        signal, noise = self._row(signal, x), self._row(noise, x)
        variances = (signal * self.deviations) ** 2 + noise**2
        return self._log_joint(self._offsets(x, signal), variances).logsumexp(1)

    def estimate(self, x: Tensor, level: Level) -> Estimate:
        """What a perfect network says of x [B, *shape] at a level."""
        clean = self.clean(x, level.signal, level.noise)
        return Estimate(clean, (x - level.signal * clean) / level.noise)

    def solve(
        self,
        solver: Solver,
        process: Process,
        noise: Tensor,
        draw: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """What a solver makes of standard normal noise [B, *shape], with a perfect network.

        draw: Gives further noise, for solvers that add some; by default as torch draws it.
        """
        levels = solver.levels(process)
        table = solver.table(levels)
        estimators = [partial(self.estimate, level=step.level) for step in table]
        start = process.start_scale(levels[0]) * noise
        return denoise(estimators, start, table, draw or (lambda: torch.randn_like(noise)))

    def component(self, x: Tensor) -> Tensor:
        """The component whose mean is nearest, [B], int64."""
        return self._offsets(x, self._row(1.0, x)).square().sum(-1).argmin(1)

    def _offsets(self, x: Tensor, signal: Tensor) -> Tensor:
        return x.flatten(1)[:, None] - signal[..., None] * self.means.flatten(1)  # [B, K, D]

    def _log_joint(self, offsets: Tensor, variances: Tensor) -> Tensor:
        """log of p(x, k), [B, K]."""
        dimensions = offsets.shape[-1]
        shares = (self.weights / self.weights.sum()).log()
        distances = offsets.square().sum(-1) / variances
        return shares - 0.5 * (distances + dimensions * (2 * math.pi * variances).log())

    def _row(self, value: Number, x: Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=x.dtype, device=x.device).reshape(-1, 1)

    def _column(self, value: Tensor, like: Tensor) -> Tensor:
        return value.reshape(-1, *[1] * (like.ndim - 1))

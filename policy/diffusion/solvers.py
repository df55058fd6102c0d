"""Solvers: from noise to a chunk, as a table of coefficients and one loop over it.

Each solver is one function that turns a noise schedule into a table. A row of it is one denoising
step, and all of them are applied by `denoise`:

    clean = what the denoiser's prediction says about the noise-free chunk, clipped
    x     = row.from_clean * clean + row.from_sample * x + row.from_noise * noise + row.fresh * z

which is diffusers' DDPM and DDIM, step by step (tested to 1e-5; `ddim` says where it is not).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import Registry
from dipole.policy.diffusion.guidance import Guidance
from dipole.policy.diffusion.schedules import ScheduleConfig

SOLVERS: Registry[Callable[["SolverConfig", Sequence[float]], list["SolverStep"]]] = Registry(
    "solver"
)
SPACINGS = ("leading", "trailing")


@dataclass(frozen=True)
class SolverConfig:
    """How a chunk is drawn.

    steps: denoising steps. spacing: which noise levels they visit: "leading" ends at step 0 and
    starts below full noise, "trailing" starts at full noise. eta: DDIM's fresh noise, 0 for none.
    """

    name: str = "ddim"
    steps: int = 10
    spacing: str = "leading"
    eta: float = 0.0

    def __post_init__(self) -> None:
        _ = SOLVERS[self.name]
        if self.spacing == "linspace":
            raise ConfigError(
                "linspace spacing visits levels that DDIM's constant stride does not connect: "
                "choose leading or trailing"
            )
        if self.spacing not in SPACINGS:
            raise ConfigError(f"unknown spacing {self.spacing!r}; known: {', '.join(SPACINGS)}")
        if self.steps < 1:
            raise ConfigError(f"solver.steps is {self.steps}: at least one is needed")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"solver.eta is {self.eta}: it lies between 0 and 1")


@dataclass(frozen=True)
class SolverStep:
    """One denoising step. alpha, sigma: signal and noise at `time`; next_*: after the step."""

    time: int
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float
    from_clean: float
    from_sample: float
    from_noise: float
    fresh: float


def denoising_times(config: SolverConfig, n_levels: int) -> list[int]:
    """The visited noise levels, highest first, as diffusers spaces them (steps_offset 0)."""
    if config.steps > n_levels:
        raise ConfigError(
            f"solver.steps is {config.steps}, but the policy knows {n_levels} noise levels"
        )
    if config.spacing == "leading":
        return [i * (n_levels // config.steps) for i in reversed(range(config.steps))]
    # Rounded as diffusers rounds it: levels half-way between two depend on arange's own error.
    levels = np.round(np.arange(n_levels, 0, -n_levels / config.steps)).astype(np.int64) - 1
    return [int(level) for level in levels if level >= 0]  # arange may overshoot by one: 100 / 29


@SOLVERS.add("ddpm")
def ddpm(config: SolverConfig, alphas: Sequence[float]) -> list[SolverStep]:
    """Ancestral sampling (Ho et al., 2020, eq. 6 and 7), fresh noise in all steps but the last."""
    steps = []
    times = denoising_times(config, len(alphas))
    for time, next_time in zip(times, [*times[1:], None], strict=True):
        kept, next_kept = alphas[time], 1.0 if next_time is None else alphas[next_time]
        alpha = kept / next_kept
        share = (1 - alpha) / (1 - kept)
        variance = max((1 - next_kept) * share, 1e-20)
        steps.append(
            SolverStep(
                time,
                *_signal_and_noise(kept),
                *_signal_and_noise(next_kept),
                from_clean=math.sqrt(next_kept) * share,
                from_sample=math.sqrt(alpha) * (1 - next_kept) / (1 - kept),
                from_noise=0.0,
                fresh=math.sqrt(variance) if time > 0 else 0.0,
            )
        )
    return steps


@SOLVERS.add("ddim")
def ddim(config: SolverConfig, alphas: Sequence[float]) -> list[SolverStep]:
    """Implicit sampling (Song et al., 2021, eq. 12); eta 0 is deterministic.

    Every step ends at the level at which the next one begins, and the last at 0. That is diffusers'
    step with leading spacing, and with trailing spacing where the levels are a multiple of the
    steps. Elsewhere diffusers goes down by one whole stride from levels that lie further apart, and
    leaves noise in the chunk.
    """
    steps = []
    times = denoising_times(config, len(alphas))
    for time, next_time in zip(times, [*times[1:], None], strict=True):
        kept, next_kept = alphas[time], 1.0 if next_time is None else alphas[next_time]
        variance = (1 - next_kept) / (1 - kept) * (1 - kept / next_kept)
        fresh = config.eta * math.sqrt(variance)
        steps.append(
            SolverStep(
                time,
                *_signal_and_noise(kept),
                *_signal_and_noise(next_kept),
                from_clean=math.sqrt(next_kept),
                from_sample=0.0,
                from_noise=math.sqrt(1 - next_kept - fresh**2),
                fresh=fresh,
            )
        )
    return steps


def _signal_and_noise(kept: float) -> tuple[float, float]:
    return math.sqrt(kept), math.sqrt(1 - kept)


def solver_table(config: SolverConfig, alphas: Tensor) -> list[SolverStep]:
    """The denoising steps of a solver over the cumulative alphas [T] of a noise schedule."""
    return SOLVERS[config.name](config, alphas.double().tolist())


def clean_and_noise(
    prediction: Tensor, x: Tensor, step: SolverStep, schedule: ScheduleConfig
) -> tuple[Tensor, Tensor]:
    """What a prediction at x says: (clean chunk, noise), both [B, H, A]."""
    if schedule.prediction == "epsilon":
        return (x - step.sigma * prediction) / step.alpha, prediction
    if schedule.prediction == "sample":
        return prediction, (x - step.alpha * prediction) / step.sigma
    clean = step.alpha * x - step.sigma * prediction
    return clean, step.alpha * prediction + step.sigma * x


def clipped(clean: Tensor, schedule: ScheduleConfig) -> Tensor:
    """A predicted clean chunk, clipped where the schedule clips."""
    return clean.clamp(-1, 1) if schedule.clip_sample else clean


def split_prediction(
    prediction: Tensor, x: Tensor, step: SolverStep, schedule: ScheduleConfig
) -> tuple[Tensor, Tensor]:
    """What a prediction at x says: (clean chunk, clipped where the schedule clips; noise)."""
    clean, noise = clean_and_noise(prediction, x, step, schedule)
    return clipped(clean, schedule), noise


def next_sample(
    x: Tensor, clean: Tensor, noise: Tensor, step: SolverStep, z: Tensor | None
) -> Tensor:
    """x [B, H, A] at the next, lower noise level. z: fresh noise, needed where step.fresh > 0."""
    x = step.from_clean * clean + step.from_sample * x + step.from_noise * noise
    return x if z is None else x + step.fresh * z


def solver_step(
    x: Tensor, prediction: Tensor, step: SolverStep, schedule: ScheduleConfig, z: Tensor | None
) -> Tensor:
    """x [B, H, A] at the next, lower noise level, from what the denoiser predicts at x."""
    clean, noise = split_prediction(prediction, x, step, schedule)
    return next_sample(x, clean, noise, step, z)


@dataclass(frozen=True)
class Known:
    """Parts of a chunk that are given: values [B, H, A], and how much each of them holds.

    mask: [B, H, A], from 0 (unknown) to 1 (given), or booleans. guidance: what is done about them.
    Where the mask is 0, nothing changes, to the last bit.
    """

    values: Tensor
    mask: Tensor
    guidance: Guidance = field(default=Guidance("replace"))

    @property
    def needs_gradients(self) -> bool:
        """Whether torch.inference_mode, which cannot differentiate, is out of the question."""
        return self.guidance.form == "jacobian"


Predict = Callable[[Tensor], Tensor]


def guided_prediction(
    predict: Predict, x: Tensor, step: SolverStep, schedule: ScheduleConfig, known: Known
) -> tuple[Tensor, Tensor]:
    """What a denoiser says at x [B, H, A], moved towards what is known: (clean chunk, noise).

        clean + (1 - tau) weight J^T (mask (values - clean))       tau: see Guidance.weight

    J is the derivative of the clean chunk by x / (alpha + sigma), or the identity. The noise moves
    so that both still make up x. The difference is that of the clipped clean chunk, J that of the
    unclipped one, for where it is clipped it would be 0. The result is not clipped: it says where
    to go, not where to be.
    """
    scale = step.alpha + step.sigma
    if known.needs_gradients:
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            estimate, noise = clean_and_noise(predict(start), start, step, schedule)
        clean, noise = clipped(estimate.detach(), schedule), noise.detach()
        pull = known.mask * (known.values - clean)
        pull = scale * torch.autograd.grad(estimate, start, pull)[0]
    else:
        clean, noise = split_prediction(predict(x), x, step, schedule)
        pull = known.mask * (known.values - clean)
    weight = known.guidance.weight(step.alpha, step.sigma, step.next_alpha, step.next_sigma)
    change = (step.sigma / scale * weight) * pull
    return clean + change, noise - (step.alpha / step.sigma) * change


def denoise(
    predictors: Sequence[Predict],
    x: Tensor,
    table: Sequence[SolverStep],
    schedule: ScheduleConfig,
    draw: Callable[[], Tensor],
    known: Known | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Run the table over x [B, H, A], a chunk at the first step's level, down to a clean one.

    predictors: the denoiser at the time of each row: x -> prediction. draw: gives fresh noise
    [B, H, A]. known: parts that are given. Guidance "replace" sets those of mask 1, before every
    step and after the last one, to their values at that level, so that they come out exactly.
    noise: standard normal [B, H, A], of which these are made; by default x, where that is pure
    noise.
    """
    replaced = known if known is not None and known.guidance.form == "replace" else None
    guided = known if replaced is None else None
    noise = x if noise is None else noise
    for step, predict in zip(table, predictors, strict=True):
        x = _with_known(x, replaced, step.alpha, step.sigma, noise)
        z = draw() if step.fresh > 0 else None
        if guided is not None:
            clean, predicted = guided_prediction(predict, x, step, schedule, guided)
            x = next_sample(x, clean, predicted, step, z)
        else:
            x = solver_step(x, predict(x), step, schedule, z)
    return _with_known(x, replaced, 1.0, 0.0, noise)


def _with_known(
    x: Tensor, known: Known | None, alpha: float, sigma: float, noise: Tensor
) -> Tensor:
    """x [B, H, A] with the given parts at their values at this level of signal and noise."""
    if known is None:
        return x
    return torch.where(known.mask >= 1, alpha * known.values + sigma * noise, x)

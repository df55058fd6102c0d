"""The diffusion head: a denoiser trained over a noise process, sampled by a solver."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dipole.data import Feature
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import DENOISERS, HEADS, PREDICTIONS, PROCESSES, build
from dipole.policy.core.row_draws import mean_divisor
from dipole.policy.denoisers.base import Denoiser, Prepared, map_tensors
from dipole.policy.denoisers.guided import GuidedDenoiser
from dipole.policy.diffusion.denoising import denoise
from dipole.policy.diffusion.known import Estimator
from dipole.policy.diffusion.known_ends import given_tokens
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.likelihood import log_likelihood
from dipole.policy.diffusion.noise import draw_noise
from dipole.policy.diffusion.predictions import Estimate, Prediction, noise_in
from dipole.policy.diffusion.prefix import PrefixConfig, with_prefix
from dipole.policy.diffusion.processes import Process
from dipole.policy.diffusion.solvers import Solver, SolverStep, solver_from, table_of
from dipole.policy.heads.base import ChunkBatch, Head, Loss, SampleRequest
from dipole.policy.heads.diffusion_program import DiffusionProgram
from dipole.policy.heads.schedule import Schedule, ScheduleCache, Way

DEFAULT_SOLVER = {"name": "ddim"}
TARGET_TIME, GUIDANCE_SCALE = EXTRA_INPUTS = ("target_time", "guidance_scale")
SCALE_UNIT = 10.0  # of what the network is told of a guidance scale: times are 0 to 100


@HEADS.add("diffusion")
class DiffusionHead(Head):
    """Learns p(chunk | context) by denoising (DDPM: Ho et al., 2020); chunks are normalised.

    action: The action's feature.
    horizon: Actions of a chunk, H.
    context: What encoders give.
    denoiser, process, prediction: Components by name, with their options; without a prediction the
        process's own.
    solver: How `sample` draws, unless told otherwise; it may be replaced after training.
    clip_sample: Whether estimates of the clean chunk are kept within [-1, 1], right only where
        actions are normalised to these limits.
    counts_padding: Whether actions past an episode's ends, which repeat its first or last one, have
        a loss (as published).
    prefix: `PrefixConfig`, whether chunks that begin with known actions are learned too; then a
        request may know a prefix, and `supports` has it.
    extra_inputs: What the network is told beside the noise level: "target_time", of the level that
        it is asked to jump to, see `SolverStep.target`; "guidance_scale", by which it guides
        itself, in one evaluation.
    """

    supports = frozenset({"noise", "known", "given", "init", "solver", "guidance", "costs"})

    def __init__(
        self,
        action: Feature,
        horizon: int,
        context: ContextSpec,
        denoiser: Mapping[str, Any],
        process: Mapping[str, Any] | None = None,
        prediction: Mapping[str, Any] | str | None = None,
        solver: Mapping[str, Any] | None = None,
        clip_sample: bool = True,
        counts_padding: bool = True,
        prefix: Mapping[str, Any] | None = None,
        extra_inputs: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if clip_sample and action.normalize != "limits":
            raise ConfigError(
                f"clip_sample clips actions to [-1, 1], but they are normalised by "
                f"{action.normalize!r}: set action.normalize to limits, or clip_sample to false"
            )
        self.clip_sample, self.counts_padding = clip_sample, counts_padding
        self.extra_inputs, self.told_scale = _checked_inputs(extra_inputs), 1.0
        self.prefix = from_mapping(PrefixConfig, prefix or {}, "policy.head.prefix")
        self.prefix.check_horizon(horizon)
        if self.prefix.is_trained:
            self.supports = self.supports | {"prefix"}
            self.max_prefix = self.prefix.max_length
        self.process: Process = build(PROCESSES, process or {"name": "vp"})
        self.prediction = _prediction(prediction, self.process)
        self.use_solver(solver_from({**DEFAULT_SOLVER, **(solver or {})}, "policy.head.solver"))
        self._schedules = ScheduleCache()
        self.horizon, self.action_dim = horizon, torch.Size(action.shape).numel()
        self.denoiser: Denoiser = build(
            DENOISERS,
            denoiser,
            action_dim=self.action_dim,
            horizon=horizon,
            context=context,
            **({"time_inputs": 1 + len(self.extra_inputs)} if self.extra_inputs else {}),
        )

    @property
    def guides_itself(self) -> bool:
        return GUIDANCE_SCALE in self.extra_inputs

    @property
    def evaluations_per_chunk(self) -> int:
        return len(table_of(self.solver, self.process))

    def use_solver(self, solver: Solver) -> None:
        table_of(solver, self.process)  # refuses now what would fail later
        self.solver: Solver = solver

    def freeze(self) -> None:
        self._schedules.is_on = True

    def use_guidance(self, scale: float) -> None:
        self._schedules.clear()
        if self.guides_itself:
            self.told_scale = scale
            return
        self.denoiser = GuidedDenoiser(self.denoiser, scale)

    def loss(self, batch: ChunkBatch, context: Context) -> Loss:
        """Squared error of the network's output, weighted as the process says, over all numbers
        that count."""
        clean = batch.actions
        noise = torch.randn_like(clean)
        times = self.process.sample_times(clean.shape[:1], clean.device)  # [B]
        plain = self.process.level(times)
        level, counted = plain.over(clean), batch.counted
        target, weight = self.prediction.target(clean, noise, level), self.process.weight(level)
        prefix = self.prefix.draw(len(clean), self.horizon, clean.device)
        if batch.given is not None:
            prefix = batch.given if prefix is None else prefix | batch.given
        if prefix is not None:
            plain = with_prefix(plain, prefix, self.process.clean)
            level, rest = plain.over(clean), ~prefix[..., None].expand_as(clean)
            counted = rest if counted is None else rest & counted
        given = self.prediction.network_input(level.mix(clean, noise), level)
        output = self.denoiser(given, self.told(plain.time), context).to(target.dtype)
        return Loss(self._error(output, target, weight, counted))

    def _error(
        self, output: Tensor, target: Tensor, weight: Tensor | None, counted: Tensor | None
    ) -> Tensor:
        if weight is None and counted is None:
            return F.mse_loss(output, target)
        squared = F.mse_loss(output, target, reduction="none")
        if weight is not None:
            squared = squared * weight
        if counted is None:
            return squared.mean()
        return (squared * counted).sum() / mean_divisor(counted.sum())

    def sample(self, context: Context, request: SampleRequest) -> Tensor:
        """A normalised chunk [B, H, A] for each row of the context.

        request.init: (chunk, strength): begin from this chunk, noised for the last `strength` of
        the steps (SDEdit: Meng et al., 2022); strength 1 is pure noise, 0 the chunk itself.
        """
        shape = (context.rows, self.horizon, self.action_dim)
        draw = partial(draw_noise, shape, request.generator, context.device)
        noise = draw() if request.noise is None else request.noise.to(context.device)
        known = request.known
        if known is not None and not known.mask.any():
            known = None  # nothing is known: the same chunk as without, to the last bit
        denoiser, scale = self.denoiser, None
        if (guide := request.guidance) is not None and self.guides_itself:
            scale = guide.scale
        elif guide is not None:
            denoiser = GuidedDenoiser(denoiser, guide.scale, guide.passes)
            context = Context.stack([context, guide.context])
        strength = 1.0 if request.init is None else request.init[1]
        way = Way(request.solver or self.solver, scale, strength)
        schedule = self._schedules.get(way, self._schedule)
        table, x = schedule.table, self._start(schedule.levels[0], noise, request.init)
        if known is not None and known.is_clean:
            tokens_of = self.prefix.tokens_of if known.is_prefix else given_tokens
            given = tokens_of(known.mask)
            estimators = self.estimators_after(given, table, context, denoiser, scale)
        else:
            estimators = self.estimators(table, schedule.times, context, denoiser)
        return denoise(
            estimators,
            x,
            table,
            draw,
            clip=self.clip_sample,
            known=known,
            noise=noise,
            costs=request.costs or (),
        )

    def _schedule(self, way: Way) -> Schedule:
        levels, strength = way.solver.levels(self.process), way.strength
        if not 0 <= strength <= 1:
            raise ConfigError(f"the strength of init is {strength}: it lies between 0 and 1")
        if strength < 1:
            steps = len(levels) - 1
            if steps == 1 and strength > 0:
                raise ConfigError(
                    f"the strength of init is {strength}, and one step has no level between noise "
                    "and the chunk to begin at: ask for solver.steps=2 or more, or for 0 or 1"
                )
            levels = levels[steps - round(strength * steps) :]
        table = way.solver.table(levels)
        return Schedule(levels, table, self.prepared_times(table, way.scale))

    def _start(self, first: Level, noise: Tensor, init: tuple[Tensor, float] | None) -> Tensor:
        """x at the first level."""
        if init is None or init[1] == 1:
            scale = self.process.start_scale(first)
            return noise if scale == 1 else scale * noise
        return init[0] if first.is_clean else first.mix(init[0], noise)

    def log_likelihood(
        self,
        chunks: Tensor,
        context: Context,
        steps: int = 100,
        spacing: str | None = None,
        probes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(chunk | context), nats, [B], of chunks [B, H, A] that are normalised.

        steps, spacing: Levels of the probability-flow ODE, see `Process.grid`; None: from the most
            noise on, `Process.full_spacing`, since the density there is taken for that of noise.
        probes, generator: See `dipole.policy.diffusion.likelihood`.
        """
        levels = self.process.grid(steps, spacing or self.process.full_spacing)
        prepared = self.denoiser.prepare_context(context)

        def estimate(x: Tensor, level: Level) -> Estimate:
            time = self.prepared_times([SolverStep(level, level)])
            return self.estimate(x, level, time, prepared)

        scale = self.process.start_scale(levels[0])
        return log_likelihood(estimate, chunks, levels, scale, probes=probes, generator=generator)

    def prepared_times(self, table: Sequence[SolverStep], scale: float | None = None) -> Prepared:
        """What the denoiser computes from the times of a table's rows alone, a row each.

        scale: Of guidance, for a network that is told it; None: what is built in, by default 1.
        """
        weights = next(self.denoiser.parameters())
        times = torch.tensor([step.level.time for step in table], device=weights.device)
        targets = [(step.target or step.level).time for step in table]
        target = torch.tensor(targets, device=weights.device)
        return self.denoiser.prepare_time(self.told(times, target, scale))

    def told(
        self, time: Tensor, target: Tensor | None = None, scale: Tensor | float | None = None
    ) -> Tensor:
        """What the network is told of times [...]: the same, or [..., inputs].

        target: Times to jump to, [...]; None: the same. scale: Of guidance, [...] or a number.
        """
        if not self.extra_inputs:
            return time
        time = time.to(torch.promote_types(time.dtype, torch.float32))
        scale = self.told_scale if scale is None else scale
        known = {
            TARGET_TIME: time if target is None else target.to(time),
            GUIDANCE_SCALE: SCALE_UNIT
            * torch.as_tensor(scale, device=time.device, dtype=time.dtype),
        }
        others = [known[name].expand(time.shape) for name in self.extra_inputs]
        return torch.stack([time, *others], dim=-1)

    def estimate_at(
        self,
        x: Tensor,
        level: Level,
        context: Context,
        target: Level | None = None,
        scale: Tensor | float | None = None,
    ) -> Estimate:
        """What the network says of x [B, H, A] at levels of rows, [B], or of tokens, [B, H]; with a
        gradient, and not clipped: for objectives.

        target: Levels that it is asked to jump to. scale: Of guidance. Both where it is told them.
        """
        spread = level.over(x)
        time = self.told(level.time, None if target is None else target.time, scale)
        output = self.denoiser(self.prediction.network_input(x, spread), time, context)
        return self.prediction.estimate(output.to(x.dtype), x, spread)

    def program(self) -> DiffusionProgram:
        return DiffusionProgram(self)

    def estimators(
        self,
        table: Sequence[SolverStep],
        times: Prepared,
        context: Context,
        denoiser: Denoiser | None = None,
    ) -> list[Estimator]:
        """For each row of a table: x [B, H, A] at its level -> what the network says of it.

        times: Of `prepared_times`.
        denoiser: Instead of the head's own.
        """
        network = denoiser or self.denoiser
        prepared = network.prepare_context(context)
        return [
            partial(
                self.estimate,
                level=step.level,
                time=_row(times, number),
                context=prepared,
                denoiser=network,
            )
            for number, step in enumerate(table)
        ]

    def estimators_after(
        self,
        prefix: Tensor,
        table: Sequence[SolverStep],
        context: Context,
        denoiser: Denoiser | None = None,
        scale: float | None = None,
    ) -> list[Estimator]:
        """As `estimators`, for chunks whose tokens in prefix, bool [B, H], are given clean."""
        network = denoiser or self.denoiser
        clean = self.process.clean
        times = self.prepared_times([*table, SolverStep(clean, clean)], scale)
        prepared = network.prepare_context(context)

        def estimate(x: Tensor, number: int, level: Level) -> Estimate:
            time = network.prepared_after_prefix(
                prefix, _row(times, len(table)), _row(times, number)
            )
            found = self.estimate(x, level, time, prepared, network)
            chosen = prefix[..., None]
            return Estimate(torch.where(chosen, x, found.clean), found.noise.masked_fill(chosen, 0))

        levels = [with_prefix(step.level, prefix, clean).over(prefix[..., None]) for step in table]
        return [
            partial(estimate, number=number, level=level) for number, level in enumerate(levels)
        ]

    def estimate(
        self,
        x: Tensor,
        level: Level,
        time: Prepared,
        context: Prepared,
        denoiser: Denoiser | None = None,
    ) -> Estimate:
        """What the network says of x [B, H, A] at a level; not clipped."""
        network = denoiser or self.denoiser
        given = self.prediction.network_input(x, level)
        found = self.prediction.estimate(network.predict(given, time, context), x, level)
        if not (network.extrapolates and self.clip_sample):
            return found
        # What is far outside is clipped: with the noise of before, x would drift where nothing is.
        return Estimate(found.clean, noise_in(x, found.clean.clamp(-1, 1), level))


def _row(times: Prepared, number: int) -> Prepared:
    """One row of prepared times, its tensors [1, ...]."""
    return map_tensors(lambda each: each[number : number + 1], times)


def _checked_inputs(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in EXTRA_INPUTS:
            raise ConfigError(
                f"policy.head.extra_inputs has {name!r}{nearest(name, EXTRA_INPUTS) or ';'} known: "
                f"{', '.join(EXTRA_INPUTS)}"
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"policy.head.extra_inputs is {list(names)}: each once")
    return tuple(names)


def _prediction(config: Mapping[str, Any] | str | None, process: Process) -> Prediction:
    options = dict(config) if isinstance(config, Mapping) else {"name": config}
    options["name"] = options.get("name") or process.default_prediction
    found: Prediction = build(PREDICTIONS, options)
    return found

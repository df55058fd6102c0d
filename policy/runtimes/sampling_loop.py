"""The whole of a policy's inference as one function of tensors, for runtimes that have no Python.

observations ─ normalise ─> encoder ─> denoising steps, one after another ─> chunk, unnormalised
noise ─────────────────────────────────┘

A runtime takes it whole, the steps unrolled, or in parts: what comes before the steps, one step,
and what comes after them, for a loop of its own around the one step.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Feature
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers.base import Prepared
from dipole.policy.denoisers.export_layers import plain
from dipole.policy.diffusion.denoising import denoise, depths, next_x
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import clipped
from dipole.policy.diffusion.solvers import SolverStep, table_of
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.policy import Policy

BATCH = "B"  # an axis of any size in the shapes below
NOISE, FRESH_NOISE = "noise", "fresh_noise"  # names of inputs
OBSERVATION = "observation."  # prefix of inputs, so that none can be taken for the noise
PRESENT = "present."  # prefix of inputs that say which rows have an observation that may be missing


@dataclass(frozen=True)
class Port:
    """An input or output: its shape, with "B" for the batch, and what its numbers mean."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    units: str

    def example(self, batch_size: int) -> Tensor:
        """Random values of this shape."""
        shape = tuple(batch_size if size == BATCH else int(size) for size in self.shape)
        if self.dtype == "uint8":
            return torch.randint(256, shape, dtype=torch.uint8)
        return torch.randn(shape)

    @property
    def batch_axis(self) -> int:
        return self.shape.index(BATCH)


class SamplingLoop(nn.Module):
    """Tensors in the order of `inputs` -> chunk [B, H, A] in the units of training.

    Inputs and chunk are converted (see `dipole.data.Feature.convert`): whoever runs it applies and
    inverts that outside.

    The solver's steps are unrolled, and what the denoiser makes of their times is a constant. Noise
    is an input, [B, H, A] and, where the solver adds fresh noise, [N, B, H, A] with one entry for
    each of the N steps that do: the loop is a function, and who calls it owns the randomness.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        diffusion_head(policy)
        self.policy = plain(policy).cpu().eval()
        self.policy.build_in_guidance()
        head = diffusion_head(self.policy)
        self.table = table_of(head.solver, head.process)
        self.n_fresh = sum(step.fresh_noise > 0 for step in self.table)
        self.inputs = _inputs(policy, self.n_fresh)
        times = head.prepared_times(self.table)
        self.n_times = len(flat(times))
        self.shape_of_times = times
        for number, half in enumerate(flat(times)):
            self.register_buffer(f"time_table_{number}", half)

    @property
    def output(self) -> Port:
        action = self.policy.features.action
        shape: tuple[int | str, ...] = (BATCH, self.policy.window.horizon, *action.shape)
        return Port("chunk", shape, "float32", _units(action))

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip([port.name for port in self.inputs], tensors, strict=True))
        head = diffusion_head(self.policy)
        context = self.encode(given)
        scale = head.process.start_scale(self.table[0].level)
        chunk = denoise(
            head.estimators(self.table, nested(self.shape_of_times, self.time_table), context),
            given[NOISE] if scale == 1 else scale * given[NOISE],
            self.table,
            draw=iter(given[FRESH_NOISE].unbind(0) if self.n_fresh else ()).__next__,
            clip=head.clip_sample,
        )
        return self.policy.unnormalize_action(chunk)

    @property
    def time_table(self) -> list[Tensor]:
        """What the denoiser makes of the steps' times, each [S, 2C]."""
        return [half for _, half in self.named_buffers(recurse=False)]

    def encode(self, given: Mapping[str, Tensor]) -> Context:
        """The context of the observations among the inputs."""
        names = self.policy.features.observation
        context: Context = self.policy.guided_context(
            {name: given[OBSERVATION + name] for name in names},
            {name: given[PRESENT + name] < 0.5 for name in self.policy.optional},
        )
        return context

    def examples(self, batch_size: int) -> tuple[Tensor, ...]:
        """Random inputs."""
        return tuple(port.example(batch_size) for port in self.inputs)


class BeforeSteps(nn.Module):
    """All inputs but the noise -> what the steps need of them: where the solver adds fresh noise,
    [S, B, H, A] with zeros for the steps that add none; then the denoiser's context table."""

    def __init__(self, loop: SamplingLoop) -> None:
        super().__init__()
        self.loop = loop
        self.inputs = [port for port in loop.inputs if port.name != NOISE]
        drawn = itertools.count()
        adds = [step.fresh_noise > 0 for step in loop.table]
        self.entry = torch.tensor([next(drawn) if a else loop.n_fresh for a in adds])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip([port.name for port in self.inputs], tensors, strict=True))
        head = diffusion_head(self.loop.policy)
        table = flat(head.denoiser.prepare_context(self.loop.encode(given)))
        if not self.loop.n_fresh:
            return tuple(table)
        fresh = given[FRESH_NOISE]
        with_none = torch.cat([fresh, torch.zeros_like(fresh[:1])])
        return (with_none[self.entry], *table)


class OneStep(nn.Module):
    """x [B, H, A] at one row of the solver's table -> x at the next.

    Then come, each with an axis of one before: the row's numbers [1, N]; fresh noise [1, B, H, A],
    where the solver adds some; the row's entries of the time table [1, 2C]. And last, as it is, the
    context table.
    """

    def __init__(self, loop: SamplingLoop, context: Prepared) -> None:
        super().__init__()
        if max(depths(loop.table)) > 1:
            raise ConfigError(
                f"OpenVINO does not run {diffusion_head(loop.policy).solver.name!r} yet, which "
                "looks back on earlier evaluations: choose ddim, ddpm or euler"
            )
        self.policy, self.adds_noise = loop.policy, loop.n_fresh > 0
        self.shape_of_times, self.shape_of_context = loop.shape_of_times, context
        self.n_times = loop.n_times
        self.sizes = depths(loop.table)

    def forward(self, x: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        head = diffusion_head(self.policy)
        z, rest = (rest[0][0], rest[1:]) if self.adds_noise else (None, rest)
        of_time, of_context = rest[: self.n_times], rest[self.n_times :]
        numbers: Any = row[0].unbind()
        signal, noise, fresh, *factors = numbers
        level: Any = Level(0.0, signal, noise)
        found = head.estimate(
            x,
            level,
            nested(self.shape_of_times, of_time),
            nested(self.shape_of_context, of_context),
        )
        clean, epsilon = clipped(found, head.clip_sample)
        n_x, n_clean, _ = self.sizes
        step = SolverStep(
            level,
            level,
            tuple(factors[:n_x]),
            tuple(factors[n_x : n_x + n_clean]),
            tuple(factors[n_x + n_clean :]),
            fresh,
        )
        return next_x(step, [x], [clean], [epsilon], z)


class AfterSteps(nn.Module):
    """The last x [B, H, A] -> chunk, in the robot's units."""

    def __init__(self, loop: SamplingLoop) -> None:
        super().__init__()
        self.policy = loop.policy

    def forward(self, x: Tensor) -> Tensor:
        return self.policy.unnormalize_action(x)


def diffusion_head(policy: Policy) -> DiffusionHead:
    """The head of a policy that is exported. Raises ConfigError for another kind."""
    if not isinstance(policy.head, DiffusionHead):
        raise ConfigError(
            f"only diffusion heads can be exported, this is {policy.config.head['name']!r}"
        )
    return policy.head


def step_rows(table: Sequence[SolverStep]) -> Tensor:
    """The numbers of each row of a solver's table: [S, N]."""
    sizes = depths(table)
    rows = []
    for step in table:
        numbers = [step.level.signal, step.level.noise, step.fresh_noise]
        for size, factors in zip(
            sizes, (step.from_x, step.from_clean, step.from_noise), strict=True
        ):
            numbers += [*factors, *[0.0] * (size - len(factors))]
        rows.append(numbers)
    return torch.tensor(rows)


def flat(prepared: Prepared) -> list[Tensor]:
    """The tensors of nested tuples, in their order."""
    if prepared is None:
        return []
    if isinstance(prepared, Tensor):
        return [prepared]
    return [tensor for each in _entries(prepared) for tensor in flat(each)]


def nested(like: Prepared, tensors: Sequence[Tensor]) -> Prepared:
    """The inverse of `flat`: the tensors in the nested tuples of `like`."""
    rest = iter(tensors)

    def filled(each: Prepared) -> Prepared:
        if each is None:
            return None
        if isinstance(each, Tensor):
            return next(rest)
        entries = [filled(entry) for entry in _entries(each)]
        return Context(*entries) if isinstance(each, Context) else tuple(entries)

    return filled(like)


def _entries(prepared: Prepared) -> Sequence[Prepared]:
    if isinstance(prepared, Context):
        return (prepared.vector, prepared.tokens, prepared.token_mask, prepared.frames)
    found: Sequence[Prepared] = prepared
    return found


def _units(feature: Feature) -> str:
    return "the robot's, converted as features say" if feature.convert else "the robot's"


def _inputs(policy: Policy, n_fresh: int) -> Sequence[Port]:
    chunk: tuple[int, ...] = (policy.window.horizon, *policy.features.action.shape)
    ports = [
        Port(
            OBSERVATION + name,
            (BATCH, policy.window.n_obs_steps, *feature.shape),
            str(feature.dtype),
            _units(feature),
        )
        for name, feature in policy.features.observation.items()
    ]
    ports += [
        Port(PRESENT + name, (BATCH,), "float32", "1 for a row that has it, else 0")
        for name in policy.optional
    ]
    ports.append(Port(NOISE, (BATCH, *chunk), "float32", "standard normal"))
    if n_fresh:
        fresh: tuple[int | str, ...] = (n_fresh, BATCH, *chunk)
        ports.append(Port(FRESH_NOISE, fresh, "float32", "standard normal, one entry a step"))
    return ports

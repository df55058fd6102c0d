"""The whole of a policy's inference as one function of tensors, for runtimes that have no Python.

observations ─ normalise ─> encoder ─> denoising steps, one after another ─> chunk, unnormalised
noise ─────────────────────────────────┘

A runtime takes it whole, the steps unrolled, or in parts: what comes before the steps, one step,
and what comes after them, for a loop of its own around the one step.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Feature
from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.denoisers.base import map_tensors
from dipole.policy.denoisers.export_layers import plain
from dipole.policy.diffusion.solvers import SolverStep, denoise, solver_step, solver_table
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
        if not isinstance(policy.head, DiffusionHead):
            raise ConfigError(
                f"only diffusion heads can be exported, this is {policy.config.head['name']!r}"
            )
        self.policy = plain(policy).cpu().eval()
        head: DiffusionHead = self.policy.head
        self.table = solver_table(head.solver, head.alphas)
        self.n_fresh = sum(step.fresh > 0 for step in self.table)
        self.inputs = _inputs(policy, self.n_fresh)
        times = torch.tensor([step.time for step in self.table])
        prepared = head.denoiser.prepare_time(times)
        for number, half in enumerate(_flat(prepared)):
            self.register_buffer(f"time_table_{number}", half)
        self.time_form = map_tensors(lambda _: None, prepared)
        context = head.denoiser.prepare_context(self.encode(self._examples(1)))
        self.context_form = map_tensors(lambda _: None, context)

    @property
    def output(self) -> Port:
        action = self.policy.features.action
        shape: tuple[int | str, ...] = (BATCH, self.policy.window.horizon, *action.shape)
        return Port("chunk", shape, "float32", _units(action))

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip([port.name for port in self.inputs], tensors, strict=True))
        head: DiffusionHead = self.policy.head
        context = head.denoiser.prepare_context(self.encode(given))
        times = [_nested(self.time_form, each) for each in self._times()]
        chunk = denoise(
            [partial(head.denoiser.predict, time=time, context=context) for time in times],
            given[NOISE],
            self.table,
            head.schedule,
            draw=iter(given[FRESH_NOISE].unbind(0) if self.n_fresh else ()).__next__,
        )
        return self.policy.unnormalize_action(chunk)

    def _times(self) -> list[list[Tensor]]:
        """What the denoiser makes of each step's time, each [1, ...]."""
        return [[half[i : i + 1] for half in self.time_table] for i in range(len(self.table))]

    def _examples(self, batch_size: int) -> dict[str, Tensor]:
        names = [port.name for port in self.inputs]
        return dict(zip(names, self.examples(batch_size), strict=True))

    @property
    def time_table(self) -> list[Tensor]:
        """What the denoiser makes of the steps' times, each [S, 2C]."""
        return [half for _, half in self.named_buffers(recurse=False)]

    def encode(self, given: Mapping[str, Tensor]) -> Context:
        """The context of the observations among the inputs."""
        names = self.policy.features.observation
        context: Context = self.policy.encode(
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
        adds = [step.fresh > 0 for step in loop.table]
        self.entry = torch.tensor([next(drawn) if a else loop.n_fresh for a in adds])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip([port.name for port in self.inputs], tensors, strict=True))
        head: DiffusionHead = self.loop.policy.head
        table = _flat(head.denoiser.prepare_context(self.loop.encode(given)))
        if not self.loop.n_fresh:
            return tuple(table)
        fresh = given[FRESH_NOISE]
        with_none = torch.cat([fresh, torch.zeros_like(fresh[:1])])
        return (with_none[self.entry], *table)


class OneStep(nn.Module):
    """x [B, H, A] at one row of the solver's table -> x at the next.

    Then come, each with an axis of one before: the row's numbers [1, 8]; fresh noise [1, B, H, A],
    where the solver adds some; the row's entries of the time table [1, 2C]. And last, as it is, the
    context table.
    """

    def __init__(self, loop: SamplingLoop) -> None:
        super().__init__()
        self.policy, self.adds_noise = loop.policy, loop.n_fresh > 0
        self.forms = loop.time_form, loop.context_form
        self.n_times = len(loop.time_table)

    def forward(self, x: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        head: DiffusionHead = self.policy.head
        z, rest = (rest[0][0], rest[1:]) if self.adds_noise else (None, rest)
        of_time = _nested(self.forms[0], rest[: self.n_times])
        of_context = _nested(self.forms[1], rest[self.n_times :])
        prediction = head.denoiser.predict(x, of_time, of_context)
        numbers: Any = row[0].unbind()
        return solver_step(x, prediction, SolverStep(0, *numbers), head.schedule, z)


class AfterSteps(nn.Module):
    """The last x [B, H, A] -> chunk, in the robot's units."""

    def __init__(self, loop: SamplingLoop) -> None:
        super().__init__()
        self.policy = loop.policy

    def forward(self, x: Tensor) -> Tensor:
        return self.policy.unnormalize_action(x)


def _flat(nested: Any) -> list[Tensor]:
    """The tensors of nested tuples, in their order."""
    if isinstance(nested, Tensor):
        return [nested]
    return [tensor for each in nested for tensor in _flat(each)]


def _nested(form: Any, tensors: Sequence[Tensor]) -> Any:
    """Tensors in nested tuples, with None in their places in the form."""
    left = iter(tensors)

    def fill(form: Any) -> Any:
        return next(left) if form is None else tuple(fill(each) for each in form)

    return fill(form)


def step_rows(table: Sequence[SolverStep]) -> Tensor:
    """The numbers of each row of a solver's table, in the order of `SolverStep`: [S, 8]."""
    return torch.tensor([astuple(step)[1:] for step in table])


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

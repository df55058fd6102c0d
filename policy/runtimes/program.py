"""The whole of a policy's inference as one function of named tensors.

observations ─ normalise ─> encoder ─> prepared ───┐
noise ─> state ─> step ─> step ─> ... ─> state ─> chunk, unnormalised
                   └─ constants, fresh noise

A runtime takes it whole, the steps unrolled (`SamplingProgram`), or in parts, for a loop of its own
(`Start`, `Step`, `End`). Everything that goes from part to part has a name; see `parts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dipole.data import Feature
from dipole.policy.context import Context
from dipole.policy.core.nested import Rebuild, flatten
from dipole.policy.denoisers.export_layers import plain
from dipole.policy.heads.program import ChunkProgram
from dipole.policy.policy import Policy

BATCH = "B"  # an axis of any size in the shapes below
NOISE, FRESH_NOISE = "noise", "fresh_noise"  # names of inputs
OBSERVATION = "observation."  # prefix of inputs, so that none can be taken for the noise
PRESENT = "present."  # prefix of inputs that say which rows have an observation that may be missing
STATE, CONSTANT, PREPARED = "state", "constant", "prepared"  # prefixes of names between parts


@dataclass(frozen=True)
class Port:
    """An input or output.

    shape: With "B" for the batch.
    units: What its numbers mean.
    """

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


class SamplingProgram(nn.Module):
    """Tensors in the order of `inputs` -> chunk [B, H, A] in the units of training.

    Classifier-free guidance is part of it, at the policy's scale.

    Inputs and chunk are converted and represented (see `dipole.data.Feature`): whoever runs it
    applies and inverts that outside.

    What follows from the solver's table alone is constant. Noise is an input, [B, H, A] and, where
    the solver adds fresh noise, [N, B, H, A] with one entry for each of the N steps that do: the
    program is a function, and who calls it owns the randomness.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = plain(policy).cpu().eval()
        self.policy.build_in_guidance()
        with torch.no_grad():
            self.head: ChunkProgram = self.policy.head.program()
            constants, self._rebuild_constants = flatten(self.head.constants, CONSTANT)
        self.constant_names = list(constants)
        for number, tensor in enumerate(constants.values()):
            self.register_buffer(f"constant_{number}", tensor)
        self.inputs = _inputs(self.policy, self.head)

    @property
    def constants(self) -> dict[str, Tensor]:
        """By name, each [S, ...]."""
        return dict(zip(self.constant_names, self.buffers(recurse=False), strict=True))

    @property
    def output(self) -> Port:
        action = self.policy.features.action
        shape: tuple[int | str, ...] = (BATCH, self.policy.window.horizon, *action.shape)
        return Port("chunk", shape, "float32", _units(action))

    def forward(self, *tensors: Tensor) -> Tensor:
        given = self.named(tensors)
        constants = self._rebuild_constants(self.constants.values())
        fresh = given[FRESH_NOISE].unbind(0) if FRESH_NOISE in given else ()
        chunk = self.head.chunk(self.encode(given), given.get(NOISE), fresh, constants)
        return self.policy.unnormalize_action(chunk)

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Tensors in the order of `inputs`, by name."""
        return dict(zip([port.name for port in self.inputs], tensors, strict=True))

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


class Start(nn.Module):
    """The program's inputs, in their order -> tensors named by `outputs`: the state before the
    first step; fresh noise [S, B, H, A], where there is some, with zeros for the steps that take
    none; what is prepared of the context."""

    entry: Tensor  # of the fresh noise, for each step

    def __init__(self, program: SamplingProgram) -> None:
        super().__init__()
        self.program = program
        takes = program.head.fresh_noise
        drawn = [sum(takes[:number]) if each else sum(takes) for number, each in enumerate(takes)]
        self.register_buffer("entry", torch.tensor(drawn), persistent=False)
        self.rebuild: dict[str, Rebuild] = {}  # by kind, once it has run
        self.outputs: list[str] = []

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given, head = self.program.named(tensors), self.program.head
        prepared = head.prepare(self.program.encode(given))
        named: dict[str, Tensor] = {}
        for kind, nested in (
            (STATE, head.start(given.get(NOISE), prepared)),
            (FRESH_NOISE, self._fresh(given)),
            (PREPARED, prepared),
        ):
            found, self.rebuild[kind] = flatten(nested, kind)
            named |= found
        self.outputs = list(named)
        return tuple(named.values())

    def _fresh(self, given: Mapping[str, Tensor]) -> Tensor | None:
        if FRESH_NOISE not in given:
            return None
        fresh = given[FRESH_NOISE]
        return torch.cat([fresh, torch.zeros_like(fresh[:1])])[self.entry]


class Step(nn.Module):
    """The state at one row of the constants -> the state at the next.

    Takes tensors in the order of `inputs`: the state; one row of the constants, each [1, ...]; one
    row of fresh noise [1, B, H, A], where there is some; what is prepared of the context.
    start: After it has run.
    """

    def __init__(self, program: SamplingProgram, start: Start) -> None:
        super().__init__()
        self.program, self.start = program, start
        self.state = [name for name in start.outputs if _is_of(STATE, name)]
        fresh = [name for name in start.outputs if name == FRESH_NOISE]
        self.rows = [*program.constant_names, *fresh]  # of which each step takes one
        self.prepared = [name for name in start.outputs if _is_of(PREPARED, name)]
        self.inputs = [*self.state, *self.rows, *self.prepared]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given, program = dict(zip(self.inputs, tensors, strict=True)), self.program
        state = self.start.rebuild[STATE](_those(given, self.state))
        constants = program._rebuild_constants(_those(given, program.constant_names))
        prepared = self.start.rebuild[PREPARED](_those(given, self.prepared))
        fresh = given[FRESH_NOISE][0] if FRESH_NOISE in given else None
        after, _ = flatten(program.head.step(state, constants, prepared, fresh), STATE)
        return tuple(_those(after, self.state))


class End(nn.Module):
    """The state after the last step, as `Step.state` -> chunk, in the robot's units."""

    def __init__(self, program: SamplingProgram, start: Start) -> None:
        super().__init__()
        self.program, self.start = program, start

    def forward(self, *state: Tensor) -> Tensor:
        chunk = self.program.head.finish(self.start.rebuild[STATE](state))
        return self.program.policy.unnormalize_action(chunk)


def _is_of(kind: str, name: str) -> bool:
    return name == kind or name.startswith(f"{kind}.")


def _those(named: Mapping[str, Tensor], names: Iterable[str]) -> list[Tensor]:
    return [named[name] for name in names]


def _units(feature: Feature) -> str:
    if feature.represent is not None:
        return "the robot's, converted and relative to a pose as features say"
    return "the robot's, converted as features say" if feature.is_converted else "the robot's"


def _inputs(policy: Policy, head: ChunkProgram) -> Sequence[Port]:
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
    if head.takes_noise:
        ports.append(Port(NOISE, (BATCH, *chunk), "float32", "standard normal"))
    if n_fresh := sum(head.fresh_noise):
        fresh: tuple[int | str, ...] = (n_fresh, BATCH, *chunk)
        ports.append(Port(FRESH_NOISE, fresh, "float32", "standard normal, one entry a step"))
    return ports

"""What a head is: what learns action chunks given a context, and draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.diffusion.classifier_free import Unconditional
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.noise import Generators
from dipole.policy.diffusion.solvers import Solver
from dipole.policy.heads.program import ChunkProgram


@dataclass(frozen=True)
class MeanError:
    """A mean over numbers of several batches: the sum of their absolute errors, and how many they
    are; scalars."""

    total: Tensor
    count: Tensor


@dataclass(frozen=True)
class Loss:
    """What a training step minimises.

    total: A scalar.
    parts: Named scalars that are reported, such as those that make up the total.
    errors: By "NAME/UNIT", or "NAME" where the unit is unknown: what validation reports beside the
        loss, in numbers that mean something to a person.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    errors: Mapping[str, MeanError] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkBatch:
    """Action chunks to be learned, normalised.

    actions: [B, H, A].
    is_pad: bool [B, H], true past an episode's ends, where its first or last action is repeated.
    counted: bool [B, H, A], the numbers that have a loss; None: all.
    given: bool [B, H], actions that are known when a chunk is drawn, and have no loss; None: none.
    """

    actions: Tensor
    is_pad: Tensor | None = None
    counted: Tensor | None = None
    given: Tensor | None = None

    def rows_of(self, which: slice) -> "ChunkBatch":
        """Some of the rows."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        known = {name: part[which] for name, part in parts.items() if part is not None}
        return ChunkBatch(**known)


@dataclass(frozen=True)
class SampleRequest:
    """What is asked of a head that draws chunks; None: nothing of that kind.

    generator: One, or one for each row.
    noise: [B, H, A], standard normal, to begin from instead of drawing it.
    known: `KnownChunk`, parts of the chunks that are given.
    init: (chunk [B, H, A], strength in [0, 1]), to begin from this chunk (SDEdit).
    solver: A `Solver`, instead of the head's own.
    guidance: `Unconditional`, by which the context guides more strongly (classifier-free).
    costs: `CostTerm`s of normalised chunks, down which estimates move.
    """

    generator: Generators = None
    noise: Tensor | None = None
    known: Any = None
    init: tuple[Tensor, float] | None = None
    solver: Solver | None = None
    guidance: Unconditional | None = None
    costs: Sequence[CostTerm] | None = None

    def asked(self) -> Sequence[str]:
        """Names of what is asked for, beside the generator."""
        names = (field.name for field in fields(self) if field.name != "generator")
        asked = [name for name in names if getattr(self, name) is not None]
        if self.known is None or not self.known.is_clean:
            return asked
        return [*asked, self.known.guidance.method]


class Head(nn.Module):
    """Learns p(chunk | context), and draws from it.

    solver: How it draws, for heads that have one.
    supports: Which entries of a `SampleRequest` it understands; `Policy.predict` refuses others.
        "prefix": known actions that the network was trained to go on from; "given": any that are
        known, where its batches had these `given`.
    max_prefix: How many of these at most; 0: none.
    counts_padding: Whether actions past an episode's ends have a loss (as published).
    """

    supports: frozenset[str] = frozenset()
    max_prefix: int = 0
    counts_padding: bool = True
    solver: Solver | None = None

    @property
    def guides_itself(self) -> bool:
        """Whether its network is told the scale of classifier-free guidance, and needs no second
        context."""
        return False

    @property
    def evaluations_per_chunk(self) -> int:
        """How often a network is evaluated for a chunk."""
        return 1

    def use_solver(self, solver: Solver) -> None:
        """Draw by this solver from now on. Raises ConfigError for one that does not fit."""
        raise ConfigError(f"a {type(self).__name__} has no solver to set")

    def use_guidance(self, scale: float) -> None:
        """Guide by contexts of twice the rows from now on. See `Policy.build_in_guidance`."""
        raise ConfigError(f"a {type(self).__name__} has no guidance to build in")

    def freeze(self) -> None:
        """The weights are not changed in place from now on, until `train()`: what follows from them
        and the solver alone may be kept from one `sample` to the next. By default nothing is."""

    def loss(self, batch: ChunkBatch, context: Context) -> Loss:
        """The training loss of a batch."""
        raise NotImplementedError

    def sample(self, context: Context, request: SampleRequest) -> Tensor:
        """A normalised chunk [B, H, A] for each row of the context."""
        raise NotImplementedError

    def program(self) -> ChunkProgram:
        """How it draws a chunk, in tensors alone, for other runtimes. By default `sample`, as one
        function of the context and, where it supports that, the noise."""
        return ChunkProgram(self)

"""How a head draws a chunk, in tensors alone: what is exported and captured.

    prepared = prepare(context)                             once a chunk
    state = start(noise, prepared)                          {name: [B, ...]}
    state = step(state, row, prepared, fresh noise)         for each row of the constants
    chunk = finish(state)

A runtime may take all of it, the steps unrolled (`chunk`), or one step in a loop of its own.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.core.nested import flatten

if TYPE_CHECKING:
    from dipole.policy.heads.base import Head

Nested = Any  # tensors, or nested tuples of tensors
State = dict[str, Tensor]


class ChunkProgram:
    """Any head's `sample`, as one function without steps.

    takes_noise: Whether it begins from standard normal noise.
    fresh_noise: For each step, whether it takes fresh noise.
    constants: What differs from step to step, {name: tensors [S, ...]}.
    """

    takes_noise: bool
    fresh_noise: Sequence[bool] = ()
    constants: Mapping[str, Nested]

    def __init__(self, head: "Head") -> None:
        self.head = head
        self.takes_noise = "noise" in head.supports
        self.constants = {}

    def prepare(self, context: Context) -> Nested:
        """What depends on the context alone, tensors [B, ...]."""
        return context

    def start(self, noise: Tensor | None, prepared: Nested) -> State:
        """The state before the first step. noise: [B, H, A]."""
        from dipole.policy.heads.base import SampleRequest

        return {"x": self.head.sample(prepared, SampleRequest(noise=noise))}

    def step(
        self, state: State, row: Mapping[str, Nested], prepared: Nested, fresh: Tensor | None
    ) -> State:
        """The state after a step.

        row: One row of the constants, tensors [1, ...].
        fresh: Fresh noise [B, H, A], given in all steps where one of them takes some.
        """
        raise NotImplementedError

    def finish(self, state: State) -> Tensor:
        """The normalised chunk [B, H, A]."""
        return state["x"]

    def chunk(
        self,
        context: Context,
        noise: Tensor | None,
        fresh: Sequence[Tensor],
        constants: Mapping[str, Nested],
    ) -> Tensor:
        """All of it. fresh: For each step that takes some; constants: As above, on the device."""
        prepared = self.prepare(context)
        state, left = self.start(noise, prepared), iter(fresh)
        tensors, rebuild = flatten(constants)
        for number, takes in enumerate(self.fresh_noise):
            row = rebuild(each[number : number + 1] for each in tensors.values())
            state = self.step(state, row, prepared, next(left) if takes else None)
        return self.finish(state)

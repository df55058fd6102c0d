"""How the processes of a group divide the work of an update.

Each has the gradient of its rows. With `Division` every process has the sums of all gradients and
makes the whole update. Where all of them are on one machine and compute on its processors they have
weights, averages and the optimisers' state in shared memory (`SharedDivision`): each adds up the
gradients of some of the parameters, and updates these and their averages (after Rajbhandari et al.,
2020, "ZeRO", stage 1, without copies of anything). With train.sharding=full each has a shard of all
of it (`ShardedDivision`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, distributed, nn

from dipole.policy.training.optimization.adamw import AdamW
from dipole.policy.training.optimization.finite import gradient_norm
from dipole.policy.training.optimization.gradients import (
    GradientSums,
    have_same_gradients,
    refuse_different_gradients,
)
from dipole.policy.training.optimization.shards import local
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.shared_memory import SharedMemory

if TYPE_CHECKING:
    from dipole.policy.training.optimization.sharding import FullSharding
    from dipole.policy.training.state import TrainState

Parameters = Mapping[str, Sequence[nn.Parameter]]


class Division:
    """Every process updates all parameters.

    parameters: By update. overlaps: Whether gradients are sent during the backward pass.
    """

    def __init__(self, group: Group, parameters: Parameters, overlaps: bool) -> None:
        self.group, self.parameters = group, parameters
        self._sums = {n: GradientSums(p, group, overlaps) for n, p in parameters.items()}

    def updates(self, parameter: Tensor) -> bool:
        """Whether this process updates it."""
        return True

    def last_backward(self, update: str) -> AbstractContextManager[None]:
        """Around the last backward pass before `sum_gradients`."""
        return self._sums[update].sending()

    def sum_gradients(self, update: str) -> None:
        """The gradients of those that this process updates become the sums over all processes; the
        others have none."""
        self._sums[update].finish()

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Of the sums, of all parameters."""
        return gradient_norm(parameters)

    def clip(self, parameters: Sequence[nn.Parameter], longest: float, norm: Tensor) -> None:
        """Shorten the gradients that this process has to `longest`, where their norm is more."""
        torch.nn.utils.clip_grads_with_norm_(parameters, longest, norm)

    def barrier(self) -> None:
        """All processes have updated theirs: before a process reads parameters or averages."""


class SharedDivision(Division):
    """Each parameter is updated by one process, in memory that all of them have.

    What else changes the weights that are trained, between steps, is done by every process, and has
    to come to the same whether one of them does it or all.
    """

    def __init__(
        self,
        group: Group,
        parameters: Parameters,
        owners: dict[Tensor, int],
        memory: SharedMemory,
    ) -> None:
        super().__init__(group, parameters, overlaps=False)
        self._owners = owners
        own = group.rank.index
        self._gradients = [{p: memory.take(p) for p in owners} for _ in range(group.rank.count)]
        self._written = self._gradients[own]

    def updates(self, parameter: Tensor) -> bool:
        return self._owners.get(parameter, 0) == self.group.rank.index

    def sum_gradients(self, update: str) -> None:
        parameters = self.parameters[update]
        self._write(parameters)
        if not have_same_gradients(parameters, self.group):
            self._write(parameters)
            self.group.round()
        count, own = self.group.rank.count, self.group.rank.index
        for parameter in parameters:
            if not self.updates(parameter):
                parameter.grad = None
            elif parameter.grad is not None:
                for other in range(own + 1, own + count):
                    parameter.grad.add_(self._gradients[other % count][parameter])

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        own = gradient_norm(parameters)
        return self.group.add(own.double().square()).sqrt().to(own.dtype)

    def barrier(self) -> None:
        self.group.round()

    def _write(self, parameters: Sequence[nn.Parameter]) -> None:
        """Write the gradients that other processes add up."""
        for parameter in parameters:
            if parameter.grad is not None and not self.updates(parameter):
                self._written[parameter].copy_(parameter.grad)


class ShardedDivision(Division):
    """Each process updates its shards of all parameters (`FullSharding`): gradients are summed
    during the backward pass."""

    def __init__(self, group: Group, parameters: Parameters, sharding: "FullSharding") -> None:
        super().__init__(group, parameters, overlaps=False)
        self._processes = sharding.mesh.get_group()

    def sum_gradients(self, update: str) -> None:
        refuse_different_gradients(self.parameters[update], self.group)

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        squared = gradient_norm(parameters).double().square()
        distributed.all_reduce(squared, group=self._processes)
        return squared.sqrt().float()

    def clip(self, parameters: Sequence[nn.Parameter], longest: float, norm: Tensor) -> None:
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, (longest / (norm + 1e-6)).clamp(max=1.0))


def divide(
    state: "TrainState", group: Group, parameters: Parameters, overlaps: bool = True
) -> Division:
    """As the processes are placed. Moves what is trained into shared memory where they can have it;
    the first process's numbers are those of all."""
    if state.sharding is not None:
        return ShardedDivision(group, parameters, state.sharding)
    if group.is_alone or state.policy.device.type != "cpu":
        return Division(group, parameters, overlaps)
    trained = {
        name: [cast("nn.Parameter", p) for g in each.param_groups for p in g["params"]]
        for name, each in state.optimizers.items()
    }
    owners = owners_of(trained.values(), group.rank.count)
    for optimizer in state.optimizers.values():
        assert isinstance(optimizer, AdamW)
        optimizer.make_state()
    moved = [*owners, *_averages(state)]
    entries = [entry for each in state.optimizers.values() for entry in each.state.values()]
    held = [(entry, key) for entry in entries for key in entry]
    alike = [*moved, *(entry[key] for entry, key in held)]
    gradients = [p for _ in range(group.rank.count) for p in owners]
    memory = SharedMemory.of(group, [*alike, *gradients])
    if memory is None:
        return Division(group, parameters, overlaps)
    shared = [memory.take(each) for each in alike]
    if group.rank.is_main:
        for each, tensor in zip(shared, alike, strict=True):
            each.copy_(tensor.detach())
    group.round()
    for each, tensor in zip(shared, moved, strict=False):
        tensor.data = each
    for each, (entry, key) in zip(shared[len(moved) :], held, strict=True):
        entry[key] = each
    return SharedDivision(group, parameters, owners, memory)


def owners_of(updates: Iterable[Sequence[Tensor]], count: int) -> dict[Tensor, int]:
    """Which of `count` processes updates each parameter: about as many numbers for each process in
    every update, the same in all processes."""
    owners: dict[Tensor, int] = {}
    for parameters in updates:
        load = [0] * count
        for parameter in sorted(parameters, key=lambda p: -p.numel()):
            lightest = load.index(min(load))
            load[owners.setdefault(parameter, lightest)] += parameter.numel()
    return owners


def _averages(state: "TrainState") -> list[Tensor]:
    return [p for each in state.averages.values() for p in each.model.parameters()]

"""`train.sharding=full`: each of N processes has 1/N of weights, gradients, averages and the
optimiser's state (ZeRO, stage 3: Rajbhandari et al., 2020; FSDP: Zhao et al., 2023), by torch's
FSDP2 (`torch.distributed.fsdp.fully_shard`).

    forward    unit 0: gather, compute, free ─ unit 1: gather, compute, free ─ ...
    backward   ... ─ unit 1: gather, compute, free, gradients to those who have the shards ─ unit 0

A unit is a module that a network names by `sharding_units()`: a layer or a block whose weights are
read in its own forward alone. Everything else, normally small, is one unit, whole from the
beginning of the objective's forward to the end of its backward pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from dipole.data.core.errors import ConfigError
from dipole.policy.denoisers.cpu_unet.fast_path import use_fast_path
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.precision import use_autocast
from dipole.policy.training.process.group import Group

if TYPE_CHECKING:
    from dipole.policy.training.objective import Objective


@dataclass(frozen=True)
class FullSharding:
    """How a run's modules are sharded.

    mesh: The processes, on the devices they compute with.
    mixed: Whether units are gathered in bf16; shards, gradients and updates are fp32.
    """

    mesh: DeviceMesh
    mixed: bool = False

    @classmethod
    def of(cls, config: TrainConfig, group: Group, device: torch.device) -> "FullSharding":
        """Among all processes of a group. Raises ConfigError for settings that do not go with
        it."""
        if config.compile:
            raise ConfigError("train.compile does not go with train.sharding=full: set it to false")
        mesh = init_device_mesh(device.type, (group.rank.count,))
        return cls(mesh, use_autocast(config.amp, device))

    def summary(self, module: nn.Module) -> str:
        """A line for the terminal."""
        units = sharding_units(module)
        every = sum(p.numel() for p in module.parameters())
        apart = sum(p.numel() for p in {p for unit in units for p in unit.parameters()})
        return (
            f"sharding: full, over {self.mesh.size()} processes, {len(units)} units of {apart:,} "
            f"parameters; {every - apart:,} others are whole during a step"
        )

    def shard(self, objective: "Objective", averages: Sequence[nn.Module]) -> None:
        """Move an objective and its averages to the devices, a shard to each, in place. Parameters
        become others: before optimisers are made.

        Raises ConfigError for objectives that cannot be sharded.
        """
        _refuse(objective)
        shard = MixedPrecisionPolicy()
        if self.mixed:
            shard = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        self._shard(objective, shard)
        for each in averages:
            self._shard(each, MixedPrecisionPolicy())

    @contextmanager
    def reading(self, *modules: nn.Module) -> Iterator[None]:
        """Meanwhile all processes read weights, as shards of units and whole of everything else,
        also where other methods than `forward` do; in the end all are shards again."""
        for module in modules:
            for root in _callable(module):
                if isinstance(root, FSDPModule):
                    root.unshard()
        try:
            with torch.autocast(self.mesh.device_type, torch.bfloat16, enabled=self.mixed):
                yield
        finally:
            for module in modules:
                for each in sharded_modules(module):
                    each.reshard()

    def _shard(self, module: nn.Module, units: MixedPrecisionPolicy) -> None:
        use_fast_path(module, False)  # it reads the weights of layers that it does not call
        for parameter in module.parameters():
            parameter.data = parameter.data.contiguous()
        for unit in sharding_units(module):
            fully_shard(unit, mesh=self.mesh, reshard_after_forward=True, mp_policy=units)
        for root in _callable(module):
            fully_shard(root, mesh=self.mesh, reshard_after_forward=False)
        for each in sharded_modules(module):
            each.set_gradient_divide_factor(1.0)  # gradients are sums over the rows of all
            each.set_force_sum_reduction_for_comms(True)


def sharding_units(module: nn.Module) -> list[nn.Module]:
    """What the networks within a module name by `sharding_units()`, inner ones first."""
    found: dict[nn.Module, None] = {}
    for each in module.modules():
        for unit in getattr(each, "sharding_units", tuple)():
            if any(parameter.numel() for parameter in unit.parameters()):
                found[unit] = None
    return sorted(found, key=lambda unit: sum(1 for _ in unit.modules()))


def sharded_modules(module: nn.Module) -> list[FSDPModule]:
    """The units and roots within a module."""
    return [each for each in module.modules() if isinstance(each, FSDPModule)]


def _callable(module: nn.Module) -> list[nn.Module]:
    """The module, or of a container, which is never called, what it holds."""
    if isinstance(module, nn.ModuleDict):
        return [root for each in module.values() for root in _callable(each)]
    if isinstance(module, nn.ModuleList):
        return [root for each in module for root in _callable(each)]
    return [module]


def _refuse(objective: "Objective") -> None:
    name = type(objective).__name__
    reason = objective.not_sharded_because
    updates: Mapping[str, Any] = objective.parameter_groups()
    if reason is None and len(updates) > 1:
        reason = f"weights are not fixed during one of several updates ({', '.join(updates)})"
    if reason is not None:
        raise ConfigError(
            f"train.sharding=full: {name} cannot be sharded: {reason}. Set train.sharding=none"
        )

"""What a run is made of while it trains, and how it is saved and resumed."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy.checkpoint import (
    Checkpoint,
    policy_config,
    read_config,
    read_tensors,
    read_training,
    save_checkpoint,
)
from dipole.policy.checkpoint.weights import load_tensors, stored_tensors
from dipole.policy.policy import Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.frozen import frozen_modules
from dipole.policy.training.objective import PREFIX, Objective
from dipole.policy.training.optimization.ema import EMA
from dipole.policy.training.optimization.optimizer import (
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
)
from dipole.policy.training.optimization.shards import gathered, sharded_as_in
from dipole.policy.training.process.rank import Rank

if TYPE_CHECKING:
    from dipole.policy.training.optimization.sharding import FullSharding

POLICY = "policy"  # the update, and the average, whose files have no name of their own
HELPERS = "helpers"
SAME_POLICY = (
    "A run goes on with the policy that it began with; another one is a new run, which "
    "train.init.from lets begin here"
)


@dataclass
class TrainState:
    """An objective with its optimisers and moving averages after `step` steps.

    averages: By the objective's name for them; "policy" is what is evaluated.
    optimizers: By update.
    sharding: Of several processes' state; None: each has all of it.
    """

    objective: Objective
    averages: dict[str, EMA]
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    sharding: "FullSharding | None" = None

    @classmethod
    def new(
        cls, objective: Objective, config: TrainConfig, sharding: "FullSharding | None" = None
    ) -> "TrainState":
        """Before the first step. sharding: Moves the objective to its devices."""
        objective.train()
        objective.total_steps = config.steps
        wanted = objective.averages()
        if POLICY not in wanted:
            raise ConfigError(
                f"{type(objective).__name__}.averages has {', '.join(wanted) or 'nothing'}: it "
                f"needs {POLICY!r}, the policy that is evaluated"
            )
        _refuse_names(objective, [*wanted, *objective.parameter_groups()])
        averages = {n: EMA(each.module, each.config or config.ema) for n, each in wanted.items()}
        if sharding is not None:
            sharding.shard(objective, [ema.model for ema in averages.values()])
        objective.attach_averages({name: ema.model for name, ema in averages.items()})
        return cls(objective, averages, {**make_optimizers(objective, config)}, 0, sharding)

    @property
    def policy(self) -> Policy:
        return self.objective.policy

    @property
    def ema(self) -> EMA:
        """Of the policy."""
        return self.averages[POLICY]

    def update_averages(self, wanted: Callable[[Tensor], bool] = lambda _: True) -> None:
        """Once a step. wanted: See `EMA.update`."""
        for name, average in self.objective.averages().items():
            self.averages[name].update(average.module, wanted)

    def reading(self) -> AbstractContextManager[None]:
        """Around what all processes compute with weights and averages without training them."""
        if self.sharding is None:
            return nullcontext()
        return self.sharding.reading(self.objective, *(e.model for e in self.averages.values()))

    def kept_tensors(self) -> dict[str, list[Tensor]]:
        """What of a checkpoint has to be finite, by the name that a message gives it."""
        kept: dict[str, list[Tensor]] = {"the weights": list(self.policy.parameters())}
        helpers = helper_tensors(self.objective)
        if helpers:
            kept["the helpers' weights"] = list(helpers.values())
        for name, ema in self.averages.items():
            kept[_of(name, "their averages")] = list(ema.model.parameters())
        for update, optimizer in self.optimizers.items():
            state = optimizer_tensors(optimizer, self.objective)
            kept[_of(update, "the optimiser's averages")] = list(state.values())
        return kept

    def save(self, run: Path, config: TrainConfig, origin: Mapping[str, Any]) -> Path:
        """Write RUN/checkpoints/STEP. origin: further JSON for config.json (dataset, command)."""
        folder = run / "checkpoints" / f"{self.step:08d}"
        save_checkpoint(folder, self.checkpoint(config, origin))
        return folder

    def checkpoint(self, config: TrainConfig, origin: Mapping[str, Any]) -> Checkpoint:
        """What `save` writes; its tensors are those that are trained."""
        tensors: dict[str, Mapping[str, Tensor]] = {"model": stored_tensors(self.policy)}
        for name, ema in self.averages.items():
            tensors[_file("ema", name)] = stored_tensors(ema.model)
        for update, optimizer in self.optimizers.items():
            tensors[_file("training", update)] = optimizer_tensors(optimizer, self.objective)
        helpers = helper_tensors(self.objective)
        if helpers:
            tensors[HELPERS] = helpers
        written = {**origin, **policy_config(self.policy), "train": asdict(config)}
        frozen = {name: each.source for name, each in frozen_modules(self.objective).items()}
        if frozen:
            written["frozen"] = frozen
        training = {
            "step": self.step,
            "ema_updates": self.ema.updates,
            "world_size": Rank.current().count,
            "sharding": "none" if self.sharding is None else "full",
        }
        return Checkpoint(written, tensors, training)

    def gathered_checkpoint(
        self, config: TrainConfig, origin: Mapping[str, Any], wanted: bool
    ) -> Checkpoint:
        """`checkpoint` of whole tensors, copies in the processor's memory, where it is `wanted`.
        All processes call it."""
        found = self.checkpoint(config, origin)
        return replace(found, tensors=gathered(found.tensors, wanted))

    def load(self, folder: Path) -> None:
        """Take up where the checkpoint was written. Raises CheckpointError if it does not fit."""
        training = read_training(folder)
        self._check_frozen(folder)
        _load(folder, "model", self.policy)
        for name, ema in self.averages.items():
            _load(folder, _file("ema", name), ema.model)
        self._load_helpers(folder)
        for update, optimizer in self.optimizers.items():
            stored = read_tensors(folder, _file("training", update))
            load_optimizer_tensors(optimizer, self.objective, stored)
        try:
            self.step, updates = int(training["step"]), int(training["ema_updates"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder / 'training.json'}: {error} is missing or no number"
            ) from error
        for ema in self.averages.values():
            ema.updates = updates

    def _check_frozen(self, folder: Path) -> None:
        saved = read_config(folder).get("frozen", {})
        for name, each in frozen_modules(self.objective).items():
            before = saved.get(name, {})
            if before.get("sha256") != each.source.get("sha256"):
                raise CheckpointError(
                    f"{folder}: the run was trained with {name} of {before.get('checkpoint')}, "
                    f"SHA-256 {before.get('sha256')}, and that of {each.source.get('checkpoint')} "
                    f"is {each.source.get('sha256')}: name the same checkpoint in the objective"
                )

    def _load_helpers(self, folder: Path) -> None:
        expected = helper_tensors(self.objective).keys()
        if not expected and not (folder / f"{HELPERS}.safetensors").exists():
            return
        stored = read_tensors(folder, HELPERS)
        odd = sorted(expected ^ stored.keys())
        if odd:
            raise CheckpointError(
                f"{folder}: is of another objective: {odd[0]} is "
                f"{'missing' if odd[0] in expected else 'too much'}"
            )
        try:
            self.objective.load_state_dict(sharded_as_in(stored, self.objective), strict=False)
        except RuntimeError as error:
            raise CheckpointError(f"{folder}: is of another objective: {error}") from error


def helper_tensors(objective: Objective) -> dict[str, Tensor]:
    """The weights and buffers that are neither the policy's nor frozen."""
    others = (PREFIX, *(f"{name}." for name in frozen_modules(objective)))
    return {n: t for n, t in stored_tensors(objective).items() if not n.startswith(others)}


def _load(folder: Path, stem: str, module: nn.Module) -> None:
    try:
        load_tensors(module, sharded_as_in(read_tensors(folder, stem), module))
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise CheckpointError(
            f"{folder}: is of another policy: {differences[0]} {SAME_POLICY}"
        ) from error


def _file(stem: str, name: str) -> str:
    return stem if name == POLICY else f"{stem}.{name}"


def _of(name: str, what: str) -> str:
    return what if name == POLICY else f"{what} of {name!r}"


def _refuse_names(objective: Objective, names: Iterable[str]) -> None:
    """Updates and averages are parts of files' names and of the log's keys."""
    for name in names:
        if not name.isidentifier():
            raise ConfigError(
                f"{type(objective).__name__}: {name!r} as the name of an update or an average: use "
                "letters, digits and underscores"
            )

"""The updates of one step: losses, gradients, optimisers, averages."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.core.row_draws import RowDraws
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.precision import use_autocast
from dipole.policy.training.optimization.division import divide
from dipole.policy.training.optimization.finite import FiniteCheck
from dipole.policy.training.optimization.optimizer import learning_rate, set_learning_rate
from dipole.policy.training.output.meter import StepMeter
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.randomness import seed_step, step_seeds
from dipole.policy.training.state import TrainState

ComputeLoss = Callable[..., Loss]  # an objective, or a data-parallel wrapper of it


class Updates:
    """Makes what an objective wants to be updated in a step.

    meter: Where losses are added up, as "train/loss" and "train/loss/PART" of the first update and
        "train/UPDATE/loss" of others.
    finite: Remembers losses and gradients that are not finite.
    norms: Of the last step's gradients, by key of the log, where they were computed.
    group: Processes of which each has some rows of a batch; the gradient is that of all rows.
    rows: Of a batch, this process's.
    """

    def __init__(
        self, state: TrainState, config: TrainConfig, run: Path, group: Group | None = None
    ) -> None:
        self.state, self.config = state, config
        self.group = group or Group()
        rank = self.group.rank
        self.rows = len(range(rank.index, config.batch_size, rank.count))
        self.device = state.policy.device
        self.amp = use_autocast(config.amp, self.device)
        self.meter = StepMeter(self.device)
        self.finite = FiniteCheck(self.device, run, has_checkpoint=state.step > 0)
        self.norms: dict[str, Tensor] = {}
        self._names = list(state.optimizers)
        trained = [p for p in state.objective.parameters() if p.requires_grad]
        own = {name: _parameters_of(each) for name, each in state.optimizers.items()}
        self._own = {n: [p for p in trained if p in own[n]] for n in self._names}
        self.division = divide(state, self.group, self._own, config.overlap_gradients)
        self._others = {n: [p for p in trained if p not in own[n]] for n in self._names}

    @property
    def loss_key(self) -> str:
        """Of the loss that runs are compared by."""
        return self._key(self._names[0], "loss")

    def make(self, loss: ComputeLoss, batches: Any, measured: bool) -> None:
        """Those of the next step, each on the same batches, and of the averages.

        measured: Whether the gradients' norms are wanted, which take a pass over memory.
        """
        self.state.objective.begin_step(self.state.step)
        updates = self._wanted()
        self.norms = {}
        drawn: Iterable[Batch] = (self._next(batches) for _ in range(self.config.accumulate))
        if len(updates) > 1:
            drawn = list(drawn)
        for place, update in enumerate(updates):
            repeated = updates[:place].count(update)
            with self._others_fixed(update):
                self._differentiate(update, loss, drawn, repeated)
                self.division.sum_gradients(update)
            self._note_gradient(update, measured)
            optimizer = self.state.optimizers[update]
            set_learning_rate(optimizer, learning_rate(self.state.step, self.config))
            optimizer.step()
            optimizer.zero_grad()
            if place + 1 < len(updates):
                self.division.barrier()
        self.state.update_averages(self.division.updates)
        self.division.barrier()

    def try_out(self, loss: ComputeLoss, rows: int | None = None) -> None:
        """A step's computation on random data; weights and buffers stay as they are.

        rows: Of the batch; None: as many as this process has of each.
        """
        state = self.state
        with _same_buffers(state.objective):
            for update in self._names:
                with self._others_fixed(update):
                    with self._autocast():
                        batch = state.objective.fake_batch(rows or self.rows)
                        total = loss(batch, update=update, step=state.step).total
                    torch.autograd.grad(total, self._own[update], allow_unused=True)

    def _differentiate(
        self, update: str, loss: ComputeLoss, batches: Iterable[Batch], repeated: int
    ) -> None:
        """repeated: How often the step has made this update before: each draws its own noise."""
        config, step = self.config, self.state.step
        number = self._names.index(update) + repeated * len(self._names)
        for micro, batch in enumerate(batches):
            with self._seeded(step, micro, number), self._autocast():
                found = loss(batch, update=update, step=step)
                total = found.total / config.accumulate
            if self.rows < config.batch_size:
                total = total * (self.rows / config.batch_size)
            last = micro + 1 == config.accumulate
            with self.division.last_backward(update) if last else nullcontext():
                total.backward()  # type: ignore[no-untyped-call]
            self._note_loss(update, found)

    def _seeded(self, step: int, micro: int, update: int) -> AbstractContextManager[object]:
        """Draws are a function of these, and of the rows' places in the batch of all processes."""
        config, rank = self.config, self.group.rank
        if not rank.is_one_of_several:
            seed_step(config.seed, step, micro, update)
            return nullcontext()
        seed_step(config.seed, step, micro, update, rank.index + 1)
        shared, _ = step_seeds(config.seed, step, micro, update)
        return RowDraws(rank.index, rank.count, config.batch_size, shared, self.group.add)

    def _wanted(self) -> Sequence[str]:
        """Raises ConfigError for an update without an optimiser, and for none."""
        objective, step = self.state.objective, self.state.step
        wanted = objective.updates(step)
        asked = f"{type(objective).__name__}.updates({step})"
        for update in wanted:
            if update not in self._names:
                raise ConfigError(
                    f"{asked} names {update!r}{nearest(update, self._names) or ';'} "
                    f"parameter_groups() has {', '.join(self._names)}"
                )
        if not wanted:
            raise ConfigError(f"{asked} is empty: name at least one update")
        return wanted

    def _next(self, batches: Any) -> Batch:
        with self.meter.data():
            batch: Batch = next(batches)
        return batch

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    @contextmanager
    def _others_fixed(self, update: str) -> Iterator[None]:
        """Meanwhile the parameters of other updates require no gradient."""
        others = self._others[update]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _note_loss(self, update: str, loss: Loss) -> None:
        key = self._key(update, "loss")
        self.meter.add(key, loss.total)
        for name, part in loss.parts.items():
            self.meter.add(f"{key}/{name}", part)
        self.finite.note(self._described("the loss", update), self.state.step + 1, loss.total)

    def _note_gradient(self, update: str, measured: bool) -> None:
        """Clip the gradient where that is wanted."""
        clip, own = self.config.grad_clip, self._own[update]
        if clip is None and not measured:
            return
        norm = self.division.gradient_norm(own)
        if clip is not None:
            self.division.clip(own, clip, norm)
        self.norms[self._key(update, "gradient_norm")] = norm
        what = self._described("the gradient's norm", update)
        self.finite.note(what, self.state.step + 1, norm)

    def _key(self, update: str, name: str) -> str:
        return f"train/{name}" if update == self._names[0] else f"train/{update}/{name}"

    def _described(self, what: str, update: str) -> str:
        return what if update == self._names[0] else f"{what} of update {update!r}"


def _parameters_of(optimizer: torch.optim.Optimizer) -> set[Tensor]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


@contextmanager
def _same_buffers(module: nn.Module) -> Iterator[None]:
    """Put back in the end what a computation changes of them, such as running statistics."""
    kept = [buffer.clone() for buffer in module.buffers()]
    yield
    with torch.no_grad():
        for buffer, before in zip(module.buffers(), kept, strict=True):
            buffer.copy_(before)

"""The training loop, one for every objective."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.checkpoint import best_score, mark_best, prune_checkpoints
from dipole.policy.core.files import remove_leftovers
from dipole.policy.core.threads import Threads, torch_threads
from dipole.policy.denoisers.cpu_unet.compiled import compile_norms
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.memory import keep_freed_memory
from dipole.policy.training.hardware.precision import use_autocast
from dipole.policy.training.hardware.process_settings import process_settings
from dipole.policy.training.hardware.thread_tuner import ThreadTuner
from dipole.policy.training.hardware.threaded_batch import rows_in_threads
from dipole.policy.training.optimization.finite import (
    FiniteCheck,
    TrainingDivergedError,
    gradient_norm,
)
from dipole.policy.training.optimization.optimizer import learning_rate, set_learning_rate
from dipole.policy.training.output.logs import NoLog, RunLog
from dipole.policy.training.output.meter import StepMeter
from dipole.policy.training.output.progress import TrainingProgress
from dipole.policy.training.process.randomness import seed_step
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.process.signals import StopRequest
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation

__all__ = ["Evaluate", "Loader", "Trainer", "TrainingDivergedError"]

Evaluate = Callable[[Policy], Mapping[str, Any]]
SCORE = "max_reward_mean"  # of evaluations that do not say what their score is


class Loader(Protocol):
    """Batches as a function of their number; see dipole.data.make_loader."""

    def batches(self, start: int) -> Any: ...

    def epoch(self, batch: int) -> float: ...


@dataclass
class Trainer:
    """A run in its folder.

    origin: JSON for each checkpoint's config.json: dataset, environment, command.
    validation: Held-out windows.
    evaluate: Scores the averaged policy in a simulator; "score" of what it returns, a number or the
        name of one, decides which checkpoint is the best; without it "max_reward_mean".
    rank: Of this process; others than the first write nothing.
    """

    state: TrainState
    loader: Loader
    config: TrainConfig
    run: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    validation: Validation | None = None
    evaluate: Evaluate | None = None
    rank: Rank = field(default_factory=Rank.current)

    def __post_init__(self) -> None:
        self.device = self.state.policy.device
        self.amp = use_autocast(self.config.amp, self.device)
        # What is called for a loss: the objective, or a data-parallel wrapper of it.
        self.objective: Callable[..., Loss] = self.state.objective
        self.trained = _trained_parameters(self.state)
        if self.config.compile:
            compile_norms(self.state.policy)
        self.meter = StepMeter(self.device)
        self.finite = FiniteCheck(self.device, self.run)
        self.norms: dict[str, Tensor] = {}  # of the last step's gradients, where computed

    def fit(self) -> str | None:
        """Train up to config.steps. Returns the name of the signal that stopped it, or None.

        Raises TrainingDivergedError where the loss, a gradient or a weight is not a number; the
        last good checkpoint stays. The process's settings (threads, determinism, precision of
        products) are afterwards what they were before.
        """
        config = self.config
        # An evaluation between steps takes all cores, whatever steps are fastest with.
        self.cores = config.threads or torch.get_num_threads()
        with process_settings(config.deterministic, config.matmul_precision, self.device):
            return self._fit()

    def _fit(self) -> str | None:
        tuner = self._thread_tuner()
        threads = tuner.choose() if tuner else Threads(torch.get_num_threads())
        state, config = self.state, self.config
        self.log = self._open_log()
        quiet = not self.rank.is_main
        stop = StopRequest()
        try:
            with TrainingProgress(config.steps, state.step, quiet) as self.progress, stop:
                if tuner:
                    tuner.say = self.progress.say  # a bar may be on the terminal by now
                if state.step:
                    self._score(due=self._due(config.evaluate_every))
                batches = self.loader.batches(state.step * config.accumulate)
                self.meter.reset()
                while state.step < config.steps and not stop.requested:
                    with rows_in_threads(state.policy, threads.rows):
                        changed = self._steps(batches, stop, tuner)
                    if changed and tuner:
                        threads = tuner.choose()
        finally:
            self.log.close()
        return stop.requested

    def _open_log(self) -> RunLog | NoLog:
        if not self.rank.is_main:
            return NoLog()
        remove_leftovers(self.run / "checkpoints")
        return RunLog(self.run, self.state.step, self.config.wandb, dict(self.origin))

    def _thread_tuner(self) -> ThreadTuner | None:
        """Of a run on the CPU."""
        if self.device.type != "cpu":
            return None
        keep_freed_memory()
        return ThreadTuner(self.state.policy, self.config, self._trial)

    def _steps(self, batches: Any, stop: StopRequest, tuner: ThreadTuner | None) -> bool:
        """To the end, or until threads should be chosen again: whether they should."""
        state, config = self.state, self.config
        while state.step < config.steps and not stop.requested:
            with self.meter.step(wait=self._ends_period()):
                self._step(batches)
            last = state.step == config.steps or bool(stop.requested)
            seconds = self._report(last)
            self._keep(last)
            if tuner and seconds is not None and not last and tuner.has_changed(seconds):
                return True
        return False

    def _ends_period(self) -> bool:
        """Whether something is reported, measured or saved after the step that comes."""
        step, config = self.state.step + 1, self.config
        periods = [config.log_every, config.checkpoint_every]
        periods += [config.validate_every, config.evaluate_every]
        return step == config.steps or any(period and step % period == 0 for period in periods)

    def _trial(self, threads: Threads) -> None:
        """A step's computation, on random data; weights and buffers stay as they are."""
        state = self.state
        with rows_in_threads(state.policy, threads.rows), _same_buffers(state.objective):
            for update in state.optimizers:
                with self._autocast():
                    batch = state.policy.fake_batch(self.config.batch_size)
                    loss = self.objective(batch, update=update, step=state.step).total
                torch.autograd.grad(loss, self.trained[update][0], allow_unused=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def _step(self, batches: Any) -> None:
        """The updates of one step, and that of the averages."""
        state, config = self.state, self.config
        updates = self._updates()
        self.norms = {}
        drawn: Iterable[Batch] = (self._next(batches) for _ in range(config.accumulate))
        if len(updates) > 1:
            drawn = list(drawn)  # each update sees the same batches
        for update in updates:
            self._update(update, drawn)
        state.update_averages()
        state.step += 1
        self.progress.advance(state.step)

    def _updates(self) -> Sequence[str]:
        state = self.state
        updates = state.objective.updates(state.step)
        for update in updates:
            if update not in state.optimizers:
                raise ConfigError(
                    f"{type(state.objective).__name__}.updates({state.step}) names {update!r}"
                    f"{nearest(update, state.optimizers) or ';'} parameter_groups() has "
                    f"{', '.join(state.optimizers)}"
                )
        if not updates:
            raise ConfigError(f"{type(state.objective).__name__}.updates({state.step}) is empty")
        return updates

    def _next(self, batches: Any) -> Batch:
        with self.meter.data():
            batch: Batch = next(batches)
        return batch

    def _update(self, update: str, batches: Iterable[Batch]) -> None:
        """One update of the weights of one optimiser."""
        state, config = self.state, self.config
        optimizer, number = state.optimizers[update], list(state.optimizers).index(update)
        set_learning_rate(optimizer, learning_rate(state.step, config))
        for micro, batch in enumerate(batches):
            seed_step(config.seed, state.step, micro, number, self.rank.index)
            with self._autocast():
                loss = self.objective(batch, update=update, step=state.step)
                total = loss.total / config.accumulate
            total.backward(inputs=self.trained[update][1])  # type: ignore[no-untyped-call]
            self._note_loss(update, loss)
        self._note_gradient(update)
        optimizer.step()
        optimizer.zero_grad()

    def _note_loss(self, update: str, loss: Loss) -> None:
        key = self._key(update, "loss")
        self.meter.add(key, loss.total)
        for name, part in loss.parts.items():
            self.meter.add(f"{key}/{name}", part)
        self.finite.note(self._named("the loss", update), self.state.step + 1, loss.total)

    def _note_gradient(self, update: str) -> None:
        """Clip the gradient where that is wanted. Its norm takes a pass over memory: without
        clipping it is computed only where something is reported or saved after the step."""
        parameters = self.trained[update][0]
        if self.config.grad_clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.grad_clip)
        elif self._ends_period():
            norm = gradient_norm(parameters)
        else:
            return
        self.norms[self._key(update, "gradient_norm")] = norm
        self.finite.note(self._named("the gradient's norm", update), self.state.step + 1, norm)

    def _key(self, update: str, name: str) -> str:
        """Of the log: train/NAME for the first update, train/UPDATE/NAME for others."""
        return f"train/{name}" if update == self.first_update else f"train/{update}/{name}"

    def _named(self, what: str, update: str) -> str:
        return what if update == self.first_update else f"{what} of update {update!r}"

    @property
    def first_update(self) -> str:
        return next(iter(self.state.optimizers))

    def _report(self, last: bool) -> float | None:
        """Log the means since the last report; the seconds that a step has computed, if it did."""
        state, config, meter = self.state, self.config, self.meter
        if not meter.steps or not (last or state.step % config.log_every == 0):
            return None
        self.finite.raise_bad()
        losses, data_ms, compute_ms = meter.means(), meter.data_ms, meter.compute_ms
        self.log.write(
            state.step,
            {
                **losses,
                **{key: float(norm) for key, norm in self.norms.items()},
                "train/learning_rate": learning_rate(state.step - 1, config),
                "train/epoch": self.loader.epoch(state.step * config.accumulate),
                "time/data_ms": data_ms,
                "time/compute_ms": compute_ms,
            },
        )
        loss = losses.get(self._key(self.first_update, "loss"), float("nan"))
        self.progress.report(state.step, loss, data_ms, compute_ms)
        meter.reset()
        return 1e-3 * compute_ms

    def _keep(self, last: bool) -> None:
        """Validate, save and score where it is time to."""
        if not self.rank.is_main:
            return
        state, config = self.state, self.config
        if self.validation is not None and (self._due(config.validate_every) or last):
            self.log.write(state.step, self._validation_losses(self.validation))
        due = self._due(config.evaluate_every)
        if self._due(config.checkpoint_every) or due or last:
            self.finite.raise_bad()
            self.finite.raise_bad_weights(state.step, state.kept_tensors())
            state.save(self.run, config, self.origin)
            self._score(due)
            prune_checkpoints(self.run, config.keep_checkpoints)

    def _validation_losses(self, validation: Validation) -> dict[str, float]:
        """Of the raw and of the averaged policy."""
        state = self.state
        raw = validation.losses(state.objective, state.step)
        found = {f"validation/{key}": value for key, value in raw.items()}
        with state.objective.using_policy(state.ema.model):
            averaged = validation.losses(state.objective, state.step)
        for key, value in averaged.items():
            found[f"validation/{key.replace('loss', 'loss_ema', 1)}"] = value
        return found

    def _score(self, due: bool) -> None:
        """Evaluate the averaged policy in the simulator, once per step, and mark the best."""
        state = self.state
        if self.evaluate is None or not due or not self.rank.is_main:
            return
        if self.log.has(state.step, "evaluation/"):
            return
        with torch_threads(self.cores):
            metrics = self.evaluate(state.ema.model)  # type: ignore[arg-type]
        numbers = {f"evaluation/{k}": v for k, v in metrics.items()}
        self.log.write(state.step, numbers)
        name, score = _score_of(metrics)
        self.progress.say(f"step {state.step} · {name} {score:.3f}")
        if score > best_score(self.run):
            checkpoint = self.run / "checkpoints" / f"{state.step:08d}"
            mark_best(self.run, checkpoint, score, metrics)

    def _due(self, period: int) -> bool:
        return period > 0 and self.state.step % period == 0


def _score_of(metrics: Mapping[str, Any]) -> tuple[str, float]:
    """What decides, in words, and its value."""
    score = metrics.get("score", SCORE)
    if not isinstance(score, str):
        return "score", float(score)
    return "mean max reward" if score == SCORE else score, float(metrics[score])


def _trained_parameters(state: TrainState) -> dict[str, tuple[list[Tensor], list[Tensor] | None]]:
    """By update: the parameters of its optimiser, and the same for `backward` to stop at, None
    where the objective has no others."""
    every = {p for p in state.objective.parameters() if p.requires_grad}
    found: dict[str, tuple[list[Tensor], list[Tensor] | None]] = {}
    for update, optimizer in state.optimizers.items():
        of_update = {p for group in optimizer.param_groups for p in group["params"]}
        own: list[Tensor] = [p for p in state.objective.parameters() if p in of_update]
        found[update] = own, None if of_update == every else own
    return found


@contextmanager
def _same_buffers(module: nn.Module) -> Iterator[None]:
    """Put back in the end what the computation changes, such as running statistics."""
    kept = [buffer.clone() for buffer in module.buffers()]
    yield
    with torch.no_grad():
        for buffer, before in zip(module.buffers(), kept, strict=True):
            buffer.copy_(before)

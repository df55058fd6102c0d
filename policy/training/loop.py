"""The training loop, one for every policy."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dipole.data.core.errors import DipoleError
from dipole.policy.checkpoint import best_score, mark_best, prune_checkpoints
from dipole.policy.files import remove_leftovers
from dipole.policy.policy import Batch, Policy
from dipole.policy.threads import Threads
from dipole.policy.training.compiled import compile_norms
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.logs import RunLog
from dipole.policy.training.memory import keep_freed_memory
from dipole.policy.training.optimizer import learning_rate, set_learning_rate
from dipole.policy.training.precision import use_autocast
from dipole.policy.training.processor import Processor
from dipole.policy.training.progress import TrainingProgress
from dipole.policy.training.randomness import seed_step, set_deterministic
from dipole.policy.training.row_threads import rows_in_threads
from dipole.policy.training.signals import StopRequest
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation

Evaluate = Callable[[Policy], Mapping[str, Any]]
SCORE = "max_reward_mean"


class TrainingDivergedError(DipoleError):
    """The loss is no longer a number."""


class Loader(Protocol):
    """Batches as a function of their number; see dipole.data.make_loader."""

    def batches(self, start: int) -> Any: ...

    def epoch(self, batch: int) -> float: ...


@dataclass
class Trainer:
    """A run in its folder.

    origin: JSON for each checkpoint's config.json: dataset, environment, command. validation:
    held-out windows. evaluate: scores the averaged policy in a simulator; "max_reward_mean" of what
    it returns decides which checkpoint is the best.
    """

    state: TrainState
    loader: Loader
    config: TrainConfig
    run: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    validation: Validation | None = None
    evaluate: Evaluate | None = None

    def __post_init__(self) -> None:
        self.bad_step: Tensor
        self.loss_sum: Tensor
        self.device = self.state.policy.device
        self.amp = use_autocast(self.config.amp, self.device)
        self.loss: Callable[[Batch], Tensor] = self.state.policy.loss
        if self.config.compile:
            compile_norms(self.state.policy)
        self._reset_meter()

    def fit(self) -> str | None:
        """Train up to config.steps. Returns the name of the signal that stopped it, or None.

        Raises TrainingDivergedError where the loss is not a number; the last good checkpoint stays.
        """
        set_deterministic(self.config.deterministic)
        processor = self._processor()
        threads = processor.choose() if processor else Threads(torch.get_num_threads())
        remove_leftovers(self.run / "checkpoints")
        state, config = self.state, self.config
        self.log = RunLog(self.run, state.step, config.wandb, dict(self.origin))
        stop = StopRequest()
        try:
            with TrainingProgress(config.steps, state.step) as self.progress, stop:
                if processor:
                    processor.say = self.progress.say  # a bar may be on the terminal by now
                if state.step:
                    self._score(due=self._due(config.evaluate_every))
                batches = self.loader.batches(state.step * config.accumulate)
                self._reset_meter()  # choosing, and compiling for it, is no step's time
                while state.step < config.steps and not stop.requested:
                    with rows_in_threads(state.policy, threads.rows):
                        changed = self._steps(batches, stop, processor)
                    if changed and processor:
                        threads = processor.choose()
                        self._reset_meter()
        finally:
            self.log.close()
        return stop.requested

    def _processor(self) -> Processor | None:
        """Of a run on the CPU."""
        if self.device.type != "cpu":
            return None
        keep_freed_memory()
        return Processor(self.state.policy, self.config, self._trial)

    def _steps(self, batches: Any, stop: StopRequest, processor: Processor | None) -> bool:
        """To the end, or until the processor should be used in another way: whether it should."""
        state, config = self.state, self.config
        while state.step < config.steps and not stop.requested:
            self._step(batches)
            last = state.step == config.steps or bool(stop.requested)
            seconds = self._report(last)
            self._keep(last)
            if processor and seconds is not None and not last and processor.has_changed(seconds):
                return True
        return False

    def _trial(self, threads: Threads) -> None:
        """A step's computation, on made-up data."""
        policy = self.state.policy
        parameters = [p for p in policy.parameters() if p.requires_grad]
        amp = torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)
        with rows_in_threads(policy, threads.rows):
            with amp:
                loss = policy.loss(policy.fake_batch(self.config.batch_size))
            torch.autograd.grad(loss, parameters, allow_unused=True)

    def _step(self, batches: Any) -> None:
        """One update of the weights and of their average."""
        state, config = self.state, self.config
        set_learning_rate(state.optimizer, learning_rate(state.step, config))
        for micro in range(config.accumulate):
            started = time.perf_counter()
            batch = next(batches)
            self.data_seconds += time.perf_counter() - started
            seed_step(config.seed, state.step, micro)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
                loss = self.loss(batch) / config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            self._note_loss(loss.detach())
        if config.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(state.policy.parameters(), config.grad_clip)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.ema.update(state.policy)
        state.step += 1
        self.progress.advance(state.step)

    def _note_loss(self, loss: Tensor) -> None:
        """Add to the mean, and remember the first bad step, without waiting for the device."""
        self.loss_sum += loss
        first = (self.bad_step < 0) & ~torch.isfinite(loss)
        self.bad_step = torch.where(first, self.state.step + 1, self.bad_step)

    def _check_loss(self) -> None:
        bad = int(self.bad_step)
        if bad >= 0:
            raise TrainingDivergedError(
                f"the loss of step {bad} is not a number: training stopped, and the checkpoints in "
                f"{self.run / 'checkpoints'} are from before it. Check the data with "
                "`dipole data validate`, lower train.learning_rate, or set train.grad_clip=1"
            )

    def _report(self, last: bool) -> float | None:
        """Log the means since the last report; the seconds that a step has computed, if it did."""
        state, config = self.state, self.config
        steps = state.step - self.metered_from
        if not steps or not (last or state.step % config.log_every == 0):
            return None
        self._check_loss()
        loss = float(self.loss_sum) / steps
        elapsed = time.perf_counter() - self.metered_at
        data_ms, total_ms = 1e3 * self.data_seconds / steps, 1e3 * elapsed / steps
        self.log.write(
            state.step,
            {
                "train/loss": loss,
                "train/learning_rate": learning_rate(state.step - 1, config),
                "train/epoch": self.loader.epoch(state.step * config.accumulate),
                "time/data_ms": data_ms,
                "time/compute_ms": total_ms - data_ms,
            },
        )
        self.progress.report(state.step, loss, data_ms, total_ms - data_ms)
        self._reset_meter()
        return 1e-3 * (total_ms - data_ms)

    def _keep(self, last: bool) -> None:
        """Validate, save and score where it is time to."""
        state, config = self.state, self.config
        if self.validation is not None and (self._due(config.validate_every) or last):
            losses = {
                "validation/loss": self.validation.loss(state.policy),
                "validation/loss_ema": self.validation.loss(state.ema.model),  # type: ignore[arg-type]
            }
            self.log.write(state.step, losses)
        due = self._due(config.evaluate_every)
        if self._due(config.checkpoint_every) or due or last:
            self._check_loss()
            state.save(self.run, config, self.origin)
            self._score(due)
            prune_checkpoints(self.run, config.keep_checkpoints)
        self._reset_meter() if self.metered_from == state.step else None

    def _score(self, due: bool) -> None:
        """Evaluate the averaged policy in the simulator, once per step, and mark the best."""
        state = self.state
        if self.evaluate is None or not due or self.log.has(state.step, f"evaluation/{SCORE}"):
            return
        metrics = self.evaluate(state.ema.model)  # type: ignore[arg-type]
        numbers = {f"evaluation/{k}": v for k, v in metrics.items()}
        self.log.write(state.step, numbers)
        score = float(metrics[SCORE])
        self.progress.say(f"step {state.step} · mean max reward {score:.3f}")
        if score > best_score(self.run):
            checkpoint = self.run / "checkpoints" / f"{state.step:08d}"
            mark_best(self.run, checkpoint, score, metrics)

    def _due(self, period: int) -> bool:
        return period > 0 and self.state.step % period == 0

    def _reset_meter(self) -> None:
        self.metered_from, self.metered_at = self.state.step, time.perf_counter()
        self.data_seconds = 0.0
        self.loss_sum = torch.zeros((), device=self.device)
        self.bad_step = torch.full((), -1, device=self.device)

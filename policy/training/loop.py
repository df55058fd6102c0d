"""The training loop, one for every policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dipole.policy.checkpoint import best_score, mark_best, prune_checkpoints
from dipole.policy.core.files import remove_leftovers
from dipole.policy.core.threads import Threads, torch_threads
from dipole.policy.denoisers.cpu_unet.compiled import compile_norms
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.finite import FiniteCheck, TrainingDivergedError, gradient_norm
from dipole.policy.training.hardware.memory import keep_freed_memory
from dipole.policy.training.hardware.precision import use_autocast
from dipole.policy.training.hardware.process_settings import process_settings
from dipole.policy.training.hardware.thread_tuner import Processor
from dipole.policy.training.hardware.threaded_batch import rows_in_threads
from dipole.policy.training.logs import RunLog
from dipole.policy.training.meter import StepMeter
from dipole.policy.training.optimizer import learning_rate, set_learning_rate
from dipole.policy.training.progress import TrainingProgress
from dipole.policy.training.randomness import seed_step
from dipole.policy.training.signals import StopRequest
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation

__all__ = ["Evaluate", "Loader", "Trainer", "TrainingDivergedError"]

Evaluate = Callable[[Policy], Mapping[str, Any]]
SCORE = "score"  # what an evaluation says decides


class Loader(Protocol):
    """Batches as a function of their number; see dipole.data.make_loader."""

    def batches(self, start: int) -> Any: ...

    def epoch(self, batch: int) -> float: ...


@dataclass
class Trainer:
    """A run in its folder.

    origin: JSON for each checkpoint's config.json: dataset, environment, command. validation:
    held-out windows. evaluate: scores the averaged policy in a simulator; "score" of what
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
        self.device = self.state.policy.device
        self.amp = use_autocast(self.config.amp, self.device)
        self.loss: Callable[[Batch], Tensor] = self.state.policy.loss
        if self.config.compile:
            compile_norms(self.state.policy)
        self.meter = StepMeter(self.device)
        self.finite = FiniteCheck(self.device, self.run)
        self.norm: Tensor | None = None  # of the last step's gradient, where it was computed

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
                self.meter.reset()
                while state.step < config.steps and not stop.requested:
                    with rows_in_threads(state.policy, threads.rows):
                        changed = self._steps(batches, stop, processor)
                    if changed and processor:
                        threads = processor.choose()
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
            with self.meter.step(wait=self._ends_period()):
                self._step(batches)
            last = state.step == config.steps or bool(stop.requested)
            seconds = self._report(last)
            self._keep(last)
            if processor and seconds is not None and not last and processor.has_changed(seconds):
                return True
        return False

    def _ends_period(self) -> bool:
        """Whether something is reported, measured or saved after the step that comes."""
        step, config = self.state.step + 1, self.config
        periods = [config.log_every, config.checkpoint_every]
        periods += [config.validate_every, config.evaluate_every]
        return step == config.steps or any(period and step % period == 0 for period in periods)

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
            with self.meter.data():
                batch = next(batches)
            seed_step(config.seed, state.step, micro)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
                loss = self.loss(batch) / config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            self.meter.add_loss(loss.detach())
            self.finite.note_loss(state.step + 1, loss.detach())
        self._note_gradient()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.ema.update(state.policy)
        state.step += 1
        self.progress.advance(state.step)

    def _note_gradient(self) -> None:
        """Clip the gradient where that is wanted. Its norm takes a pass over memory: without
        clipping it is computed only where something is reported or saved after the step."""
        parameters = list(self.state.policy.parameters())
        if self.config.grad_clip is not None:
            self.norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.grad_clip)
        elif self._ends_period():
            self.norm = gradient_norm(parameters)
        else:
            self.norm = None
            return
        self.finite.note_gradient(self.state.step + 1, self.norm)

    def _report(self, last: bool) -> float | None:
        """Log the means since the last report; the seconds that a step has computed, if it did."""
        state, config, meter = self.state, self.config, self.meter
        if not meter.steps or not (last or state.step % config.log_every == 0):
            return None
        self.finite.raise_bad()
        loss, data_ms, compute_ms = meter.loss, meter.data_ms, meter.compute_ms
        norm = {} if self.norm is None else {"train/gradient_norm": float(self.norm)}
        self.log.write(
            state.step,
            {
                "train/loss": loss,
                **norm,
                "train/learning_rate": learning_rate(state.step - 1, config),
                "train/epoch": self.loader.epoch(state.step * config.accumulate),
                "time/data_ms": data_ms,
                "time/compute_ms": compute_ms,
            },
        )
        self.progress.report(state.step, loss, data_ms, compute_ms)
        meter.reset()
        return 1e-3 * compute_ms

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
            self.finite.raise_bad()
            self.finite.raise_bad_weights(state.step, state.kept_tensors())
            state.save(self.run, config, self.origin)
            self._score(due)
            prune_checkpoints(self.run, config.keep_checkpoints)

    def _score(self, due: bool) -> None:
        """Evaluate the averaged policy in the simulator, once per step, and mark the best."""
        state = self.state
        if self.evaluate is None or not due or self.log.has(state.step, f"evaluation/{SCORE}"):
            return
        with torch_threads(self.cores):
            metrics = self.evaluate(state.ema.model)  # type: ignore[arg-type]
        numbers = {f"evaluation/{k}": v for k, v in metrics.items()}
        self.log.write(state.step, numbers)
        score = float(metrics[SCORE])
        self.progress.say(f"step {state.step} · {metrics.get('score_name', SCORE)} {score:.3f}")
        if score > best_score(self.run):
            checkpoint = self.run / "checkpoints" / f"{state.step:08d}"
            mark_best(self.run, checkpoint, score, metrics)

    def _due(self, period: int) -> bool:
        return period > 0 and self.state.step % period == 0

"""The training loop, one for every objective."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from dipole.policy.checkpoint import (
    Checkpoint,
    best_score,
    load_policy,
    mark_best,
    prune_checkpoints,
)
from dipole.policy.core.files import remove_leftovers
from dipole.policy.core.threads import Threads, torch_threads
from dipole.policy.denoisers.cpu_unet.compiled import compile_unets
from dipole.policy.policy import Policy
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.hardware.memory import keep_freed_memory
from dipole.policy.training.hardware.process_settings import process_settings
from dipole.policy.training.hardware.thread_tuner import ThreadTuner
from dipole.policy.training.hardware.threaded_batch import threaded_batch
from dipole.policy.training.optimization.finite import TrainingDivergedError
from dipole.policy.training.optimization.optimizer import learning_rate
from dipole.policy.training.optimization.updates import ComputeLoss, Updates
from dipole.policy.training.output.checkpoint_writer import CheckpointWriter
from dipole.policy.training.output.logs import NoLog, RunLog
from dipole.policy.training.output.progress import TrainingProgress
from dipole.policy.training.output.throughput import Share, Throughput, weighted_means
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.process.signals import StopRequest
from dipole.policy.training.state import TrainState
from dipole.policy.training.validation import Validation, errors_text

__all__ = ["Evaluate", "Loader", "Trainer", "TrainingDivergedError"]

Evaluate = Callable[[Policy], Mapping[str, Any]]
REPEATED = 20.0  # seconds in which a launcher repeats a signal
UNSCORED = "max_reward_mean"  # decides where an evaluation does not say what its score is


class Loader(Protocol):
    """Batches as a function of their number; see dipole.data.make_loader."""

    def batches(self, start: int) -> Any: ...

    def epoch(self, batch: int) -> float: ...


@dataclass
class _Gathered:
    """What processes with shards have made together, for the first one to write."""

    losses: dict[str, float] | None = None
    checkpoint: Checkpoint | None = None


@dataclass
class Trainer:
    """A run in its folder.

    origin: JSON for each checkpoint's config.json: dataset, environment, command.
    validation: Held-out windows.
    evaluate: Scores the averaged policy in a simulator; "score" of what it returns, or without it
        "max_reward_mean", decides which checkpoint is the best; "score_name" says what it is.
    rank: Of this process; others than the first write nothing.
    group: The processes that train together.
    """

    state: TrainState
    loader: Loader
    config: TrainConfig
    run: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    validation: Validation | None = None
    evaluate: Evaluate | None = None
    rank: Rank = field(default_factory=Rank.current)
    group: Group = field(default_factory=Group.current)

    def __post_init__(self) -> None:
        self.device = self.state.policy.device
        # What is called for a loss: the objective, or a wrapper of it.
        self.objective: ComputeLoss = self.state.objective
        self.updates = Updates(self.state, self.config, self.run, self.group)
        self.throughput = Throughput(self.updates)
        self.stopped: str | None = None  # the signal that ends the run, the same in all processes
        config = self.config
        self.writer = CheckpointWriter(
            self.run, config.keep_checkpoints, config.background_checkpoints
        )
        self.meter, self.finite = self.updates.meter, self.updates.finite
        if self.config.compile:
            compile_unets(self.state.policy)

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
        quiet = not self.rank.is_main
        self.stop = StopRequest(0.0 if self.group.is_alone else REPEATED)
        self.group.asked = lambda: self.stop.number
        with self._alone_by_main():
            self.log = self._open_log()
        try:
            with TrainingProgress(config.steps, state.step, quiet) as self.progress, self.stop:
                if tuner:
                    tuner.say = self.progress.say  # a bar may be on the terminal by now
                if state.step:
                    with self._alone_by_main():
                        self._score(due=self._due(config.evaluate_every))
                batches = self.loader.batches(state.step * config.accumulate)
                self.meter.reset()
                while state.step < config.steps and not self.stopped:
                    with threaded_batch(state.policy, threads.batch):
                        changed = self._steps(batches, tuner)
                    if changed and tuner:
                        threads = tuner.choose()
        finally:
            self.writer.wait()
            self.log.close()
        return self.stopped

    def _hear(self) -> str | None:
        """The signal that any process has had by now, the same in all of them."""
        if self.group.is_alone:
            return self.stop.requested
        return signal.Signals(self.group.signal).name if self.group.signal else None

    @contextmanager
    def _alone_by_main(self) -> Iterator[None]:
        """What the first process does within it, the others wait for, however long it takes; its
        error is theirs."""
        with self.group.together(patient=True):
            yield
            self.group.round(patient=True)

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
        if self.state.sharding is not None:  # no process computes a trial alone, nor in threads
            torch.set_num_threads(self.cores)
            return None
        return ThreadTuner(self.state.policy, self.config, self._trial)

    def _steps(self, batches: Any, tuner: ThreadTuner | None) -> bool:
        """To the end, or until threads should be chosen again: whether they should."""
        state, config = self.state, self.config
        sharded = state.sharding is not None
        while state.step < config.steps and not self.stopped:
            measured = self.meter.step(wait=self._ends_period())
            with self.group.together(collectives=sharded), measured:
                self._step(batches)
            # Asked once a step: what ends it is saved.
            self.stopped = self._hear()
            last = state.step == config.steps or bool(self.stopped)
            with self.group.together():
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
        """A step's computation, on random data."""
        with threaded_batch(self.state.policy, threads.batch):
            self.updates.try_out(self.objective)

    def _step(self, batches: Any) -> None:
        """The updates of one step."""
        self.updates.make(self.objective, batches, measured=self._ends_period())
        self.state.step += 1
        self.progress.advance(self.state.step)

    def _report(self, last: bool) -> float | None:
        """Log the means since the last report; the seconds that a step has computed, if it did."""
        state, config, meter = self.state, self.config, self.meter
        if not meter.steps or not (last or state.step % config.log_every == 0):
            return None
        self.finite.share(self.group)
        self.finite.raise_bad()
        data_ms, compute_ms = meter.data_ms, meter.compute_ms
        shares = self.group.gather(self._share())
        losses = weighted_means(shares)
        self.log.write(
            state.step,
            {
                **losses,
                **{key: float(norm) for key, norm in self.updates.norms.items()},
                "train/learning_rate": learning_rate(state.step - 1, config),
                "train/epoch": self.loader.epoch(state.step * config.accumulate),
                "time/data_ms": data_ms,
                "time/compute_ms": compute_ms,
                **self.throughput.of(meter, shares),
            },
        )
        loss = losses.get(self.updates.loss_key, math.nan)  # not in a step without that update
        self.progress.report(state.step, loss, data_ms, compute_ms)
        meter.reset()
        return 1e-3 * compute_ms

    def _share(self) -> Share:
        """What this process has computed since the last report."""
        meter = self.meter
        return {
            "rows": self.updates.rows,
            "losses": meter.means(),
            "data_ms": meter.data_ms,
            "compute_ms": meter.compute_ms,
        }

    def _keep(self, last: bool) -> None:
        """Validate, save and score where it is time to."""
        config = self.config
        validates = self.validation is not None and (self._due(config.validate_every) or last)
        scores = self._due(config.evaluate_every)
        saves = self._due(config.checkpoint_every) or scores or last
        if not validates and not saves:
            return
        with self.group.together():
            self.finite.share(self.group)
        found = self._by_all(validates, saves) if self.state.sharding is not None else _Gathered()
        with self._alone_by_main():
            if self.rank.is_main:
                self._keep_by_main(validates, saves, scores, last, found)
        self.finite.has_checkpoint |= saves

    def _by_all(self, validates: bool, saves: bool) -> "_Gathered":
        """What takes all processes that have shards: validation, and the checkpoint's tensors."""
        state, found = self.state, _Gathered()
        with self.group.together(collectives=True):
            if validates and self.validation is not None:
                found.losses = self._validation_losses(self.validation)
            if not saves:
                return found
            self.finite.raise_bad()
            self.finite.raise_bad_weights(state.step, state.kept_tensors(), self.group)
        with self._alone_by_main():
            self.writer.wait()  # there is one copy at a time
        with self.group.together(collectives=True):
            found.checkpoint = state.gathered_checkpoint(
                self.config, self.origin, self.rank.is_main
            )
        return found

    def _keep_by_main(
        self, validates: bool, saves: bool, scores: bool, last: bool, found: "_Gathered"
    ) -> None:
        state, config = self.state, self.config
        if validates and self.validation is not None:
            losses = found.losses or self._validation_losses(self.validation)
            self.log.write(state.step, losses)
        if not saves:
            return
        if found.checkpoint is None:
            self.finite.raise_bad()
            self.finite.raise_bad_weights(state.step, state.kept_tensors())
            self.writer.write(state.step, lambda: state.checkpoint(config, self.origin))
        else:
            whole = found.checkpoint
            self.writer.write(state.step, lambda: whole, is_copy=True)
        if scores or last:
            self.writer.wait()
        self._score(scores)
        if scores and self.evaluate is not None:
            prune_checkpoints(self.run, config.keep_checkpoints)

    def _validation_losses(self, validation: Validation) -> dict[str, float]:
        """Of the raw and of the averaged policy; errors of the latter are said."""
        state = self.state
        with state.reading():
            raw = validation.losses(state.objective, state.step)
            with state.objective.using_policy(state.ema.model):
                averaged = validation.losses(state.objective, state.step)
        found = {f"validation/{key}": value for key, value in raw.items()}
        for key, value in averaged.items():
            kind, slash, name = key.partition("/")
            found[f"validation/{kind}_ema{slash}{name}"] = value
        errors = errors_text(averaged)
        if errors:
            self.progress.say(f"step {state.step} · mean absolute errors: {errors}")
        return found

    def _score(self, due: bool) -> None:
        """Evaluate the averaged policy in the simulator, once per step, and mark the best."""
        state = self.state
        if self.evaluate is None or not due or not self.rank.is_main:
            return
        if self.log.has(state.step, "evaluation/"):
            return
        with torch_threads(self.cores):
            metrics = self.evaluate(self._averaged_policy())
        numbers = {f"evaluation/{k}": v for k, v in metrics.items()}
        self.log.write(state.step, numbers)
        name, score = _score_of(metrics)
        self.progress.say(f"step {state.step} · {name} {score:.3f}")
        if score > best_score(self.run):
            checkpoint = self.run / "checkpoints" / f"{state.step:08d}"
            mark_best(self.run, checkpoint, score, metrics)

    def _averaged_policy(self) -> Policy:
        """Whole, in this process: where the average is sharded, that of the checkpoint."""
        if self.state.sharding is not None:
            return load_policy(self.run / "checkpoints" / f"{self.state.step:08d}", self.device)
        return self.state.ema.model  # type: ignore[return-value]

    def _due(self, period: int) -> bool:
        return period > 0 and self.state.step % period == 0


def _score_of(metrics: Mapping[str, Any]) -> tuple[str, float]:
    """What decides, in words, and its value."""
    if "score" not in metrics:
        return "mean max reward", float(metrics[UNSCORED])
    return str(metrics.get("score_name", "score")), float(metrics["score"])

"""What a training run came to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training.output.logs import read_log

# What a run is judged by, the first that it has: key of the log, whether more is better, name.
SCORES: tuple[tuple[str, Callable[..., float], str], ...] = (
    ("evaluation/success_rate", max, "best success rate"),
    ("evaluation/score", max, "best score"),
    ("evaluation/max_reward_mean", max, "best mean max reward"),  # of logs without a score
    ("validation/loss_ema", min, "best validation loss"),
    ("train/loss", min, "lowest training loss"),
)


@dataclass(frozen=True)
class TrainResult:
    """A run's folder and how far it is.

    output: Its folder.
    checkpoint: The newest one, None where there is none yet.
    step: Updates that were made in all.
    steps: Updates that were asked for; fewer than `step` where a run goes on that has made more.
    begun: The step at which this call began.
    scores: The best of each that was logged, by the log's key: "evaluation/success_rate",
        "validation/loss_ema", "train/loss" and what else there is.
    stopped: The signal that ended it before its last step, None where none did.
    not_copied: Why not all of it is at `train.copy_to`, None where it is, or nothing was to be.
    """

    output: Path
    checkpoint: Path | None
    step: int
    steps: int
    begun: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    not_copied: str | None = None

    @property
    def score(self) -> float | None:
        """What runs are compared by: the best success rate in the simulator where there were
        evaluations, else the best validation loss, else the lowest training loss."""
        return self.scores.get(self._judged_by[0])

    @property
    def score_name(self) -> str:
        return self._judged_by[2]

    @property
    def _judged_by(self) -> tuple[str, Callable[..., float], str]:
        return next((entry for entry in SCORES if entry[0] in self.scores), SCORES[-1])

    @classmethod
    def of(
        cls, output: Path, steps: int, made: tuple[int, int], stopped: str | None
    ) -> "TrainResult":
        """From what a run has left in its folder. made: this call's first step, and its last."""
        log = output / "log.jsonl"
        lines = read_log(log) if log.exists() else []
        scores = {}
        for key, best, _ in SCORES:
            values = [float(line[key]) for line in lines if key in line]
            if values:
                scores[key] = best(values)
        done = checkpoints_of(output)
        begun, step = made
        return cls(output, done[-1] if done else None, step, steps, begun, scores, stopped)

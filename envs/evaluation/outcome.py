"""What came of an episode, put together from its turns."""

import math
from dataclasses import dataclass, field

from dipole.envs.evaluation.results import EpisodeResult
from dipole.envs.rollout import Turn, either


@dataclass
class Outcome:
    """An episode so far; see `EpisodeResult` for what each means.

    success_name: The entry of info that told of success; None while none has.
    """

    rewards: list[float] = field(default_factory=list)
    success: bool | None = None
    success_at_end: bool | None = None
    success_name: str | None = None
    successes: dict[str, bool] = field(default_factory=dict)
    mode: str | None = None
    task: str | None = None

    def add(self, turn: Turn) -> None:
        """Go on with what the next command came to."""
        self.rewards += turn.rewards
        self.success = either(self.success, turn.success)
        if turn.rewards:
            self.success_at_end = turn.success_at_end
        self.success_name = turn.success_name or self.success_name
        for name, success in turn.successes.items():
            self.successes[name] = self.successes.get(name, False) or success
        self.mode = turn.mode or self.mode
        self.task = turn.task or self.task

    def result(self, seed: int) -> EpisodeResult:
        """Of at least one step."""
        return EpisodeResult(
            seed,
            self.success,
            max(self.rewards),
            self.rewards[-1],
            len(self.rewards),
            math.fsum(self.rewards),
            self.mode,
            self.task,
            bool(self.success_at_end) if self.success is not None else None,
            dict(self.successes),
        )

"""What came of an episode, put together from its turns."""

import math
from dataclasses import dataclass, field

from dipole.data.store.numbers import NOT_FINITE
from dipole.envs.evaluation.results import EpisodeResult
from dipole.envs.rollout import Turn, either


@dataclass
class Outcome:
    """An episode so far; see `EpisodeResult` for what each means.

    success_name: The entry of info that told of success; None while none has.
    diverged: How it was seen that the simulator's state is not finite, which ended the episode.
    """

    rewards: list[float] = field(default_factory=list)
    success: bool | None = None
    success_at_end: bool | None = None
    success_name: str | None = None
    successes: dict[str, bool] = field(default_factory=dict)
    mode: str | None = None
    task: str | None = None
    diverged: str = ""

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
        if turn.diverged:
            self._fail(turn.diverged)

    def result(self, seed: int) -> EpisodeResult:
        """Of at least one step, or of none where the first one diverged."""
        rewards = self.rewards or [0.0]
        return EpisodeResult(
            seed,
            self.success,
            max(rewards),
            rewards[-1],
            len(self.rewards),
            math.fsum(self.rewards),
            self.mode,
            self.task,
            bool(self.success_at_end) if self.success is not None else None,
            dict(self.successes),
            NOT_FINITE if self.diverged else None,
        )

    def _fail(self, why: str) -> None:
        """A state that is not finite is no success, whatever was before it; rewards stay."""
        self.diverged = why
        if self.success is not None:
            self.success = self.success_at_end = False
        self.successes = dict.fromkeys(self.successes, False)


def diverged_line(episode: object, outcome: Outcome) -> str:
    """For a person. episode: "episode 3 (seed 3)"."""
    return (
        f"{episode} ended after {len(outcome.rewards)} steps, as a failure, because the "
        f"simulator's state is not finite: {outcome.diverged}"
    )

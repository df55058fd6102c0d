"""Where an evaluation's time went."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dipole.envs.rollout.messages import FILMING, MAKING, OBSERVATIONS, SIMULATION, Turn

STEPPING = (SIMULATION, OBSERVATIONS, FILMING)


@dataclass
class Times:
    """Work of the simulators, wherever it was done. turns: Those in which steps were made;
    simulating: seconds of these. steps: Of all episodes."""

    parts: dict[str, float] = field(default_factory=dict)
    turns: int = 0
    simulating: float = 0.0
    steps: int = 0

    def add(self, turn: Turn) -> None:
        for part, seconds in turn.seconds.items():
            self.parts[part] = self.parts.get(part, 0.0) + seconds
        if turn.rewards:
            self.turns += 1
            self.steps += len(turn.rewards)
            self.simulating += sum(turn.seconds.get(part, 0.0) for part in STEPPING)

    def by_part(
        self,
        *,
        start: float,
        inference: float,
        workers: int,
        waiting: float,
        filming_again: float | None = None,
    ) -> dict[str, float]:
        """`seconds_by_part` of metrics.json. start: before the first episode, until workers
        answered; waiting: of this process for workers, after that; filming_again: of failures,
        after all episodes; None where they were not."""
        parts = {
            "start": start + self.parts.get(MAKING, 0.0),
            **{part: self.parts.get(part, 0.0) for part in STEPPING},
            "inference": inference,
        }
        if workers:
            parts["waiting"] = waiting
        return parts if filming_again is None else {**parts, "filming_again": filming_again}


def described(metrics: Mapping[str, Any]) -> str:
    """A line for a person; "" for an evaluation that did not measure it."""
    if "seconds_by_part" not in metrics:
        return f"{metrics['seconds']:.1f} s of episodes"
    parts = dict(metrics["seconds_by_part"])
    start, waiting = parts.pop("start"), parts.pop("waiting", None)
    parts.pop("filming_again", None)  # after the episodes
    workers = metrics["workers"]
    where = "in this process" if not workers else f"in {workers} processes"
    shown = [f"{seconds:.1f} s {part}" for part, seconds in parts.items() if seconds >= 0.05]
    if waiting is not None:
        shown.append(f"{waiting:.1f} s waiting for simulators")
    return (
        f"{metrics['seconds']:.1f} s of episodes, {metrics['steps_per_second']:.0f} steps a "
        f"second, simulated {where}: {', '.join([f'{start:.1f} s start', *shown])}"
    )

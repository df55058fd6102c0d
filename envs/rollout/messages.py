"""What is exchanged with a simulator: a command goes in, a turn comes back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from dipole.envs.media.video import TILE_WIDTH, PackedFrame
from dipole.envs.rollout.kept import KeptEpisode

# What a simulator's time goes into: being made, its first reset included; reset and stepped, its
# observation included where it cannot step without one; looked at, where it can; drawn for the
# video.
MAKING, SIMULATION, OBSERVATIONS, FILMING = "making", "simulation", "observations", "filming"


@dataclass(frozen=True)
class Command:
    """What a slot does next in an episode: actions [Ta, A], or None to start it from its seed.

    record: film every step, or each `stride` steps and the last one, for the video, no wider than
    `width`. scene: show the last one in full size, for the picture. views: with each frame of the
    video what the policy would see.
    """

    slot: int
    episode: int
    seed: int
    actions: np.ndarray | None = None
    record: bool = False
    scene: bool = False
    width: int = TILE_WIDTH
    stride: int = 1
    views: bool = False

    def __str__(self) -> str:
        return f"episode {self.episode} (seed {self.seed})"


@dataclass
class Turn:
    """What came of one command.

    observations: The newest ones, oldest first, {name: [*shape]}; none once the episode is over.
    rewards: One per step made.
    success: Whether any of these steps reported it; None where none said.
    success_at_end: What the last of them reported.
    success_name: The entry of info that told it.
    successes: By other definitions (info["successes"]), whether any of these steps reported it.
    mode: Which way of doing the task the last of them reported (info["mode"]); None where none did.
    task: Which of several tasks it is (info["task"], of a reset or a step); None where none said.
    frames: The scene after each step, if recorded, as small as the video shows it.
    views: With each of these frames, if asked for, the observation {name: [*shape]}.
    scene: After the last one, in full size, if asked for.
    kept: All of an episode that is over, where it is kept.
    diverged: How it was seen that the simulator's state is not finite, which ended the episode: its
        last step and what came after it are not in the turn. "" where it was not.
    lost: The simulator is gone, and with it the episode: it has to be begun again.
    seconds: Of work, by the parts above.
    """

    slot: int
    observations: list[dict[str, np.ndarray]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    done: bool = False
    success: bool | None = None
    success_at_end: bool | None = None
    success_name: str | None = None
    successes: dict[str, bool] = field(default_factory=dict)
    mode: str | None = None
    task: str | None = None
    frames: list[PackedFrame] = field(default_factory=list)
    views: list[dict[str, np.ndarray]] = field(default_factory=list)
    scene: PackedFrame | None = None
    kept: KeptEpisode | None = None
    diverged: str = ""
    lost: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time within to a part."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.seconds[part] = self.seconds.get(part, 0.0) + spent


def either(one: bool | None, other: bool | None) -> bool | None:
    """Whether one of two says so; None where both are unknown."""
    known = [each for each in (one, other) if each is not None]
    return any(known) if known else None

"""Runs a list of episodes over slots: which episode a slot takes, and when a chunk is asked for.

episodes 0 1 2 3 ...  ──next──>  slots (simulators)  ──turns──>  rows that wait for a chunk
                                     ^                                    │ a full group, or
                                     └────────────── chunks ──────────────┘ all that are left
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluation.motion import Motion
from dipole.envs.evaluation.outcome import Outcome, diverged_line
from dipole.envs.evaluation.results import EpisodeResult
from dipole.envs.evaluation.times import Times
from dipole.envs.media.picture import Moment
from dipole.envs.media.video import Recording, tile_width
from dipole.envs.media.views import PolicyViews
from dipole.envs.rollout import Command, RolloutError, Slots, Turn
from dipole.envs.rollout.kept import KeptEpisode
from dipole.envs.rollout.messages import FILMING
from dipole.policy.execution.executor import Executor, NotFiniteError

RECENT_CALLS = 9
PICTURED_EPISODES = 4
PICTURED_TURNS = (0, 4)  # the picture shows a filmed episode before its first and its fifth chunk
PICTURED = PICTURED_EPISODES * len(PICTURED_TURNS)  # moments, at most

Progress = Callable[[EpisodeResult], None]


@dataclass
class RunningEpisode:
    """The episode that a slot is in. turns: chunks asked for so far."""

    episode: int
    seed: int
    recording: Recording | None
    outcome: Outcome = field(default_factory=Outcome)
    turns: int = 0
    motion: Motion = field(default_factory=Motion)
    sent: np.ndarray | None = None  # the chunk that is being executed
    planned: np.ndarray | None = None  # what the chunk before it had in place of its first action
    filmed: int = 0  # frames, of which `recording` has more where the episode was begun again

    def __str__(self) -> str:
        return f"episode {self.episode} (seed {self.seed})"

    @property
    def steps(self) -> int:
        return len(self.outcome.rewards)

    @property
    def pictured(self) -> bool:
        return self.episode < PICTURED_EPISODES and self.turns in PICTURED_TURNS

    def add(self, turn: Turn) -> None:
        self.outcome.add(turn)
        if self.sent is not None and turn.rewards:
            self.motion.add(self.sent[: len(turn.rewards)], self.planned)
        if self.recording is not None:
            self.filmed += len(turn.frames)
            new = max(0, self.filmed - len(self.recording.frames))
            self.recording.frames += turn.frames[len(turn.frames) - new :]
            self.recording.rewards += self.outcome.rewards[len(self.recording.rewards) :]
            self.recording.success = self.outcome.success
            self.recording.task = self.outcome.task
            self.recording.done = turn.done


class EpisodeRun:
    """Gives episodes to slots, and chunks to rows, until all episodes are over. A slot is a row.

    say: told in a line of each episode that ended because the simulator's state was not finite.
    recordings, moments: what the first `filmed` episodes left for the video and for the picture.
    filming: told of the recordings whenever they have grown. keeping: given the number, the result
    and what is kept of each episode that is over. views: draws what the policy sees
    beside the scene.
    """

    def __init__(
        self,
        executor: Executor,
        slots: Slots,
        progress: Progress | None = None,
        filming: Callable[[Sequence[Recording]], None] | None = None,
        keeping: Callable[[int, EpisodeResult, KeptEpisode], None] | None = None,
        views: PolicyViews | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        self.executor, self.slots, self.progress = executor, slots, progress
        self.filming, self.keeping, self.views, self.say = filming, keeping, views, say
        self.recordings: list[Recording] = []
        self.moments: list[Moment] = []
        self._next: deque[RunningEpisode] = deque()
        self._running: dict[int, RunningEpisode] = {}
        self._waiting: deque[int] = deque()
        self._planning: dict[Future[np.ndarray], list[int]] = {}
        self._results: dict[int, EpisodeResult] = {}
        self._motions: dict[int, Motion] = {}
        self.times = Times()
        self.answered: float | None = None  # when the first turn came, on perf_counter's clock
        self.waited_before = 0.0  # of the slots' `waited`, until then
        self.success_name: str | None = None  # the entry of info that told of success
        self.begun_again = 0  # episodes whose simulator was lost

    def finish(
        self, seeds: Sequence[int], n_slots: int, filmed: int = 0, stride: int = 1
    ) -> list[EpisodeResult]:
        """Run an episode for each seed; the results in their order. Raises RolloutError.

        stride: Steps for each frame of the filmed ones.
        """
        panels = 1 if self.views is None else self.views.panels
        width = tile_width(filmed * panels)
        for episode, seed in enumerate(seeds):
            film = Recording(seed, width=width, stride=stride, panels=panels)
            recording = film if episode < filmed else None
            self._next.append(RunningEpisode(episode, seed, recording))
            self.recordings += [recording] if recording else []
        for slot in range(n_slots):
            self._begin(slot)
        while self._running:
            for turn in self.slots.collect() if self.slots.busy else ():
                self._receive(turn)
            if self.filming is not None and self.recordings:
                self.filming(self.recordings)
            self._start_plans()
            self._send_planned()
        return [self._results[episode] for episode in sorted(self._results)]

    @property
    def motions(self) -> list[Motion]:
        """Of the episodes that are over, in their order."""
        return [self._motions[episode] for episode in sorted(self._motions)]

    def _begin(self, slot: int) -> None:
        """Give a free slot the next episode, if there is one."""
        if self._next:
            self._running[slot] = self._next.popleft()
            self._send(slot)

    def _begin_again(self, slot: int) -> None:
        """From its start: an episode is a function of its seed, and so are its frames."""
        lost = self._running[slot]
        self.moments = [moment for moment in self.moments if moment.seed != lost.seed]
        self._running[slot] = RunningEpisode(lost.episode, lost.seed, lost.recording)
        self.begun_again += 1
        self._send(slot)

    def _send(self, slot: int, actions: np.ndarray | None = None) -> None:
        running = self._running[slot]
        record = running.recording is not None
        scene = record and running.pictured
        command = Command(slot, running.episode, running.seed, actions, record, scene)
        if running.recording is not None:
            film = running.recording
            views = self.views is not None
            command = replace(command, width=film.width, stride=film.stride, views=views)
        self.slots.send(command)

    def _receive(self, turn: Turn) -> None:
        slot, running = turn.slot, self._running[turn.slot]
        if turn.lost:
            self._begin_again(slot)
            return
        if self.answered is None:
            self.answered, self.waited_before = time.perf_counter(), self.slots.waited
        self._draw_views(turn, running.recording)
        self.times.add(turn)
        running.add(turn)
        if turn.done:
            self._end(slot, turn.kept)
            return
        if running.turns == 0:
            self.executor.reset(slot, turn.observations[0], running.seed)
        else:
            self._observe(slot, turn)
        if turn.scene is not None:
            seen = self.executor.stacked(slot)
            self.moments.append(Moment(running.seed, running.steps, seen, turn.scene))
        running.turns += 1
        self._waiting.append(slot)

    def _observe(self, slot: int, turn: Turn) -> None:
        try:
            for observation in turn.observations:
                self.executor.observe(slot, observation)
        except ConfigError as error:  # a sensor that comes or goes
            running = self._running[slot]
            raise RolloutError(f"{running}, step {running.steps}: {error}") from error

    def _draw_views(self, turn: Turn, recording: Recording | None) -> None:
        if self.views is not None and recording is not None:
            with turn.timed(FILMING):
                turn.frames = self.views.beside(turn.frames, turn.views, recording.width)

    def _end(self, slot: int, kept: KeptEpisode | None) -> None:
        running = self._running.pop(slot)
        result = self._results[running.episode] = running.outcome.result(running.seed)
        if running.outcome.diverged:
            self.say(diverged_line(running, running.outcome))
        self._motions[running.episode] = running.motion
        self.success_name = running.outcome.success_name or self.success_name
        if self.keeping is not None and kept is not None:
            self.keeping(running.episode, result, kept)
        if self.progress is not None:
            self.progress(result)
        self._begin(slot)

    def _start_plans(self) -> None:
        """Every call costs a whole batch: wait for one, unless nobody is left to wait for, or
        simulators wait too and calls for fewer rows are soon enough over."""
        size = self.executor.inference_batch_size
        while len(self._waiting) >= size:
            self._start_plan(size)
        if not self._waiting or self._planning:
            return
        starved = self.slots.idle and len(self._waiting) >= self._fewest_rows()
        if starved or not self.slots.busy:
            self._start_plan(len(self._waiting))

    def _fewest_rows(self) -> float:
        """Rows of a call with which inference takes half as long as simulation at most: of workers
        that all simulate, one asks for a chunk every (seconds of a turn / workers)."""
        calls, turns = self.executor.calls, self.times.turns
        if not calls or not turns:
            return math.inf
        call = median(each.seconds for each in calls[-RECENT_CALLS:])
        turn = self.times.simulating / turns
        return 2 * call * self.slots.workers / turn

    def _start_plan(self, count: int) -> None:
        rows = [self._waiting.popleft() for _ in range(count)]
        for slot in rows:
            self._running[slot].planned = self.executor.planned_next(slot)
        plan = self.executor.start_plan(rows)
        self._planning[plan] = rows
        plan.add_done_callback(lambda _: self.slots.wake())

    def _send_planned(self) -> None:
        """Send the chunks that are ready; wait for some where all simulators wait for them."""
        if not self._planning:
            return
        patience = 0 if self.slots.busy else None
        for planned in wait(self._planning, patience, FIRST_COMPLETED).done:
            rows = self._planning.pop(planned)
            try:
                chunks = planned.result()  # [rows, Ta, A]
            except NotFiniteError as error:
                running = self._running[error.row]
                raise RolloutError(f"{running}, step {running.steps}: {error}") from error
            for slot, actions in zip(rows, chunks, strict=True):
                self._running[slot].sent = actions
                self._send(slot, actions)

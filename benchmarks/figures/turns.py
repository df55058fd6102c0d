"""Contestants in processes of their own, which run in turns.

Whatever else the machine is doing slows all of them, and ratios are taken within a round. Each has
its own process, because threads and memory settings belong to a process: the plain way gets none of
ours.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from dipole.data.core.environ import environment_variables
from dipole.data.core.errors import DipoleError

LEAST_ROUNDS, MOST_ROUNDS = 3, 200
Work = Callable[[], object]
Make = Callable[..., tuple[Work, dict[str, Any]]]


class ContestantError(DipoleError):
    """A contestant failed; the message says which, and how."""


@dataclass(frozen=True)
class Contestant:
    """make(**options) gives the work of one turn, and facts about it; called in its own process.

    per_turn: how many of the measured thing one turn does. environment: variables that its process
    begins with; None is one that it does not have.
    """

    make: Make
    options: Mapping[str, Any] = field(default_factory=dict)
    per_turn: float = 1.0
    environment: Mapping[str, str | None] = field(default_factory=dict)


@dataclass
class Times:
    """Of one contestant: seconds of each turn by the clock, and of the processor; facts."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def take_turns(contestants: Mapping[str, Contestant], seconds: float) -> dict[str, Times]:
    """Rounds of one turn each, for about so many seconds, after a turn that does not count.

    They get ready one after another too: what they find out about themselves meanwhile, such as the
    best number of threads, is found on a machine of their own. Each contestant's seconds are those
    of one of its `per_turn`. Raises ContestantError.
    """
    runners: dict[str, _Runner] = {}
    times: dict[str, Times] = {}
    try:
        for name, contestant in contestants.items():
            runners[name] = _Runner(name, contestant)
            times[name] = Times(facts=runners[name].ready())
        began = time.perf_counter()
        rounds = 0
        while rounds < LEAST_ROUNDS or (
            rounds < MOST_ROUNDS and time.perf_counter() - began < seconds
        ):
            for name, runner in runners.items():
                clock, processor = runner.turn()
                times[name].clock.append(clock)
                times[name].processor.append(processor)
            rounds += 1
    finally:
        for runner in runners.values():
            runner.stop()
    return times


def ratios(plain: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    """How many times faster than the plain way, round by round: median and middle 80 %."""
    return spread([a / b for a, b in zip(plain, own, strict=True)])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and the middle 80 %, and the least."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {
        "median": statistics.median(values),
        "p10": tenths[0],
        "p90": tenths[-1],
        "least": min(values),
    }


class _Runner:
    """A contestant's process, asked for one turn at a time."""

    def __init__(self, name: str, contestant: Contestant) -> None:
        self.name, self.per_turn = name, contestant.per_turn
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, contestant.make, dict(contestant.options))
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with environment_variables(contestant.environment):
            self.process.start()
        theirs.close()

    def ready(self) -> dict[str, Any]:
        """Waits until the warm-up is over; the contestant's facts."""
        facts: dict[str, Any] = self._receive()
        return facts

    def turn(self) -> tuple[float, float]:
        self.pipe.send(True)
        clock, processor = self._receive()
        return clock / self.per_turn, processor / self.per_turn

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()

    def _receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join(5)
            raise ContestantError(
                f"{self.name}: its process ended with code {self.process.exitcode}"
            ) from None
        if isinstance(answer, str):
            raise ContestantError(f"{self.name}: {answer}")
        return answer


def _serve(pipe: Connection, make: Make, options: dict[str, Any]) -> None:
    """The process: build, warm up, then one turn per message, until the pipe is closed."""
    try:
        work, facts = make(**options)
        work()
        pipe.send(facts)
        while True:
            pipe.recv()
            clock, processor = time.perf_counter(), time.process_time()
            work()
            pipe.send((time.perf_counter() - clock, time.process_time() - processor))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")

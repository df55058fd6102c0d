"""Processes of a cluster that do one kind of work: started, used once they are there, replaced.

What happens to them comes to an inbox, so that whoever reads it never polls.
"""

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dipole.envs.errors import RolloutError
from dipole.envs.rollout.worker_process import GRACE_SECONDS, WORKER_VARIABLES

MOST_DEATHS = 3  # of processes that worked at one and the same thing, or could not start, in a row


@dataclass(eq=False)
class Actor:
    """One process. sent: Work that it has not answered, in the order in which it does it."""

    handle: Any
    ready: bool = False
    sent: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something an actor did. work: What it answered; None for its start.
    answer: Of the work; None where it has died. error: What it died of.
    given_up: What to say of the oldest work that it had, where `MOST_DEATHS` actors died in it."""

    actor: Actor
    work: Any
    answer: Any = None
    error: Exception | None = None
    given_up: RolloutError | None = None


class ActorGroup:
    """Actors of one class, each of which answers its work in the order in which it was sent.

    ray: The module, connected. make: Starts one: (options) -> handle, whose `ping` answers at once.
    resources: Of each, as Ray's options name them. what: For messages, "simulator".

    An actor that died is replaced; `deaths` counts them. One that could not start `MOST_DEATHS`
    times in a row is a RolloutError; work in which as many have died is given up (see Event).
    """

    def __init__(
        self,
        ray: Any,
        make: Callable[[dict[str, Any]], Any],
        count: int,
        resources: dict[str, Any],
        what: str,
    ) -> None:
        self.deaths = 0
        self.actors: list[Actor] = []
        self._ray, self._make, self._what = ray, make, what
        self._options = {
            **resources,
            "max_restarts": 0,  # a process that comes back empty is a new one, and known as such
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": WORKER_VARIABLES},
        }
        self._inbox: queue.SimpleQueue[tuple[Actor, Any, Any] | None] = queue.SimpleQueue()
        self._failed_starts = 0
        self._deaths_of: dict[str, int] = {}
        for _ in range(count):
            self._start()

    @property
    def ready(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.ready]

    @property
    def busy(self) -> int:
        return sum(len(actor.sent) for actor in self.actors)

    def send(self, actor: Actor, work: Any) -> None:
        """Have an actor do this; its answer comes to the inbox."""
        actor.sent.append(work)
        self._expect(actor, work, actor.handle.perform.remote(work))

    def wake(self) -> None:
        """End a wait, from any thread."""
        self._inbox.put(None)

    def wait(self, seconds: float | None) -> list[Event]:
        """What happened; waits for something, or for `wake`. Raises RolloutError after `seconds`
        without either, and where no actor can start."""
        try:
            item = self._inbox.get(timeout=seconds)
        except queue.Empty:
            raise RolloutError(
                f"no {self._what} actor of the cluster is there after {seconds:g} s: it has "
                f"{_shown(self._ray.available_resources())} free, and each actor wants "
                f"{_shown(self._options)}; see `ray status`, or wait longer by cluster.patience"
            ) from None
        events: list[Event] = []
        while True:
            if item is not None and item[0] in self.actors:
                events.append(self._event(*item))
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return events

    def close(self) -> None:
        """Ask those that do nothing to end, then insist."""
        with contextlib.suppress(Exception):  # the cluster itself may be gone
            asked = [actor.handle.close.remote() for actor in self.ready if not actor.sent]
            if asked:
                self._ray.wait(asked, num_returns=len(asked), timeout=GRACE_SECONDS)
        for actor in self.actors:
            self._kill(actor)
        self.actors.clear()

    def _start(self) -> None:
        actor = Actor(self._make(self._options))
        self.actors.append(actor)
        self._expect(actor, None, actor.handle.ping.remote())

    def _expect(self, actor: Actor, work: Any, reference: Any) -> None:
        inbox = self._inbox
        reference.future().add_done_callback(lambda done: inbox.put((actor, work, done)))

    def _event(self, actor: Actor, work: Any, done: Any) -> Event:
        error = done.exception()
        if error is None:
            answer = done.result()
            if work is None:
                actor.ready, self._failed_starts = True, 0
            else:
                actor.sent.remove(work)
            return Event(actor, work, answer)
        if not isinstance(error, self._ray.exceptions.RayActorError):
            raise RolloutError(f"a {self._what} actor failed in {work}: {error}") from error
        return Event(actor, work, error=error, given_up=self._died(actor, error))

    def _died(self, actor: Actor, error: Exception) -> RolloutError | None:
        """Actors work at the oldest of what they were sent: that may be what they died of."""
        self.actors.remove(actor)
        self._kill(actor)
        self.deaths += 1
        said = str(error).strip()
        if not actor.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS:
                raise RolloutError(f"{self._what} actors cannot start: {said}")
        self._start()
        if not actor.ready or not actor.sent:
            return None
        name = str(actor.sent[0])
        self._deaths_of[name] = self._deaths_of.get(name, 0) + 1
        if self._deaths_of[name] < MOST_DEATHS:
            return None
        return RolloutError(
            f"{name}: {MOST_DEATHS} {self._what} actors ended in it, one after another: "
            "it ends its process, or wants more memory than there is. Run that seed "
            f"alone, without a cluster, to see why. The last one: {said}"
        )

    def _kill(self, actor: Actor) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle)


def _shown(resources: dict[str, Any]) -> str:
    named = {"CPU": resources.get("CPU", resources.get("num_cpus", 0))}
    named["GPU"] = resources.get("GPU", resources.get("num_gpus", 0))
    return ", ".join(f"{value:g} {name}s" for name, value in named.items() if value) or "nothing"

"""A cluster that is acted, in this process: actors answer, die and come back on demand."""

from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace


class RayActorError(Exception):
    pass


class ActedRay:
    """What dipole uses of `ray`, in this process.

    dies: Called with each command, or other work, and the number of the actor that has it; true:
        the actor ends there, with all that it was sent.
    full: No actor ever starts.
    """

    exceptions = SimpleNamespace(RayActorError=RayActorError)

    def __init__(self, dies=lambda command, actor: False, full=False):
        self.dies, self.full, self.made = dies, full, 0

    def put(self, value):
        return value

    def wait(self, references, num_returns, timeout):
        return references, []

    def kill(self, handle):
        handle.dead = True

    def cluster_resources(self):
        return {"CPU": 3.0}

    def available_resources(self):
        return {"CPU": 0.0}

    def remote(self, kind):
        return SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=partial(Handle, self, kind))
        )


class Reference:
    """Is done at once, or never."""

    def __init__(self, work):
        self._future = Future()
        try:
            self._future.set_result(work())
        except RayActorError as error:
            self._future.set_exception(error)

    def future(self):
        return self._future


class Handle:
    def __init__(self, ray, kind, *making):
        self.ray, self.dead, self.number = ray, False, ray.made
        ray.made += 1
        self._actor = kind(*making)
        never = SimpleNamespace(future=Future)
        self.ping = SimpleNamespace(remote=lambda: never if ray.full else Reference(lambda: None))
        self.close = SimpleNamespace(remote=lambda: None)
        self.perform = SimpleNamespace(remote=lambda command: Reference(partial(self._do, command)))

    def _do(self, command):
        if self.dead or self.ray.dies(command, self.number):
            self.dead = True
            raise RayActorError("the actor died")
        return self._actor.perform(command)

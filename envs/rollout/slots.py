"""Where episodes are simulated, several at once: in this process; see workers.py for others."""

from collections import deque
from typing import Protocol

from dipole.envs.interface import Interface
from dipole.envs.rollout.kept import KeptKeys
from dipole.envs.rollout.messages import Command, Turn
from dipole.envs.rollout.simulator import SimulatorPool
from dipole.envs.rollout.stepping import EnvironmentFactory


class Slots(Protocol):
    """Where episodes are simulated: commands go in, one turn comes back for each.

    waited: Seconds in which this process had nothing else to do than to wait for simulators.
    """

    waited: float

    @property
    def busy(self) -> int:
        """Commands that have not been answered."""
        ...

    @property
    def workers(self) -> int:
        """Processes beside this one."""
        ...

    @property
    def idle(self) -> bool:
        """Whether a processor that could simulate has nothing to do while others simulate."""
        ...

    def send(self, command: Command) -> None: ...

    def collect(self) -> list[Turn]:
        """The turns that are ready. While any slot is busy it waits for one, or for `wake`."""
        ...

    def wake(self) -> None:
        """End a wait of `collect`, from any thread."""
        ...

    def close(self) -> None: ...


class LocalSlots:
    """Slots in this process, simulated one after another when their turns are collected."""

    def __init__(
        self,
        make_environment: EnvironmentFactory,
        n_obs_steps: int,
        interface: Interface | None = None,
        keys: KeptKeys | None = None,
    ) -> None:
        self._pool = SimulatorPool(make_environment, n_obs_steps, interface, keys)
        self._commands: deque[Command] = deque()
        self.waited = 0.0

    @property
    def busy(self) -> int:
        return len(self._commands)

    @property
    def workers(self) -> int:
        return 0

    @property
    def idle(self) -> bool:
        return False

    def send(self, command: Command) -> None:
        self._commands.append(command)

    def collect(self) -> list[Turn]:
        turns = [self._pool.perform(command) for command in self._commands]
        self._commands.clear()
        return turns

    def wake(self) -> None:
        pass  # nobody waits: simulating is what `collect` does

    def close(self) -> None:
        self._pool.close()

"""What one look at an environment tells before an evaluation begins, so that errors come early."""

import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.envs.errors import RolloutError
from dipole.envs.interface import Interface
from dipole.envs.media.video import film_frame
from dipole.envs.rollout.messages import Command
from dipole.envs.rollout.rate import steps_per_second
from dipole.envs.rollout.resolved import ResolvedEnvironment
from dipole.envs.rollout.simulator import Simulator
from dipole.envs.rollout.spaces import check_actions, check_observation
from dipole.envs.rollout.stepping import Environment, EnvironmentFactory, Stepping
from dipole.envs.wrapped import offered


@dataclass(frozen=True)
class FirstLook:
    """fps: steps a second, None if unknown. no_video: why it cannot be filmed; "" if it can.
    modes: ways of doing the task, of which an episode's info["mode"] is one (metadata["modes"]).
    tasks: the environment's, where it has several (its attribute `tasks`). step_seconds: what a
    step takes, with its share of observations; None where it was not tried. making_seconds:
    of making one, its first reset included. most_steps: of an episode; None if unknown."""

    fps: float | None
    no_video: str = ""
    modes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    step_seconds: float | None = None
    making_seconds: float = 0.0
    most_steps: int | None = None


def first_look(
    resolved: ResolvedEnvironment,
    policy: Any,
    *,
    seed: int = 0,
    film: bool = False,
    measure: bool = False,
) -> FirstLook:
    """Make an environment, reset it, observe it, and draw it where it will be filmed.

    measure: Try what a step takes.
    Raises ConfigError where a policy's observation or action does not fit it, and RolloutError
    where it cannot be made or reset.
    """
    started = time.perf_counter()
    name, interface = resolved.name, resolved.interface
    with made(name, resolved.make) as environment:
        check_actions(name, getattr(environment, "action_space", None), policy.features)
        observed(name, environment, interface, interface.entries, seed)
        making = time.perf_counter() - started
        no_video = _no_video(environment) if film else ""
        modes = tuple(map(str, environment.metadata.get("modes") or ()))
        return FirstLook(
            resolved.fps or steps_per_second(environment),
            no_video,
            modes,
            _tasks(environment),
            _step_seconds(environment, interface, policy, seed) if measure else None,
            making,
            _most_steps(environment, interface),
        )


@contextmanager
def made(name: str, make: EnvironmentFactory) -> Iterator[Environment]:
    """An environment, which is closed afterwards.

    Raises RolloutError, naming it, for an exception of its own when it is made.
    """
    with closing(_made(name, make)) as environment:
        yield environment


def _made(name: str, make: EnvironmentFactory) -> Environment:
    try:
        return make()
    except DipoleError:
        raise
    except Exception as error:
        raise _failed(name, "when it was made", error) from error


def observed(
    name: str, environment: Environment, interface: Interface, entries: Iterable[str], seed: int
) -> Any:
    """The first observation of an episode, as the environment gives it.

    name: Of the environment. entries: Of the observation that are looked at.
    Raises ConfigError where they are not what the interface's features need or what the environment
    says of them, RolloutError where it cannot be reset.
    """
    try:
        observation, _ = Stepping(environment, interface).reset(seed)
        check_observation(getattr(environment, "observation_space", None), observation, entries)
        interface.observe(observation)
    except RolloutError as error:  # of a simulator in another interpreter
        raise RolloutError(f"environment {name!r}, reset with seed {seed}: {error}") from error
    except DipoleError as error:
        raise ConfigError(f"environment {name!r}: {error}") from error
    except Exception as error:
        raise _failed(name, f"when reset with seed {seed}", error) from error
    return observation


def _failed(name: str, when: str, error: Exception) -> RolloutError:
    """With the traceback, which is of the simulator's own code."""
    said = f"environment {name!r} raised {type(error).__name__} {when}: {error}"
    return RolloutError(f"{said}\n{''.join(traceback.format_exception(error))}")


def _no_video(environment: Environment) -> str:
    """Why it cannot be drawn, or ""."""
    if environment.metadata.get("render_modes") == []:
        return "it has no render modes"
    try:
        film_frame(environment.render())
    except Exception as error:  # of the simulator, its drawing library, or a missing display
        return f"{type(error).__name__}: {error}"
    return ""


def _tasks(environment: Environment) -> tuple[str, ...]:
    names = offered(environment, "tasks")
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if listed and len(names) > 1 else ()


def _most_steps(environment: Environment, interface: Interface) -> int | None:
    own = offered(environment, "max_steps") or offered(environment, "_max_episode_steps")
    limits = [limit for limit in (interface.max_steps, own) if isinstance(limit, int)]
    return min(limits, default=None)


def _step_seconds(
    environment: Environment, interface: Interface, policy: Any, seed: int
) -> float | None:
    """Of the second of two chunks that hold still, or do nothing; None where none could be made."""
    simulator = Simulator(environment, policy.window.n_obs_steps, interface)
    hold = offered(environment, "hold_action")
    space: Any = environment.action_space
    taken = None
    try:
        simulator.start(seed)
        still = hold() if hold is not None else np.clip(0.0, space.low, space.high)
        actions = np.repeat(
            np.asarray(still, np.float32).reshape(1, -1), policy.window.n_action_steps, 0
        )
        for _ in range(2):
            turn = simulator.perform(Command(0, 0, seed, actions))
            taken = sum(turn.seconds.values()) / len(turn.rewards)
            if turn.done:
                break
    except Exception:  # what is wrong with it is told where it happens in an episode
        return None
    return taken

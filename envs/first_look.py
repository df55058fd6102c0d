"""What one look at an environment tells before an evaluation begins, so that errors come early."""

import traceback
from dataclasses import dataclass
from typing import Any

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.envs.interface import Interface, check_actions
from dipole.envs.media.video import film_frame
from dipole.envs.rate import steps_per_second
from dipole.envs.resolved import ResolvedEnvironment
from dipole.envs.rollout import Environment, RolloutError, Simulator


@dataclass(frozen=True)
class FirstLook:
    """fps: steps a second, None if unknown. no_video: why it cannot be filmed; "" if it can.
    modes: ways of doing the task, of which an episode's info["mode"] is one (metadata["modes"])."""

    fps: float | None
    no_video: str = ""
    modes: tuple[str, ...] = ()


def first_look(
    resolved: ResolvedEnvironment, policy: Any, *, seed: int = 0, film: bool = False
) -> FirstLook:
    """Make an environment, reset it, observe it, and draw it where it will be filmed.

    Raises ConfigError where a policy's observation or action does not fit it, and RolloutError
    where it cannot be made or reset.
    """
    environment = _made(resolved)
    try:
        space = getattr(environment, "action_space", None)
        check_actions(resolved.name, space, policy.features)
        _reset(resolved.name, environment, resolved.interface, seed)
        no_video = _no_video(environment) if film else ""
        modes = tuple(map(str, environment.metadata.get("modes") or ()))
        return FirstLook(resolved.fps or steps_per_second(environment), no_video, modes)
    finally:
        environment.close()


def _made(resolved: ResolvedEnvironment) -> Environment:
    try:
        return resolved.make()
    except DipoleError:
        raise
    except Exception as error:
        raise _failed(resolved.name, "when it was made", error) from error


def _reset(name: str, environment: Environment, interface: Interface, seed: int) -> None:
    try:
        Simulator(environment, 1, interface).start(seed)
    except RolloutError as error:  # of a simulator in another interpreter
        raise RolloutError(f"environment {name!r}, reset with seed {seed}: {error}") from error
    except DipoleError as error:
        raise ConfigError(f"environment {name!r}: {error}") from error
    except Exception as error:
        raise _failed(name, f"when reset with seed {seed}", error) from error


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

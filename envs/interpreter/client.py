"""An environment whose simulator runs in another interpreter."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import RolloutError
from dipole.envs.interpreter.process import Interpreter, RemoteError, pip
from dipole.envs.interpreter.spaces import described

GYMNASIUM_ERRORS = ("gymnasium.error", "gym.error")
_VERSIONS: dict[tuple[str | None, str], str] = {}  # of what was made, by interpreter and name


class InterpreterEnv(gymnasium.Env[Any, Any]):
    """Talks to an interpreter in which an environment was made.

    interpreter: Of which `make` was called. said: What that returned.
    task, options: Of the specification.
    It always offers `advance` and `observe`: an observation stays there until it is looked at.
    observation_is_finite: Of the last step, as far as it was looked at there.
    """

    observation_is_finite = True

    def __init__(
        self,
        interpreter: Interpreter,
        said: Mapping[str, Any],
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.interpreter, self.task, self.options = interpreter, task, dict(options or {})
        try:
            self.observation_space = described(said["observation_space"])
            self.action_space = described(said["action_space"])
            self.metadata = dict(said["metadata"])
            self.render_mode = said["render_mode"]
            if said["dt"] is not None:
                self.dt = float(said["dt"])
            self.tasks = tuple(map(str, said["tasks"]))
            if said["max_steps"] is not None:
                self.max_steps = int(said["max_steps"])
            self.versions = {str(name): str(each) for name, each in said["versions"].items()}
            for method in said["offers"]:
                setattr(self, method, partial(self._call, method))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._strange("make", said) from error

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment does."""
        reply = self.interpreter.ask("reset", {"seed": seed, "options": options})
        match reply:
            case [observation, dict(info)]:
                return observation, info
        raise self._strange("reset", reply)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment does."""
        reply = self.interpreter.ask("step", {"action": _sendable(action)})
        match reply:
            case [observation, float(reward), bool(terminated), bool(truncated), dict(info)]:
                return observation, reward, terminated, truncated, info
        raise self._strange("step", reply)

    def advance(self, action: Any) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step whose observation is not sent, and not made where the environment can do so."""
        reply = self.interpreter.ask("advance", {"action": _sendable(action)})
        match reply:
            case [float(reward), bool(terminated), bool(truncated), dict(info), bool(finite)]:
                self.observation_is_finite = finite
                return reward, terminated, truncated, info
        raise self._strange("advance", reply)

    def observe(self) -> Any:
        """The observation of the present state."""
        return self.interpreter.ask("observe")

    def render(self) -> Any:
        """The picture, or None where the environment draws none."""
        return self.interpreter.ask("render")

    def close(self) -> None:
        """Close the environment, and end the process."""
        if self.interpreter.close.alive:
            self.interpreter.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        given = {"method": method, "arguments": list(map(_sendable, arguments))}
        return self.interpreter.ask("call", given)

    def _strange(self, name: str, reply: Any) -> RolloutError:
        self.close()
        return RolloutError(
            f"the simulator in {self.interpreter.python} answered {name} with something else: "
            f"{reply!r:.200}"
        )


def make_there(
    spec: EnvSpec,
    options: Mapping[str, Any],
    *,
    observation: Sequence[str] | None = None,
    render: bool = False,
    standalone: str | None = None,
    install: str = "",
) -> InterpreterEnv:
    """The environment of a specification that names an interpreter.

    options: Its builder's. observation: entries that are looked at; None: the environment's choice.
    standalone: The file that makes a family's environment there, and install: the requirements of
        that file. None for an id of gymnasium.
    Raises ConfigError for an interpreter or settings that cannot work, RolloutError for an
    environment that fails when it is made.
    """
    assert spec.python is not None
    interpreter = Interpreter(spec.python, spec.timeout)
    common = {"max_steps": spec.max_steps, "options": dict(options)}
    what: dict[str, Any] = {"name": spec.gymnasium_id, "render": render}
    if standalone is not None:
        looked_at = None if observation is None else list(observation)
        what = {"file": standalone, "task": spec.task, "observation": looked_at}
    try:
        said = interpreter.make({**what, **common})
        made = InterpreterEnv(interpreter, said, spec.task, options)
    except RemoteError as error:
        interpreter.close()
        raise _refusal(spec, error, interpreter.python, install) from error
    except BaseException:
        interpreter.close()
        raise
    _VERSIONS[spec.python, spec.id] = _version(made.versions, interpreter.has)
    return made


def version_there(spec: EnvSpec) -> str:
    """Versions of the simulator and what it runs on: "robosuite 1.5.2, numpy 1.26.4, Python 3.11".

    Known once it was made in this process; else "unknown".
    """
    return _VERSIONS.get((spec.python, spec.id), "unknown")


def _version(versions: Mapping[str, str], has: Mapping[str, Any]) -> str:
    named = [*versions.items(), ("numpy", has["numpy"]), ("Python", has["python"])]
    return ", ".join(f"{name} {version}" for name, version in named)


def _refusal(spec: EnvSpec, error: RemoteError, python: str, install: str) -> Exception:
    """Why it was not made: a ConfigError where the user can mend it, else the error itself."""
    said = error.said
    missing = said["missing"]
    name = f"environment {spec.id!r}"
    if missing is not None:
        needs = f"{name} needs {missing}, which {python} does not have: "
        if missing == spec.module:
            return ConfigError(f"{needs}put it where that Python finds it (PYTHONPATH)")
        return ConfigError(needs + pip(python, *(install.split() or [missing])))
    settings = ("TypeError",) if spec.gymnasium_id is not None else ("TypeError", "ValueError")
    if said["module"] in GYMNASIUM_ERRORS or said["type"] in settings:
        return ConfigError(f"{name} in {python}: {said['message']}")
    return error


def _sendable(value: Any) -> Any:
    """Numbers of numpy's as arrays, and lists as they are."""
    return np.asarray(value) if isinstance(value, np.generic) else value

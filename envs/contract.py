"""The environment of a task: which simulator, what its observations are called, what decides.

environment:
  name: gym:FetchPush-v4        # or a family of this package: pusht, metaworld/pick-place
  observation: {state: observation, goal: desired_goal}
  success: is_success
  max_steps: 50
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.data.store.metadata import DELTA, actions_of

GYMNASIUM = "gym:"  # what ids begin with that are gymnasium's
STEP_SECONDS = 60.0  # until a simulator's process answers a step, or anything else but
START_SECONDS = 120.0  # its start, and the making of its environment
SCORES = (
    "success_rate",
    "success_at_end_rate",
    "return_mean",
    "max_reward_mean",
    "final_reward_mean",
)


@dataclass(frozen=True)
class EnvSpec:
    """A task's `environment`. Raises ConfigError for values that cannot work.

    id: A registered family, "pusht", with a task of it where it has several, "metaworld/reach"; or
        a gymnasium id, "gym:Pusher-v5". In configurations it is called `name`.
    options: Keyword arguments of what makes it.
    observation: {stored key: entry of the simulator's observation}, "robot.pose" for one of a
        nested dictionary. A key that is not in it is an entry of the same name. An observation
        that is one array is the entry "state".
    success: Entry of the simulator's info that says whether the task is solved, nested ones with
        dots. None: "is_success", then "success"; without either there is no success.
    max_steps: Steps after which an episode is over. None: the simulator's own limit.
    score: The metric that decides. None: the family's own, or success_rate where success is known,
        or return_mean.
    instruction: What the robot is to do, in words: observations of kind text, whatever the
        simulator says. None: the simulator's own words.
    reset: Options of every reset.
    fps: Steps a second. None: what the simulator says.
    python: The interpreter that the simulator runs in, of an environment of its own. None: this.
    timeout: Seconds that a step may take, or another answer, of a simulator in that interpreter or
        in a worker process of an evaluation, a recording or a replay. None: 60 a step, 120 to make
        it.
    """

    id: str
    options: Mapping[str, Any] = field(default_factory=dict)
    observation: Mapping[str, str] = field(default_factory=dict)
    success: str | None = None
    max_steps: int | None = None
    score: str | None = None
    instruction: str | None = None
    reset: Mapping[str, Any] = field(default_factory=dict)
    fps: float | None = None
    python: str | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not self.id or self.id == GYMNASIUM:
            raise ConfigError(f"environment.name is {self.id!r}: a simulator's name is needed")
        if self.gymnasium_id is not None and not _is_gymnasium_id(self.gymnasium_id):
            raise ConfigError(
                f"environment.name is {self.id!r}: it is gym:ID, or gym:MODULE:ID with the module "
                "that registers it"
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"environment.max_steps is {self.max_steps}: it must be at least 1")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ConfigError(f"environment.fps is {self.fps}: steps a second are positive")
        if self.python is not None and not self.python:
            raise ConfigError("environment.python is empty: the path of an interpreter is needed")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ConfigError(f"environment.timeout is {self.timeout}: seconds are positive")
        if self.score is not None and self.score not in SCORES:
            raise ConfigError(
                f"environment.score is {self.score!r}{nearest(self.score, SCORES) or ';'} it is "
                f"one of {', '.join(SCORES)}"
            )
        for name in ("options", "reset"):
            _check_finite(f"environment.{name}", getattr(self, name))
        for key, entry in self.observation.items():
            if not isinstance(entry, str) or not entry:
                raise ConfigError(
                    f"environment.observation.{key} is {entry!r}: the name of an entry of the "
                    "simulator's observation is needed"
                )

    @classmethod
    def read(cls, values: Any) -> "EnvSpec":
        """From a name, or a task's `environment` block as plain values.

        Raises ConfigError, naming the nearest known setting, or the type that is needed.
        """
        if isinstance(values, EnvSpec):
            return values
        if isinstance(values, str):
            return cls(values)
        if not isinstance(values, Mapping):
            raise ConfigError(f"environment is {values!r}: a name, or settings by name, are needed")
        given = {str(key): value for key, value in values.items() if value is not None}
        if "name" in given and "id" in given:
            raise ConfigError("environment has both a name and an id, which are the same: give one")
        if "name" not in given and "id" not in given:
            raise ConfigError(
                f"environment has no name{nearest('name', given)}: give environment.name"
            )
        if "name" in given:
            given["id"] = given.pop("name")
        if not isinstance(given["id"], str):
            raise ConfigError(f"environment.name is {given['id']!r}: a text is needed")
        return from_mapping(cls, given, "environment")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, which `read` takes: the name, and what is not left as it is by default."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "id"}
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in said.items()}
        return {"name": self.id} | {k: v for k, v in plain.items() if v not in (None, {})}

    @property
    def family(self) -> str:
        """The name of the family, without the task; empty for a gymnasium id."""
        return "" if self.gymnasium_id is not None else self.id.partition("/")[0]

    @property
    def task(self) -> str | None:
        """The task of a family that has several; None for none."""
        if self.gymnasium_id is not None:
            return None
        return self.id.partition("/")[2] or None

    @property
    def actions(self) -> str:
        """What its actions are, by its option `actions`, where it understands several."""
        return actions_of(self.options)

    @property
    def meaning(self) -> dict[str, str]:
        """What a recording says of its actions, {"actions": "absolute"}; of deltas nothing."""
        return {} if self.actions == DELTA else {"actions": self.actions}

    @property
    def gymnasium_id(self) -> str | None:
        """The id in gymnasium's registry; None for a family."""
        return self.id.removeprefix(GYMNASIUM) if self.id.startswith(GYMNASIUM) else None

    @property
    def module(self) -> str | None:
        """The module that has to be imported for the id to be registered; None for none."""
        module, _, name = (self.gymnasium_id or "").rpartition(":")
        return module if module and name else None


def _is_gymnasium_id(name: str) -> bool:
    """Whether it is ID or MODULE:ID, none of them empty."""
    parts = name.split(":")
    return all(parts) and len(parts) <= 2 and not name.startswith(".")


def _check_finite(name: str, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for numbers that results and checkpoints, which are JSON, cannot hold."""
    try:
        json.dumps(dict(values), allow_nan=False, default=str)
    except ValueError as error:
        raise ConfigError(f"{name} is {dict(values)}: its numbers have to be finite") from error

"""Targets: what an objective learns to predict from what a policy sees, without the policy seeing
it.

    task.observation    front: [480, 640, 3]      joints: [7]
    task.targets        cube: {shape: [3], source: cube_position}
    an objective's      cube: {}                     as the task says
                        joints: {}                   as the policy observes them
                        later: {of: joints, ahead: 8}    8 steps after each observed frame
                        width: {shape: [1], source: gripper_width}

They are read for the observed frames of a window, and for no objective that does not ask for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.recorded import recorded_feature
from dipole.data.store.store import EpisodeStore

FIELDS = ("of", "ahead", *(field.name for field in fields(Feature)))


@dataclass(frozen=True)
class Target:
    """A feature of stored keys at the observed frames of a window, or some steps later.

    feature: Numbers, which batches hold converted, and absolute.
    ahead: Steps of the policy after each observed frame. Past an episode's end its last frame is
        repeated, and marked.
    """

    feature: Feature
    ahead: int = 0

    def __post_init__(self) -> None:
        kind = self.feature.kind
        if kind not in ("state", "action"):
            raise ConfigError(
                f"it is of kind {kind}: targets are numbers; pictures, depth and words are not "
                "predicted"
            )
        if self.feature.represent is not None:
            raise ConfigError(
                "represent is for what the policy sees and does: targets are absolute"
            )
        if type(self.ahead) is not int or self.ahead < 0:
            raise ConfigError(f"ahead is {self.ahead!r}: steps after the observed frame, 0 or more")


@dataclass(frozen=True)
class TargetDefinition:
    """A target before it is known what a dataset has of it.

    of: The observation, or "action", whose fields it takes as each dataset has them; None: it has
        all of its own.
    values: Fields of `Feature` that are its own.
    """

    name: str
    of: str | None
    values: Mapping[str, Any]
    ahead: int = 0

    def of_dataset(self, features: Features, store: EpisodeStore) -> Target | None:
        """The target as a dataset has it, with the units that it records; None: it lacks it.

        features: The dataset's. Raises ConfigError, naming the target.
        """
        base = features.named().get(self.of) if self.of is not None else None
        if self.of is not None and base is None:
            return None
        target = self.target(base)
        if (target.feature.source or self.name) not in store:
            return None
        return Target(recorded_feature(store, self.name, target.feature), self.ahead)

    def target(self, base: Feature | None = None) -> Target:
        """As the task has it. base: Of `of`. Raises ConfigError, naming the target."""
        try:
            return Target(self._feature(base), self.ahead)
        except ConfigError as error:
            raise ConfigError(f"target {self.name!r}: {error}") from error

    def _feature(self, base: Feature | None) -> Feature:
        if base is None:
            return Feature.from_dict(self.values)
        if base.chunks:
            raise ConfigError(
                f"{self.of} is stored as chunks, of which a target would be what was executed and "
                "not what the policy learns: define it of a stored key, as "
                f"{self.name}: {{shape: {list(base.shape)}, source: action}}"
            )
        taken = {**base.to_dict(), "source": base.source or self.of}
        taken.pop("represent", None)
        return Feature.from_dict({**taken, **self.values})

    def key(self, task: Mapping[str, Any]) -> str:
        """Of the stored array that a task names for it."""
        if self.of is not None:
            table = task["action"] if self.of == "action" else task["observation"][self.of]
            default = (table or {}).get("source") or self.of
        else:
            default = self.name
        return str(self.values.get("source") or default)


def define_targets(
    wanted: Mapping[str, Any] | None, task: Mapping[str, Any]
) -> list[TargetDefinition]:
    """The targets that an objective wants of a task.

    wanted: {name: fields of `Feature`, and `of`, `ahead`}. With a shape and no `of` it is a
        definition of its own; otherwise the task's target, observation or action of this name, or
        of the name `of`, with other fields. None: all of the task's.
    Raises ConfigError for what a task does not have, and for unknown fields.
    """
    own = task.get("targets") or {}
    if not isinstance(own, Mapping):
        raise ConfigError(f"task.targets is {own!r}: tables by name are needed")
    if wanted is None:
        if not own:
            raise ConfigError(
                f"task {task.get('name', '?')!r} has no targets of its own: name what the image "
                "encoder shall predict, such as objective.targets={"
                f"{_example(task)}: {{}}}}"
            )
        wanted = dict.fromkeys(own)
    return [_definition(name, table, own, task) for name, table in wanted.items()]


def recorded_targets(
    task: Mapping[str, Any], wanted: Mapping[str, Any] | None = None
) -> dict[str, Feature]:
    """What a recording has to hold beside what a policy sees and does: the task's targets, and
    those that an objective defines, each a feature of the stored key that it is made of.

    wanted: The objective's, as `define_targets` takes them; of an observation, or of what is done,
        there is nothing else to record.
    Raises ConfigError, naming the target.
    """
    defined = define_targets(None, task) if task.get("targets") else []
    defined += define_targets(wanted, task) if wanted else []
    return {one.name: one.target().feature for one in defined if one.of is None}


def _definition(
    name: str, table: Any, own: Mapping[str, Any], task: Mapping[str, Any]
) -> TargetDefinition:
    values = _checked(name, table)
    named, ahead = values.pop("of", None), values.pop("ahead", None)
    of = named or name
    if "shape" in values and named is None:
        return TargetDefinition(name, None, values, ahead or 0)
    if of in own:
        base = _checked(of, own[of])
        theirs = base.pop("ahead", 0)
        values = {"source": of, **base, **values}
        return TargetDefinition(name, None, values, theirs if ahead is None else ahead)
    if of in task["observation"] or of == "action":
        return TargetDefinition(name, of, values, ahead or 0)
    known = [*own, *task["observation"], "action"]
    raise ConfigError(
        f"target {name!r}: the task has no target, observation or action {of!r}"
        f"{nearest(of, known) or ';'} it has {', '.join(known)}. Of another key of the dataset, "
        f"say its shape: {name}={{shape: [...], source: KEY}}"
    )


def _checked(name: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, Mapping | None):
        raise ConfigError(f"target {name!r} is {table!r}: a table, such as {{}}, is needed")
    for field in table or {}:
        if field not in FIELDS:
            hint = nearest(str(field), FIELDS) or "."
            raise ConfigError(f"target {name!r} has no {field!r}{hint} Known: {', '.join(FIELDS)}")
    return dict(table or {})


def _example(task: Mapping[str, Any]) -> str:
    numbers = [k for k, e in task["observation"].items() if (e or {}).get("kind") == "state"]
    return numbers[0] if numbers else "action"


def require_targets(
    defined: Sequence[TargetDefinition],
    found: Sequence[Mapping[str, Target]],
    stores: Sequence[EpisodeStore],
    task: Mapping[str, Any],
) -> None:
    """Raise DataError for a target that no dataset has. found, stores: Of each dataset."""
    for one in defined:
        if any(one.name in targets for targets in found):
            continue
        key, keys = one.key(task), list(dict.fromkeys(k for store in stores for k in store.arrays))
        paths = ", ".join(str(store.path) for store in stores)
        raise DataError(
            f"target {one.name!r}: no key {key!r} in {paths}{nearest(key, keys) or ';'} there are "
            f"{', '.join(keys)}. Say which by source"
        )

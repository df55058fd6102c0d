"""Between a simulator and a policy: features out of observations, actions into its space, success.

    observation  {"robot": {"pose": [7]}, "camera": [96, 96, 3]}      the simulator's
    stored keys  pose = robot.pose, camera                            as the task's environment says
    features     grip = columns (6,) of pose, ...                     as data and deployment do

An `Interface` holds no simulator, and can be sent to worker processes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.loading.features import TRANSFORMS, Feature, Features
from dipole.data.loading.frame_selection import select_frames
from dipole.data.loading.text import encode_text
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import DivergedError

ARRAY = "state"  # the entry's name where an observation is one array
SUCCESS = ("is_success", "success")  # where success is looked for if a task does not say
NAMED = 8  # entries of a dictionary in a message


@dataclass(frozen=True)
class LiveFeature:
    """One entry of what a policy sees, out of a simulator's observation.

    entry: of the simulator's observation; feature: None where it is taken as it is. words: of a
    feature of kind text, instead of the simulator's own. what: it is, for messages.
    """

    name: str
    entry: str
    feature: Feature | None = None
    transform: Callable[[np.ndarray], np.ndarray] | None = None
    optional: bool = False
    words: str | None = None
    what: str = "observation"

    @property
    def key(self) -> str:
        """The stored key that it is made of."""
        return (self.feature and self.feature.source) or self.name

    def read(self, entries: Mapping[str, Any]) -> np.ndarray | None:
        """The robot's numbers [*stored_shape]; None where they may be missing and are.

        Raises ConfigError where the observation has no such entry, or one of another shape.
        """
        found = entry_of(entries, self.entry)
        if self.feature is not None and self.feature.kind == "text":
            found = self._text(found)
        if found is not None:
            return self._made(np.asarray(found))
        # The simulator's own idea of a feature that is made of another key.
        derived = entry_of(entries, self.name) if self.key != self.name else None
        if derived is not None:
            value = np.asarray(derived)
            return self._checked(value, value)
        if self.optional:
            return None
        raise ConfigError(
            f"{self.what} {self.name!r}: the simulator has no {self.entry!r}"
            f"{nearest(self.entry, entries) or ';'} it has {', '.join(entries) or 'nothing'}. Say "
            f"which entry it is by environment.observation: {{{self.key}: ENTRY}}"
        )

    def _text(self, found: Any) -> Any:
        """Words as bytes, the task's or else the simulator's; what is bytes already, as it is."""
        words = found if self.words is None else self.words
        assert self.feature is not None
        return encode_text(words, self.feature.shape[0]) if isinstance(words, str) else words

    @property
    def has_to_be_finite(self) -> bool:
        """Whether it is numbers, and no depth, where NaN or infinity is what was not measured."""
        feature = self.feature
        return feature is None or (feature.is_numeric and feature.depth_range is None)

    def _made(self, found: np.ndarray) -> np.ndarray:
        if self.feature is None:
            if found.dtype.kind == "f" and np.isnan(found).any():
                raise DivergedError(f"{self.what} {self.name!r} is not finite")
            return np.array(found)
        try:
            made = select_frames(self.feature, found[None], self.transform)[0]
        except (DataError, ValueError, IndexError) as error:
            raise ConfigError(
                f"{self.what} {self.name!r}: made of the simulator's {self.entry!r}, of shape "
                f"{list(found.shape)}: {error}"
            ) from error
        return self._checked(made, found)

    def _checked(self, made: np.ndarray, found: np.ndarray) -> np.ndarray:
        feature = self.feature
        if feature is None:
            return np.array(made)
        if made.shape != feature.stored_shape:
            raise ConfigError(
                f"{self.what} {self.name!r}: shape {list(feature.stored_shape)} is needed, and the "
                f"simulator's {self.entry!r}, of shape {list(found.shape)}, gives "
                f"{list(made.shape)}: check the entry, and the feature's columns"
            )
        if not feature.is_numeric and made.dtype != np.uint8:
            raise ConfigError(
                f"{self.what} {self.name!r}: the simulator's {self.entry!r} is {made.dtype}: "
                "pictures are uint8, 0 to 255, and so is text"
            )
        if made.dtype.kind not in "fiub":
            raise ConfigError(
                f"{self.what} {self.name!r}: the simulator's {self.entry!r} holds {made.dtype}, "
                "and numbers are needed"
            )
        is_depth = feature.depth_range is not None  # which says what stands for no measurement
        if made.dtype.kind == "f" and not is_depth and not np.isfinite(made).all():
            raise DivergedError(f"{self.what} {self.name!r} is not finite: {made.tolist()}")
        return made.astype(feature.dtype)  # always a copy: simulators reuse their arrays


@dataclass(frozen=True)
class Interface:
    """How a simulator is observed, moved and judged. By default: as it is.

    features: what the policy sees; None: all that the simulator's observation holds, a dictionary.
    success: where in info; None: "is_success", then "success". max_steps: None: no limit but the
    simulator's. reset: options of each reset. clip: whether actions are clipped into its space.
    """

    features: tuple[LiveFeature, ...] | None = None
    success: str | None = None
    max_steps: int | None = None
    reset: Mapping[str, Any] = field(default_factory=dict)
    clip: bool = False

    @classmethod
    def of(
        cls,
        features: Features,
        spec: EnvSpec,
        names: Mapping[str, str],
        optional: Collection[str] = (),
    ) -> "Interface":
        """For a policy's features. names: {stored key: entry}, where they differ."""
        live = tuple(
            _live(name, feature, names, name in optional, spec.instruction)
            for name, feature in features.observation.items()
        )
        clip = spec.gymnasium_id is not None
        return cls(live, spec.success, spec.max_steps, spec.reset, clip)

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries of the simulator's observation that are looked at."""
        asked = [each for each in self.features or () if each.words is None]
        return tuple(dict.fromkeys(each.entry for each in asked))

    @property
    def finite(self) -> dict[str, str]:
        """{name: entry} of numbers that the policy sees, which have to be finite."""
        return {each.name: each.entry for each in self.features or () if each.has_to_be_finite}

    def observe(self, observation: Any) -> dict[str, np.ndarray]:
        """What the policy sees, {name: [*stored_shape]}, out of an observation.

        Raises ConfigError where it lacks something, DivergedError for numbers that are not finite.
        """
        entries = entries_of(observation, may_be_array=self.features is not None)
        if self.features is None:
            return {name: np.array(value) for name, value in entries.items()}
        seen = {each.name: each.read(entries) for each in self.features}
        return {name: value for name, value in seen.items() if value is not None}

    def action(self, action: np.ndarray, space: Any) -> np.ndarray:
        """A policy's action [A] as the simulator takes it."""
        if not self.clip or not isinstance(space, gymnasium.spaces.Box):
            return action
        inside: np.ndarray = np.clip(action.reshape(space.shape), space.low, space.high)
        return inside.astype(space.dtype)

    def succeeded(self, info: Mapping[str, Any]) -> bool | None:
        """Whether a step's info says that the task is solved; None where it does not say.

        Raises ConfigError for an entry that is neither true nor false.
        """
        return self.judged(info)[1]

    def judged(self, info: Mapping[str, Any]) -> tuple[str, bool] | tuple[None, None]:
        """The entry of a step's info that tells of success, and what it says. Raises ConfigError
        for one that is neither true nor false."""
        for place in SUCCESS if self.success is None else (self.success,):
            found = entry_of(info, place)
            if found is not None:
                return place, truth(found, place)
        return None, None


def _live(
    name: str,
    feature: Feature | None,
    names: Mapping[str, str],
    optional: bool,
    instruction: str | None,
) -> LiveFeature:
    if feature is not None and feature.kind == "text":
        entry = names.get(name, name)
        return LiveFeature(name, entry, feature, None, optional, instruction)
    key = name if feature is None else feature.source or name
    entry = names.get(key, key)
    if feature is None or feature.transform is None:
        return LiveFeature(name, entry, feature, None, optional)
    return LiveFeature(name, entry, feature, TRANSFORMS[feature.transform], optional)


def live_targets(
    targets: Mapping[str, Feature], names: Mapping[str, str], made: Collection[str]
) -> tuple[LiveFeature, ...]:
    """Targets that policies learn to tell and are not shown, out of a simulator's observation.

    names: {stored key: entry}, where they differ. made: Stored keys that whoever records makes
    itself, such as the action: of these nothing is observed.
    """
    live = (_live(name, one, names, False, None) for name, one in targets.items())
    return tuple(replace(each, what="target") for each in live if each.key not in made)


def entries_of(observation: Any, may_be_array: bool = True) -> Mapping[str, Any]:
    """An observation by its entries: one that is an array is the entry "state".

    Raises ConfigError for what is neither an array nor a dictionary.
    """
    if isinstance(observation, Mapping):
        return observation
    if observation is None or isinstance(observation, str | tuple | list) or not may_be_array:
        raise ConfigError(
            f"the observation is a {type(observation).__name__}, not a dict of named arrays: make "
            "the environment return such a dict" + (", or one numpy array" if may_be_array else "")
        )
    return {ARRAY: observation}


def check_finite(observation: Any, entries: Mapping[str, str]) -> None:
    """Raise DivergedError, naming it, for one of {name: entry} that is not finite."""
    seen = entries_of(observation)
    for name, entry in entries.items():
        value = np.asarray(entry_of(seen, entry))
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DivergedError(f"{name!r} is not finite: {value.tolist()}")


def entry_of(entries: Any, path: str) -> Any:
    """An entry of nested dictionaries by its name, with dots for nested ones; None for none."""
    if not isinstance(entries, Mapping):
        return None
    if path in entries:
        return entries[path]
    head, _, rest = path.partition(".")
    return entry_of(entries[head], rest) if rest and head in entries else None


def truth(value: Any, place: str) -> bool:
    """Whether an entry of info says success; of an array, whether any of its numbers does.

    place: Of the entry, with dots for nested ones, as `environment.success` names it.
    Raises ConfigError for what is neither true nor false: a text, a dictionary, a distance.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if not _is_true_or_false(value):
        raise ConfigError(
            f"info's {place!r} is {_described(value)}, which tells no success: it has to be true "
            f"or false, or 1 or 0{_hint(value, place)}"
        )
    return bool(np.any(value))


def by_other_definitions(info: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(name, whether it holds) of `info["successes"]`; one that is None is left out."""
    successes = info.get("successes")
    if isinstance(successes, Mapping):
        for name, value in successes.items():
            if value is not None:
                yield str(name), truth(value, f"successes.{name}")


def _is_true_or_false(value: Any) -> bool:
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of different lengths
        return False
    of_two = numbers.dtype.kind in "iuf" and bool(((numbers == 0) | (numbers == 1)).all())
    return numbers.dtype.kind == "b" or of_two


def _described(value: Any) -> str:
    kind = "dictionary" if isinstance(value, Mapping) else type(value).__name__
    return f"{value!r:.80}, a {kind}"


def _hint(value: Any, place: str) -> str:
    if isinstance(value, Mapping) and value:
        named = [f"{place}.{key}" for key in list(value)[:NAMED]]
        return f". Did you mean environment.success={' or '.join(named)}?"
    return ". Name another entry by environment.success=ENTRY"

"""Which entries of a simulator's observation are recorded, and under which stored keys.

features of the task   keypoint = transform of key "state"    ->  state: exact_state
its targets            cube = columns (0, 1) of key "pose"    ->  pose: pose
the expert             looks at the entry "label"             ->  label: label
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.text import decode_text
from dipole.data.recording.record import ACTION, EXECUTED
from dipole.data.store.schema import FrameSchema
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface, LiveFeature, entries_of, entry_of
from dipole.envs.registry import stored_names

WORDS = "task words"  # under which words are read: no stored key has a space


@dataclass(frozen=True)
class RecordedKeys:
    """What is recorded of an observation.

    entries: {stored key: entry of the simulator's observation}, numbers and pictures.
    texts: Entries that are words, or may be.
    words: What is to be done, whatever an entry says; "": what the entries say.
    depth: Stored keys whose numbers say by NaN or infinity that nothing was measured.
    """

    entries: Mapping[str, str]
    texts: tuple[str, ...] = ()
    words: str = ""
    depth: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        features: Features | None,
        spec: EnvSpec,
        looked_at: Collection[str] = (),
        targets: Iterable[LiveFeature] = (),
    ) -> "RecordedKeys":
        """What features and targets are made of, and what an expert looks at (entries)."""
        names = stored_names(spec)
        entries: dict[str, str] = {}
        texts: list[str] = []
        depth: list[str] = []
        live = () if features is None else Interface.of(features, spec, names).features or ()
        for each in live:
            feature = each.feature
            if feature is not None and feature.kind == "text":
                texts.append(each.entry)
            else:
                entries[each.key] = each.entry
                depth += [] if each.has_to_be_finite else [each.key]
        for each in targets:
            entries.setdefault(each.key, each.entry)
        keys = {entry: key for key, entry in names.items()}
        for entry in looked_at:
            if entry not in entries.values():
                entries.setdefault(keys.get(entry, entry), entry)
        return cls(entries, tuple(texts), spec.instruction or "", tuple(depth))

    @property
    def asked(self) -> tuple[str, ...]:
        """The entries that have to be observed."""
        texts = () if self.words else self.texts
        return tuple(dict.fromkeys([*self.entries.values(), *texts]))

    @property
    def finite(self) -> dict[str, str]:
        """{stored key: entry} of what has to be finite."""
        return {key: entry for key, entry in self.entries.items() if key not in self.depth}

    def read(self, observation: Any) -> dict[str, Any]:
        """{stored key: array [*shape]}, float64 as float32, and words under WORDS.

        Raises ConfigError, naming key and entry, where the observation has no such entry.
        """
        seen = entries_of(observation)
        read: dict[str, Any] = {}
        words = self.words
        for key, entry in self.entries.items():
            value = entry_of(seen, entry)
            if value is None:
                raise ConfigError(
                    f"{key!r}: the simulator has no {entry!r}{nearest(entry, seen) or ';'} it has "
                    f"{', '.join(seen) or 'nothing'}. Say which entry it is by "
                    f"environment.observation: {{{key}: ENTRY}}"
                )
            if isinstance(value, str):
                words = self.words or value
            else:
                read[key] = _as_stored(value)
        for entry in () if self.words else self.texts:
            value = entry_of(seen, entry)
            if value is not None:
                words = value if isinstance(value, str) else decode_text(value)
        return {**read, WORDS: words} if words else read


def recorded_schema(
    features: Features | None, disturbed: bool, targets: Iterable[LiveFeature] = ()
) -> dict[str, dict[str, Any]]:
    """What a task says of the keys that it reads whole, as `EpisodeWriter` takes it.

    disturbed: Whether executed actions are recorded too. targets: Which are recorded.
    """
    said: dict[str, dict[str, Any]] = {}
    for name, feature in features.observation.items() if features is not None else ():
        if is_whole(feature) and feature.kind != "text":
            said.setdefault(feature.source or name, _said(feature))
    for each in targets:
        if each.feature is not None and is_whole(each.feature):
            said.setdefault(each.key, _said(each.feature))
    if features is None:
        return said | ({EXECUTED: {"kind": "action"}} if disturbed else {})
    for key in (ACTION, EXECUTED) if disturbed else (ACTION,):
        whole = is_whole(features.action)
        said[key] = _said(features.action) if whole else {"kind": "action"}
    return said


def is_whole(feature: Feature) -> bool:
    """Whether a feature is its stored key as it is."""
    return feature.columns is None and feature.transform is None


def _said(feature: Feature) -> dict[str, Any]:
    schema = FrameSchema(None, None, feature.kind, feature.units, feature.names)
    return schema.to_options()


def _as_stored(value: Any) -> np.ndarray:
    """A copy; policies see float32, and simulators count in float64."""
    array = np.array(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array

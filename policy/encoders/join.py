"""Encoders side by side: each part encodes some of the observation, one context holds all of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import ENCODERS, build
from dipole.policy.core.named import NamedModules
from dipole.policy.encoders.base import WHOLE, Encoder


@ENCODERS.add("join")
class JoinEncoder(Encoder):
    """Several encoders, by name: their vectors and tokens one after another.

    parts: {name: {"name": which encoder, "inputs": names of features, its options ...}}. Without
        inputs a part takes the features of the kinds that it encodes, less those that another part
        names; each feature belongs to exactly one part.

    Vectors by frame are joined frame by frame, in the order of the parts: [frame 0 of the first
    part, frame 0 of the second, ..., frame 1 of the first, ...]; then come the other vectors.
    """

    # Where the settings of a part are, in what people are told.
    settings: ClassVar[str] = "policy.encoder.parts.{part}."

    def __init__(
        self, features: Features, window: WindowSpec, parts: Mapping[str, Mapping[str, Any]]
    ) -> None:
        encoders = {
            name: self._built(name, parts[name], replace(features, observation=observed), window)
            for name, observed in _assigned(parts, features).items()
        }
        super().__init__(joined_spec([encoder.spec for encoder in encoders.values()]))
        self.parts = NamedModules(encoders)
        self.n_obs_steps = window.n_obs_steps

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        return self.compose(self.contexts(observation, missing))

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The parts, by name."""
        return dict(self.parts.items())  # type: ignore[arg-type]

    @property
    def part_specs(self) -> Mapping[str, ContextSpec]:
        return {name: encoder.spec for name, encoder in self.encoders.items()}

    def contexts(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> dict[str, Context]:
        return {name: part(observation, missing) for name, part in self.encoders.items()}

    def compose(self, contexts: Mapping[str, Context]) -> Context:
        by_frame = [contexts[name].vector for name, part in self.encoders.items() if part.by_frame]
        vectors = [vector for vector in by_frame if vector is not None]
        framed = Context(_joined_by_frame(vectors, self.n_obs_steps) if vectors else None)
        rest = [
            replace(contexts[name], vector=None) if part.by_frame else contexts[name]
            for name, part in self.encoders.items()
        ]
        return Context.join([framed, *rest])

    @property
    def picture_dims(self) -> Mapping[str, int]:
        parts = self.encoders.values()
        return {camera: size for part in parts for camera, size in part.picture_dims.items()}

    def picture_features(self, contexts: Mapping[str, Context]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, part in self.encoders.items():
            found |= part.picture_features({WHOLE: contexts[name]})
        return found

    @property
    def picture_offsets(self) -> Mapping[str, Tensor]:
        parts = self.encoders.values()
        return {camera: moved for part in parts for camera, moved in part.picture_offsets.items()}

    @property
    def optional(self) -> Sequence[str]:
        return [name for part in self.encoders.values() for name in part.optional]

    @property
    def picture_absent(self) -> Mapping[str, Tensor]:
        parts = self.encoders.values()
        return {camera: rows for part in parts for camera, rows in part.picture_absent.items()}

    def check_lacking(self, names: Collection[str]) -> None:
        for part in self.encoders.values():
            part.check_lacking(names)

    def load_weights(self) -> None:
        for part in self.encoders.values():
            part.load_weights()

    def saliency(self, observation: Mapping[str, Tensor]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in self.encoders.values():
            found |= part.saliency(observation)
        return found

    def describe(self) -> list[str]:
        parts = self.encoders.items()
        return [self._said(name, line) for name, part in parts for line in part.describe()]

    def _built(
        self, part: str, options: Mapping[str, Any], features: Features, window: WindowSpec
    ) -> Encoder:
        own = {key: value for key, value in options.items() if key != "inputs"}
        try:
            made: Encoder = build(ENCODERS, own, features=features, window=window)
        except ConfigError as error:
            raise ConfigError(self._said(part, str(error))) from error
        return made

    def _said(self, part: str, text: str) -> str:
        """What a part says of its settings, with where they are."""
        return text.replace("policy.encoder.", self.settings.format(part=part))


def joined_spec(specs: Sequence[ContextSpec]) -> ContextSpec:
    """Sizes of contexts that are joined. Raises ConfigError for tokens of different sizes."""
    token_dims = {spec.token_dim for spec in specs} - {None}
    if len(token_dims) > 1:
        sizes = " and ".join(str(size) for size in sorted(size for size in token_dims if size))
        raise ConfigError(
            f"policy.encoder.parts give tokens of {sizes} numbers: set their token_dim alike"
        )
    frame_dims = [spec.frame_dim for spec in specs if spec.frame_dim is not None]
    return ContextSpec(
        sum(spec.vector_dim for spec in specs),
        next(iter(token_dims), None),
        sum(frame_dims) if frame_dims else None,
    )


def _joined_by_frame(vectors: Sequence[Tensor], n_frames: int) -> Tensor:
    """[B, n_frames * G_i] each -> [B, n_frames * sum of G_i], frame by frame."""
    return torch.cat([v.view(-1, n_frames, v.shape[1] // n_frames) for v in vectors], 2).flatten(1)


def _assigned(parts: Mapping[str, Mapping[str, Any]], features: Features) -> dict[str, Any]:
    """The observed features of each part. Raises ConfigError where that is not clear."""
    observed = features.observation
    if not parts:
        raise ConfigError("policy.encoder.parts is empty: name at least one encoder")
    named = {name: list(part.get("inputs") or ()) for name, part in parts.items()}
    owners: dict[str, list[str]] = {feature: [] for feature in observed}
    for name, inputs in named.items():
        for feature in inputs:
            if feature not in owners:
                raise ConfigError(
                    f"policy.encoder.parts.{name}.inputs: no observation {feature!r}"
                    f"{nearest(feature, observed) or ';'} there are {', '.join(observed)}"
                )
            owners[feature].append(name)
    for feature, found in observed.items():
        if not owners[feature]:
            owners[feature] = [
                name
                for name, part in parts.items()
                if not named[name] and found.kind in _kinds(part.get("name"))
            ]
        _check_owner(feature, found.kind, owners[feature])
    taken = {name: {f: observed[f] for f in observed if owners[f] == [name]} for name in parts}
    for name, those in taken.items():
        if not those:
            kinds = " or ".join(sorted(_kinds(parts[name].get("name"))))
            raise ConfigError(
                f"policy.encoder.parts.{name} has nothing to encode: {', '.join(observed)} are no "
                f"features of kind {kinds}, or belong to other parts; leave the part out, or "
                "choose another encoder"
            )
    return taken


def _check_owner(feature: str, kind: str, owners: Sequence[str]) -> None:
    if not owners:
        raise ConfigError(
            f"no part of policy.encoder encodes {feature!r}, of kind {kind}: add a part for it, "
            "or leave it out of the task's observation"
        )
    if len(owners) > 1:
        raise ConfigError(
            f"{' and '.join(owners)} of policy.encoder.parts both take {feature!r}: set the inputs "
            "of one of them"
        )


def _kinds(encoder: Any) -> frozenset[str]:
    """Kinds of features that the encoder of this name encodes; images and numbers, unless said."""
    component = ENCODERS[encoder] if isinstance(encoder, str) else None
    return getattr(component, "kinds", frozenset({"state", "action", "image"}))

"""How differently two encoders see that could have each other's weights."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from dipole.data import Features
from dipole.policy.core.components import ENCODERS
from dipole.policy.core.named import feature_name
from dipole.policy.encoders.base import WHOLE

# What training alone has, and what shows in the names and shapes of weights.
ASIDE = {"name", "inputs", "augment", "camera_dropout", "frozen", "backbone", "dim", "token_dim"}
PICTURES = ("image", "depth")

Encoder = tuple[Mapping[str, Any], Features]  # its configuration, and what it encodes


def differences(ours: Encoder, theirs: Encoder, taken: Mapping[str, str]) -> list[str]:
    """What parts of an encoder see otherwise than those whose weights they take, such as "crop is
    84 here, 76 there"; options that no weight's name or shape tells.

    taken: {our name: their name} of weights of policies.
    """
    parts = {(_part(our), _part(their)) for our, their in taken.items()}
    found: dict[str, None] = {}
    for our, their in sorted((o, t) for o, t in parts if o is not None and t is not None):
        mine, other = _options(ours, our), _options(theirs, their)
        for name in mine | other:
            here, there = mine.get(name), other.get(name)
            if here != there and name in mine and name in other:
                found[f"{name} is {here} here, {there} there"] = None
    return list(found)


def _part(name: str) -> str | None:
    """The part of an encoder that a weight of a policy is of; None: it is none of an encoder."""
    words = name.split(".")
    if words[0] != "encoder":
        return None
    return feature_name(words[2]) if words[1:2] == ["parts"] else WHOLE


def _options(encoder: Encoder, part: str) -> dict[str, Any]:
    """Of a part, as given or by default, and the shapes of the pictures that it may encode."""
    config, features = encoder
    if config.get("name") == "image":
        config = {"parts": {"cameras": {**config, "name": "cameras"}, "state": {"name": "state"}}}
    own = config.get("parts", {WHOLE: config}).get(part)
    if own is None or own.get("name") not in ENCODERS:
        return {}
    component = ENCODERS[own["name"]]
    parameters = inspect.signature(component).parameters.values()
    found = {each.name: each.default for each in parameters if each.default is not each.empty}
    found = {name: value for name, value in {**found, **own}.items() if name not in ASIDE}
    if "image" in getattr(component, "kinds", ()):
        seen = features.observation.items()
        found |= {f"the shape of {n}": list(f.shape) for n, f in seen if f.kind in PICTURES}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    """The same with lists in place of tuples, as files have them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value

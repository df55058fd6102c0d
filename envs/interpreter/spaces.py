"""Gymnasium's spaces out of their descriptions (`describe` in server.py)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

Space = spaces.Space[Any]


class OtherSpace(spaces.Space[Any]):
    """Of a kind that is not known here; its text is what the other interpreter calls it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __repr__(self) -> str:
        return self.text


def described(said: Mapping[str, Any]) -> Space:
    """The space. Raises ValueError, KeyError, TypeError for what is no description."""
    kind = said["kind"]
    return SPACES[kind](said) if kind in SPACES else OtherSpace(str(said.get("text", kind)))


SPACES: dict[str, Callable[[Mapping[str, Any]], Space]] = {
    "Box": lambda said: spaces.Box(said["low"], said["high"], dtype=np.dtype(said["dtype"]).type),
    "Discrete": lambda said: spaces.Discrete(said["n"], start=said["start"]),
    "MultiDiscrete": lambda said: spaces.MultiDiscrete(said["nvec"]),
    "MultiBinary": lambda said: spaces.MultiBinary(said["shape"]),
    "Text": lambda said: spaces.Text(said["length"]),
    "Dict": lambda said: spaces.Dict({k: described(each) for k, each in said["spaces"].items()}),
    "Tuple": lambda said: spaces.Tuple([described(each) for each in said["spaces"]]),
}

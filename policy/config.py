"""Which components a policy is made of."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dipole.data.core.from_mapping import from_mapping
from dipole.policy import heads  # noqa: F401  they register themselves
from dipole.policy.core.components import HEADS, named

HEAD_PARTS = ("denoiser", "process", "prediction")  # of the configuration, built by heads


@dataclass(frozen=True)
class PolicyConfig:
    """Which components a policy is made of, by name, with their options: plain values.

    denoiser, process, prediction: Of heads that have one; None: the head is given none. A
        prediction without options may be its name alone.
    guidance: Of a policy that also learns to do without its observation; see `ClassifierFree`.
    known: Which observations chunks begin and end with; see `KnownEnds`.
    name: Of the policy, in names of folders.
    """

    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "state"})
    denoiser: Mapping[str, Any] | None = field(default_factory=lambda: {"name": "unet1d"})
    process: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] | str | None = None
    head: Mapping[str, Any] = field(default_factory=lambda: {"name": "diffusion"})
    guidance: Mapping[str, Any] | None = None
    known: Mapping[str, Any] | None = None
    name: str = "policy"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PolicyConfig":
        return from_mapping(cls, values, "policy")

    def head_parts(self) -> dict[str, Any]:
        """What the head is built from: its parts, as far as it takes them and they are given."""
        lacking = unused_parts(self.head)
        parts = {name: getattr(self, name) for name in HEAD_PARTS if name not in lacking}
        return {name: part for name, part in parts.items() if part is not None}


def unused_parts(head: Mapping[str, Any]) -> list[str]:
    """Parts that a head, {"name": ...}, does not have. Raises ConfigError for an unknown head."""
    taken = inspect.signature(named(HEADS, head)).parameters
    return [name for name in HEAD_PARTS if name not in taken]

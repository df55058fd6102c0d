"""Classifier-free guidance (Ho & Salimans, 2022): away from what is true without the observation.

    output = unconditional + scale (conditional - unconditional)

Scale 1 is the conditional policy, 0 the unconditional one; both are computed as such, exactly and
at no cost. Above 1 chunks follow the condition more closely and vary less.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.context import Context

PASSES = ("batched", "two")


@dataclass(frozen=True)
class ClassifierFree:
    """How a policy learns to do without its observation, and how it is guided by that.

    dropout: The share of a batch's rows whose parts are replaced by their learned null.
    parts: Of the encoder, by name, which are replaced together; None: all of them.
    scale: Of chunks that are drawn, unless told otherwise.
    passes: "batched" evaluates the network once for twice the rows; "two" twice, in less memory.
    scales: The least and the largest that a network was trained with which is told the scale and
        guides itself (`DiffusionHead.guides_itself`); None: any will do.
    """

    dropout: float = 0.1
    parts: tuple[str, ...] | None = None
    scale: float = 1.0
    passes: str = "batched"
    scales: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"policy.guidance.dropout is {self.dropout}: 0 to below 1")
        if self.parts is not None and not self.parts:
            raise ConfigError("policy.guidance.parts is empty: name parts, or give null for all")
        if self.passes not in PASSES:
            raise ConfigError(
                f"policy.guidance.passes is {self.passes!r}{nearest(self.passes, PASSES) or ';'} "
                f"known: {', '.join(PASSES)}"
            )
        check_scale(self.scale)
        if self.scales is not None and not self.scales[0] <= self.scale <= self.scales[1]:
            least, most = self.scales
            raise ConfigError(
                f"the guidance scale is {self.scale:g}: the network is told it, and was trained "
                f"with {least:g} to {most:g} (method.w_min and w_max of `dipole distill`)"
            )

    def check_head(self, head: str, supports: Collection[str]) -> None:
        """Raise ConfigError where a policy's head, by name, draws no chunks that could be guided.

        supports: What may be asked of the head.
        """
        if "guidance" not in supports:
            raise ConfigError(
                f"policy.guidance is set, and the policy's head {head!r} draws no chunks that "
                "could be guided: choose policy/head=diffusion, or set policy.guidance=null"
            )

    def with_scale(self, scale: float) -> "ClassifierFree":
        return replace(self, scale=scale)


@dataclass(frozen=True)
class Unconditional:
    """What a head is asked to guide by.

    context: Of the same rows as the conditional one, with nulls in place of the parts.
    scale: Not 1, and not 0 unless the head guides itself: for these one context is enough.
    passes: See `ClassifierFree`.
    """

    context: Context
    scale: float
    passes: str = "batched"


def check_scale(scale: float) -> None:
    """Raise ConfigError for a guidance scale that is none."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < 1e3:
        raise ConfigError(f"the guidance scale is {scale!r}: a number from 0, usually 1 to 3")

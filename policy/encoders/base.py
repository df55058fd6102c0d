"""What an encoder is: an observation becomes a `Context`, put together from named parts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.named import NamedModules
from dipole.policy.encoders.null import NullContext

WHOLE = "observation"  # the name of the only part of an encoder that does not join several


class Encoder(nn.Module):
    """Observation {name: [B, To, *shape]} -> Context. Built from `features` and `window`.

    An encoder implements `forward`, and tells its sizes to this constructor. The rest has defaults:
    nothing may be missing, there are no weights to load and nothing to show.

    kinds: Kinds of features that it encodes; a joining encoder hands it those.
    by_frame: Whether the vector is To vectors of the same size, one for each observed frame.
    spec: Sizes of the contexts that it gives.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"state", "action"})
    by_frame: ClassVar[bool] = False

    def __init__(self, spec: ContextSpec) -> None:
        super().__init__()
        self.spec = spec
        self.nulls = NamedModules({})

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """The context of an observation, normalised; images and text are uint8.

        observation: {name: [B, To, *shape]}; may have more entries than this encoder uses.
        missing: {name: bool [B]}, rows that lack an entry, whatever its numbers are.
        """
        raise NotImplementedError

    @property
    def part_specs(self) -> Mapping[str, ContextSpec]:
        """Sizes of the parts, by name."""
        return {WHOLE: self.spec}

    def contexts(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> dict[str, Context]:
        """The context of each part; see `forward`."""
        return {WHOLE: self(observation, missing)}

    def compose(self, contexts: Mapping[str, Context]) -> Context:
        """One context of the contexts of all parts."""
        return contexts[WHOLE]

    def add_nulls(self, parts: Sequence[str] | None) -> None:
        """Learn a null context for these parts, or for all: the same without an observation."""
        specs = self.part_specs
        for name in parts or ():
            if name not in specs:
                raise ConfigError(
                    f"policy.guidance.parts: the encoder has no part {name!r}"
                    f"{nearest(name, specs) or ';'} it has {', '.join(specs)}"
                )
        chosen = specs if parts is None else parts
        self.nulls = NamedModules({name: NullContext(specs[name]) for name in chosen})

    def unconditional(self, contexts: Mapping[str, Context]) -> Context:
        """One context in which each part that has a null is replaced by it. See `add_nulls`."""
        replaced = {
            name: self.nulls[name](context) if name in self.nulls else context
            for name, context in contexts.items()
        }
        return self.compose(replaced)

    @property
    def optional(self) -> Sequence[str]:
        """Entries that may be missing from an observation."""
        return ()

    def check_lacking(self, names: Collection[str]) -> None:
        """Raise ConfigError where some rows of the training data lack an entry that it needs."""

    @property
    def picture_dims(self) -> Mapping[str, int]:
        """By camera, the size of a picture's features; {} without cameras."""
        return {}

    def picture_features(self, contexts: Mapping[str, Context]) -> dict[str, Tensor]:
        """By camera, the features of each observed picture, [B, To, dim], out of the contexts that
        `contexts` gave; see `picture_dims`."""
        return {}

    @property
    def picture_offsets(self) -> Mapping[str, Tensor]:
        """By camera, how far from evaluation's cut the last forward of training cut its pictures:
        [B, 2], x to the right and y down, as shares of the picture's width and height; {} in eval
        mode, where nothing is moved."""
        return {}

    @property
    def picture_absent(self) -> Mapping[str, Tensor]:
        """By camera, the rows of the last forward of training that had none of its pictures, bool
        [B]; {} in eval mode."""
        return {}

    def load_weights(self) -> None:
        """Load pretrained weights, where the configuration names some; called for a new run."""

    def saliency(self, observation: Mapping[str, Tensor]) -> dict[str, Any]:
        """By camera, what the encoder looks at: `cameras.saliency.Saliency`."""
        return {}

    def describe(self) -> list[str]:
        """Lines that tell a person what the encoder sees."""
        return []

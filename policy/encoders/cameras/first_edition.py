"""The first edition's image encoder, in the terms of this one: for checkpoints that it wrote."""

import re
from collections.abc import Mapping
from typing import Any

OPTIONS = {"readout": "pooling", "share": "shared_backbone", "drop_camera": "camera_dropout"}
# Of the weights of an encoder, by the beginning of their names.
WEIGHTS = (
    (r"^eyes\.([^.]+)\.readout\.", r"parts.cameras.encoders.\1.pooling."),
    (r"^eyes\.", "parts.cameras.encoders."),
    (r"^absent\.", "parts.cameras.missing."),
    (r"^tokens\.of_camera", "parts.cameras.tokens.camera_embedding"),
    (r"^tokens\.of_frame", "parts.cameras.tokens.frame_embedding"),
    (r"^tokens\.", "parts.cameras.tokens."),
)


def migrated_encoder(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an encoder, with its options by their present names."""
    if encoder.get("name") != "image":
        return dict(encoder)
    found = {OPTIONS.get(name, name): value for name, value in encoder.items()}
    pooling = found.get("pooling")
    if isinstance(pooling, Mapping) and pooling.get("name") == "summary":
        found["pooling"] = {**pooling, "name": "pooled"}
    return found


def migrated_name(name: str) -> str:
    """The present name of a policy's weight.

    >>> migrated_name("encoder.eyes.front.readout.logits.weight")
    'encoder.parts.cameras.encoders.front.pooling.logits.weight'
    """
    if not name.startswith("encoder."):
        return name
    own = name.removeprefix("encoder.")
    for before, after in WEIGHTS:
        renamed, count = re.subn(before, after, own)
        if count:
            return "encoder." + renamed
    return name

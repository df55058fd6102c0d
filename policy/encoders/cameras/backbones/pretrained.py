"""Backbones of `transformers` by name: ResNet, CLIP, DINOv2, SigLIP.

    backbone: {name: dinov2, weights: facebook/dinov2-small}      a hub's name, or a local folder
    backbone: {name: clip, architecture: {hidden_size: 64, ...}}   untrained, of this size

A network is always built from its architecture, plain values that stand in the checkpoint's own
configuration: only a new run reads `weights`, and loading a checkpoint needs neither the folder nor
the net. Weights are read from safetensors and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import BACKBONES
from dipole.policy.encoders.cameras.backbones.backbone import Backbone, BackboneOutput, halved
from dipole.policy.encoders.cameras.backbones.batchnorm import freeze_batchnorm, to_groupnorm

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Family:
    """config, model: names of transformers' classes. statistics: mean and std that its published
    weights were trained with. n_special: tokens before those of the patches."""

    config: str
    model: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    n_special: int = 0
    options: tuple[str, ...] = ()


FAMILIES = {
    "pretrained_resnet": Family("ResNetConfig", "ResNetModel", IMAGENET),
    "dinov2": Family("Dinov2Config", "Dinov2Model", IMAGENET, n_special=1),
    "clip": Family("CLIPVisionConfig", "CLIPVisionModel", OPENAI, 1, ("interpolate_pos_encoding",)),
    "siglip": Family(
        "SiglipVisionConfig", "SiglipVisionModel", HALF, 0, ("interpolate_pos_encoding",)
    ),
}


class Pretrained(Backbone):
    """Pictures [N, 3, h, w], normalised -> features on the grid of its patches or cells.

    BatchNorm becomes a constant affine map where there are weights to come, GroupNorm where there
    are none: running statistics do not go with averaged weights.
    """

    has_pooled = True

    def __init__(
        self, family: str, weights: str | None = None, architecture: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.family, self.weights = FAMILIES[family], weights
        self.mean, self.std = self.family.statistics
        if weights is not None and architecture is None:
            architecture = read_architecture(family, weights)
        transformers = _transformers()
        config = _config(getattr(transformers, self.family.config), architecture or {}, family)
        with torch.device("cpu"):  # it has buffers that no checkpoint holds
            self.model = getattr(transformers, self.family.model)(config)
            to_groupnorm(self.model) if weights is None else freeze_batchnorm(self.model)
        self.patch_size = int(getattr(config, "patch_size", 1))
        sizes = getattr(config, "hidden_sizes", None)
        self.channels = int(sizes[-1] if sizes else config.hidden_size)

    def check_size(self, size: tuple[int, int], camera: str) -> None:
        """Raise ConfigError for pictures that cannot be cut into whole patches."""
        if any(side % self.patch_size for side in size):
            raise ConfigError(
                f"camera {camera!r}: pictures of {size[0]} x {size[1]} cannot be cut into patches "
                f"of {self.patch_size} x {self.patch_size}: resize or crop them to a multiple of "
                f"{self.patch_size}, such as {max(size[0] // self.patch_size, 1) * self.patch_size}"
            )

    def map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """A cell for each patch; of a ResNet, strides of 2 as its architecture says."""
        config = self.model.config
        if (depths := getattr(config, "depths", None)) is None:
            return size[0] // self.patch_size, size[1] // self.patch_size
        halvings = 1 + len(depths) + bool(config.downsample_in_first_stage)
        return halved(size[0], halvings), halved(size[1], halvings)

    def forward(self, images: Tensor) -> BackboneOutput:
        options = dict.fromkeys(self.family.options, True)
        output = self.model(pixel_values=images, **options)
        hidden, pooled = output.last_hidden_state, output.pooler_output
        if hidden.dim() == 4:  # a convolutional network's features are a grid already
            return BackboneOutput(hidden, pooled.flatten(1))
        height, width = (side // self.patch_size for side in images.shape[2:])
        patches = hidden[:, self.family.n_special :].transpose(1, 2)  # [N, C, h' w']
        return BackboneOutput(patches.unflatten(2, (height, width)), pooled)

    def load_weights(self) -> None:
        """Take the weights that the configuration names; for a new run. Raises ConfigError."""
        if self.weights is None:
            return
        model = _from_pretrained(getattr(_transformers(), self.family.model), self.weights)
        missing, unexpected = self.model.load_state_dict(model.state_dict(), strict=False)
        unknown = [name for name in unexpected if not name.endswith("num_batches_tracked")]
        if missing or unknown:
            raise ConfigError(
                f"weights {self.weights!r} are of another network: {(missing or unknown)[0]!r} is "
                f"{'missing' if missing else 'too much'}"
            )


def _register(family: str) -> None:
    def make(
        weights: str | None = None, architecture: Mapping[str, Any] | None = None
    ) -> Pretrained:
        return Pretrained(family, weights, architecture)

    BACKBONES.add(family)(make)


for _family in FAMILIES:
    _register(_family)


def with_architecture(policy: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's configuration in which weights stand beside the architecture they are for."""
    if not policy.get("encoder"):
        return dict(policy)
    return {**policy, "encoder": _with_architecture(policy["encoder"])}


def _with_architecture(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The same of an encoder, and of its parts."""
    if parts := encoder.get("parts"):
        return {**encoder, "parts": {name: _with_architecture(p) for name, p in parts.items()}}
    backbone = encoder.get("backbone") or {}
    name, weights = backbone.get("name"), backbone.get("weights")
    if name not in FAMILIES or weights is None or backbone.get("architecture") is not None:
        return dict(encoder)
    complete = {**backbone, "architecture": read_architecture(name, weights)}
    return {**encoder, "backbone": complete}


def read_architecture(family: str, weights: str) -> dict[str, Any]:
    """What the folder or the hub says of the network, as plain values. Raises ConfigError."""
    kind = getattr(_transformers(), FAMILIES[family].config)
    try:
        config = kind.from_pretrained(weights, local_files_only=Path(weights).exists())
    except (OSError, ValueError) as error:
        raise ConfigError(_unreadable(weights, error)) from error
    found: dict[str, Any] = config.to_diff_dict()
    return {k: v for k, v in found.items() if k not in ("transformers_version", "architectures")}


def _config(kind: Any, architecture: Mapping[str, Any], family: str) -> Any:
    known = kind().to_dict()
    for name in architecture:
        if name not in known:
            raise ConfigError(f"backbone {family!r}: an architecture has no {name!r}")
    return kind(**architecture)


def _from_pretrained(model: Any, weights: str) -> nn.Module:
    local = Path(weights).exists()
    try:
        loaded: nn.Module = model.from_pretrained(
            weights, use_safetensors=True, local_files_only=local
        )
    except (OSError, ValueError) as error:
        raise ConfigError(_unreadable(weights, error)) from error
    return loaded


def _unreadable(weights: str, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"weights {weights!r} cannot be read ({reason}): give a local folder with config.json and "
        "model.safetensors, or a name on the hub, which needs the net"
    )


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ConfigError(
            "backbones by name need transformers, which is not installed: "
            "pip install 'dipole[vision]'"
        ) from error
    return transformers

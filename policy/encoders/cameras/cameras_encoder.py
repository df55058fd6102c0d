"""The encoder of any number of cameras."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.components import ENCODERS
from dipole.policy.core.named import NamedModules
from dipole.policy.encoders.base import WHOLE, Encoder
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.encoders.cameras.camera_encoder import CameraEncoder
from dipole.policy.encoders.cameras.differences import frame_differences
from dipole.policy.encoders.cameras.image_tokens import ImageTokens
from dipole.policy.encoders.cameras.missing import MissingCameraEmbedding
from dipole.policy.encoders.cameras.pixels import together
from dipole.policy.encoders.cameras.saliency import Saliency, saliency
from dipole.policy.encoders.cameras.views import Place, View, ViewConfig, per_camera
from dipole.policy.observations import n_rows

SHARED = "shared"
# The backbones' outputs by camera -> what is gone on with.
Inspect = Callable[[Mapping[str, BackboneOutput]], Mapping[str, BackboneOutput]]
DEPTH = "_depth"  # after the name of a camera, the name of its depth


@ENCODERS.add("cameras")
class CamerasEncoder(Encoder):
    """Any number of cameras, each with its own resolution.

    Depth is a camera of its own, with a network of its own unless the backbone is shared, and seen
    as a grey picture. The depth of a camera NAME that is called NAME_depth is cut where its
    pictures are, if both have the same size.

    backbone, pooling: Of each camera's encoder, by name, with their options.
    dim: Numbers of a picture's vector.
    frozen: Backbones stay as they are.
    shared_backbone: One camera encoder for all cameras; pictures of one size then go through it in
        one batch.
    resize, crop: See `ViewConfig`; one for all, or a table by camera.
    augment: See `Augmentation`; in training only.
    token_dim: None, or the size E of tokens, one for each cell of each picture's features, for
        denoisers with cross-attention.
    camera_dropout: The probability with which training leaves out each camera of a row; above 0,
        cameras may be missing.
    differences: The vector has the newest frame's features, and in place of those of each earlier
        frame what the newest differs from them by: for tasks in which motion decides. Tokens and
        `picture_features` stay each frame's.

    The vector is time-major, [frame 0's cameras, frame 1's cameras, ...]: To * cameras * dim.
    """

    kinds = frozenset({"image", "depth"})
    by_frame = True
    # Called in `forward` where it is set, for `dipole.policy.inspection`.
    inspect: Inspect | None = None

    def __init__(
        self,
        features: Features,
        window: WindowSpec,
        backbone: Mapping[str, Any],
        pooling: Mapping[str, Any] | None = None,
        dim: int = 64,
        frozen: bool = False,
        shared_backbone: bool = False,
        resize: Any = None,
        crop: Any = None,
        augment: Mapping[str, Any] | None = None,
        token_dim: int | None = None,
        camera_dropout: float = 0.0,
        differences: bool = False,
    ) -> None:
        if dim < 1:
            raise ConfigError(f"policy.encoder.dim is {dim}: of a picture's vector, at least 1")
        self.cameras = _cameras(features)
        super().__init__(ContextSpec(window.n_obs_steps * dim * len(self.cameras), token_dim))
        self.n_obs_steps, self.shared_backbone = window.n_obs_steps, shared_backbone
        self.differences = differences
        self._moved: dict[str, Tensor] = {}
        self._absent: dict[str, Tensor] = {}
        augmentation = from_mapping(Augmentation, augment or {}, "policy.encoder.augment")
        observed = {name: features.observation[name] for name in self.cameras}
        self.views = _views(observed, resize, crop, augmentation)
        pool = pooling or {"name": "spatial_softmax"}
        self.encoders = NamedModules(
            {
                name: CameraEncoder(backbone, pool, dim, frozen)
                for name in ([SHARED] if shared_backbone else self.cameras)
            }
        )
        for name in self.cameras:
            self.encoder(name).check_size(self.view(name).size, name)
        self.missing = MissingCameraEmbedding(self.cameras, dim, camera_dropout)
        self.tokens: ImageTokens | None = None
        if token_dim is not None:
            channels = self.encoder(self.cameras[0]).channels
            self.tokens = ImageTokens(channels, token_dim, self.cameras, window.n_obs_steps)

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """Images are uint8 [B, To, H, W, 3 or 1], depth is normalised, [B, To, H, W, 1]; one may be
        absent where the encoder was trained for that."""
        rows = n_rows(observation)
        given = [name for name in self.cameras if name in observation]
        outputs = self._features(self._viewed({name: observation[name] for name in given}))
        if self.inspect is not None:
            outputs = dict(self.inspect(outputs))
        presence = self.missing.draw(given, rows, self.training)  # {camera: [B] or None}
        lacking = {name: mask for name, mask in (missing or {}).items() if name in self.cameras}
        presence = self.missing.without(presence, lacking)
        if self.training:
            self._absent = {name: ~rows for name, rows in presence.items() if rows is not None}
        parts = []  # each [B, To, dim]
        for name in self.cameras:
            vector = self.encoder(name).embed(outputs[name]) if name in outputs else None
            shape = (rows, self.n_obs_steps)
            parts.append(self.missing.fill(name, vector, presence[name], shape))
        vectors = torch.cat(parts, dim=2)
        vector = (frame_differences(vectors) if self.differences else vectors).flatten(1)
        if self.tokens is None:
            return Context(vector)
        features = {name: output.features for name, output in outputs.items()}
        return Context(vector, *self.tokens(features, presence, rows))

    def encoder(self, camera: str) -> CameraEncoder:
        """The network of this camera."""
        encoder = self.encoders[SHARED if self.shared_backbone else camera]
        assert isinstance(encoder, CameraEncoder)
        return encoder

    def view(self, camera: str) -> View:
        """Resizing, cropping and augmentation of this camera's pictures."""
        view = self.views[camera]
        assert isinstance(view, View)
        return view

    @property
    def picture_dims(self) -> Mapping[str, int]:
        size = self.spec.vector_dim // (self.n_obs_steps * len(self.cameras))
        return dict.fromkeys(self.cameras, size)

    def picture_features(self, contexts: Mapping[str, Context]) -> dict[str, Tensor]:
        """A camera that is missing has the embedding that stands for it."""
        vector = contexts[WHOLE].vector
        assert vector is not None
        vectors = vector.view(len(vector), self.n_obs_steps, -1)
        if self.differences:
            vectors = frame_differences(vectors)  # each frame's own again
        by_camera = vectors.view(*vectors.shape[:2], len(self.cameras), -1)
        return dict(zip(self.cameras, by_camera.unbind(2), strict=True))

    @property
    def picture_offsets(self) -> Mapping[str, Tensor]:
        return self._moved if self.training else {}

    @property
    def picture_absent(self) -> Mapping[str, Tensor]:
        return self._absent if self.training else {}

    @property
    def optional(self) -> Sequence[str]:
        return self.cameras if self.missing.allowed else []

    def check_lacking(self, names: Collection[str]) -> None:
        self.missing.check([name for name in self.cameras if name in names])

    def load_weights(self) -> None:
        for camera in self.cameras[: len(self.encoders)]:
            self.encoder(camera).backbone.load_weights()

    def saliency(self, observation: Mapping[str, Tensor]) -> dict[str, Saliency]:
        """Of the newest picture of each camera that is present."""
        present = [name for name in self.cameras if name in observation]
        return {
            name: saliency(self.encoder(name), self.view(name)(observation[name][:, -1:]))
            for name in present
        }

    def describe(self) -> list[str]:
        return [self.view(name).describe() for name in self.cameras]

    def _viewed(self, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the networks see, {camera: [B * To, 3, h, w]}, uint8 or in [0, 1]."""
        viewed: dict[str, Tensor] = {}
        places: dict[str, Place | None] = {}
        for name, given in pictures.items():
            view, colours = self.view(name), name.removesuffix(DEPTH)
            if view.is_depth and colours in places and view.is_cut_like(self.view(colours)):
                places[name] = places[colours]
            else:
                places[name] = view.draw_place(len(given), given.device)
            viewed[name] = view.pixels(given, places[name])
        if self.training:
            drawn = {name: place for name, place in places.items() if place is not None}
            self._moved = {name: self.view(name).moved(place) for name, place in drawn.items()}
        return viewed

    def _features(self, views: Mapping[str, Tensor]) -> dict[str, BackboneOutput]:
        """The backbones' outputs for {camera: [B * To, 3, h, w]}; see `shared_backbone`."""
        if not self.shared_backbone:
            return {name: self.encoder(name).features(images) for name, images in views.items()}
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, images in views.items():
            groups.setdefault(tuple(images.shape[2:]), []).append(name)
        outputs: dict[str, BackboneOutput] = {}
        for names in groups.values():
            output = self.encoder(names[0]).features(together([views[name] for name in names]))
            outputs |= dict(zip(names, output.chunk(len(names)), strict=True))
        return outputs


def _cameras(features: Features) -> list[str]:
    observed = features.observation
    others = [name for name, each in observed.items() if each.kind not in ("image", "depth")]
    if others:
        raise ConfigError(
            f"the encoder cameras encodes images and depth alone, not {', '.join(others)}: join it "
            "with others (name: join, docs/images.md)"
        )
    return sorted(observed, key=lambda name: observed[name].kind == "depth")  # after its pictures


def _views(
    observed: Mapping[str, Feature], resize: Any, crop: Any, augmentation: Augmentation
) -> NamedModules:
    cameras = list(observed)
    sizes, crops = (
        per_camera(value, cameras, what) for value, what in ((resize, "resize"), (crop, "crop"))
    )
    configs = {name: ViewConfig(sizes[name], crops[name]) for name in cameras}
    return NamedModules(
        {
            name: View(each.shape, configs[name], augmentation, name, each.kind == "depth")
            for name, each in observed.items()
        }
    )

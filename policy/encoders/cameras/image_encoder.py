"""The encoder for cameras and low-dimensional observations together."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.policy.context import Context
from dipole.policy.core.components import ENCODERS
from dipole.policy.core.named import NamedModules
from dipole.policy.encoders.cameras.absence import AbsentCameras
from dipole.policy.encoders.cameras.augment import Augmentation
from dipole.policy.encoders.cameras.backbone import Seen
from dipole.policy.encoders.cameras.camera_encoder import Eye
from dipole.policy.encoders.cameras.image_tokens import PictureTokens
from dipole.policy.encoders.cameras.views import View, ViewConfig, per_camera
from dipole.policy.observations import n_rows

SHARED = "shared"


@ENCODERS.add("image")
class ImageEncoder(nn.Module):
    """Any number of cameras, each with its own resolution, beside state.

    backbone, readout: of the eyes, by name. dim: numbers that an eye says about a picture. frozen:
    backbones stay as they are. share: one eye for all cameras instead of one each; then all
    pictures of one size go through it in one batch. resize, crop: see ViewConfig; one for all, or a
    table by camera. augment: see Augmentation; in training only. token_dim: None, or the size E of
    tokens, one for each cell of each picture's features, for denoisers that attend to them.
    drop_camera: how often each camera is taken away in training; above 0, cameras may be missing.

    The context's vector is time-major: [frame 0's cameras, frame 0's state, frame 1's cameras, ...]
    each in the order of the features. context_dim: To (cameras * dim + sum of the states' sizes).
    """

    def __init__(
        self,
        features: Features,
        window: WindowSpec,
        backbone: Mapping[str, Any],
        readout: Mapping[str, Any] | None = None,
        dim: int = 64,
        frozen: bool = False,
        share: bool = False,
        resize: Any = None,
        crop: Any = None,
        augment: Mapping[str, Any] | None = None,
        token_dim: int | None = None,
        drop_camera: float = 0.0,
    ) -> None:
        super().__init__()
        observed = features.observation
        self.cameras = [name for name, f in observed.items() if f.kind == "image"]
        self.states = [name for name, f in observed.items() if f.kind != "image"]
        if depth := [name for name, f in observed.items() if f.kind == "depth"]:
            raise ConfigError(
                f"the image encoder cannot see depth yet ({', '.join(depth)}): leave it out of the "
                "task's observation, or register an encoder of your own"
            )
        if not self.cameras:
            raise ConfigError(
                f"the image encoder has nothing to look at: {', '.join(observed)} are no images. "
                "Choose the encoder state, or a task with a feature of kind image"
            )
        shapes = {name: observed[name].shape for name in self.cameras}
        augmentation = from_mapping(Augmentation, augment or {}, "policy.encoder.augment")
        self.views = _views(shapes, resize, crop, augmentation)
        read = readout or {"name": "spatial_softmax"}
        eyes = [SHARED] if share else self.cameras
        self.eyes = NamedModules({name: Eye(backbone, read, dim, frozen) for name in eyes})
        self.share, self.dim, self.token_dim = share, dim, token_dim
        for name in self.cameras:
            self.eye(name).check_size(self.view(name).size, name)
        self.absent = AbsentCameras(self.cameras, dim, drop_camera)
        self.tokens: PictureTokens | None = None
        if token_dim is not None:
            channels = self.eye(self.cameras[0]).channels
            self.tokens = PictureTokens(channels, token_dim, self.cameras, window.n_obs_steps)
        of_state = sum(observed[name].size for name in self.states)
        self.n_obs_steps = window.n_obs_steps
        self.context_dim = window.n_obs_steps * (dim * len(self.cameras) + of_state)

    @property
    def optional(self) -> list[str]:
        """The cameras that may be missing from an observation."""
        return self.cameras if self.absent.allowed else []

    def forward(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """observation: {name: [B, To, *shape]}, images uint8, states normalised. A camera may be
        missing where the encoder was trained for that; missing: {camera: bool [B]}, where only some
        rows lack it, whatever their pictures are."""
        rows = n_rows(observation)
        present = [name for name in self.cameras if name in observation]
        views = {name: self.views[name](observation[name]) for name in present}
        seen = self._see(views)
        there = self.absent.draw(present, rows, self.training)  # {camera: [B] or None}
        there = self.absent.without(there, missing or {})
        said = {}
        for name in self.cameras:
            vector = self.eye(name).say(seen[name]) if name in seen else None
            said[name] = self.absent.fill(name, vector, there[name], (rows, self.n_obs_steps))
        parts = [said[name] for name in self.cameras]  # each [B, To, dim]
        parts += [observation[name].flatten(2) for name in self.states]  # each [B, To, F]
        vector = torch.cat(parts, dim=2).flatten(1)
        if self.tokens is None:
            return Context(vector)
        features = {name: found.features for name, found in seen.items()}
        return Context(vector, *self.tokens(features, there, rows))

    def eye(self, camera: str) -> Eye:
        """The eye that looks through this camera."""
        eye = self.eyes[SHARED if self.share else camera]
        assert isinstance(eye, Eye)
        return eye

    def view(self, camera: str) -> View:
        """What that eye sees of its pictures."""
        view = self.views[camera]
        assert isinstance(view, View)
        return view

    def load_weights(self) -> None:
        """Take the weights that the configuration names, where it names some; for a new run."""
        for camera in self.cameras[: len(self.eyes)]:
            self.eye(camera).load_weights()

    def _see(self, views: Mapping[str, Tensor]) -> dict[str, Seen]:
        """Pictures {camera: [B * To, 3, h, w]} -> what eyes see in them; see `share`."""
        if not self.share:
            return {name: self.eye(name).see(images) for name, images in views.items()}
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, images in views.items():
            groups.setdefault(tuple(images.shape[2:]), []).append(name)
        seen: dict[str, Seen] = {}
        for names in groups.values():
            together = self.eye(SHARED).see(torch.cat([views[name] for name in names]))
            seen |= dict(zip(names, together.chunk(len(names)), strict=True))
        return seen


def _views(
    shapes: Mapping[str, tuple[int, ...]], resize: Any, crop: Any, augmentation: Augmentation
) -> NamedModules:
    cameras = list(shapes)
    sizes, crops = (
        per_camera(value, cameras, what) for value, what in ((resize, "resize"), (crop, "crop"))
    )
    return NamedModules(
        {
            name: View(shape, ViewConfig(sizes[name], crops[name]), augmentation, name)
            for name, shape in shapes.items()
        }
    )

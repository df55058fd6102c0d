"""The encoder for cameras and low-dimensional observations together."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Features, WindowSpec
from dipole.data.errors import ConfigError
from dipole.policy.components import ENCODERS
from dipole.policy.context import Context
from dipole.policy.encoders.augment import Augmentation
from dipole.policy.encoders.eye import Eye
from dipole.policy.encoders.views import View, ViewConfig, per_camera

SHARED = "shared"


@ENCODERS.add("image")
class ImageEncoder(nn.Module):
    """Any number of cameras, each with its own resolution, beside state.

    backbone, readout: of the eyes, by name. dim: numbers that an eye says about a picture. frozen:
    backbones stay as they are. share: one eye for all cameras instead of one each; then all
    pictures of one size go through it in one batch. resize, crop: see ViewConfig; one for all, or a
    table by camera. augment: see Augmentation; in training only.

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
    ) -> None:
        super().__init__()
        observed = features.observation
        self.cameras = [name for name, f in observed.items() if f.kind == "image"]
        self.states = [name for name, f in observed.items() if f.kind != "image"]
        if not self.cameras:
            raise ConfigError(
                f"the image encoder has nothing to look at: {', '.join(observed)} are no images. "
                "Choose the encoder state, or a task with a feature of kind image"
            )
        augmentation = Augmentation(**(augment or {}))
        sizes = per_camera(resize, self.cameras, "resize")
        crops = per_camera(crop, self.cameras, "crop")
        views = {
            name: View(
                observed[name].shape, ViewConfig(sizes[name], crops[name]), augmentation, name
            )
            for name in self.cameras
        }
        self.views = nn.ModuleDict(views)
        eyes = [SHARED] if share else self.cameras
        read = readout or {"name": "spatial_softmax"}
        self.eyes = nn.ModuleDict({name: Eye(backbone, read, dim, frozen) for name in eyes})
        self.share, self.dim = share, dim
        for name, view in views.items():
            self.eye(name).check_size(view.size, name)
        of_state = sum(observed[name].size for name in self.states)
        self.context_dim = window.n_obs_steps * (dim * len(self.cameras) + of_state)

    def forward(self, observation: Mapping[str, Tensor]) -> Context:
        """observation: {name: [B, To, *shape]}, images uint8, states normalised."""
        rows = observation[self.cameras[0]].shape[0]
        views = {name: self.views[name](observation[name]) for name in self.cameras}
        vectors = self._look(views)
        parts = [
            vectors[name].view(rows, -1, self.dim) for name in self.cameras
        ]  # each [B, To, dim]
        parts += [observation[name].flatten(2) for name in self.states]  # each [B, To, F]
        return Context(vector=torch.cat(parts, dim=2).flatten(1))

    def eye(self, camera: str) -> Eye:
        """The eye that looks through this camera."""
        eye = self.eyes[SHARED if self.share else camera]
        assert isinstance(eye, Eye)
        return eye

    def load_weights(self) -> None:
        """Take the weights that the configuration names, where it names some; for a new run."""
        for camera in self.cameras[: len(self.eyes)]:
            self.eye(camera).load_weights()

    def _look(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{camera: [B * To, 3, h, w]} -> {camera: [B * To, dim]}; see `share`."""
        if not self.share:
            return {name: self.eye(name)(images) for name, images in views.items()}
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, images in views.items():
            groups.setdefault(tuple(images.shape[2:]), []).append(name)
        vectors: dict[str, Tensor] = {}
        for names in groups.values():
            together = self.eye(SHARED)(torch.cat([views[name] for name in names]))
            vectors |= dict(zip(names, together.chunk(len(names)), strict=True))
        return vectors

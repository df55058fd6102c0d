"""Cameras that may be missing: a learned embedding takes the place of one that is."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.core.named import module_key

Presence = Mapping[str, Tensor | None]  # by camera: bool [B], rows that have it; None: all


class MissingCameraEmbedding(nn.Module):
    """One learned vector per camera, [dim], in place of its own where the camera is missing.

    dropout: The probability with which training leaves out a camera of a row. At 0 there are no
        such vectors, and a policy needs all of its cameras.
    """

    def __init__(self, cameras: Sequence[str], dim: int, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"camera_dropout is {dropout}: a probability, 0 to below 1")
        self.dropout, self.cameras = dropout, cameras
        self.allowed = dropout > 0
        names = cameras if self.allowed else []
        self.vectors = nn.ParameterDict({module_key(name): torch.zeros(dim) for name in names})

    def draw(self, given: Sequence[str], rows: int, training: bool) -> dict[str, Tensor | None]:
        """Which rows have which camera: those that are given, less what training leaves out."""
        missing = [name for name in self.cameras if name not in given]
        if missing and not self.allowed:
            raise ConfigError(
                f"camera {missing[0]!r} is missing, and this policy was not trained to do "
                "without: give its pictures, or train with policy.encoder.camera_dropout=0.1"
            )
        presence: dict[str, Tensor | None] = dict.fromkeys(given)
        if self.allowed and training:
            device = next(self.parameters()).device
            presence |= {name: torch.rand(rows, device=device) >= self.dropout for name in given}
        return presence | {name: self._no_row(rows) for name in missing}

    def check(self, lacking: Sequence[str]) -> None:
        """Raise ConfigError for cameras that a dataset lacks, where none may be missing."""
        if lacking and not self.allowed:
            raise ConfigError(
                f"camera {lacking[0]!r} is missing from a dataset of the mixture: train with "
                "policy.encoder.camera_dropout=0.1, so that the policy can do without"
            )

    def without(
        self, presence: Presence, missing: Mapping[str, Tensor]
    ) -> dict[str, Tensor | None]:
        """The same, less the cameras that rows lack: missing, {camera: bool [B]}."""
        self.check(list(missing))
        left = dict(presence)
        for name, lacking in missing.items():
            drawn = left[name]
            left[name] = ~lacking if drawn is None else drawn & ~lacking
        return left

    def fill(
        self, camera: str, vector: Tensor | None, present: Tensor | None, lead: tuple[int, int]
    ) -> Tensor:
        """A camera's vectors [B, To, dim], with its embedding in rows that lack the camera.

        vector: [B * To, dim], or None where no row has it. present: bool [B], or None for all rows.
        lead: B and To.
        """
        if vector is None:
            instead: Tensor = self.vectors[module_key(camera)].expand(*lead, -1)
            return instead
        by_frame = vector.view(-1, lead[1], vector.shape[1])
        if present is None:
            return by_frame
        return torch.where(present[:, None, None], by_frame, self.vectors[module_key(camera)])

    def _no_row(self, rows: int) -> Tensor:
        return torch.zeros(rows, dtype=torch.bool, device=next(self.parameters()).device)

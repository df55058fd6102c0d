"""Cameras that may be missing: what stands for one that is not there, learned in training."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.core.named import module_key

There = Mapping[str, Tensor | None]  # by camera: bool [B], which samples have it; None: all


class AbsentCameras(nn.Module):
    """One vector per camera, [dim], that stands for it where it is missing.

    share: how often each camera of each sample is taken away in training. At 0 there is no such
    vector, and a policy needs all its cameras.
    """

    def __init__(self, cameras: Sequence[str], dim: int, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ConfigError(f"drop_camera is {share}: a share, 0 to below 1")
        self.share, self.cameras = share, cameras
        self.allowed = share > 0
        names = cameras if self.allowed else []
        self.vectors = nn.ParameterDict({module_key(name): torch.zeros(dim) for name in names})

    def draw(self, present: Sequence[str], rows: int, training: bool) -> dict[str, Tensor | None]:
        """Which samples have which camera: those present, less what training takes away."""
        missing = [name for name in self.cameras if name not in present]
        if missing and not self.allowed:
            raise ConfigError(
                f"camera {missing[0]!r} is missing, and this policy was not trained to do "
                "without: give its pictures, or train with policy.encoder.drop_camera=0.1"
            )
        there: dict[str, Tensor | None] = dict.fromkeys(present)
        if self.allowed and training:
            device = next(self.parameters()).device
            there |= {name: torch.rand(rows, device=device) >= self.share for name in present}
        return there | {name: self._nobody(rows) for name in missing}

    def without(
        self, there: Mapping[str, Tensor | None], missing: Mapping[str, Tensor]
    ) -> dict[str, Tensor | None]:
        """The same, less the cameras that samples lack: missing, {camera: bool [B]}."""
        if missing and not self.allowed:
            raise ConfigError(
                f"camera {next(iter(missing))!r} is missing from a dataset of the mixture: train "
                "with policy.encoder.drop_camera=0.1, so that the policy can do without"
            )
        left = dict(there)
        for name, lacking in missing.items():
            drawn = left[name]
            left[name] = ~lacking if drawn is None else drawn & ~lacking
        return left

    def fill(
        self, camera: str, vector: Tensor | None, there: Tensor | None, lead: tuple[int, int]
    ) -> Tensor:
        """A camera's vectors [B * To, dim], or None, with its stand-in where it is missing:
        [B, To, dim]; lead: B and To."""
        if vector is None:
            instead: Tensor = self.vectors[module_key(camera)].expand(*lead, -1)
            return instead
        by_frame = vector.view(-1, lead[1], vector.shape[1])
        if there is None:
            return by_frame
        return torch.where(there[:, None, None], by_frame, self.vectors[module_key(camera)])

    def _nobody(self, rows: int) -> Tensor:
        return torch.zeros(rows, dtype=torch.bool, device=next(self.parameters()).device)

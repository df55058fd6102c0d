"""Weights in the published layout of Diffusion Policy's U-Net, renamed and turned into ours."""

import re
from collections.abc import Mapping

from torch import Tensor

from dipole.data.core.errors import CheckpointError

# Published name -> ours; \1 and \2 are numbers that stay.
RENAMES = (
    (r"^diffusion_step_encoder\.1\.", "time_embedding.mlp.0."),
    (r"^diffusion_step_encoder\.3\.", "time_embedding.mlp.2."),
    (r"^(down|up)_modules\.(\d+)\.0\.", r"\1.\2.first."),
    (r"^(down|up)_modules\.(\d+)\.1\.", r"\1.\2.second."),
    (r"^(down|up)_modules\.(\d+)\.2\.conv\.", r"\1.\2.resample."),
    (r"^mid_modules\.", "middle."),
    (r"^final_conv\.0\.block\.", "final.0."),
    (r"^final_conv\.", "final."),
    (r"\.blocks\.0\.block\.", ".first."),
    (r"\.blocks\.1\.block\.", ".second."),
    (r"\.cond_encoder\.1\.", ".film."),
    (r"\.residual_conv\.", ".shortcut."),
)
TRANSPOSED = re.compile(r"^up_modules\.\d+\.2\.conv\.weight$")


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for `ConditionalUnet1D` from one of the published class of the same name.

    Convolution weights [C', C, K], and [C, C', K] of transposed ones, become [K, C, C']. Raises
    CheckpointError for a name that the published network does not have.
    """
    converted = {}
    for published, tensor in state.items():
        name = published
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if name == published:
            raise CheckpointError(f"{published!r} is no parameter of the published 1D U-Net")
        converted[name] = _matrix_per_tap(tensor, transposed=bool(TRANSPOSED.match(published)))
    return converted


def _matrix_per_tap(tensor: Tensor, transposed: bool) -> Tensor:
    if tensor.dim() != 3:
        return tensor
    return tensor.permute((2, 0, 1) if transposed else (2, 1, 0)).contiguous()

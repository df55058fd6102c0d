"""Weights of the U-Net from elsewhere: the published class, and the first edition of this one."""

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
CONVOLUTIONS = ("down", "middle", "up", "final")  # where all weights of three axes are
TRANSPOSED = re.compile(r"^up\.\d+\.resample\.weight$")


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for `ConditionalUnet1D` from one of the published class of the same name.

    Raises CheckpointError for a name that the published network does not have.
    """
    converted = {}
    for published, tensor in state.items():
        name = published
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if name == published:
            raise CheckpointError(f"{published!r} is no parameter of the published 1D U-Net")
        converted[name] = tensor
    return converted


def from_first_edition(
    state: Mapping[str, Tensor], prefix: str = "head.denoiser."
) -> dict[str, Tensor]:
    """Weights, their average or the optimiser's state, as checkpoints of format version 1 have
    them, as they are now: names are the same, convolutions become those of torch.nn.

    state: {name: tensor}, or {"name/entry": tensor} of an optimiser; [K, C, C'] becomes
        [C', C, K], of transposed convolutions [C, C', K].
    prefix: Of the U-Net's parameters among the names.
    """
    return {
        name: _as_torch(name.rpartition("/")[0] or name, tensor, prefix)
        for name, tensor in state.items()
    }


def _as_torch(name: str, tensor: Tensor, prefix: str) -> Tensor:
    own = name.removeprefix(prefix)
    is_convolution = name.startswith(prefix) and own.split(".")[0] in CONVOLUTIONS
    if not is_convolution or tensor.dim() != 3:
        return tensor
    return tensor.permute((1, 2, 0) if TRANSPOSED.match(own) else (2, 1, 0))

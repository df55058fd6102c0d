"""The whole of a policy's inference as one function of tensors, for runtimes that have no Python.

observations ─ normalise ─> encoder ─> denoising steps, one after another ─> chunk, unnormalised
noise ─────────────────────────────────┘
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dipole.data.errors import ConfigError
from dipole.policy.denoisers.plain import plain
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.policy import Policy
from dipole.policy.solvers import denoise, solver_table

BATCH = "B"  # an axis of any size in the shapes below
OBSERVATION = "observation."  # prefix of inputs, so that none can be taken for the noise


@dataclass(frozen=True)
class Port:
    """An input or output: its shape, with "B" for the batch, and what its numbers mean."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    units: str

    def example(self, batch_size: int) -> Tensor:
        """Random values of this shape."""
        shape = tuple(batch_size if size == BATCH else int(size) for size in self.shape)
        if self.dtype == "uint8":
            return torch.randint(256, shape, dtype=torch.uint8)
        return torch.randn(shape)

    @property
    def batch_axis(self) -> int:
        return self.shape.index(BATCH)


class SamplingLoop(nn.Module):
    """Tensors in the order of `inputs` -> chunk [B, H, A] in the robot's units.

    The solver's steps are unrolled, and what the denoiser makes of their times is a constant. Noise
    is an input, [B, H, A] and, where the solver adds fresh noise, [N, B, H, A] with one entry for
    each of the N steps that do: the loop is a function, and who calls it owns the randomness.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        if not isinstance(policy.head, DiffusionHead):
            raise ConfigError(
                f"only diffusion heads can be exported, this is {policy.config.head['name']!r}"
            )
        self.policy = plain(policy).cpu().eval()
        head: DiffusionHead = self.policy.head
        self.table = solver_table(head.solver, head.alphas)
        self.n_fresh = sum(step.fresh > 0 for step in self.table)
        self.inputs = _inputs(policy, self.n_fresh)
        for number, half in enumerate(head.time_table(self.table)):
            self.register_buffer(f"time_table_{number}", half)

    @property
    def output(self) -> Port:
        action = self.policy.features.action
        shape: tuple[int | str, ...] = (BATCH, self.policy.window.horizon, *action.shape)
        return Port("chunk", shape, "float32", "the robot's")

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip([port.name for port in self.inputs], tensors, strict=True))
        head: DiffusionHead = self.policy.head
        context = self.policy.encode(
            {name: given[OBSERVATION + name] for name in self.policy.features.observation}
        )
        time_table = [half for name, half in self.named_buffers(recurse=False)]
        chunk = denoise(
            head.denoiser.predictors(time_table, context),
            given["noise"],
            self.table,
            head.schedule,
            draw=iter(given["fresh_noise"].unbind(0) if self.n_fresh else ()).__next__,
        )
        return self.policy.unnormalize_action(chunk)

    def examples(self, batch_size: int) -> tuple[Tensor, ...]:
        """Random inputs."""
        return tuple(port.example(batch_size) for port in self.inputs)


def _inputs(policy: Policy, n_fresh: int) -> Sequence[Port]:
    chunk: tuple[int, ...] = (policy.window.horizon, *policy.features.action.shape)
    ports = [
        Port(
            OBSERVATION + name,
            (BATCH, policy.window.n_obs_steps, *feature.shape),
            str(feature.dtype),
            "the robot's",
        )
        for name, feature in policy.features.observation.items()
    ]
    ports.append(Port("noise", (BATCH, *chunk), "float32", "standard normal"))
    if n_fresh:
        fresh: tuple[int | str, ...] = (n_fresh, BATCH, *chunk)
        ports.append(Port("fresh_noise", fresh, "float32", "standard normal, one entry a step"))
    return ports

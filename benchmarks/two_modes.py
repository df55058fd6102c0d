"""Does the next chunk stay with the way that the present one took? In closed form, without network.

    python benchmarks/two_modes.py

There are two ways round an obstacle, +arc and -arc, each with a spread of 0.1 in normalised units,
and the chunk's distribution is known: the denoiser is exact, and so is its Jacobian. The present
chunk took the upper way; it has run so far that 4 of its 12 actions left will have run before the
next chunk arrives, and both ways begin alike. Printed, as Markdown, is how often the next chunk
keeps to the upper way, how far the frozen prefix is from what ran, and how far it jumps where it
takes over.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.policy.diffusion.denoising import denoise
from dipole.policy.diffusion.guidance import InpaintingGuidance, prefix_weights
from dipole.policy.diffusion.known import Estimator, KnownChunk
from dipole.policy.diffusion.predictions import Estimate, SamplePrediction
from dipole.policy.diffusion.processes import Flow, VariancePreserving
from dipole.policy.diffusion.solvers import DDIM, SolverStep, table_of

HORIZON, DELAY, LEFT = 16, 4, 12
HEIGHT, SPREAD = 0.5, 0.1
WAY = HEIGHT * torch.sin(torch.pi * torch.arange(HORIZON) / (HORIZON - 1))[:, None]  # [H, 1]
WAYS: list[tuple[str, InpaintingGuidance | None]] = [
    ("none", None),
    ("replacement of the frozen prefix", InpaintingGuidance("replace")),
    ("Jacobian, clip 5, data scale 1: the paper's and the default", InpaintingGuidance()),
    ("Jacobian, clip 10, data scale 1", InpaintingGuidance("jacobian", 10.0, 1.0)),
    ("Jacobian, clip 10, data scale 0.2", InpaintingGuidance("jacobian", 10.0, 0.2)),
    ("Jacobian, the solver's own clip, data scale 0.2", InpaintingGuidance("jacobian", None, 0.2)),
    ("identity, clip 5, data scale 1", InpaintingGuidance("identity", 5.0, 1.0)),
    ("identity, clip 10, data scale 0.2", InpaintingGuidance("identity", 10.0, 0.2)),
    ("identity, the solver's own clip, data scale 0.2", InpaintingGuidance("identity", None, 0.2)),
]


def exact_estimator(step: SolverStep) -> Estimator:
    """x [B, H, 1] -> the mean of the clean chunk, given x, of two Gaussians about +way and -way."""
    signal = step.level.signal
    variance = (signal * SPREAD) ** 2 + step.level.noise**2

    def estimate(x: Tensor) -> Estimate:
        side = torch.tanh(signal * (x * WAY).sum((1, 2), keepdim=True) / variance)
        clean = side * WAY + signal * SPREAD**2 / variance * (x - signal * side * WAY)
        return SamplePrediction().estimate(clean, x, step.level)

    return estimate


def measure(
    table: Sequence[SolverStep], guidance: InpaintingGuidance | None, rows: int
) -> tuple[float, float, float]:
    """(share that kept the way, rms difference of the frozen prefix, mean jump behind it)."""
    generator = torch.Generator().manual_seed(0)
    old = WAY + SPREAD * torch.randn(rows, HORIZON, 1, generator=generator)
    noise = torch.randn(rows, HORIZON, 1, generator=generator)
    weights = torch.tensor(prefix_weights(DELAY, LEFT, HORIZON), dtype=torch.float32)
    mask = weights[None, :, None].expand_as(old)
    known = None if guidance is None else KnownChunk(old, mask, guidance)
    estimators = [exact_estimator(step) for step in table]
    chunk = denoise(estimators, noise, table, lambda: noise, known=known)
    kept = ((chunk * WAY).sum((1, 2)) > 0).float().mean()
    apart = chunk - old
    return (
        float(kept),
        float(apart[:, :DELAY].square().mean().sqrt()),
        float(apart[:, DELAY].abs().mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="chunks of each cell [20000]")
    rows = parser.parse_args().rows
    tables = {
        "flow, 5 steps": table_of(DDIM(5), Flow()),
        "flow, 10 steps": table_of(DDIM(10), Flow()),
        "DDIM, 10 steps": table_of(DDIM(10), VariancePreserving()),
    }
    names = [f"{name}: kept / prefix / jump" for name in tables]
    print(f"| guidance | {' | '.join(names)} |\n|---|{'---|' * len(tables)}")
    for name, guidance in WAYS:
        found = [measure(table, guidance, rows) for table in tables.values()]
        cells = [f"{kept:.1%} / {prefix:.3f} / {jump:.3f}" for kept, prefix, jump in found]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

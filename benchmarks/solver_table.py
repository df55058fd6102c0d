"""How far each solver is from the probability-flow ODE's own answer, in closed form, in seconds.

    python benchmarks/solver_table.py

The distribution is a mixture of four Gaussians in the plane, whose denoiser is exact: what is left
is the solver's error. Printed, as Markdown: the rms difference to a fine solve from the same noise,
and the share of samples that come to another of the four modes. Rows are evaluations of the
network. The cosine table has 1000 levels, of which the solvers visit every n-th; the levels of EDM
are Karras', from 80 to 0.002.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from dipole.policy.diffusion.analytic import GaussianMixture
from dipole.policy.diffusion.processes import EDM, Flow, Process, VariancePreserving
from dipole.policy.diffusion.solvers import (
    DDIM,
    PLMS,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    Heun,
    Solver,
)

MIXTURE = GaussianMixture.of([[-0.1, -0.8], [0.2, 0.0], [0.6, 0.6], [-0.7, 0.2]], 0.05)
Column = tuple[str, type[Solver], str | None]
HALVES: list[tuple[str, Process, str | None, Sequence[int], list[Column]]] = [
    (
        "cosine table of 1000",
        VariancePreserving(num_train_timesteps=1000),
        "leading",
        (10, 20, 50, 100),
        [
            ("DDIM, Euler", DDIM, "leading"),
            ("PLMS", PLMS, "leading"),
            ("DPM++ 2M", DPMSolverPP2M, "trailing"),
            ("DPM++ 3M", DPMSolverPP3M, "trailing"),
        ],
    ),
    (
        "EDM, Karras",
        EDM(),
        "karras",
        (9, 19, 35, 49, 99),
        [
            ("Euler", Euler, None),
            ("Heun", Heun, None),
            ("PLMS", PLMS, None),
            ("DPM++ 2M", DPMSolverPP2M, None),
            ("DPM++ 3M", DPMSolverPP3M, None),
        ],
    ),
    (
        "straight path, uniform",
        Flow(),
        "uniform",
        (5, 9, 19, 49),
        [
            ("Euler", Euler, None),
            ("Heun", Heun, None),
            ("PLMS", PLMS, None),
            ("DPM++ 2M", DPMSolverPP2M, None),
            ("DPM++ 3M", DPMSolverPP3M, None),
        ],
    ),
]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=4000, help="samples")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    generator = torch.Generator().manual_seed(chosen.seed)
    noise = torch.randn(chosen.rows, 2, generator=generator, dtype=torch.float64)
    for title, process, spacing, evaluations, columns in HALVES:
        fine = {s: MIXTURE.solve(PLMS(500, s), process, noise) for s in {spacing, columns[-1][2]}}
        print(f"\n| {title} | {' | '.join(name for name, _, _ in columns)} |")
        print("|---" * (1 + len(columns)) + "|")
        for count in evaluations:
            cells = [
                cell(solver(steps_of(solver, count, process), s), process, noise, fine[s])
                for _, solver, s in columns
            ]
            print(f"| {count} | {' | '.join(cells)} |", flush=True)


def steps_of(solver: type[Solver], evaluations: int, process: Process) -> int:
    """Steps with which a solver makes so many evaluations."""
    if solver is Heun:
        return (evaluations + 1) // 2
    made = evaluations
    while len(solver(made).table(solver(made).levels(process))) > evaluations:
        made -= 1
    return made


def cell(solver: Solver, process: Process, noise: Tensor, fine: Tensor) -> str:
    found = MIXTURE.solve(solver, process, noise)
    error = float((found - fine).square().mean().sqrt())
    flipped = float((MIXTURE.component(found) != MIXTURE.component(fine)).double().mean())
    return f"{error:.2g} / {flipped:.1%}"


if __name__ == "__main__":
    main()

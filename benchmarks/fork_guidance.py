"""Fork with labels: how the scale of classifier-free guidance changes which side is taken, and how.

    python benchmarks/fork_guidance.py --output fork_guidance

A small network learns the position and, apart from it, the label (-1 left, 1 right, 0 any), which a
tenth of the rows do without. Printed, as Markdown, of 1000 first chunks of episodes: the share that
takes the side asked for, their distance to the nearest demonstration, and, of chunks for which any
side will do, the entropy of the sides. Scale 1 is the conditional policy, 0 the unconditional one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dipole.benchmarks.fork_study import (
    FEATURES,
    MILLIMETRES,
    NETWORKS,
    PROCESSES,
    SPACINGS,
    WINDOW,
    fit,
    windows,
)
from dipole.data import Features
from dipole.envs.fork.geometry import (
    MODES,
    START,
    START_SPREAD,
    Floats,
    mode_entropy,
    modes,
    path_errors,
)
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import solver_from

LABEL = {"shape": [1], "kind": "state"}
LABELLED: dict[str, Any] = {
    **FEATURES,
    "observation": {**FEATURES["observation"], "label": LABEL},
}
INPUTS = {"state": ["state"], "label": ["label"]}
ROWS = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="unet1d", choices=NETWORKS)
    parser.add_argument("--process", default="vp-sample", choices=PROCESSES)
    parser.add_argument("--updates", type=int, default=1500, help="of batches of 64")
    parser.add_argument("--scales", type=float, nargs="+", default=[0, 1, 1.5, 2, 3, 5, 8])
    parser.add_argument("--output", type=Path, default=Path("fork_guidance"))
    chosen = parser.parse_args(arguments)
    policy = learned(chosen.network, chosen.process, chosen.updates, chosen.output)
    print("| scale | side asked for | off-manifold, mm | any: entropy | any: off-manifold, mm |")
    print("|---|---|---|---|---|")
    for scale in chosen.scales:
        print(line(policy, scale), flush=True)


def learned(network: str, process: str, updates: int, folder: Path) -> Policy:
    """The trained policy, out of the folder where it is there."""
    kind, prediction = PROCESSES[process]
    parts = {name: {"name": "state", "inputs": inputs} for name, inputs in INPUTS.items()}
    config = {
        "encoder": {"name": "join", "parts": parts},
        "denoiser": {"name": network, **NETWORKS[network]},
        "process": {"name": kind},
        "prediction": {"name": prediction},
        "guidance": {"dropout": 0.1, "parts": ["label"]},
    }
    torch.manual_seed(0)
    policy = Policy(PolicyConfig.from_dict(config), Features.from_dict(LABELLED), WINDOW)
    source = windows(LABELLED)
    policy.fit(source.statistics())
    file = folder / f"{network}_{process}_{updates}.safetensors"
    if file.exists():
        policy.load_state_dict(load_file(file))
    else:
        fit(policy.train(), source, updates)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in policy.state_dict().items()}, file)
    solver = solver_from({"name": "dpmpp_2m", "steps": 10, "spacing": SPACINGS.get(kind)})
    policy.head.use_solver(solver)
    return policy.eval().requires_grad_(False)


def line(policy: Policy, scale: float) -> str:
    sides = np.where(np.arange(ROWS) % 2, 1.0, -1.0)
    asked, starts = first_chunks(policy, sides, scale)
    free, _ = first_chunks(policy, np.zeros(ROWS), scale)
    right = [
        side == MODES[int(wanted > 0)] for side, wanted in zip(modes(asked), sides, strict=True)
    ]
    errors = [np.median(path_errors(chunks, starts)) * MILLIMETRES for chunks in (asked, free)]
    return (
        f"| {scale:g} | {np.mean(right):.1%} | {errors[0]:.1f} | {mode_entropy(modes(free)):.2f} | "
        f"{errors[1]:.1f} |"
    )


def first_chunks(policy: Policy, labels: Floats, scale: float) -> tuple[Floats, Floats]:
    """(chunks from the start on [B, H - 1, 2], starts [B, 2]) with these labels [B]."""
    random = np.random.default_rng(0)
    starts = START + random.uniform(-START_SPREAD, START_SPREAD, (len(labels), 2))
    seen = {"state": starts, "label": labels[:, None]}
    observation = {k: np.repeat(v[:, None], 2, 1).astype(np.float32) for k, v in seen.items()}
    options: dict[str, Any] = {"guidance_scale": scale}
    chunks = policy.predict(observation, torch.Generator().manual_seed(0), **options)
    return chunks.numpy()[:, 1:].astype(np.float64), starts


if __name__ == "__main__":
    main()

"""Which network, process, prediction and solver learn both ways of Fork: success and mode entropy.

    python benchmarks/fork_study.py --output fork_study
    python benchmarks/fork_study.py --networks unet1d --processes flow edm --solvers "ddim 10"

Every policy sees the robot's position alone, from which both sides are equally right; it is trained
on the bundled demonstrations for as many updates as the others, and scored over the same episodes
with each solver. Weights and scores stay in the folder OUTPUT, so that a study can be stopped and
gone on with, or widened. Printed, as Markdown:

success          share of episodes that reach the goal without touching the disc
entropy          of the sides of those that do: 1 for 50/50
off-manifold     rms distance of an episode's first chunk to the nearest demonstration, mm, median
seam jump, jerk  see docs/evaluation.md, mm and mm per step cubed
evaluations      of the network a chunk
ms               of processor time, one chunk of one row
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dipole.data import EpisodeStore, Features, Windows, WindowSpec
from dipole.envs import evaluate
from dipole.envs.fork.geometry import START, START_SPREAD, mode_entropy, path_errors
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import solver_from

NETWORKS: dict[str, dict[str, Any]] = {
    "unet1d": {"down_dims": [16, 32], "kernel_size": 3, "n_groups": 8, "time_embed_dim": 32},
    "dit": {"width": 48, "depth": 2, "heads": 4, "time_embed_dim": 32},
}
PROCESSES: dict[str, tuple[str, str]] = {
    "vp-noise": ("vp", "noise"),
    "vp-sample": ("vp", "sample"),
    "vp-v": ("vp", "v"),
    "flow": ("flow", "velocity"),
    "edm": ("edm", "edm"),
}
REGRESSION = "regression"
SOLVERS = ("ddim 10", "euler 5", "heun 10", "plms 10", "dpmpp_2m 10", "dpmpp_3m 10", "ddpm 20")
SPACINGS = {"vp": "trailing"}  # of others their own
LEADING = ("plms",)  # on vp: from hardly any signal a mean of noises is no use
FEATURES: dict[str, Any] = {
    "observation": {"state": {"shape": [2], "kind": "state", "units": "m"}},
    "action": {"shape": [2], "kind": "action", "units": "m"},
    "fps": 10,
}
WINDOW = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
MILLIMETRES = 1e3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    kinds = [*PROCESSES, REGRESSION]
    parser.add_argument("--processes", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS), help='such as "ddim 10"')
    parser.add_argument("--updates", type=int, default=1500, help="of batches of 64")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("fork_study"))
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    print(HEADING)
    for network in chosen.networks:
        for process in chosen.processes:
            policy = learned(network, process, chosen.updates, chosen.seed, chosen.output)
            for solver in [""] if process == REGRESSION else chosen.solvers:
                name = f"{network} {process} {solver}".strip()
                print(line(name, scored(policy, name, solver, chosen)), flush=True)


def make_policy(network: str, process: str, features: Mapping[str, Any] = FEATURES) -> Policy:
    """A new policy, its normalisers fitted to the bundled demonstrations."""
    denoiser = {"name": network, **NETWORKS.get(network, {})}
    if process == REGRESSION:
        config = PolicyConfig(denoiser=denoiser, head={"name": REGRESSION})
    else:
        kind, prediction = PROCESSES[process]
        config = PolicyConfig(
            denoiser=denoiser, process={"name": kind}, prediction={"name": prediction}
        )
    policy = Policy(config, Features.from_dict(features), WINDOW)
    policy.fit(windows(features).statistics())
    return policy


def windows(features: Mapping[str, Any] = FEATURES) -> Windows:
    """All windows of the bundled demonstrations."""
    return Windows(EpisodeStore.open("bundled:fork"), WINDOW, Features.from_dict(features))


def learned(network: str, process: str, updates: int, seed: int, folder: Path) -> Policy:
    """The trained policy, out of the folder where it is there."""
    torch.manual_seed(seed)
    policy = make_policy(network, process)
    file = folder / f"{network}_{process}_{updates}_{seed}.safetensors"
    if file.exists():
        policy.load_state_dict(load_file(file))
    else:
        fit(policy, windows(), updates, seed)
        save_file({k: v.contiguous() for k, v in policy.state_dict().items()}, file)
    return policy.eval().requires_grad_(False)


def fit(
    policy: Policy,
    source: Windows,
    updates: int,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
) -> None:
    """AdamW with a cosine to 0, and the moving average of the weights in the end."""
    given = source.gather(np.arange(len(source)))
    observation = {name: torch.as_tensor(v) for name, v in given["observation"].items()}
    action, is_pad = torch.as_tensor(given["action"]), torch.as_tensor(given["action_is_pad"])
    parameters: list[Tensor] = [each for each in policy.parameters() if each.requires_grad]
    average = [each.detach().clone() for each in parameters]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=1e-6)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for update in range(updates):
        rise, fall = min(1.0, (update + 1) / 50), (1 + math.cos(math.pi * update / updates)) / 2
        optimizer.param_groups[0]["lr"] = learning_rate * rise * fall
        rows = torch.randint(len(action), (batch_size,), generator=generator)
        seen = {name: value[rows] for name, value in observation.items()}
        loss: Any = policy.loss(
            {"observation": seen, "action": action[rows], "action_is_pad": is_pad[rows]}
        )
        optimizer.zero_grad()
        getattr(loss, "total", loss).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, max(0.005, (1 + update) ** -0.75))
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)


def scored(policy: Policy, name: str, solver: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """The scores, out of the folder where they are there."""
    file = chosen.output / "scores.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    key = f"{name}, {chosen.updates} updates, {chosen.episodes} episodes, seed {chosen.seed}"
    if key not in found:
        scores = score(policy, solver, chosen.episodes)
        found = json.loads(file.read_text()) if file.exists() else {}
        found[key] = scores
        file.write_text(json.dumps(found, indent=1) + "\n")
    result: dict[str, Any] = found[key]
    return result


def score(policy: Policy, solver: str, episodes: int) -> dict[str, Any]:
    """What the module says is printed."""
    evaluations = 1
    if solver:
        kind, steps = solver.split()
        spacing = SPACINGS.get(str((policy.config.process or {}).get("name")))
        spacing = "leading" if spacing and kind in LEADING else spacing
        policy.solver = solver_from({"name": kind, "steps": int(steps), "spacing": spacing})
        evaluations = policy.evaluations_per_chunk
    metrics = evaluate(
        policy, "fork", episodes=episodes, n_envs=episodes, inference_batch_size=128
    ).metrics
    modes = [each.get("mode") for each in metrics["per_episode"] if each["success"]]
    errors, milliseconds = first_chunks(policy)
    return {
        "success": metrics["success_rate"],
        "entropy": mode_entropy([mode for mode in modes if mode]),
        "off_manifold": float(np.median(errors)) * MILLIMETRES,
        "seam_jump": (metrics["seam_jump"] or 0.0) * MILLIMETRES,
        "jerk": (metrics["jerk"] or 0.0) / 10**3 * MILLIMETRES,  # at 10 Hz
        "evaluations": evaluations,
        "ms": milliseconds,
    }


def first_chunks(policy: Policy, rows: int = 500) -> tuple[Any, float]:
    """(distance of each to the demonstrations, metres [rows]; ms of a chunk of one row)."""
    random = np.random.default_rng(0)
    starts = START + random.uniform(-START_SPREAD, START_SPREAD, (rows, 2))
    seen = np.repeat(starts[:, None], 2, 1).astype(np.float32)
    chunks = policy.predict({"state": seen}, torch.Generator().manual_seed(0)).numpy()
    began = time.process_time()
    for row in range(5):
        policy.predict({"state": seen[row : row + 1]}, torch.Generator().manual_seed(0))
    milliseconds = (time.process_time() - began) / 5 * 1e3
    return path_errors(chunks[:, 1:].astype(np.float64), starts), milliseconds


COLUMNS = ("success", "entropy", "off_manifold", "seam_jump", "jerk", "evaluations", "ms")
HEADING = (
    "| network, process, solver | success | entropy | off-manifold, mm | seam jump, mm | "
    "jerk, mm | evaluations | ms |\n|---" + "|---" * len(COLUMNS) + "|"
)


def line(name: str, scores: Mapping[str, float]) -> str:
    shown = [f"{scores['success']:.1%}", f"{scores['entropy']:.2f}"]
    shown += [f"{scores[column]:.1f}" for column in ("off_manifold", "seam_jump", "jerk")]
    shown += [str(scores["evaluations"]), f"{scores['ms']:.1f}"]
    return f"| {name} | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()

"""Training steps and chunks on a GPU, beside the plain way on the same GPU.

    python benchmarks/gpu.py --output gpu.json
    python benchmarks/gpu.py --networks unet_small --seconds 0.2 --device cpu     # to try it out
    python benchmarks/gpu.py --networks unet_image --output gpu_pictures.json

The plain way is the network alone, eager, fp32 without TF32; it has what makes torch fast on a
GPU, a fused AdamW and one operation for the average. "compiled" is what train.compile=true makes of
it. What has not compiled within the limit is left out.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.benchmarks import gpu_images
from dipole.benchmarks.figures import images
from dipole.benchmarks.figures.chunks import inputs
from dipole.benchmarks.figures.images import IMAGE_NETWORKS
from dipole.benchmarks.figures.networks import (
    BATCH_SIZES,
    NETWORKS,
    STEPS,
    denoiser_of,
    our_policy,
    plain_network,
    training_flops,
)
from dipole.benchmarks.figures.plain import plain_chunk, plain_scheduler
from dipole.benchmarks.gpu_timing import (
    Contestant,
    deadline,
    limits,
    machine,
    measured,
    of_precision,
    table,
    wait,
)
from dipole.policy import Policy
from dipole.policy.denoisers import ConditionalUnet1D
from dipole.policy.denoisers.cpu_unet.compiled import compile_unets
from dipole.policy.runtimes.export import captured_policy
from dipole.policy.training import EMA, TrainConfig
from dipole.policy.training.optimization.optimizer import make_optimizer

STEP_WAYS = (
    ("plain", "fp32"),
    ("plain", "tf32"),
    ("plain", "bf16"),
    ("dipole", "fp32"),
    ("dipole", "tf32"),
    ("dipole", "bf16"),
    ("dipole, compiled", "fp32"),
    ("dipole, compiled", "tf32"),
    ("dipole, compiled", "bf16"),
)
# An update; a prediction before any, of networks whose error is measured.
CHOICES = [*NETWORKS, *IMAGE_NETWORKS]
Step = tuple[Callable[[], None], Callable[[], Tensor] | None]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=CHOICES)
    parser.add_argument("--seconds", type=float, default=0.4, help="of a contestant's turn")
    parser.add_argument("--compile-limit", type=int, default=40, help="seconds; 0: no compiling")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    chosen = parser.parse_args(arguments)
    device, started = torch.device(chosen.device), time.perf_counter()
    report: dict[str, Any] = {"machine": machine(device), "limits": limits(device), "rows": []}
    print(json.dumps(report["machine"] | report["limits"]), flush=True)
    for network in chosen.networks:
        for contestants, exact in (
            (training_steps(network, device, chosen.compile_limit), exact_of(network)),
            (chunks(network, 1, device), None),
            (chunks(network, 16, device), None),
        ):
            rows = measured(list(contestants), exact, device, chosen.seconds)
            report["rows"] += [{"network": network, **row} for row in rows]
            report["seconds"] = time.perf_counter() - started
            chosen.output.write_text(json.dumps(report, indent=1) + "\n")
            print(table(network, rows), f"\nafter {report['seconds']:.0f} s\n", flush=True)


def training_steps(network: str, device: torch.device, limit: int) -> Iterator[Contestant]:
    """A step: loss, backward pass, AdamW, and the moving average."""
    sees = network in IMAGE_NETWORKS
    batch = gpu_images.BATCH if sees else BATCH_SIZES[network]
    flops = (images.training_flops if sees else training_flops)(network, batch)
    for way, precision in STEP_WAYS:
        compiles = "compiled" in way
        if compiles and not limit:
            continue
        make = plain_step if way.startswith("plain") else our_step
        update, predict = make(network, batch, device, compiles)
        started = time.perf_counter()
        try:
            with deadline(limit if compiles else 0), of_precision(precision, device):
                update()
                wait(device)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            print(f"{network}, {way}, {precision}: {said[:500]}", flush=True)
            continue
        found = {
            "batch": batch,
            "flops": flops,
            "first_call_seconds": time.perf_counter() - started,
        }
        yield Contestant("training step", way, precision, update, predict, found)


@cache
def plain_on(device: torch.device, network: str) -> ConditionalUnet1D:
    """Made once: millions of random numbers are slow."""
    return plain_network(network).to(device)


@cache
def ours_on(device: torch.device, network: str) -> Policy:
    return our_policy(network).to(device)


def plain_step(network: str, batch: int, device: torch.device, compiles: bool = False) -> Step:
    """As a person would write it for a GPU."""
    actions = torch.randn(batch, 16, 2, device=device)
    if network in IMAGE_NETWORKS:
        eyes = copy.deepcopy(gpu_images.plain_on(device, network))
        seeing = torch.compile(eyes) if compiles else eyes
        observation = gpu_images.window_of(batch, device)
        return _plain_update(eyes, gpu_images.plain_prediction(seeing, observation), actions), None
    untrained = plain_on(device, network)
    model = copy.deepcopy(untrained)
    denoise: Callable[..., Tensor] = torch.compile(model) if compiles else model
    vector = torch.randn(batch, 40, device=device)
    update = _plain_update(model, lambda noisy, times: denoise(noisy, times, vector), actions)
    fixed = example(batch, device)
    return update, lambda: untrained(*fixed)


def _plain_update(
    model: nn.Module, predict: Callable[[Tensor, Tensor], Tensor], actions: Tensor
) -> Callable[[], None]:
    """Of a model whose prediction of the noise is `predict(noisy, times)`; actions: [B, H, A]."""
    batch, device = len(actions), actions.device
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, fused=True
    )
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 100), 0).to(device)

    def update() -> None:
        noise, times = torch.randn_like(actions), torch.randint(100, (batch,), device=device)
        alpha = kept[times].view(-1, 1, 1)
        noisy = alpha.sqrt() * actions + (1 - alpha).sqrt() * noise
        F.mse_loss(predict(noisy, times), noise).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.01)

    return update


def our_step(network: str, batch: int, device: torch.device, compiles: bool = False) -> Step:
    """What the trainer does in a step."""
    sees = network in IMAGE_NETWORKS
    untrained = gpu_images.ours_on(device, network, STEPS) if sees else ours_on(device, network)
    policy, config = copy.deepcopy(untrained), TrainConfig()
    if compiles:
        compile_unets(policy)
    optimizer, average = make_optimizer(policy, config), EMA(policy, config.ema)
    shapes = {"keypoint": (2, 9, 2), "agent_pos": (2, 2)}
    data: dict[str, Any] = {
        "observation": gpu_images.window_of(batch, device)
        if sees
        else {n: torch.randn(batch, *shape, device=device) for n, shape in shapes.items()},
        "action": torch.randn(batch, 16, 2, device=device),
    }

    def update() -> None:
        policy.loss(data).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        average.update(policy)

    if sees:
        return update, None
    fixed = example(batch, device)

    def predict() -> Tensor:
        output: Tensor = denoiser_of(untrained)(*fixed)
        return output

    return update, predict


def example(batch: int, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    """Chunk, times and context vector, the same for everybody."""
    generator = torch.Generator().manual_seed(2)
    chunk = torch.randn(batch, 16, 2, generator=generator)
    vector = torch.randn(batch, 40, generator=generator)
    times = torch.randint(100, (batch,), generator=generator)
    return chunk.to(device), times.to(device), vector.to(device)


@torch.no_grad()
def exact_of(network: str) -> Tensor | None:
    """In float64 on the processor, of the weights that everybody begins with; None for networks
    that see, whose training cuts pictures at random."""
    if network in IMAGE_NETWORKS:
        return None
    chunk, times, vector = (each.double() for each in example(BATCH_SIZES[network], "cpu"))
    prediction: Tensor = plain_network(network).double()(chunk, times, vector)
    return prediction


def chunks(network: str, batch: int, device: torch.device) -> Iterator[Contestant]:
    """Observation and noise on the host in, ten DDIM steps, actions on the host out."""
    figure, found = f"chunk, batch {batch}", {"batch": batch, "solver_steps": STEPS}
    sees, scheduler = network in IMAGE_NETWORKS, plain_scheduler(STEPS)
    if sees:
        untrained = gpu_images.ours_on(device, network, STEPS)
        observation, noise = gpu_images.window_of(batch, "cpu"), torch.randn(batch, 16, 2)
        plain = gpu_images.plain_chunks(network, device, scheduler, observation, noise)
    else:
        untrained, (observation, noise) = ours_on(device, network), inputs(batch, 16)
        plain = plain_chunks(network, device, scheduler, observation, noise)
    policy = copy.deepcopy(untrained).eval().requires_grad_(False)

    def eager() -> Tensor:
        return policy.predict(observation, noise=noise).cpu()

    for precision in ("fp32", "tf32", "bf16"):
        yield Contestant(figure, "plain", precision, plain, found=found)
        yield Contestant(figure, "dipole", precision, eager, found=found)
    for precision in ("fp32", "tf32") if device.type == "cuda" else ():
        try:
            with of_precision(precision, device):
                graph = captured_policy(policy, batch)
        except Exception as error:
            print(f"{network}, cuda_graph, {precision}: {error}", flush=True)
            continue
        parity = graph.schema["parity"]["largest_difference"]

        def replayed(graph: Any = graph) -> Any:
            return graph.predict(observation, noise=noise)

        way = "dipole, cuda_graph"
        yield Contestant(figure, way, precision, replayed, found={**found, "parity": parity})


def plain_chunks(
    network: str, device: torch.device, scheduler: Any, observation: Any, noise: Tensor
) -> Callable[[], Tensor]:
    """What is on the host in, actions on the host out."""
    model = copy.deepcopy(plain_on(device, network)).eval().requires_grad_(False)
    vector = torch.cat([observation["keypoint"].flatten(2), observation["agent_pos"]], 2).flatten(1)
    return lambda: plain_chunk(model, scheduler, vector.to(device), noise.to(device)).cpu()


if __name__ == "__main__":
    main()

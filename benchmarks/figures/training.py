"""A training step: the plain way, as a person would write it, and ours."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.benchmarks.figures.networks import our_policy, plain_network
from dipole.benchmarks.figures.turns import Work
from dipole.policy.core.threads import Threads, fastest_threads
from dipole.policy.denoisers.cpu_unet.compiled import compile_unets
from dipole.policy.policy import Batch, Policy
from dipole.policy.training import EMA, TrainConfig
from dipole.policy.training.hardware.memory import keep_freed_memory
from dipole.policy.training.hardware.threaded_batch import thread_choices, threaded_batch
from dipole.policy.training.optimization.optimizer import make_optimizer


def plain_step(network: str, batch: int, threads: int, bf16: bool = False, steps: int = 1) -> Any:
    """Conv1d, eager, AdamW and the average as torch's own loops have them; one thread or all."""
    vector, actions = torch.randn(batch, 40), torch.randn(batch, 16, 2)
    model = plain_network(network)
    return plain_training(
        model, lambda noisy, time: model(noisy, time, vector), actions, threads, bf16, steps
    )


def plain_training(
    model: nn.Module,
    predict: Callable[[Tensor, Tensor], Tensor],
    actions: Tensor,
    threads: int,
    bf16: bool,
    steps: int,
) -> Any:
    """Training steps of a model whose prediction of the noise is `predict(noisy, time)`."""
    batch = len(actions)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6
    )
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 100), 0)

    def step() -> None:
        noise, time = torch.randn_like(actions), torch.randint(100, (batch,))
        alpha = kept[time].view(-1, 1, 1)
        noisy = alpha.sqrt() * actions + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(predict(noisy, time), noise)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(theirs, 0.01)

    def work(chosen: Threads, repeats: int = 1) -> None:
        for _ in range(repeats):
            step()

    return _with_fastest([Threads(1), Threads(threads)], work, steps)


def our_step(
    network: str,
    batch: int,
    threads: int,
    bf16: bool = False,
    steps: int = 1,
    compiled: bool = False,
) -> Any:
    """What the trainer does in a step."""
    policy = our_policy(network)
    if compiled:
        compile_unets(policy)
    observation = {"keypoint": torch.randn(batch, 2, 9, 2), "agent_pos": torch.randn(batch, 2, 2)}
    data = {"observation": observation, "action": torch.randn(batch, 16, 2)}
    return our_training(policy, data, threads, bf16, steps)


def our_training(policy: Policy, data: Batch, threads: int, bf16: bool, steps: int) -> Any:
    """Training steps of a policy on a batch."""
    keep_freed_memory()
    config = TrainConfig(amp=bf16)
    optimizer, average = make_optimizer(policy, config), EMA(policy, config.ema)

    def work(chosen: Threads, repeats: int = 1) -> None:
        with threaded_batch(policy, chosen.batch):
            for _ in range(repeats):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = policy.loss(data)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                average.update(policy)

    torch.set_num_threads(threads)
    return _with_fastest(thread_choices(policy, threads), work, steps)


def _with_fastest(choices: list[Threads], work: Any, steps: int) -> tuple[Work, dict[str, Any]]:
    """Threads are chosen by trying; then a turn is so many steps."""
    chosen, found = fastest_threads(list(dict.fromkeys(choices)), work)
    return lambda: work(chosen, steps), {"threads": found}

"""What computes an evaluation on a cluster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import torch

from dipole.data.core.processors import processors
from dipole.envs.evaluation.resources import (
    Asked,
    Computing,
    default_slots,
    inference_pool,
)
from dipole.envs.rollout.cluster.policies import RayPolicy
from dipole.envs.rollout.cluster.session import connected
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.envs.rollout.cluster.slots import RaySlots
from dipole.envs.rollout.first_look import FirstLook
from dipole.envs.rollout.resolved import ResolvedEnvironment
from dipole.policy.runtimes.torchscript import without_interpreter


@contextmanager
def computing_on(
    settings: ClusterSettings,
    policy: Any,
    resolved: ResolvedEnvironment,
    look: FirstLook,
    asked: Asked,
) -> Iterator[Computing]:
    """Simulators in actors of the cluster; the policy here, or in others."""
    wanted = (settings.actors or 0) + (settings.policies or 0)
    with connected(settings, max(wanted, processors())) as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        policies = _policies(settings, policy, gpus)
        free = int(resources.get("CPU", 1)) - (0 if gpus else policies)
        actors = settings.actors or min(asked.episodes, max(1, free))
        own = resolved.has_own_process
        usual = max(default_slots(look, asked.rows, max(1, policies), actors, own), 2 * actors)
        n_slots = min(asked.episodes, asked.n_envs or usual)
        slots = RaySlots(
            ray,
            actors,
            n_slots,
            settings.patience,
            resolved.make,
            policy.window.n_obs_steps,
            resolved.interface,
            asked.keys,
        )
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        told = {"name": settings.name, "nodes": nodes, "actors": actors, "policies": policies}
        with closing(slots), _inferring(ray, policy, policies, gpus > 0, asked) as (used, pool):
            yield Computing(used, pool, slots, n_slots, told)


def _policies(settings: ClusterSettings, policy: Any, gpus: int) -> int:
    """Actors that infer: by default the GPUs, where there are more than this process has itself."""
    if settings.policies is not None:
        return settings.policies
    if not isinstance(policy, torch.nn.Module):
        return 0
    mine = int(torch.device(getattr(policy, "device", "cpu")).type == "cuda")
    return gpus if gpus > mine else 0


@contextmanager
def _inferring(
    ray: Any, policy: Any, count: int, gpus: bool, asked: Asked
) -> Iterator[tuple[Any, ThreadPoolExecutor | None]]:
    """The policy for the executor, and the threads that call it."""
    if not count:
        with inference_pool(asked.threads, workers=1) as pool:
            yield without_interpreter(policy), pool
        return
    with (
        closing(RayPolicy(ray, policy, count, gpus)) as remote,
        ThreadPoolExecutor(count, "infer") as pool,
    ):
        yield remote, pool

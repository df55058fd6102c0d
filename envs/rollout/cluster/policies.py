"""A policy in actors of a Ray cluster: batches go there, chunks come back."""

import queue
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.envs.errors import RolloutError
from dipole.envs.rollout.cluster.actors import MOST_DEATHS
from dipole.envs.rollout.worker_process import WORKER_VARIABLES


class PolicyProcess:
    """What an actor does: infers, on its GPU where it has one."""

    def __init__(self, policy: Any) -> None:
        from dipole.policy.runtimes.torchscript import without_interpreter

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if isinstance(policy, torch.nn.Module):
            policy = policy.to(device)
        self._policy = without_interpreter(policy)

    def predict(
        self, observation: dict[str, np.ndarray], states: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]] | DipoleError:
        """{name: [B, To, *shape]}, B states of generators -> [B, H, A], the states afterwards."""
        generators = [torch.Generator() for _ in states]
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(torch.from_numpy(np.array(state)))
        batch = {name: torch.from_numpy(np.array(value)) for name, value in observation.items()}
        try:
            with torch.inference_mode():
                chunks = self._policy.predict(batch, generator=generators)
        except DipoleError as error:
            return type(error)(str(error))
        return chunks.float().cpu().numpy(), [each.get_state().numpy() for each in generators]


class RayPolicy:
    """A policy whose batches are inferred by `count` actors; safe to call from as many threads.

    ray: The module, connected. policy: One that can be sent: not an export. gpus: Whether each
    actor gets one. An actor that dies is replaced, and what it had is asked for again.
    Raises ConfigError for a policy that cannot be sent.
    """

    def __init__(self, ray: Any, policy: Any, count: int, gpus: bool) -> None:
        self.window, self.count, self.deaths = policy.window, count, 0
        self._ray = ray
        self._remote = ray.remote(PolicyProcess)
        resources = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        self._options = {
            **resources,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": WORKER_VARIABLES},
        }
        try:
            self._stored = ray.put(_on_processor(policy))
        except (TypeError, AttributeError) as error:  # of pickle
            raise ConfigError(
                f"cluster.policies={count}: this policy cannot be sent to other processes "
                f"({error}); an export infers in this process (cluster.policies=0)"
            ) from error
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._all: list[Any] = []
        for _ in range(count):
            self._free.put(self._start())

    def predict(
        self, observation: dict[str, torch.Tensor], generator: Sequence[torch.Generator]
    ) -> torch.Tensor:
        """{name: [B, To, *shape]}, B generators -> [B, H, A], as the policy itself."""
        batch = {name: value.cpu().numpy() for name, value in observation.items()}
        states = [each.get_state().numpy() for each in generator]
        answer = self._asked(batch, states)
        if isinstance(answer, DipoleError):
            raise answer
        chunks, after = answer
        for each, state in zip(generator, after, strict=True):
            each.set_state(torch.from_numpy(np.array(state)))
        return torch.from_numpy(np.array(chunks))

    def close(self) -> None:
        """End all of them."""
        for actor in self._all:
            self._ray.kill(actor)
        self._all.clear()

    def _start(self) -> Any:
        actor = self._remote.options(**self._options).remote(self._stored)
        self._all.append(actor)
        return actor

    def _asked(self, batch: dict[str, np.ndarray], states: list[np.ndarray]) -> Any:
        actor = self._free.get()
        try:
            for death in range(MOST_DEATHS):
                try:
                    return self._ray.get(actor.predict.remote(batch, states))
                except self._ray.exceptions.RayActorError as error:
                    self.deaths += 1
                    if death + 1 == MOST_DEATHS:
                        raise RolloutError(
                            f"{MOST_DEATHS} policy actors ended, one after another, with the same "
                            f"batch: {str(error).strip()}"
                        ) from error
                    actor = self._start()
        finally:
            self._free.put(actor)


def _on_processor(policy: Any) -> Any:
    """A copy there, where it is on a GPU: not every machine of a cluster has one."""
    if not isinstance(policy, torch.nn.Module) or policy.device == torch.device("cpu"):
        return policy
    import copy

    return copy.deepcopy(policy).to("cpu")

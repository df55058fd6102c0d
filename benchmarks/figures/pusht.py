"""Push-T: a simulator's step, and whole evaluations."""

from typing import Any

import numpy as np
import torch

from dipole.benchmarks.figures.networks import STEPS, our_policy, plain_network
from dipole.benchmarks.figures.plain import plain_chunk, plain_scheduler
from dipole.benchmarks.figures.turns import Work
from dipole.policy.core.threads import Threads, fastest_threads

FROM_PYTHON = "from Python"  # eager, each operation called from Python
EXECUTED = slice(1, 9)  # of a chunk of 16, with two observations


def gym_steps(kind: str, steps: int) -> tuple[Work, dict[str, Any]]:
    """gym-pusht as it comes, with targets all over the table."""
    from gym_pusht.envs.pusht import PushTEnv

    return _replay(PushTEnv(obs_type=kind), steps)


def our_steps(observation: tuple[str, ...], steps: int) -> tuple[Work, dict[str, Any]]:
    from dipole.envs.pusht.environment import PushT

    return _replay(PushT(observation=observation), steps)


def _replay(env: Any, steps: int) -> tuple[Work, dict[str, Any]]:
    targets = np.random.default_rng(0).uniform(50, 460, (steps, 2))

    def work() -> None:
        env.reset(seed=0)
        for target in targets:
            env.step(target)

    return work, {}


def plain_evaluation(
    network: str, episodes: int, max_steps: int, threads: int
) -> tuple[Work, dict[str, Any]]:
    """gym-pusht, one environment at a time, and the published network and loop; one thread or
    all, whichever is faster."""
    from gym_pusht.envs.pusht import PushTEnv

    from dipole.envs.pusht.geometry import pusht_keypoints

    model = plain_network(network).eval().requires_grad_(False)
    scheduler, env = plain_scheduler(STEPS), PushTEnv(obs_type="state")

    def look(state: np.ndarray) -> np.ndarray:
        keypoints = pusht_keypoints(state[None])[0].reshape(-1)
        return np.concatenate([keypoints, state[:2]]).astype(np.float32) / 256 - 1

    choices = list(dict.fromkeys([Threads(1), Threads(threads)]))
    vector, noise = torch.zeros(1, 40), torch.zeros(1, 16, 2)
    _, found = fastest_threads(choices, lambda _: plain_chunk(model, scheduler, vector, noise))

    def work() -> None:
        for seed in range(episodes):
            state, _ = env.reset(seed=seed)
            seen, steps, done = [look(state)] * 2, 0, False
            generator = torch.Generator().manual_seed(seed)
            while not done and steps < max_steps:
                vector = torch.from_numpy(np.concatenate(seen[-2:]))[None]
                noise = torch.randn(1, 16, 2, generator=generator)
                chunk = plain_chunk(model, scheduler, vector, noise)[0]
                for action in (256 * (chunk.numpy() + 1))[EXECUTED]:
                    state, _, done, _, _ = env.step(action)
                    seen.append(look(state))
                    steps += 1
                    if done or steps >= max_steps:
                        break

    return work, {"threads": found}


def our_evaluation(
    network: str, episodes: int, max_steps: int, threads: int, runtime: str
) -> tuple[Work, dict[str, Any]]:
    """`dipole evaluate` without a video, in a runtime, in eager operations from Python, or in the
    same ones without it, as `dipole evaluate` runs a policy."""
    from dipole.benchmarks.figures.chunks import _exported
    from dipole.data import Statistics
    from dipole.envs import evaluate

    policy: Any = our_policy(network).eval().requires_grad_(False)
    table = Statistics.of(np.array([[0.0, 0.0], [512.0, 512.0]]))
    policy.fit({"agent_pos": table, "action": table, "keypoint": _keypoint_range()})
    torch.set_num_threads(threads)
    if runtime == FROM_PYTHON:
        policy = OperationByOperation(policy)
    elif runtime != "eager":
        policy = _exported(policy, runtime)
    options = {"max_steps": max_steps}

    def work() -> None:
        evaluate(policy, "pusht", episodes=episodes, threads=threads, environment_options=options)

    return work, {"threads": str(threads)}


class OperationByOperation(torch.nn.Module):
    """A policy that Python runs, as `policy.predict` does, however it is evaluated."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy
        self.features, self.window, self.device = policy.features, policy.window, policy.device

    def predict(self, observation: Any, generator: Any = None) -> torch.Tensor:
        chunk: torch.Tensor = self.policy.predict(observation, generator)
        return chunk


def _keypoint_range() -> Any:
    from dipole.data import Statistics

    return Statistics.of(np.stack([np.zeros((9, 2)), np.full((9, 2), 512.0)]))

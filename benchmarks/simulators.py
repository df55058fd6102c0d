"""MetaWorld with pictures: rendering, worker processes, and an evaluation that looks at every step.

    python benchmarks/simulators.py --json simulators.json      # on a quiet machine of two cores
    python benchmarks/simulators.py --short                     # minutes, to see that it works

rendering: milliseconds a picture of 96 x 96, gymnasium's renderer of the simulator beside ours.
workers: environment steps a second of `dipole.envs.evaluate` with N processes beside one, by a
    policy that takes no time. Runs of two lengths are timed: what starting and resets take cancels,
    on a quiet machine; on a busy one, and with --short, the difference is noise.
evaluation: milliseconds a step of the same image policy (random weights, ten solver steps), in
    gymnasium's vector environments of the simulator's own class, as LeRobot evaluates, and by
    `dipole.envs.evaluate`; the number of simulators, pictures of 96 x 96, rows of a call and
    executed actions are the same.

    vector environment                                      beside
    one process (SyncVectorEnv)                             one process
    a process each (AsyncVectorEnv)                         N worker processes
    one process, the first ten episodes filmed as well      one process, these episodes filmed

    A vector environment draws every observation, whoever looks at it, and a film's frames once
    more; LeRobot's draws 480 x 480. What it costs beside that is left out, where it would count
    against it: the queue of actions is ours, so that pictures are converted once a chunk and not
    once a step, and episodes are of one length, so that no simulator waits for the last one (the
    policy does not succeed). Its simulators are made once and not counted; ours are made in each
    run, and runs of two lengths are subtracted. A film's mp4 is encoded in ours and not in theirs.

Ways alternate within a round, and ratios are taken within it.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dipole.envs.media.headless import prepare_rendering

prepare_rendering()

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # noqa: E402

from dipole.data import Feature, Features, WindowSpec  # noqa: E402
from dipole.envs import evaluate  # noqa: E402
from dipole.envs.media.mujoco_renderer import OffscreenRenderer  # noqa: E402
from dipole.policy import Policy, PolicyConfig  # noqa: E402
from dipole.policy.diffusion.solvers import DDIM  # noqa: E402

TASK, CAMERA, SIZE = "pick-place", "corner2", 96
FILMED = 10  # episodes that LeRobot films by default
LONGER = 4  # times as many steps are timed of ours: runs that start processes are subtracted
WINDOW = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
FEATURES = Features(
    {
        CAMERA: Feature((SIZE, SIZE, 3), kind="image"),
        "state": Feature((4,), columns=(0, 1, 2, 3)),
    },
    Feature((4,), kind="action"),
)
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement [5]")
    parser.add_argument("--episodes", type=int, default=16, help="at once, of an evaluation [16]")
    parser.add_argument("--steps", type=int, default=96, help="of an episode, or more [96]")
    parser.add_argument("--workers", type=int, default=2, help="processes beside one [2]")
    parser.add_argument("--short", action="store_true", help="one round of little")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(arguments)
    if chosen.short:
        chosen.rounds, chosen.episodes, chosen.steps = 1, 2, 8
    figures = {name: MEASUREMENTS[name](chosen) for name in chosen.only}
    if chosen.json:
        chosen.json.write_text(json.dumps(figures | {"machine": machine()}, indent=2) + "\n")


def rendering(chosen: argparse.Namespace) -> Figures:
    """Milliseconds a picture of both renderers."""
    stock, frames = stock_simulator(), 2 * chosen.steps
    viewer = stock.mujoco_renderer._get_viewer("rgb_array")
    ours = OffscreenRenderer(stock.model, SIZE, SIZE)

    def by_stock() -> None:
        viewer.make_context_current()  # it does so only when it is made, and draws black after us
        for _ in range(frames):
            stock.render()

    def by_ours() -> None:
        for _ in range(frames):
            ours.render(stock.data, CAMERA)

    seconds = alternate(chosen.rounds, partial(timed, by_stock), partial(timed, by_ours))
    ours.close()
    stock.close()
    return compared("rendering, ms a picture", 1000 * seconds / frames, "stock", "dipole")


def workers(chosen: argparse.Namespace) -> Figures:
    """Steps a second in one process and with workers."""
    ways = [
        partial(_marginal, RandomPolicy(), chosen.episodes, LONGER * chosen.steps, number)
        for number in (0, chosen.workers)
    ]
    seconds = alternate(chosen.rounds, *ways)
    names = ("one process", f"{chosen.workers} workers")
    steps = LONGER * chosen.episodes * chosen.steps
    return compared("ms a step with pictures", 1000 * seconds / steps, *names)


def evaluation(chosen: argparse.Namespace) -> Figures:
    """Milliseconds a step of the same policy, every step drawn and only what is looked at."""
    policy, episodes, steps = image_policy(), chosen.episodes, chosen.steps
    number, filmed = chosen.workers, min(FILMED, chosen.episodes)
    make: Any = [partial(Rendered, seed) for seed in range(episodes)]
    with (
        closing(gymnasium.vector.SyncVectorEnv(make)) as here,
        closing(gymnasium.vector.AsyncVectorEnv(make, context="spawn")) as there,
    ):
        seconds = alternate(
            chosen.rounds,
            lambda: vector_evaluation(here, policy, steps),
            lambda: _marginal(policy, episodes, LONGER * steps) / LONGER,
            lambda: vector_evaluation(there, policy, steps),
            lambda: _marginal(policy, episodes, LONGER * steps, number) / LONGER,
            lambda: vector_evaluation(here, policy, steps, filmed),
            lambda: _marginal(policy, episodes, LONGER * steps, film=filmed) / LONGER,
        )
    each = 1000 * seconds / (episodes * steps)
    pairs = (
        ("every step drawn", "dipole"),
        ("every step drawn, a process each", f"dipole, {number} workers"),
        (f"every step drawn, {filmed} filmed", f"dipole, {filmed} filmed"),
    )
    found = [
        compared("evaluation, ms a step", each[:, [2 * pair, 2 * pair + 1]], *names)
        for pair, names in enumerate(pairs)
    ]
    return {name: figures for one in found for name, figures in one.items()}


def vector_evaluation(made: Any, policy: Policy, steps: int, filmed: int = 0) -> float:
    """Seconds of so many steps of all of a vector environment's episodes, after a first chunk.

    filmed: How many of them are drawn once more after each step.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in range(made.num_envs)]
    observation, _ = made.reset()
    seen = deque([observation] * WINDOW.n_obs_steps, WINDOW.n_obs_steps)
    first, started = WINDOW.n_obs_steps - 1, 0.0
    queue: deque[np.ndarray] = deque()
    for step in range(-WINDOW.n_action_steps, steps):
        if step == 0:
            started = time.perf_counter()
        if not queue:
            stacked = {name: np.stack([each[name] for each in seen], 1) for name in observation}
            chunk = policy.predict(stacked, generators).numpy()
            queue.extend(chunk[:, first : first + WINDOW.n_action_steps].swapaxes(0, 1))
        observation, *_ = made.step(queue.popleft())
        seen.append(observation)
        for each in getattr(made, "envs", ())[:filmed]:
            each.render()
    return time.perf_counter() - started


class Rendered(gymnasium.Env[Any, Any]):
    """The simulator's own class, its own picture in every observation."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, seed: int) -> None:
        self.sawyer, self.seed = stock_simulator(), seed
        self.action_space = self.sawyer.action_space
        picture = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        hand = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({CAMERA: picture, "state": hand})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.sawyer.np_random = np.random.default_rng(self.seed)
        state, info = self.sawyer.reset()
        return self._seen(state), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        state, reward, _, _, _ = self.sawyer.step(np.clip(action, -1, 1))
        return self._seen(state), float(reward), False, False, {}

    def render(self) -> Any:
        # It does so only when it is made, and draws black after us; it takes no time.
        self.sawyer.mujoco_renderer._get_viewer("rgb_array").make_context_current()
        return np.ascontiguousarray(self.sawyer.render()[::-1, ::-1])

    def close(self) -> None:
        self.sawyer.close()

    def _seen(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {CAMERA: self.render(), "state": state[:4].astype(np.float32)}


class RandomPolicy:
    """Actions drawn at random: inference that takes no time."""

    features, window, device = FEATURES, WINDOW, torch.device("cpu")
    solver, checkpoint = SimpleNamespace(), None

    def predict(self, observation: Any, generator: Any = None) -> torch.Tensor:
        shape = (WINDOW.horizon, 4)
        return torch.stack([2 * torch.rand(shape, generator=each) - 1 for each in generator])


def image_policy() -> Policy:
    """The encoder and the network of configs/policy/unet_image_small.yaml, random weights."""
    encoder = {
        "name": "image",
        "backbone": {"name": "resnet", "stem": "patches", "widths": [32, 64], "blocks": [1, 2]},
        "pooling": {"name": "spatial_softmax", "n_keypoints": 32},
        "crop": 84,
    }
    denoiser = {"name": "unet1d", "down_dims": [64, 128, 256], "time_embed_dim": 128}
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(encoder=encoder, denoiser=denoiser), FEATURES, WINDOW).eval()
    policy.solver = DDIM(10)
    return policy


def stock_simulator() -> Any:
    """As MetaWorld makes it, with gymnasium's renderer."""
    sawyer = ALL_V3_ENVIRONMENTS[f"{TASK}-v3"](
        render_mode="rgb_array", camera_name=CAMERA, width=SIZE, height=SIZE
    )
    sawyer._freeze_rand_vec, sawyer.seeded_rand_vec, sawyer._set_task_called = False, True, True
    sawyer.reset()
    return sawyer


def alternate(rounds: int, *ways: Callable[[], float]) -> np.ndarray:
    """Seconds [rounds, ways] that they return, one after the other in each round, after one round
    that is not counted; each round is told on the way."""
    seconds = []
    for number in range(rounds + 1):
        seconds.append([way() for way in ways])
        told = ", ".join(f"{each:.3g}" for each in seconds[-1])
        print(f"  round {number} of {rounds}: {told} s", file=sys.stderr, flush=True)
    return np.array(seconds[1:])


def timed(way: Callable[[], None]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def compared(what: str, values: np.ndarray, plain: str, ours: str) -> Figures:
    """Print and return medians of values [rounds, 2], and how many times faster ours is."""
    ratio = values[:, 0] / values[:, 1]
    low, median, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    slow, fast = np.median(values, 0)
    print(f"{what}: {plain} {slow:.3g}, {ours} {fast:.3g}; {median:.2f}x ({low:.2f} .. {high:.2f})")
    figures = {plain: float(slow), ours: float(fast), "ratio": float(median)}
    return {f"{what}: {ours}": figures | {"ratio_p10": float(low), "ratio_p90": float(high)}}


def machine() -> Figures:
    packages = ("metaworld", "mujoco", "gymnasium", "torch", "numpy")
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in packages},
    }


def _marginal(policy: Any, episodes: int, steps: int, processes: int = 0, film: int = 0) -> float:
    """Seconds of so many steps of each episode: of a longer run, less those of a shorter one."""
    fewer = WINDOW.n_action_steps
    long, short = (_seconds(policy, episodes, n, processes, film) for n in (fewer + steps, fewer))
    return long - short


def _seconds(policy: Any, episodes: int, steps: int, processes: int, film: int) -> float:
    result = evaluate(
        policy,
        {"name": f"metaworld/{TASK}", "options": {"max_steps": steps, "end_at_success": False}},
        episodes=episodes,
        n_envs=episodes,
        workers=processes,
        inference_batch_size=16,
        video_episodes=film,
        picture=False,
    )
    assert not film or result.video is not None
    return float(result.metrics["seconds"])


MEASUREMENTS = {"rendering": rendering, "workers": workers, "evaluation": evaluation}

if __name__ == "__main__":
    main()

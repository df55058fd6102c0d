"""Push-T, ours beside gym-pusht: how many steps a second, and whether they are the same steps.

    python benchmarks/pusht_step.py                    # steps/s, alternating in one run
    python benchmarks/pusht_step.py --episodes 1000    # equality: states, rewards, pixels

Both simulators get the same seeds and the same actions, and so do the same physics. The ratio is
taken within each round, so that a machine busy with other things slows both.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gym_pusht.envs.pusht import PushTEnv as GymPushT

from dipole.envs.pusht.environment import PushT

Actions = np.ndarray  # [steps, 2]
Replay = Callable[[int, Actions], None]
# What is timed: gym-pusht's obs_type and our observations.
KINDS = {
    "state": ("state", ("state",)),
    "keypoints": ("environment_state_agent_pos", ("keypoint", "agent_pos")),
    "pixels": ("pixels", ("image",)),
}
LOOKED_AT = "pixels, 2 of 8 looked at"  # what an evaluation with To = 2, Ta = 8 asks for


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, help="compare this many episodes; time nothing")
    parser.add_argument("--steps", type=int, default=100, help="of an episode [100]")
    parser.add_argument("--rounds", type=int, default=15, help="of timing [15]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(arguments)
    figures = (
        compare(chosen.episodes, chosen.steps)
        if chosen.episodes
        else measure(chosen.rounds, chosen.steps)
    )
    if chosen.json:
        chosen.json.write_text(json.dumps(figures | {"machine": machine()}, indent=2) + "\n")


def measure(rounds: int, steps: int) -> dict[str, Any]:
    """Steps a second of both, per kind of observation: median, 10th and 90th percentile."""
    figures: dict[str, Any] = {}
    print(f"steps/s, median (10 % .. 90 %) of {rounds} rounds of {steps} steps")
    print(f"{'':26}{'gym-pusht':>22}{'dipole':>24}{'ratio':>22}")
    pairs = {name: (_gym(kind), _ours(names)) for name, (kind, names) in KINDS.items()}
    pairs[LOOKED_AT] = (_gym("pixels"), _sparing())
    for name, (theirs, ours) in pairs.items():
        seconds = np.array([_round(theirs, ours, number, steps) for number in range(rounds)])
        rates = {
            "gym_pusht": _spread(steps / seconds[:, 0]),
            "dipole": _spread(steps / seconds[:, 1]),
            "ratio": _spread(seconds[:, 0] / seconds[:, 1]),
        }
        figures[name] = rates
        them, us, ratio = rates.values()
        print(f"{name:26}{_text(them, 0):>22}{_text(us, 0):>24}{_text(ratio, 1):>22}")
    return figures


def compare(episodes: int, steps: int) -> dict[str, Any]:
    """Whether every state, reward, end and (every 25 steps) image is gym-pusht's."""
    ours = PushT(observation=("state", "image"), render_size=384, max_steps=steps + 1)
    theirs = GymPushT(obs_type="state", visualization_width=384, visualization_height=384)
    counts = dict.fromkeys(("steps", "in_contact", "on_goal", "images"), 0)
    differ = dict.fromkeys(("starts", "states", "ends", "images"), 0)
    reward_error = 0.0
    for seed in range(episodes):
        ours.reset(seed=seed)
        differ["starts"] += not np.array_equal(theirs.reset(seed=seed)[0], ours.state)
        for step, action in enumerate(_wander(ours, seed, steps)):
            reward, ended, _, _ = ours.advance(action)
            state, their_reward, their_end, _, _ = theirs.step(action)
            reward_error = max(reward_error, abs(reward - float(their_reward)))
            differ["states"] += not np.array_equal(state, ours.state)
            differ["ends"] += ended != bool(their_end)
            counts["steps"] += 1
            counts["in_contact"] += theirs.n_contact_points > 0
            counts["on_goal"] += reward > 0
            if step % 25 == 0:
                counts["images"] += 2
                differ["images"] += not np.array_equal(theirs._render(), ours.observe()["image"])
                differ["images"] += not np.array_equal(theirs.render(), ours.render())
            if ended:
                break
    print(f"{episodes} episodes: {', '.join(f'{n} {name}' for name, n in counts.items())}")
    print(f"that differ: {', '.join(f'{n} {name}' for name, n in differ.items())}")
    print(f"largest difference of a reward: {reward_error:.1e}")
    return {"counts": counts, "differ": differ, "reward_error": reward_error}


def _wander(env: PushT, seed: int, steps: int) -> Any:
    """Targets around the block, so that it is pushed; every third episode, anywhere."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        if seed % 3 == 2:
            yield random.uniform(0, 512, 2)
        else:
            yield np.clip(env.pose[:2] + random.normal(0, 90, 2), 0, 512)


def _actions(seed: int, steps: int) -> Actions:
    env, actions = PushT(observation=("state",)), []
    env.reset(seed=seed)
    for action in _wander(env, seed, steps):
        env.advance(action)
        actions.append(action)
    return np.array(actions)


def _gym(kind: str) -> Replay:
    env = GymPushT(obs_type=kind)

    def replay(seed: int, actions: Actions) -> None:
        env.reset(seed=seed)
        for action in actions:
            env.step(action)

    return replay


def _ours(names: tuple[str, ...]) -> Replay:
    env = PushT(observation=names)

    def replay(seed: int, actions: Actions) -> None:
        env.reset(seed=seed)
        for action in actions:
            env.step(action)

    return replay


def _sparing() -> Replay:
    env = PushT(observation=("image",))

    def replay(seed: int, actions: Actions) -> None:
        env.reset(seed=seed)
        for number, action in enumerate(actions):
            env.advance(action)
            if number % 8 >= 6:
                env.observe()

    return replay


def _round(theirs: Replay, ours: Replay, number: int, steps: int) -> tuple[float, float]:
    """Seconds that each takes for one episode, in alternating order."""
    actions = _actions(number, steps)
    replays = (theirs, ours) if number % 2 else (ours, theirs)
    seconds = {}
    for replay in replays:
        began = time.perf_counter()
        replay(number, actions)
        seconds[replay] = time.perf_counter() - began
    return seconds[theirs], seconds[ours]


def _spread(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"median": float(median), "p10": float(low), "p90": float(high)}


def _text(spread: dict[str, float], digits: int) -> str:
    median, low, high = (f"{spread[name]:,.{digits}f}" for name in ("median", "p10", "p90"))
    return f"{median} ({low} .. {high})"


def machine() -> dict[str, Any]:
    packages = ("gym-pusht", "pymunk", "shapely", "pygame", "numpy")
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()

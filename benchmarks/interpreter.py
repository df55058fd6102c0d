"""What a simulator in another interpreter costs: `python benchmarks/interpreter.py [PYTHON]`.

Steps of gymnasium's Pendulum here and there, and pictures of 480 x 640 from there. PYTHON: by
default this interpreter. The least of several batches, since other processes disturb.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dipole.envs import EnvSpec, make_env

BATCHES, CALLS = 20, 200


def main(python: str) -> None:
    folder = Path(__file__).resolve().parents[1] / "tests" / "envs"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    action = np.zeros(1, np.float32)
    here, there = make_env("gym:Pendulum-v1"), make_env(EnvSpec("gym:Pendulum-v1", python=python))
    pictures: Any = make_env(EnvSpec("gym:troubled:Troubled-v0", python=python), render=True)
    for environment in (here, there, pictures):
        environment.reset(seed=0)
    print(f"a step here            {1e3 * seconds(lambda: here.step(action)):.3f} ms")
    print(f"a step there           {1e3 * seconds(lambda: there.step(action)):.3f} ms")
    print(f"a picture of 480 x 640 {1e3 * seconds(pictures.render):.3f} ms")
    for environment in (here, there, pictures):
        environment.close()


def seconds(call: Callable[[], Any]) -> float:
    """Of a call: the least of several batches."""
    times = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        times.append((time.perf_counter() - began) / CALLS)
    return min(times)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else sys.executable)

"""What the control thread spends on sensors: observe, check and keep, once per action.

    python benchmarks/sensor_tick.py --ticks 600 --json sensor_tick.json

Cameras hand over a fresh picture 30 times a second, joints are read 200 times a second, each in a
thread of its own. A tick looks at the newest readings and adds them to the policy's history of two.
Every eighth tick is followed by a request; what it shows the policy is stacked where the chunk is
computed.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data import WindowSpec
from dipole.deploy import Channel, Polled, newest_reading
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.types import PolicySpec

SETUPS = {"4 cameras, 640×480": (4, (480, 640, 3)), "3 cameras, 1920×1080": (3, (1080, 1920, 3))}
CAMERA_HZ, JOINTS_HZ = 30.0, 200.0


class Driver:
    """A sensor whose read waits for its next value, and hands over a fresh array."""

    def __init__(self, value: np.ndarray, hz: float) -> None:
        self._value, self._period = value, 1.0 / hz
        self._due = time.monotonic()

    def read(self) -> np.ndarray:
        self._due = max(self._due + self._period, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        return self._value.copy()


def measure(cameras: int, shape: tuple[int, ...], ticks: int, hz: float) -> dict[str, Any]:
    """Milliseconds of ticks and requests."""
    names = [f"camera{number}" for number in range(cameras)]
    channels = {name: Channel(shape, "uint8") for name in names} | {"joints": Channel((7,))}
    policy = PolicySpec({n: c.shape for n, c in channels.items()}, 7, WindowSpec(2, 16, 8))
    buffer = ObservationBuffer(policy, channels=channels)
    picture = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    sensors = [Polled(Driver(picture, CAMERA_HZ).read, 2 * CAMERA_HZ, name=name) for name in names]
    joints = Driver(np.zeros(7, np.float32), JOINTS_HZ)
    sensors.append(Polled(joints.read, 2 * JOINTS_HZ, name="joints"))
    time.sleep(0.3)
    tick_ms, cpu_ms, request_ms, stack_ms = [], [], [], []
    started = time.monotonic()
    for number in range(ticks):
        time.sleep(max(0.0, started + number / hz - time.monotonic()))
        before, worked = time.perf_counter(), time.thread_time()
        buffer.update(newest_reading(*sensors), time.monotonic())
        buffer.push()
        tick_ms.append(1e3 * (time.perf_counter() - before))
        cpu_ms.append(1e3 * (time.thread_time() - worked))
        if number % 8 == 7:
            before = time.perf_counter()
            shown = buffer.stacked()
            asked = time.perf_counter()
            dict(shown)
            request_ms.append(1e3 * (asked - before))
            stack_ms.append(1e3 * (time.perf_counter() - asked))
            del shown  # memory is returned where the chunk is computed, too
    for sensor in sensors:
        sensor.close()
    assert not buffer.refused, buffer.refused
    taken = {"tick_ms": tick_ms, "cpu_ms": cpu_ms, "request_ms": request_ms, "stack_ms": stack_ms}
    return {name: quantiles(milliseconds) for name, milliseconds in taken.items()}


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99), "max": max(milliseconds)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ticks", type=int, default=600, help="of each set-up [600]")
    parser.add_argument("--hz", type=float, default=20.0, help="ticks a second [20]")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args(arguments)
    print(f"{platform.processor() or platform.machine()}, {chosen.ticks} ticks each\n")
    print(
        "| sensors | tick p50, ms | p99 | max | its CPU p50, ms | p99 | request p50, ms | p99 "
        "| stack p50, ms | p99 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    found = {}
    for title, (cameras, shape) in SETUPS.items():
        found[title] = r = measure(cameras, shape, chosen.ticks, chosen.hz)
        tick, request, stack = r["tick_ms"], r["request_ms"], r["stack_ms"]
        print(
            f"| {title}, joints | {tick['p50']:.3f} | {tick['p99']:.3f} | {tick['max']:.2f} "
            f"| {r['cpu_ms']['p50']:.3f} | {r['cpu_ms']['p99']:.3f} "
            f"| {request['p50']:.3f} | {request['p99']:.3f} | {stack['p50']:.2f} "
            f"| {stack['p99']:.2f} |",
            flush=True,
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

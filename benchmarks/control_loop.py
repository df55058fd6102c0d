"""The control loop's lateness: inference in its own process, in a thread, on the control thread.

    python benchmarks/control_loop.py --minutes 10 --json control_loop.json
    python benchmarks/control_loop.py --minutes 1 --hz 500 --where process
    python benchmarks/control_loop.py --checkpoint STUDENT --steps 1 --policy-hz 100 --every 2
    python benchmarks/control_loop.py --minutes 0.3                # to see that it works

100 commands a second (--hz) to a robot that only remembers them; chunks come from a network of the
size of unet_small that was never trained (or from --checkpoint), on one thread of the processor. A
slot is late by the time between when it was due and when it began; one missed altogether is
skipped. Its limits bind: the commands that are timed are filtered ones.
"""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dipole.deploy import (
    ActionSpec,
    Channel,
    ControlLoop,
    Limits,
    LoopConfig,
    Reading,
    RealClock,
    Robot,
    RobotSpec,
)
from dipole.deploy.inference.base import NOTHING_KNOWN, WARM_UP, Compute, Inference, compute_chunk
from dipole.deploy.inference.process import FromCheckpoint, ProcessInference
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.types import Arrays, KnownActions, PolicySpec, Request, Result

Factory = Callable[[], tuple[PolicySpec, Compute]]


class OnControlThread:
    """What not to do: computes where the loop asks, while the loop waits."""

    def __init__(self, spec: PolicySpec, compute: Compute, clock: RealClock) -> None:
        self.spec = spec
        self._compute, self._clock = compute, clock
        self._answer: Result | None = None

    @property
    def notes(self) -> list[str]:
        """Nothing to report."""
        return []

    @property
    def warmed_up(self) -> None:
        """Not kept."""

    def warm_up(
        self, observation: Arrays, calls: int, known: KnownActions = NOTHING_KNOWN
    ) -> list[float]:
        started = [self._clock.now()]
        for _ in range(calls):
            compute_chunk(self._compute, Request(WARM_UP, observation, known))
            started.append(self._clock.now())
        return [later - earlier for earlier, later in pairwise(started)]

    def submit(self, request: Request) -> None:
        started = self._clock.now()
        answer = compute_chunk(self._compute, request)
        self._answer = Result(request.ticket, answer, self._clock.now() - started)

    def poll(self) -> Result | None:
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        pass


class Remembering(Robot):
    """It sees whatever the policy observes, all zeros, and remembers its last command."""

    def __init__(self, policy: PolicySpec) -> None:
        size = policy.action_size
        shapes = policy.observation
        self._zeros: dict[str, Any] = {
            name: np.zeros(shape, policy.meaning_of(name).dtype or np.float32)
            for name, shape in shapes.items()
        }
        limits = Limits((-10.0,) * size, (10.0,) * size, (1.0,) * size, (4.0,) * size)
        names = tuple(f"a{i}" for i in range(size))
        self._zeros["position"] = np.zeros(size)
        channels = {n: Channel(zero.shape, zero.dtype.name) for n, zero in self._zeros.items()}
        self.spec = RobotSpec(channels, ActionSpec(names, measured_by="position"), limits)
        self._clock = RealClock()

    def connect(self) -> None:
        pass

    def observe(self) -> Reading:
        return Reading(self._clock.now(), self._zeros)

    def command(self, action: np.ndarray) -> None:
        self.last = action

    def hold(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def untrained(steps: int) -> tuple[PolicySpec, Compute]:
    """A network of unet_small's size, made where it computes."""
    import torch

    from dipole.data import Feature, Features, WindowSpec
    from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
    from dipole.policy import Policy, PolicyConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    denoiser = {"name": "unet1d", "down_dims": [64, 128, 256], "time_embed_dim": 128}
    head = {"name": "diffusion", "solver": {"name": "ddim", "steps": steps}}
    features = Features({"state": Feature((20,))}, Feature((2,), kind="action"))
    policy = Policy(PolicyConfig(denoiser=denoiser, head=head), features, WindowSpec()).eval()
    return spec_of(policy), PolicyCompute(policy)


def measure(
    where: str,
    factory: Factory,
    seconds: float,
    hz: float,
    policy_hz: float | None = None,
    every: int | None = None,
) -> Report:
    """One run of the loop, with inference `where`. every: Actions between chunks."""
    inference: Inference
    if where == "process":
        inference = ProcessInference(factory)
    elif where == "thread":
        inference = ThreadInference(*factory())
    else:
        inference = OnControlThread(*factory(), RealClock())
    # Nothing but lateness shall end a run: not an old reading, not a slow machine's slow call.
    config = LoopConfig(
        control_hz=hz,
        policy_hz=policy_hz,
        n_action_steps=every,
        accept_mismatch=("rate", "units", "names"),
        max_limited=None,
        max_approach=None,
        max_observation_age=10.0,
        call_timeout=10.0,
        max_hold=None,
        refuse_beyond=1e9,
    )
    loop = ControlLoop(Remembering(inference.spec), inference, config, log=lambda line: None)
    try:
        loop.prepare()
        loop.arm()
        return run_watched(loop, seconds)
    finally:
        loop.close()


def row(report: Report) -> dict[str, Any]:
    """What the table shows of a run; times in milliseconds."""
    late = report.samples["lateness"].summary(1000.0)
    counts = report.counts
    return {
        "slots": counts["slots"],
        "missed": counts["missed_slots"],
        "command_p50_ms": report.samples["section_command"].summary(1000.0)["p50"],
        "command_p99_ms": report.samples["section_command"].summary(1000.0)["p99"],
        "late_p50_ms": late["p50"],
        "late_p99_ms": late["p99"],
        "late_max_ms": late["max"],
        "over_2_ms": counts["late_slots"],
        "holds": counts["holds"],
        "starved": counts["starved"],
        "chunks": counts["chunks_accepted"],
        "chunk_p50_ms": report.samples["inference"].summary(1000.0)["p50"],
        "chunk_p99_ms": report.samples["inference"].summary(1000.0)["p99"],
        "ended": str(report.transitions[-1].state),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of each run [10]")
    parser.add_argument("--where", nargs="+", default=["process", "thread", "control thread"])
    parser.add_argument("--checkpoint", help="whose policy computes; default: an untrained network")
    parser.add_argument("--steps", type=int, default=10, help="DDIM steps of a chunk [10]")
    parser.add_argument("--hz", type=float, default=100.0, help="commands a second [100]")
    parser.add_argument("--policy-hz", type=float, help="actions a second; default: the policy's")
    parser.add_argument("--every", type=int, help="actions between chunks; default: the policy's")
    parser.add_argument("--runtime", help="of a checkpoint's policy; default: eager")
    parser.add_argument("--json", type=Path, help="write the figures and the reports here")
    chosen = parser.parse_args(arguments)
    factory: Factory = partial(untrained, chosen.steps)
    if chosen.checkpoint:
        solver = {"steps": chosen.steps}
        factory = FromCheckpoint(
            chosen.checkpoint, solver=solver, runtime=chosen.runtime, threads=1
        )
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {chosen.minutes:g} min each, {chosen.hz:g} Hz\n")
    columns = ["inference", "slots", "missed", "late p50, ms", "p99", "max", "over 2 ms", "HOLDs"]
    columns += ["command, p50, p99", "chunks used", "starved slots", "chunk p50, ms", "p99"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    found = {}
    for where in chosen.where:
        seconds, rates = 60 * chosen.minutes, (chosen.hz, chosen.policy_hz)
        report = measure(where, factory, seconds, *rates, chosen.every)
        r = row(report)
        found[where] = r | {"report": report.to_dict()}
        print(
            f"| {where} | {r['slots']:,} | {r['missed']:,} | {r['late_p50_ms']:.3f} "
            f"| {r['late_p99_ms']:.3f} | {r['late_max_ms']:.1f} | {r['over_2_ms']:,} "
            f"| {r['holds']} | {r['command_p50_ms']:.2f}, {r['command_p99_ms']:.2f} "
            f"| {r['chunks']:,} | {r['starved']:,} | {r['chunk_p50_ms']:.1f} "
            f"| {r['chunk_p99_ms']:.1f} |",
            flush=True,
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

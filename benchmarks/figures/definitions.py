"""The figures of `dipole bench`: who takes part, and what the limit is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from dipole.benchmarks.figures import chunks, images, pusht, scaling, training
from dipole.benchmarks.figures.networks import (
    BATCH_SIZES,
    STEPS,
    loop_weights,
    training_flops,
)
from dipole.benchmarks.figures.turns import Contestant, Make
from dipole.policy.denoisers.cpu_unet.compiled import has_compiler
from dipole.policy.runtimes import RUNTIMES
from dipole.policy.runtimes.runtime import is_installed
from dipole.policy.training.hardware.precision import multiplies_bf16

Limits = Mapping[str, Any]
# How OpenMP's threads wait: as torch has them wait, and `dipole train`; and as in all our other
# commands, beside simulators and robots.
AS_IT_COMES: dict[str, str | None] = {"OMP_WAIT_POLICY": None}
ASLEEP: dict[str, str | None] = {"OMP_WAIT_POLICY": "PASSIVE"}
HAS_BF16 = multiplies_bf16(torch.device("cpu"))  # elsewhere a step of `unet` takes ten minutes
PLAIN = "plain"
IMAGE_BATCH = 64  # windows of two pictures, as the image policies are trained
ROWS = 16  # of a batch for which `dipole evaluate` infers at once
WEIGHT_BYTES = {"openvino_bf16": 2, "openvino_int8": 1}  # all others have 4; left out of evaluation


@dataclass
class Figure:
    """One block of the table. All are compared with the first contestant, as a rule the plain way.
    limits: milliseconds, by the contestants' names; limit: what they are."""

    name: str
    contestants: dict[str, Contestant]
    limits: dict[str, float] = field(default_factory=dict)
    limit: str = ""


def all_figures(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    """Those that the configuration names, in its order."""
    makers = {
        "training": _training,
        "image_training": _image_training,
        "chunk": _chunk,
        "image_chunk": _image_chunk,
        "evaluation": _evaluation,
        "pusht": _pusht,
    }
    for name in config["figures"]:
        if name == "scaling":
            yield from _scaling(config, threads, limits["1"])
        else:
            yield from makers[name](config, threads, limits[str(threads)])


FIGURES = ("training", "image_training", "chunk", "image_chunk", "evaluation", "pusht", "scaling")


def _training(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    for network in config["networks"]:
        batch, steps = BATCH_SIZES[network], 4 if network == "unet_small" else 1
        options = {"network": network, "batch": batch, "threads": threads, "steps": steps}
        ways = {
            PLAIN: Contestant(training.plain_step, options, steps, AS_IT_COMES),
            "dipole": Contestant(training.our_step, options, steps, AS_IT_COMES),
        }
        flops, rates = training_flops(network, batch), limits["gemm_gflops"]
        dtypes = {PLAIN: "float32", "dipole": "float32"}
        if has_compiler():
            compiled = options | {"compiled": True}
            ways["dipole compiled"] = Contestant(training.our_step, compiled, steps, AS_IT_COMES)
            dtypes["dipole compiled"] = "float32"
        if HAS_BF16:
            in_bf16 = options | {"bf16": True}
            ways["dipole bf16"] = Contestant(training.our_step, in_bf16, steps, AS_IT_COMES)
            dtypes["dipole bf16"] = "bfloat16"
        yield Figure(
            f"training step, {network}, batch {batch}",
            ways,
            {way: 1e-6 * flops / rates[dtype] for way, dtype in dtypes.items()},
            f"{1e-9 * flops:.1f} GFLOP as the definition counts at the GEMM rate of the dtype",
        )


def _image_training(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    batch = IMAGE_BATCH
    for network in config["image_networks"]:
        ways, bounds = {}, {}
        flops = images.training_flops(network, batch)
        for dtype, suffix in {"float32": "", **({"bfloat16": " bf16"} if HAS_BF16 else {})}.items():
            options = {"network": network, "batch": batch, "threads": threads}
            options["bf16"] = dtype == "bfloat16"
            for way, make in ((PLAIN, images.plain_step), ("dipole", images.our_step)):
                ways[way + suffix] = Contestant(make, options, environment=AS_IT_COMES)
                bounds[way + suffix] = 1e-6 * flops / limits["gemm_gflops"][dtype]
        yield Figure(
            f"training step, {network}, batch {batch}, {images.FRAMES * batch} pictures",
            ways,
            bounds,
            f"{1e-9 * flops:.0f} GFLOP as the definition counts at the GEMM rate of the dtype",
        )


def _scaling(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    """limits: Of one core."""
    for network in config["networks"]:
        batch, steps = BATCH_SIZES[network], 4 if network == "unet_small" else 1
        options = {"network": network, "batch": batch, "steps": steps}
        counts = [2**n for n in range(1, threads.bit_length()) if 2**n < threads]
        counts += [threads] if threads > 1 else []
        ways = {"1 process, 1 core": _alone(options, 1)}
        cores = {"1 process, 1 core": 1}
        if threads > 1:
            ways[f"1 process, {threads} cores"] = _alone(options, threads)
            cores[f"1 process, {threads} cores"] = threads
        for count in counts:
            own = options | {"count": count}
            ways[f"{count} ranks"] = Contestant(scaling.ranks, own, steps, AS_IT_COMES)
            cores[f"{count} ranks"] = count
        flops, rate = training_flops(network, batch), limits["gemm_gflops"]["float32"]
        yield Figure(
            f"ranks, {network}, batch {batch} over all; efficiency is × first by the cores",
            ways,
            {way: 1e-6 * flops / (rate * cores[way]) for way in ways},
            f"{1e-9 * flops:.1f} GFLOP as the definition counts at the cores' GEMM rate",
        )


def _alone(options: Mapping[str, Any], threads: int) -> Contestant:
    own = {**options, "threads": threads}
    return Contestant(scaling.one_process, own, options["steps"], AS_IT_COMES)


def _chunk(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    for network in config["networks"]:
        options = {"network": network, "batch": 1, "threads": threads}
        makers = chunks.plain, chunks.ours
        yield _chunk_figure(config, options, makers, loop_weights(network), limits)


def _image_chunk(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    for network in config["image_networks"]:
        options = {"network": network, "threads": threads}
        makers = images.plain_chunks, images.our_chunks
        yield _chunk_figure(config, options, makers, images.loop_weights(network), limits)


def _chunk_figure(
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    makers: tuple[Make, Make],
    weights: tuple[int, int],
    limits: Limits,
) -> Figure:
    """makers: The plain way, and ours in a runtime. weights: Read in every step, and once."""
    plain, ours = makers
    loop, once = weights
    ways = {PLAIN: Contestant(plain, dict(options), environment=AS_IT_COMES)}
    milliseconds = 1e-6 * (STEPS * loop + once) / limits["read_gb_s"]
    bounds = {PLAIN: 4 * milliseconds}
    for runtime in _runtimes(config):
        way = "dipole" if runtime == "eager" else f"dipole {runtime}"
        ways[way] = Contestant(ours, {**options, "runtime": runtime}, environment=ASLEEP)
        bounds[way] = WEIGHT_BYTES.get(runtime, 4) * milliseconds
    return Figure(
        f"chunk, {options['network']}, batch 1, {STEPS} steps",
        ways,
        bounds,
        f"the loop's {1e-6 * loop:.1f} M weights read {STEPS} times from memory",
    )


def _evaluation(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    if find_spec("gym_pusht") is None:
        return
    length = config["episode_steps"]
    episodes = max(config["episodes"], ROWS * threads)  # a batch for each thread, at least
    options = {"network": "unet_small", "max_steps": length, "threads": threads}
    one = options | {"episodes": 1}
    ways = {PLAIN: Contestant(pusht.plain_evaluation, one, environment=AS_IT_COMES)}
    for runtime in _runtimes(config):
        if runtime not in WEIGHT_BYTES:
            way = "dipole" if runtime == "eager" else f"dipole {runtime}"
            ours = {"episodes": episodes, "runtime": runtime}
            ways[way] = Contestant(pusht.our_evaluation, options | ours, episodes, ASLEEP)
    name = f"evaluation, Push-T state, unet_small, an episode of {length} steps"
    yield Figure(name, ways)
    if threads > 1 and "eager" in config["runtimes"]:
        yield Figure(f"{name}: cores", _cores(options | {"episodes": episodes}, threads))


def _cores(options: Mapping[str, Any], threads: int) -> dict[str, Contestant]:
    """Eager on one core, operations called from Python, then as TorchScript; and on all cores."""
    ways = {
        "1 thread, from Python": {"threads": 1, "runtime": pusht.FROM_PYTHON},
        "1 thread": {"threads": 1, "runtime": "eager"},
        f"{threads} threads": {"threads": threads, "runtime": "eager"},
    }
    return {
        way: Contestant(pusht.our_evaluation, {**options, **own}, options["episodes"], ASLEEP)
        for way, own in ways.items()
    }


def _pusht(config: Mapping[str, Any], threads: int, limits: Limits) -> Iterator[Figure]:
    if find_spec("gym_pusht") is None:
        return
    pairs = {"state": ("state", 400), "pixels": ("image", 60)}
    for kind, (observation, steps) in pairs.items():
        ours = {"observation": (observation,), "steps": steps}
        ways = {
            PLAIN: Contestant(pusht.gym_steps, {"kind": kind, "steps": steps}, steps),
            "dipole": Contestant(pusht.our_steps, ours, steps),
        }
        yield Figure(f"Push-T step, {kind}", ways)


def _runtimes(config: Mapping[str, Any]) -> list[str]:
    """Those asked for that are installed, and that compute what their name says here."""
    installed = [
        name
        for name in config["runtimes"]
        if name == "eager" or (name in RUNTIMES.names() and is_installed(name))
    ]
    return [name for name in installed if HAS_BF16 or not name.endswith("bf16")]

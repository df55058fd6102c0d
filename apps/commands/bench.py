"""`dipole bench`: what takes how long here, beside the plain way and the machine's limits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("bench", argv, bench)


def bench(config: Config) -> int:
    """Measure, print a table per figure as it is ready, and write all of them to output."""
    import torch

    from dipole.benchmarks.figures.definitions import all_figures
    from dipole.benchmarks.figures.limits import measure_limits
    from dipole.benchmarks.figures.report import describe, limits_table, machine, show, table
    from dipole.benchmarks.figures.turns import take_turns

    _check(config)
    threads = config["threads"] or torch.get_num_threads()
    limits = measure_limits(threads)
    show(limits_table(limits))
    report: Config = {"machine": machine(), "threads": threads, "limits": limits, "figures": []}
    for figure in all_figures(config, threads, limits):
        measured = describe(figure, take_turns(figure.contestants, config["seconds"]))
        report["figures"].append(measured)
        show(table(measured))
    report["limits_afterwards"] = measure_limits(threads)
    output = Path(config["output"]).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    print(output)
    return 0


@dataclass(frozen=True)
class BenchConfig:
    """Everything that `dipole bench` takes; configs/bench.yaml says what each means."""

    figures: tuple[str, ...]
    networks: tuple[str, ...]
    image_networks: tuple[str, ...]
    runtimes: tuple[str, ...]
    threads: int | None
    seconds: float
    episodes: int
    episode_steps: int
    output: str


def _check(config: Config) -> None:
    from_mapping(BenchConfig, {k: v for k, v in config.items() if k != "overrides"}, "")
    from dipole.benchmarks.figures.definitions import FIGURES
    from dipole.benchmarks.figures.images import IMAGE_NETWORKS
    from dipole.benchmarks.figures.networks import NETWORKS
    from dipole.policy.runtimes import RUNTIMES

    known = {
        "figures": FIGURES,
        "networks": tuple(NETWORKS),
        "image_networks": tuple(IMAGE_NETWORKS),
        "runtimes": ("eager", *RUNTIMES.names()),
    }
    for key, names in known.items():
        for name in config[key]:
            if name not in names:
                raise ConfigError(
                    f"{key} has no {name!r}{nearest(name, names)} Known: {', '.join(names)}"
                )
    for key in ("seconds", "episodes", "episode_steps"):
        if config[key] <= 0:
            raise ConfigError(f"{key} is {config[key]}: it must be positive")
    if config["threads"] is not None and config["threads"] < 1:
        raise ConfigError(f"threads is {config['threads']}: it must be at least 1, or null")

"""The figures as a table for a person and as JSON for a program."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dipole.benchmarks.figures.definitions import PLAIN, Figure
from dipole.benchmarks.figures.turns import Times, ratios, spread


def describe(figure: Figure, times: Mapping[str, Times]) -> dict[str, Any]:
    """Milliseconds, how many times faster than the first way, and the share of the limit."""
    plain = next(iter(times.values()))
    ways = {}
    for name, own in times.items():
        ways[name] = {
            "ms": {key: 1e3 * value for key, value in spread(own.clock).items()},
            "processor_ms": {key: 1e3 * value for key, value in spread(own.processor).items()},
            "times_plain": ratios(plain.clock, own.clock),
            "times_plain_in_processor_time": ratios(plain.processor, own.processor),
            "limit_ms": figure.limits.get(name),
            "threads": own.facts.get("threads"),
        }
    return {"name": figure.name, "rounds": len(plain.clock), "limit": figure.limit, "ways": ways}


def table(figure: Mapping[str, Any]) -> Table:
    """One figure, a line per way."""
    bounded = any(way["limit_ms"] for way in figure["ways"].values())
    shown = _narrow_table(title=figure["name"], caption=figure["limit"] or None)
    shown.add_column("", no_wrap=True)
    first = PLAIN if PLAIN in figure["ways"] else "first"
    headings = ["ms", f"× {first}", "p10-p90", "× CPU"]  # by the clock; in the processor's time
    for heading in headings + ["limit", "reached"] * bounded:
        shown.add_column(heading, justify="right", min_width=9 if "-" in heading else None)
    shown.add_column("threads", max_width=9)
    for name, way in figure["ways"].items():
        median, times = way["ms"]["median"], way["times_plain"]
        cells = [
            name,
            _milliseconds(median),
            f"{times['median']:.2f}",
            f"{times['p10']:.1f}-{times['p90']:.1f}",
            f"{way['times_plain_in_processor_time']['median']:.2f}",
        ]
        if bounded:
            cells += [_milliseconds(way["limit_ms"]), f"{way['limit_ms'] / median:.0%}"]
        shown.add_row(*cells, str(way["threads"] or "").split(" (")[0])
    return shown


def _milliseconds(value: float) -> str:
    """Three digits or more."""
    return f"{value:.3g}" if value < 1 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _narrow_table(**options: Any) -> Table:
    """Fits the names of all ways and figures into 80 columns."""
    return Table(title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), **options)


def limits_table(limits: Mapping[str, Any]) -> Table:
    """What the machine can do, by the number of threads."""
    shown = _narrow_table(title="limits of this machine")
    for heading in ("threads", "GEMM fp32", "GEMM bf16", "memory read", "an operation"):
        shown.add_column(heading, justify="right")
    for threads, found in limits.items():
        rates = found["gemm_gflops"]
        shown.add_row(
            threads,
            f"{rates['float32']:.0f} GFLOP/s",
            f"{rates['bfloat16']:.0f} GFLOP/s" if "bfloat16" in rates else "none",
            f"{found['read_gb_s']:.1f} GB/s",
            f"{found['launch_us']:.2f} µs",
        )
    return shown


def machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
    }


def show(*tables: Table) -> None:
    console = Console(highlight=False)
    for each in tables:
        console.print(each)

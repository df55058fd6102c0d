"""Which recipe learns Push-T best in so many minutes of one core.

    python benchmarks/recipe_study.py DATASET --minutes 10 --output recipes.json
    python benchmarks/recipe_study.py DATASET --variants "as it is" wider --episodes 500

Every variant trains for as many updates as the minutes allow at the speed of a short trial, with
`dipole train`, the learning rate falling to 0 at the end; then all are scored over the same
episodes. What the output file already holds is not trained again: a study can be stopped and gone
on with, and two with different variants may run beside each other, with an output each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dipole.envs import evaluate
from dipole.policy.runtimes.runnable import load_runnable

BASE = ["task=pusht_state", "policy=unet_small", "policy/process=vp", "train.threads=1"]
VARIANTS = {
    "as it is: 64-128-256, batch 128, 5e-4, EMA 0.75": [],
    "rate 2.5e-4": ["train.learning_rate=2.5e-4"],
    "rate 1e-3": ["train.learning_rate=1e-3"],
    "rate 2e-3": ["train.learning_rate=2e-3"],
    "batch 64": ["train.batch_size=64"],
    "batch 256": ["train.batch_size=256"],
    "batch 256, rate 1e-3": ["train.batch_size=256", "train.learning_rate=1e-3"],
    "narrower: 48-96-192": ["policy.denoiser.down_dims=[48,96,192]"],
    "wider: 96-192-384": ["policy.denoiser.down_dims=[96,192,384]"],
    "EMA power 2/3": ["train.ema.power=0.6667"],
    "bf16": ["train.amp=true"],
}
TRIAL_STEPS = 60


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="demonstrations of Push-T with states")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="how they begin")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=42, help="of training")
    parser.add_argument("--output", type=Path, default=Path("recipe_study.json"))
    chosen = parser.parse_args(arguments)
    results = json.loads(chosen.output.read_text()) if chosen.output.exists() else []
    for each in chosen.variants:
        if not any(name.startswith(each) for name in VARIANTS):
            parser.error(f"no variant begins with {each!r}; there are: {'; '.join(VARIANTS)}")
    for name in VARIANTS:
        terms = {"variant": name, "minutes": chosen.minutes, "seed": chosen.seed}
        terms["episodes"] = chosen.episodes
        wanted = any(name.startswith(each) for each in chosen.variants)
        if wanted and not any(terms.items() <= result.items() for result in results):
            results.append(terms | study(terms, chosen.dataset))
            chosen.output.write_text(json.dumps(results, indent=1) + "\n")
            print(line(results[-1]), flush=True)


def study(terms: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Train as long as the terms say, and score."""
    with tempfile.TemporaryDirectory(prefix="dipole_recipe_") as folder:
        words = [*BASE, *VARIANTS[terms["variant"]], f"train.seed={terms['seed']}"]
        words.append(f"dataset={dataset}")
        trial = train([*words, f"train.steps={TRIAL_STEPS}", "train.log_every=10"], folder, "trial")
        milliseconds = statistics.median(trial[1:])  # the first ten also warm up
        updates = round(60e3 * terms["minutes"] / milliseconds)
        taken = train([*words, f"train.steps={updates}"], folder, "run")
        policy = load_runnable(Path(folder) / "run", runtime="auto", log=lambda _: None)
        metrics = evaluate(policy, "pusht", episodes=terms["episodes"]).metrics
    names = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95")
    found = {name: metrics[name] for name in names}
    return {**found, "updates": updates, "ms": statistics.fmean(taken), "words": words}


def train(words: Sequence[str], folder: str, name: str) -> list[float]:
    """A run in the folder; the milliseconds of an update, of each report."""
    output = Path(folder) / name
    command = [sys.executable, "-m", "dipole.apps.main", "train", *words, f"output={output}"]
    subprocess.run([*command, "train.keep_checkpoints=1"], check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(row) for row in (output / "log.jsonl").read_text().splitlines()]
    return [
        row["time/data_ms"] + row["time/compute_ms"] for row in rows if "time/compute_ms" in row
    ]


def line(result: dict[str, Any]) -> str:
    reward, success = result["max_reward_ci95"], result["success_ci95"]
    return (
        f"{result['variant']}: {result['updates']} updates of {result['ms']:.0f} ms, "
        f"{result['max_reward_mean']:.3f} ({reward[0]:.3f} to {reward[1]:.3f}), success "
        f"{result['success_rate']:.0%} ({success[0]:.0%} to {success[1]:.0%})"
    )


if __name__ == "__main__":
    main()

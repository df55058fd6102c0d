"""Which recipe learns Push-T best, from state in so many minutes or from pixels in so many updates.

    python benchmarks/recipe_study.py DATASET --minutes 10 --output recipes.json
    python benchmarks/recipe_study.py DATASET --variants "as it is" wider --episodes 500
    python benchmarks/recipe_study.py MIRRORED --of pixels --other PLAIN --updates 10000 --runs RUNS

Every variant trains with `dipole train`, the learning rate falling to 0 at the end, for so many
updates, or for as many as the minutes allow at the speed of a short trial; then all are scored over
the same episodes. Variants from pixels are what docs/images.md offers, each taken away from the
recipe, or put in place of what it has. What the output file already holds of the same settings and
dataset is not trained again, and a training that was stopped goes on where --runs names a folder
for it. Two studies of different variants may run beside each other, with an output each.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.envs import evaluate
from dipole.policy.runtimes.runnable import load_runnable
from dipole.policy.training.output.run_folder import RUN_FILE

STATE, PIXELS = "state", "pixels"
BASES = {
    STATE: ["task=pusht_state", "policy=unet_small", "policy/process=vp"],
    PIXELS: ["task=pusht_image", "policy=unet_image_small"],
}
OTHER = "dataset=other"  # of a variant: the dataset of --other instead
AUXILIARY = "objective=auxiliary"
OF_STATE = {
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
OF_PIXELS = {
    "as it is": [AUXILIARY],
    "without the mirror": [AUXILIARY, OTHER],
    "without auxiliary targets": [],
    "auxiliary targets to the end": [AUXILIARY, "objective.decay=constant"],
    "with shifts": [AUXILIARY, "policy.encoder.augment.shift=3"],
    "colours too": [
        AUXILIARY,
        "policy.encoder.augment.brightness=0.2",
        "policy.encoder.augment.contrast=0.2",
        "policy.encoder.augment.hue=0.05",
    ],
    "cutout too": [AUXILIARY, "policy.encoder.augment.cutout=0.2"],
    "the whole picture": [AUXILIARY, "policy.encoder.crop=null"],
    "a random crop of 76": [
        AUXILIARY,
        "policy.encoder.crop=76",
        "policy.encoder.augment.crop=true",
    ],
    "one frame": [AUXILIARY, "task.window.n_obs_steps=1"],
    "three frames": [AUXILIARY, "task.window.n_obs_steps=3"],
    "differences of frames": [AUXILIARY, "policy.encoder.differences=true"],
    "noise as published instead of the straight path": [AUXILIARY, "policy/process=vp"],
}
VARIANTS = {STATE: OF_STATE, PIXELS: OF_PIXELS}
TRIAL_STEPS = 60
WORDS = "words.json"  # in a run's folder: the settings that it was begun with


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="demonstrations of Push-T")
    parser.add_argument("--of", choices=list(VARIANTS), default=STATE, help="what policies see")
    parser.add_argument("--other", help="the dataset of variants that have another one")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--updates", type=int, help="of each, instead of minutes")
    parser.add_argument("--variants", nargs="+", help="how they begin; all where left out")
    parser.add_argument("--settings", nargs="+", default=[], help="of `dipole train`, of each")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=42, help="of training")
    parser.add_argument("--runs", type=Path, help="a folder where trainings stay")
    parser.add_argument("--output", type=Path, default=Path("recipe_study.json"))
    chosen = parser.parse_args(arguments)
    variants = VARIANTS[chosen.of]
    results = json.loads(chosen.output.read_text()) if chosen.output.exists() else []
    for each in chosen.variants or ():
        if not any(name.startswith(each) for name in variants):
            parser.error(f"no variant begins with {each!r}; there are: {'; '.join(variants)}")
    for name, own in variants.items():
        if chosen.variants and not any(name.startswith(each) for each in chosen.variants):
            continue
        if OTHER in own and chosen.other is None:
            parser.error(f"{name!r} needs a dataset of its own: --other")
        terms = {"of": chosen.of, "variant": name, "seed": chosen.seed}
        terms["episodes"] = chosen.episodes
        terms |= {"updates": chosen.updates} if chosen.updates else {"minutes": chosen.minutes}
        terms["words"] = words(own, chosen)
        if not any(terms.items() <= result.items() for result in results):
            results.append(terms | study(terms, chosen.runs))
            chosen.output.write_text(json.dumps(results, indent=1) + "\n")
            print(line(results[-1]), flush=True)


def words(own: Sequence[str], chosen: argparse.Namespace) -> list[str]:
    """Of `dipole train`, of a variant that has these of its own; how long it trains aside."""
    found = [*BASES[chosen.of], "train.threads=1", *chosen.settings]
    found += [word for word in own if word != OTHER]
    dataset = chosen.other if OTHER in own else chosen.dataset
    return [*found, f"train.seed={chosen.seed}", f"dataset={dataset}"]


def study(terms: dict[str, Any], runs: Path | None) -> dict[str, Any]:
    """Train as long as the terms say, and score. runs: Where trainings stay; None: nowhere."""
    with kept_in(runs) as folder:
        length = terms.get("updates") or f"{terms['minutes']:g} minutes"
        name = f"{terms['variant']} {terms['seed']} {length}".replace(" ", "_").replace("/", "_")
        run = folder / re.sub(r"[^\w.-]", "", name)
        updates = begun(run, terms["words"]) or updates_of(terms)
        taken = train([*terms["words"], f"train.steps={updates}"], run)
        policy = load_runnable(run, runtime="auto", log=lambda _: None)
        metrics = evaluate(policy, "pusht", episodes=terms["episodes"]).metrics
    names = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95")
    found = {name: metrics[name] for name in names}
    return {**found, "updates": updates, "ms": statistics.fmean(taken)}


def begun(run: Path, wanted: Sequence[str]) -> int | None:
    """Updates of the run that goes on in a folder; None: there is none, and one of these words may
    begin. Exits where it holds a run of other words."""
    if not (run / RUN_FILE).exists():
        run.mkdir(parents=True, exist_ok=True)
        (run / WORDS).write_text(json.dumps(wanted))
        return None
    held = json.loads((run / WORDS).read_text()) if (run / WORDS).exists() else []
    if held != wanted:
        theirs = [word for word in held if word not in wanted] or ["settings that it does not say"]
        raise SystemExit(
            f"{run} holds a run of {' '.join(theirs)}, not of {' '.join(wanted)}: move it away, or "
            "choose another folder by --runs"
        )
    return int(json.loads((run / RUN_FILE).read_text())["config"]["train"]["steps"])


def updates_of(terms: dict[str, Any]) -> int:
    """As many as are wanted, or as the minutes allow at the speed of a trial."""
    if "updates" in terms:
        return int(terms["updates"])
    with tempfile.TemporaryDirectory(prefix="dipole_trial_") as made:
        trial = [*terms["words"], f"train.steps={TRIAL_STEPS}", "train.log_every=10"]
        milliseconds = statistics.median(train(trial, Path(made) / "run")[1:])  # it warms up
    return round(60e3 * float(terms["minutes"]) / milliseconds)


@contextmanager
def kept_in(folder: Path | None) -> Iterator[Path]:
    """The folder, or one that goes with what is in it."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="dipole_recipe_") as made:
        yield Path(made)


def train(wanted: Sequence[str], run: Path) -> list[float]:
    """A run, new or gone on with; the milliseconds of an update, of each report."""
    command = [sys.executable, "-m", "dipole.apps.main", "train"]
    command += [f"resume={run}"] if (run / RUN_FILE).exists() else [*wanted, f"output={run}"]
    subprocess.run([*command, "train.keep_checkpoints=1"], check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
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

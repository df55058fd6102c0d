"""One run by one process and by several: how far losses and weights are apart.

usage: python benchmarks/ranks.py RANKS FOLDER KEY=VALUE ...    # settings of `dipole train`

Prints, for both runs' logs and newest checkpoints, the largest difference of each kind.
"""

import json
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training.output.logs import read_log

LOSSES = ("train/loss", "validation/loss", "validation/loss_ema")


def main(ranks: int, folder: Path, words: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    runs = {"one": [], "several": several}
    for name, launcher in runs.items():
        command = [sys.executable, *launcher, "-m", "dipole.apps.main", "train", *words]
        subprocess.run([*command, "train.log_every=1", f"output={folder / name}"], check=True)
    one, other = (folder / name for name in runs)
    for key in LOSSES:
        ours, theirs = losses_of(one, key), losses_of(other, key)
        assert ours.keys() == theirs.keys()
        apart = max((abs(ours[step] - theirs[step]) for step in ours), default=0)
        print(f"{key}: {len(ours)} steps, at most {apart:.1e} apart")
    newest = [checkpoints_of(run)[-1] for run in (one, other)]
    for stem in ("model", "ema"):
        ours, theirs = (load_file(path / f"{stem}.safetensors") for path in newest)
        far = {n: float((ours[n].double() - theirs[n].double()).abs().max()) for n in ours}
        worst = max(far, key=lambda name: far[name])
        print(f"{stem}: at most {far[worst]:.1e} apart ({worst})")
    print(json.loads((newest[1] / "training.json").read_text()))


def losses_of(run: Path, key: str) -> dict[int, float]:
    return {line["step"]: line[key] for line in read_log(run / "log.jsonl") if key in line}


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

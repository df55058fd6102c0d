"""Jobs of sweeps, for processes of their own: what they do is decided by the seed."""

import json
import os
import signal
import time
from pathlib import Path

from dipole.apps.compose import Outcome
from dipole.data.core.errors import DataError

DAMAGED, KILLED, DEFECT, LONG = 7, 8, 9, range(10, 14)


def job(config):
    seed, output = config["train"]["seed"], Path(config["output"])
    output.mkdir(parents=True, exist_ok=True)
    threads = json.dumps(config["train"]["threads"])
    said = f"{seed} {config['policy']['name']} {config['dataset']} {threads}"
    (output / "said.txt").write_text(said)
    if seed == DAMAGED:
        raise DataError("it is damaged")
    if seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == DEFECT:
        raise ZeroDivisionError("of ours")
    if seed in LONG:
        _wait(output)
    return Outcome(0, float(seed), "loss")


def told(config):
    """Writes down which settings were said."""
    output = Path(config["output"])
    output.mkdir(parents=True, exist_ok=True)
    (output / "told.json").write_text(json.dumps(config["overrides"]))
    return 0


def environment(config):
    """Writes down the simulator."""
    output = Path(config["output"])
    output.mkdir(parents=True, exist_ok=True)
    (output / "environment.json").write_text(json.dumps(config["task"]["environment"]))
    return 0


def _wait(output):
    """Until it is interrupted: then it saves, as training does."""
    try:
        (output / "waiting").touch()
        time.sleep(600)
    except KeyboardInterrupt:
        (output / "saved").touch()
        raise

"""A run in a process of its own, for what ends it before it is armed: FOLDER WHERE."""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from real_processes import RealRobot, quick

from dipole.deploy import LoopConfig
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.run import RunConfig, run_policy


def load():
    print("BEGAN", flush=True)
    if where == "loading":
        time.sleep(60)
    return ThreadInference(*quick())


class Arm(RealRobot):
    """Says what it is told."""

    def observe(self):
        if where == "warming up":
            print("SEEN", flush=True)
            return None
        return super().observe()

    def stop(self):
        super().stop()
        print("ROBOT stop", flush=True)

    def close(self):
        print("ROBOT close", flush=True)


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):  # however the tests were started
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, where = Path(sys.argv[1]), sys.argv[2]
    config = RunConfig(LoopConfig(max_observation_age=5.0), watchdog=None, output=folder / "run")
    try:
        print("RETURNED", run_policy(Arm(folder), load, config), flush=True)
    except KeyboardInterrupt as error:
        print("RAISED KeyboardInterrupt", error, flush=True)

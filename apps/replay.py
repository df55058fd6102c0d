"""`dipole replay`: does a recording give the same actions again; as demonstrations, and as MCAP."""

import argparse
from pathlib import Path

from dipole.data.errors import DataError
from dipole.deploy.recording.replay import export, replay


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dipole replay",
        description="Decide everything in a recording again, from what was seen and computed.",
    )
    parser.add_argument("recording", type=Path, help="the flight.rec that `dipole deploy` wrote")
    parser.add_argument("--export", type=Path, metavar="OUT", help="write demonstrations to OUT")
    parser.add_argument("--mcap", type=Path, metavar="OUT", help="write it for Foxglove to OUT")
    options = parser.parse_args(argv)
    path = options.recording.expanduser()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if options.export is not None:
        episodes = export(path, options.export.expanduser())
        print(f"{options.export}: {episodes} episodes")
    if options.mcap is not None:
        from dipole.deploy.recording.to_mcap import export_mcap  # late: it needs the mcap extra

        print(f"{options.mcap}: {export_mcap(path, options.mcap.expanduser())} messages")
    if options.export is not None or options.mcap is not None:
        return 0
    same = [decision.same for decision in replay(path)]
    print(f"{path}: {sum(same)} of {len(same)} decisions are the same again")
    return 0 if all(same) else 1

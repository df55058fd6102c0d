"""`dipole replay`: does a recording give the same commands again; as demonstrations, as MCAP."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dipole.apps.terminal.tools import ToolCommand, Work, new_app, run_tool
from dipole.data.core.errors import DataError
from dipole.deploy.recording.file_format import has_end, read_format
from dipole.deploy.recording.replay import Verdict, replay

app = new_app("Check a recording of the robot, or make demonstrations of it.")


@app.command(cls=ToolCommand)
def command(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDING",
            help="The flight.rec that `dipole deploy` wrote.",
            show_default=False,
        ),
    ],
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET", help="Write its demonstrations to a dataset.", show_default=False
        ),
    ] = None,
    mcap: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an MCAP file for Foxglove.", show_default=False),
    ] = None,
) -> Work:
    """Make every decision and command of a recording again, and compare."""
    return lambda: _run(recording.expanduser(), export, mcap)


def main(argv: list[str]) -> int:
    return run_tool(app, argv, "replay")


def _run(path: Path, export: Path | None, mcap: Path | None) -> int:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if read_format(path) > 1 and not has_end(path):
        print("note: the recording has no end: its process was killed, or its disk was full")
    damage = ""
    if export is not None:
        damage = _export(path, export.expanduser())
    if mcap is not None:
        from dipole.deploy.recording.to_mcap import export_mcap  # late: it needs the mcap extra

        count, damage = export_mcap(path, mcap.expanduser())
        print(f"{mcap}: {count} messages")
    if export is not None or mcap is not None:
        if damage:
            print(f"only what comes before the damage: {damage}")
        return 1 if damage else 0
    return _replay(path)


def _export(path: Path, output: Path) -> str:
    """Print what was exported; returns the damage, or ""."""
    from dipole.deploy.recording.to_dataset import to_dataset  # late: a robot may have no zarr

    told = to_dataset(path, output)
    ends = ", ".join(f"{reason} ({count})" for reason, count in told.ends.most_common())
    print(f"{output}: {told.episodes} episodes, {told.frames} frames; they ended by {ends}")
    if told.too_short:
        print(f"{told.too_short} episodes were too short and are left out")
    for note in told.notes:
        print(f"note: {note}")
    return told.damage


def _replay(path: Path) -> int:
    """Print how much is the same again; 0 where nothing differs."""
    verdicts = Counter((again.then.kind, again.verdict) for again in replay(path))
    for kind, name in (("act", "decisions"), ("command", "commands")):
        same, unknown = verdicts[kind, Verdict.SAME], verdicts[kind, Verdict.UNKNOWN]
        total = same + unknown + verdicts[kind, Verdict.DIFFERENT]
        print(f"{path}: {same} of {total} {name} are the same again")
        if unknown:
            print(f"{unknown} {name} could not be made again: records are missing before them")
    return 1 if any(verdict is Verdict.DIFFERENT for _, verdict in verdicts) else 0

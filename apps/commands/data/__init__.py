"""`dipole data`: look into a dataset, view, check, replay, label it, convert others' into one."""

from dipole.apps.commands.data import convert, info, relabel, replay, validate, view
from dipole.apps.terminal.tools import ToolCommand, new_app, run_tool

app = new_app("Look into a dataset of demonstrations, check it, or bring in one of others.")
app.command("info", cls=ToolCommand)(info.info)
app.command("validate", cls=ToolCommand)(validate.validate)
app.command("view", cls=ToolCommand)(view.view)
app.command("replay", cls=ToolCommand)(replay.replay)
app.command("convert", cls=ToolCommand)(convert.convert)
app.command("relabel", cls=ToolCommand)(relabel.relabel)


def main(argv: list[str]) -> int:
    """Run `dipole data ARGV`. Returns 0, or 1 where `validate` or `replay` found problems."""
    return run_tool(app, argv, "data")

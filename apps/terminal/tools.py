"""File tools: `--options` by typer, with the errors and the exit codes of every other command."""

import difflib
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from dipole.apps.terminal.errors import UsageError

# What typer raises for a mistyped command line; where it lives depends on typer's version.
_Usage: type[Exception] = typer.BadParameter.__bases__[0]
PLAIN = {  # what pydantic, beneath typer, calls the types of values
    "Value error, ": "",
    "Input should be a valid number.*": "a number is needed",
    "Input should be a valid integer.*": "a whole number is needed",
}
OLD_WORD = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)

Work = Callable[[], int]  # what a command does, once its options are read; returns the exit code


class ToolCommand(TyperCommand):
    """Refuses an option that is given twice; takes KEY=VALUE of the first edition with a note."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # a shell that asks how a word may go on
            args = self._with_dashes(args)
            self._refuse_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """SOURCE DESTINATION, without typer's braces."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.replace("{", "").replace("}", "") for piece in pieces]

    def _with_dashes(self, args: list[str]) -> list[str]:
        """The arguments with keys=a written as --keys a. Raises UsageError where it is mistyped."""
        taken: list[str] = []
        options = [name for param in self.params for name in param.opts if name.startswith("--")]
        places = [param.name for param in self.params if param.param_type_name == "argument"]
        for word in args:
            match = OLD_WORD.fullmatch(word)
            if match is not None and match[1] in places and not Path(word).exists():
                raise UsageError(f"{word!r} is written without {match[1]}=: {match[2]}")
            if match is None or taken[-1:] in ([name] for name in options):
                taken.append(word)  # perhaps the value of an option: --rename actions=action
                continue
            option = f"--{match[1].replace('_', '-')}"
            near = difflib.get_close_matches(option, options, 1, 0.8)
            if near and near[0] != option:
                raise UsageError(f"{word!r} is written with dashes: {near[0]} {match[2]}")
            if near:
                print(f"{word!r} is taken as {option} {match[2]}: write it so", file=sys.stderr)
            taken += [option, match[2]] if near else [word]
        return taken

    def _refuse_repeated(self, ctx: Any, args: list[str]) -> None:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for param, count in Counter(order).items():
            if count > 1 and not param.multiple and param.param_type_name == "option":
                raise UsageError(f"{param.opts[0]} is given {count} times")


def new_app(does: str) -> typer.Typer:
    """An application of typer's with nothing of its own."""
    return typer.Typer(
        help=does,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_tool(app: typer.Typer, argv: list[str], name: str) -> int:
    """Read the options, then do the work outside of typer, which would catch its interrupts.

    Returns the exit code. Raises UsageError for a mistyped command line.
    """
    try:
        work = app(args=argv, prog_name=f"dipole {name}", standalone_mode=False)
    except _Usage as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error)
            return 2
        raise UsageError(_message(error)) from error
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if callable(work):
        return int(work())
    return int(work or 0)


def comma_list(text: str) -> tuple[str, ...]:
    """ "state,action" → state, action."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """ "OLD=NEW", one or several with commas between, to {OLD: NEW}.

    Raises UsageError for anything else, and for a name that is given twice.
    """
    found: dict[str, str] = {}
    for text in values or []:
        for part in comma_list(text):
            name, equals, value = part.partition("=")
            if not equals or not name or not value:
                raise UsageError(f"{option} {text}: NAME=VALUE is needed")
            if name in found:
                raise UsageError(f"{option}: {name} is given twice")
            found[name] = value
    return found


def _message(error: Exception) -> str:
    """Typer's message, in the terms of every other command."""
    near = difflib.get_close_matches(
        str(getattr(error, "option_name", "")), getattr(error, "possibilities", None) or [], n=1
    )
    if near:
        return f"no option {getattr(error, 'option_name', '')!r}, did you mean {near[0]!r}?"
    text = str(getattr(error, "format_message", lambda: error)())
    for theirs, ours in PLAIN.items():
        text = re.sub(theirs, ours, text)
    chosen = re.search(r"'([^']*)' is not one of (.*)", text)
    close = chosen and difflib.get_close_matches(
        chosen[1], re.findall(r"'([^']*)'", chosen[2]), n=1, cutoff=0.5
    )
    if close:
        text = f"{text.rstrip('.')}, did you mean {close[0]!r}?"
    return text[0].lower() + text[1:].rstrip(".") if text else type(error).__name__

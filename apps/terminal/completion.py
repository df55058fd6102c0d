"""Completion by the shell: `dipole --install-completion`.

Of composed commands it completes settings and choices, of file tools their options.
"""

import io
import os
import shlex
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from dipole.apps.commands import data, doctor, replay
from dipole.apps.compose.configuration import checking, leaves
from dipole.apps.compose.options import Options
from dipole.apps.main import COMPOSED
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.environ import environment_variables


def complete(argv: list[str]) -> int:
    """Answer a shell, or install what asks it; returns the exit code."""
    words = shlex.split(os.environ.get("COMP_WORDS", ""))
    if "=" not in words:
        return _run(argv)
    # bash takes "policy=un" for three words, and puts the answer in the place of the last.
    joined, place = joined_at_equals(words, int(os.environ["COMP_CWORD"]))
    asked = {"COMP_WORDS": shlex.join(joined), "COMP_CWORD": str(place)}
    with environment_variables(asked), redirect_stdout(io.StringIO()) as answer:
        code = _run(argv)
    print("\n".join(line.partition("=")[2] or line for line in answer.getvalue().splitlines()))
    return code


def joined_at_equals(words: list[str], place: int) -> tuple[list[str], int]:
    """Words in which KEY=VALUE is one, and where the word at `place` is now.

    >>> joined_at_equals(["dipole", "train", "policy", "=", "un"], 4)
    (['dipole', 'train', 'policy=un'], 2)
    """
    joined: list[str] = []
    found = glued = 0
    for number, word in enumerate(words):
        if joined and (word == "=" or glued):
            joined[-1] += word
        else:
            joined.append(word)
        glued = word == "="
        if number <= place:
            found = len(joined) - 1
    return joined, found


def _run(argv: list[str]) -> int:
    try:
        return int(_application()(args=argv, prog_name="dipole", standalone_mode=False) or 0)
    except SystemExit as ended:  # how typer ends an answer
        return int(ended.code or 0)


def settings_beginning(command: str, beginning: str) -> list[str]:
    """Settings and choices of a composed command that begin so: "policy=unet", "train.steps="."""
    from omegaconf import OmegaConf

    key, equals, _ = beginning.partition("=")
    try:
        with checking(command, Options([])) as checker:
            if equals:
                known = checker.choices(key) if key in checker.groups else []
                return [
                    f"{key}={choice}" for choice in known if f"{key}={choice}".startswith(beginning)
                ]
            settings = dict(leaves(OmegaConf.to_container(checker.compose([]))))
            names = sorted({*settings, *checker.groups})
            return [f"{name}=" for name in names if name.startswith(beginning)]
    except UsageError:  # what is typed so far does not compose
        return []


def _application() -> typer.Typer:
    application = typer.Typer(name="dipole", rich_markup_mode=None)
    for name, does in COMPOSED.items():
        application.command(
            name,
            help=does,
            context_settings={"ignore_unknown_options": True, "help_option_names": []},
        )(_composed(name))
    application.add_typer(data.app, name="data")
    application.command("replay")(replay.command)
    application.command("doctor")(doctor.command)
    return application


def _composed(name: str) -> Any:
    def complete_setting(incomplete: str) -> list[str]:
        return settings_beginning(name, incomplete)

    def command(
        settings: Annotated[
            list[str] | None, typer.Argument(autocompletion=complete_setting)
        ] = None,
    ) -> None:
        """Never called: shells only ask what could follow."""

    return command

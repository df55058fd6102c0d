"""The `dipole` command: find the subcommand, import it, call it, and print its errors.

Subcommands are imported when called, so that `dipole --help` and a mistyped name answer at once.
Exit codes: 0 done; 1 an error the message explains; 2 a command line that cannot work: a mistyped
name, or a value that is refused (UsageError, ConfigError); 130 interrupted.
"""

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from dipole.apps.terminal.errors import UsageError

# Settings as KEY=VALUE, composed by hydra; and tools for files, with --options.
COMPOSED = {
    "train": "train a policy on demonstrations, or resume a run",
    "distill": "make a policy of one step out of a trained one",
    "evaluate": "score a checkpoint in its simulator, with a video and a picture",
    "deploy": "move a robot by a policy, in real time and within limits",
    "serve": "offer a policy to robots on other computers",
    "export": "write a policy for another runtime: OpenVINO, ONNX, AOTInductor",
    "record": "make demonstrations: by hand in a window, or by the expert",
    "bench": "time it on this machine, beside the plain way and the limits",
}
TOOLS = {
    "data": "look into a dataset, view it, validate it, convert others' into one",
    "compare": "whether one evaluation beats another by more than chance",
    "replay": "check a recording of the robot, or make demonstrations of it",
    "doctor": "what this machine offers, and what is missing",
}
COMMANDS = COMPOSED | TOOLS
OPTIONS = ("--help", "--version")
COMPLETION = ("--install-completion", "--show-completion")
COMPLETING = "_DIPOLE_COMPLETE"  # the shell asks what may follow
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dipole ARGV` and return its exit code; `argv` is sys.argv[1:] by default."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] and argv[0] not in COMPOSED:
        # Threads that spin while they wait make a shared machine many times slower; torch's import
        # reads it. Composed commands decide by their configuration.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = _dispatch(argv)
        sys.stdout.flush()  # a closed pipe is noticed here rather than at the interpreter's end
        return code
    except UsageError as error:
        return _fail(argv, str(error), 2)
    except KeyboardInterrupt as error:
        print("\n".join(["\ninterrupted", *_notes(error)]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] == "dipole":
            raise
        return _fail(argv, f"{error.name} is not installed; `dipole doctor` says what adds it", 1)
    except Exception as error:
        if not _is_for_a_person(error):
            raise
        code = 2 if isinstance(error, _errors().ConfigError) else 1
        return _fail(argv, "\n".join([str(error), *_notes(error)]), code)


def _dispatch(argv: list[str]) -> int:
    if COMPLETING in os.environ or argv[:1] in ([word] for word in COMPLETION):
        from dipole.apps.terminal.completion import complete

        return complete(argv)
    if argv[:1] in (["help"], ["--help"], ["-h"]) and len(argv) > 1:
        return _command(argv[1])(["--help", *argv[2:]])
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"dipole {version('dipole')}")
        return 0
    return _command(argv[0])(argv[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        option = name.startswith("-")
        known = [*OPTIONS, *COMPLETION] if option else [*COMMANDS]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        kind = "option" if option else "command"
        hint = f"did you mean {near[0]!r}?" if near else f"{kind}s: {', '.join(known)}"
        raise UsageError(f"unknown {kind} {name!r}; {hint}")
    command: Callable[[list[str]], int] = import_module(f"dipole.apps.commands.{name}").main
    return command


def _help() -> str:
    width = max(map(len, COMMANDS))
    composed, tools = (
        [f"  {name:<{width}}  {does}" for name, does in some.items()] for some in (COMPOSED, TOOLS)
    )
    return "\n".join(
        [
            "usage: dipole COMMAND ...",
            "",
            "Diffusion policies for robots: from demonstrations to a moving robot.",
            "",
            "Settings are written KEY=VALUE:",
            *composed,
            "",
            "Settings are written --name VALUE:",
            *tools,
            "",
            "`dipole COMMAND --help` says more; `dipole --version` prints the version;",
            "`dipole --install-completion`: your shell completes commands, settings and options.",
        ]
    )


def _is_for_a_person(error: Exception) -> bool:
    """Whether the message tells the user what to do; any other exception is a defect of ours."""
    errors = _errors()
    return errors is not None and isinstance(error, errors.DipoleError)


def _errors() -> Any:
    """The module of dipole's errors; None if it was not imported, so that nothing raised one."""
    return sys.modules.get("dipole.data.core.errors")


def _notes(error: BaseException) -> list[str]:
    """What was added to an error on its way, such as where an unfinished recording lies."""
    return [*getattr(error, "__notes__", [])]


def _fail(argv: list[str], message: str, code: int) -> int:
    command = f"dipole {argv[0]}" if argv and argv[0] in COMMANDS else "dipole"
    print(f"{command}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

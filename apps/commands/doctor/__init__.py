"""`dipole doctor`: what this machine offers, what is missing, and the command that adds it."""

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from dipole.apps.commands.doctor import machine, rendering, simulators
from dipole.apps.terminal.tools import ToolCommand, Work, new_app, run_tool
from dipole.data.core.plugins import GROUP, load_plugins

app = new_app("What this machine offers, what is missing, and the command that adds it.")


@dataclass(frozen=True)
class Finding:
    """One line of the report. A remedy is given where something can be done."""

    topic: str  # versions, devices, rendering, simulators, extras, plugins, resources
    name: str
    detail: str
    ok: bool = True
    required: bool = False  # where this is not ok, dipole does not work: exit code 1
    remedy: str = ""


@app.command(cls=ToolCommand)
def command(
    json: Annotated[bool, typer.Option("--json", help="For programs rather than people.")] = False,
) -> Work:
    """Print what this machine offers, what is missing, and the command that adds it."""
    return lambda: _report(json)


def main(argv: list[str]) -> int:
    """The exit code is 0 unless something required is broken."""
    if not argv:
        return _report(as_json=False)
    return run_tool(app, argv, "doctor")


def _report(as_json: bool) -> int:
    findings = examine()
    broken = [finding for finding in findings if finding.required and not finding.ok]
    if as_json:
        report = {"ok": not broken, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
    else:
        print(report_text(findings))
        if broken:
            print(f"\nbroken: {', '.join(finding.name for finding in broken)}", file=sys.stderr)
    return 1 if broken else 0


def examine() -> list[Finding]:
    """Everything the report says; takes some seconds, because libraries are loaded to be tried."""
    return [
        *_versions(),
        *_devices(),
        *_rendering(),
        *_simulators(),
        *_extras(),
        *_plugins(),
        *_resources(),
    ]


def report_text(findings: list[Finding]) -> str:
    """The report for a person: one block a topic, one line a finding, remedies below theirs."""
    lines: list[str] = []
    width = max(len(finding.name) for finding in findings)
    for topic in dict.fromkeys(finding.topic for finding in findings):
        lines += ["", topic] if lines else [topic]
        for finding in (finding for finding in findings if finding.topic == topic):
            mark = " " if finding.ok else ("!" if finding.required else "-")
            lines.append(f" {mark} {finding.name:<{width}}  {finding.detail}")
            if finding.remedy:
                lines.append(f"   {'':<{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "python", sys.version.split()[0])
    for library in machine.libraries(extra=None):
        yield _library_finding("versions", library, required=True)
    clash = machine.torchvision_clash()
    if clash:
        remedy = "pip uninstall torchvision  (dipole does not use it, and diffusers trips over it)"
        yield Finding("versions", "torchvision", clash, False, False, remedy)


def _library_finding(topic: str, library: machine.Library, required: bool) -> Finding:
    remedy = "" if library.works else f"pip install '{library.requirement}'"
    return Finding(topic, library.name, library.detail, library.works, required, remedy)


def _devices() -> Iterator[Finding]:
    for name, detail, remedy in machine.devices():
        yield Finding("devices", name, detail, ok=not remedy, remedy=remedy)


def _rendering() -> Iterator[Finding]:
    for name, check in rendering.CHECKS.items():
        detail, ok, remedy = check()
        yield Finding("rendering", name, detail, ok, remedy=remedy)


def _simulators() -> Iterator[Finding]:
    for name, detail, ok, remedy in simulators.simulators():
        yield Finding("simulators", name, detail, ok, remedy=remedy)


def _extras() -> Iterator[Finding]:
    for extra in machine.extras():
        libraries = machine.libraries(extra)
        missing = [library for library in libraries if not library.works]
        detail = ", ".join(f"{library.name} {library.detail}" for library in missing or libraries)
        remedy = f"pip install 'dipole[{extra}]'" if missing else ""
        yield Finding("extras", extra, detail, not missing, remedy=remedy)


def _plugins() -> Iterator[Finding]:
    with warnings.catch_warnings(action="ignore"):  # said here
        failures = load_plugins()
    for point in entry_points(group=GROUP):
        failure = failures.get(point.name, "")
        remedy = "mend or uninstall it" if failure else ""
        yield Finding("plugins", point.name, failure or point.value, not failure, remedy=remedy)


def _resources() -> Iterator[Finding]:
    facts: list[tuple[str, Any]] = [("memory", machine.memory()), ("disk", machine.disk())]
    for name, detail in facts:
        yield Finding("resources", name, detail)

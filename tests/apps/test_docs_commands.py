"""The commands of the pages compose, as the command line composes them; nothing is executed."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from dipole.apps.compose.configuration import checking, require_values
from dipole.apps.compose.options import read_options
from dipole.apps.main import COMPOSED
from dipole.apps.terminal.errors import UsageError

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BEFORE = r"^(?:\w+\$ +|[A-Z_]+=\S+ +|torchrun .*)*"  # a prompt, variables, several processes
COMMAND = re.compile(BEFORE + rf"dipole +((?:{'|'.join(COMPOSED)}) [^\n]+)", re.MULTILINE)
# What a page leaves to its reader, or makes itself: something of the kind in its place.
STAND_INS = {
    "task=TASK": "task=pusht_state",
    "task=mine": "task=pusht_state",
    "task=g1_bottle": "task=my_task",
    "task=lift_absolute": "task=robosuite/lift",
    "task=lift_relative": "task=robosuite/lift",
    "robot=YOURS": "robot=sim_pusht",
    "robot=my_arm": "robot=sim_pusht",
    "robot=ros2_arm": "robot=sim_pusht",
    "method=METHOD": "method=consistency",
    "method=knowledge": "method=consistency",
    "solver=midpoint": "solver=ddim",
    "policy/process=trigonometric": "policy/process=vp",
    "policy/denoiser=perceptron": "policy/denoiser=dit",
}


def blocks(page, language):
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def commands(page):
    """The words of each, of blocks and of inline code."""
    inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))
    for shown in (*blocks(page, ""), *inline):
        for found in COMMAND.findall(shown.replace("\\\n", " ")):
            words = shlex.split(found, comments=True)
            if "--help" not in words:
                yield tuple(words)


def is_said(word):
    """Whether it is a setting as it stands; hydra's plugins need not be installed."""
    left_open = word == "..." or word.endswith("=...")
    return not left_open and not word.startswith("hydra") and "interval(" not in word


@pytest.fixture(scope="module")
def own_configs(tmp_path_factory):
    """The tasks of the pages, as files."""
    folder = tmp_path_factory.mktemp("pages") / "my_configs"
    for page in PAGES:
        for text in blocks(page, "yaml"):
            named = re.match(r"# my_configs/(task/\w+)\.yaml", text)
            name = re.search(r"^name: (\w+)$", text, re.MULTILINE)
            if named or (name and "\nobservation:" in text):
                path = folder / f"{named[1] if named else f'task/{name[1]}'}.yaml"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return folder


def refusals(command, shown, own_configs):
    """{words: what is said} of those that do not compose; shown: each once."""
    refused = {}
    options = read_options(["--config-dir", str(own_configs)], command)
    with checking(command, options) as checker:
        checker.choices = cache(checker.choices)
        for words in shown:
            said = [word for word in words if is_said(word)]
            said = [word for word in said if word not in ("--config-dir", "my_configs")]
            asked = read_options([STAND_INS.get(word, word) for word in said], command)
            try:
                parsed = checker.check(asked.overrides, asked.multirun)
                composed = checker.compose(checker.combinations(parsed)[0])
                if "..." not in words:
                    require_values(command, composed)
            except UsageError as error:
                refused[" ".join(words)] = str(error)
    return refused


@pytest.mark.heavy  # most of a minute
@pytest.mark.parametrize("command", COMPOSED)
def test_every_command_of_every_page_composes(command, own_configs):
    shown = {words[1:] for page in PAGES for words in commands(page) if words[0] == command}
    assert shown
    assert refusals(command, sorted(shown), own_configs) == {}


def test_a_command_that_cannot_work_is_noticed(own_configs):
    wrong = [("task=pusht_state", "episodes=3"), ("output=a", "epsodes=3")]
    said = refusals("record", wrong, own_configs)
    assert list(said.values()) == [
        "output is not set: dipole record output=VALUE",
        "unknown key 'epsodes', did you mean 'episodes'? `dipole record --help` lists them",
    ]

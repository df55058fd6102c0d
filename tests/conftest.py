"""What every test may count on, wherever the tests are started from."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Tests share processors: how long an example takes says nothing.
settings.register_profile("shared_processors", settings(), deadline=None)
settings.load_profile("shared_processors")

# MuJoCo reads it once in a process, whichever test imports it first.
if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("MUJOCO_GL", "egl")

# Loops in real time and their servers, what is timed or interrupted: with nothing beside them.
ALONE = (
    "deploy",
    "apps/test_bench.py",
    "apps/test_deploy.py",
    "apps/test_serve.py",
    "apps/test_sweep.py",
)
# Of these, what only computes.
TOGETHER = tuple(
    f"deploy/test_{name}.py"
    for name in (
        "chunk_checks",
        "command_filter",
        "command_gate",
        "command_property",
        "command_rotations",
        "loop_config",
        "plan",
    )
)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        alone = any(item.path.is_relative_to(here / place) for place in ALONE)
        if alone and item.path.relative_to(here).as_posix() not in TOGETHER:
            item.add_marker("alone")


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard():
    """A shell starts its background jobs deaf to Ctrl-C, and so would be all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

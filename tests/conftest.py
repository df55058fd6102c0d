"""What every test may count on, wherever the tests are started from."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Tests share processors: how long an example takes says nothing. In CI the same examples each time.
settings.register_profile(
    "shared_processors", settings(), deadline=None, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("shared_processors")

# MuJoCo reads it once in a process, whichever test imports it first.
if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("MUJOCO_GL", "egl")

# Loops in real time and their servers, what is timed or interrupted: with nothing beside them.
# `make test` looks for them in two folders and a file, not to collect all others once more.
ALONE = ("deploy", "apps/test_deploy.py", "envs/test_cluster_ray.py")
assert all(place.startswith(("deploy", "apps/", "envs/test_cluster_ray.py")) for place in ALONE)
# Of these, what only computes.
TOGETHER = tuple(
    f"deploy/test_{name}.py"
    for name in (
        "alignment",
        "checkpoint_environment",
        "chunk_checks",
        "command_filter",
        "command_gate",
        "command_property",
        "command_rotations",
        "delayed",
        "deviation",
        "fit",
        "groups",
        "image_policy",
        "loop_config",
        "measurement",
        "messages",
        "motion",
        "observations",
        "plan",
        "recording",
        "recording_export",
        "recording_format",
        "replay",
        "rtc",
        "states",
        "trained_prefix",
    )
)

# Each test of these trains for minutes: divided over the workers, where other files stay together.
DIVIDED = ("tests/envs/test_fork_learned.py",)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, without which nothing is divided
def pytest_xdist_make_scheduler(config, log):
    if config.getoption("dist") != "loadfile":
        return None  # as asked for on the command line

    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            scope = super()._split_scope(nodeid)
            return nodeid if scope in DIVIDED else scope

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        alone = any(item.path.is_relative_to(here / place) for place in ALONE)
        if alone and item.path.relative_to(here).as_posix() not in TOGETHER:
            item.add_marker("alone")


def seed_generators():
    """Those that all tests of a process share, of libraries that are there already."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    seed_generators()  # for fixtures that tests share


@pytest.fixture(autouse=True)
def the_same_numbers_each_time():
    """Whichever tests came before."""
    seed_generators()


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard():
    """A shell starts its background jobs deaf to Ctrl-C, and so would be all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_port():
    """Of moto's imitation of S3, with the bucket "robots"."""
    from dipole.benchmarks.object_server import moto_server

    with moto_server("robots") as port:
        yield port


@pytest.fixture
def s3(s3_port, tmp_path, monkeypatch):
    """The proxy before S3, whose address and keys are in the environment."""
    from dipole.benchmarks.object_server import Faults, FaultyProxy

    with FaultyProxy(s3_port, Faults()) as proxy:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("DIPOLE_CACHE_DIR", str(tmp_path / "cache"))
        yield proxy

"""Whatever happens, what the robot is sent is within its limits.

Whole runs of the control loop are generated: robots of several groups, policies that make sense or
none, sensors, inference and processes that fail in every way (support/random_runs.py). What they
were sent is compared with the definitions of the limits (support/simulated_arm.py), which share
nothing with the command filter. More runs: python benchmarks/safe_commands.py --runs 100000.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dipole.deploy import ActionGroup, ActionSpec, Limits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from random_runs import Outcome, one_run
from simulated_arm import Figures, Sent, examine, make_group


def runs(count):
    """So many runs, the same each time."""
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # actions of 1e308 are tried
@runs(400)
@given(st.randoms(use_true_random=False))
def test_every_command_is_finite_inside_the_box_and_within_velocity_and_acceleration(random):
    check(one_run(random))


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@runs(2000)
@given(st.randoms(use_true_random=False))
def test_the_same_of_more_runs(random):
    check(one_run(random))


def check(outcome):
    assert outcome.figures.problems == [], "\n".join(outcome.story)
    assert outcome.figures.not_finite == 0
    assert outcome.figures.velocity <= 1.0001
    assert outcome.figures.acceleration <= 1.0001


# The limits notice what they are there for --------------------------------------------------------


def figures(values, missed=(), kind="gripper"):
    """Of a run of a group of one number at 10 Hz, within 0 to 10 at 1 unit/s and 1 unit/s2 from 0.

    missed: numbers of commands before which five slots were missed.
    """
    group = ActionGroup("g", kind, ("x",), measured_by="x",
                        limits=Limits((0.0,), (10.0,), (1.0,), (1.0,)))  # fmt: skip
    times = np.cumsum([0.0] + [0.6 if k in missed else 0.1 for k in range(1, len(values))])
    commands = [np.array([float(value)]) for value in values]
    sent = Sent({"g": np.zeros(1)}, {}, list(times), list(times), commands, stops=1)
    return examine(sent, ActionSpec.of(group), 0.1, max_missed=2, braked=True)


RAMP = np.cumsum([0, 0.01, 0.02, 0.03, 0.02, 0.01, 0])


def test_a_ramp_at_its_limits_is_just_allowed():
    found = figures(RAMP)
    assert found.problems == []
    assert found.acceleration == pytest.approx(1.0)
    assert found.velocity == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("values", "missed", "problem"),
    [
        ([0, 0.011, 0.011], (), "acceleration 1.1 "),
        ([0.2, 0.2], (), "far from"),
        (np.cumsum([0.0] + [0.01 * k for k in range(12)]), (), "velocity 1.1 "),
        ([0, np.nan, 0], (), "not finite"),
        ([0, -1e-9, -1e-9], (), "outside its box"),
        (RAMP[:-1], (), "the last command still moves it"),
        (RAMP, (3,), "acceleration 3 "),  # it stood still before command 3
    ],
)
def test_what_is_beyond_a_limit_is_found(values, missed, problem):
    assert any(problem in text for text in figures(values, missed).problems)


def test_a_rotation_that_reverses_at_once_is_found():
    limits = Limits((-4.0,) * 3, (4.0,) * 3, (1.0,) * 3, (1.0,) * 3)
    group = ActionGroup("tool", "pose", ("a", "b", "c"), measured_by="tool",
                        rotation="rotation_vector", limits=limits)  # fmt: skip
    times = [0.1 * k for k in range(6)]
    for turns, problem in ((1, False), (-1, True)):
        angles = np.cumsum([0.0, 0.01, 0.01 * turns, 0.0, 0.0, 0.0])
        commands = [np.array([0.0, 0.0, angle]) for angle in angles]
        sent = Sent({"tool": commands[0]}, {}, times, times, commands, stops=1)
        problems = examine(sent, ActionSpec.of(group), 0.1, max_missed=2, braked=True).problems
        assert (
            "tool rotation acceleration 2 of its limit at command 2 of 6" in problems
        ) == problem


def test_commands_that_come_too_close_or_after_stop_are_found():
    group = make_group("valve", 10.0, np.random.default_rng(0))
    still = [np.zeros(1)] * 3
    sent = Sent({"valve": np.zeros(1)}, {}, [0.0, 0.1, 0.11], [0.0, 0.1, 0.11], still, 2, 1)
    problems = examine(sent, ActionSpec.of(group), 0.1, max_missed=2, braked=True).problems
    assert problems == ["stop() was called 2 times", "1 commands after stop()",
                        "commands 0.100 periods apart"]  # fmt: skip


def test_the_figures_of_many_runs_are_their_largest():
    total = Figures()
    total.add(Figures(3, 0.5, 0.9))
    total.add(Figures(4, 0.7, 0.2))
    assert (total.commands, total.velocity, total.acceleration) == (7, 0.7, 0.9)


# The benchmark ------------------------------------------------------------------------------------


@pytest.fixture
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "safe_commands.py"
    spec = importlib.util.spec_from_file_location("safe_commands", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hundred_runs_of_the_benchmark_are_within_their_limits(benchmark):
    figures, counts = benchmark.run_batch(range(100))
    assert figures.problems == []
    assert figures.acceleration <= 1.0001
    assert min(counts[name] for name in ("holds", "resumes", "stalls", "resets", "faults")) > 0


def ended(benchmark, monkeypatch, capsys, one_run=one_run):
    """Its exit status and what it printed last."""
    monkeypatch.setattr(sys, "argv", ["safe_commands.py", "--runs", "3"])
    monkeypatch.setattr(benchmark, "one_run", one_run)
    status = benchmark.main()
    return status, capsys.readouterr().out.splitlines()


def test_the_benchmark_prints_its_figures_last(benchmark, monkeypatch, capsys):
    status, lines = ended(benchmark, monkeypatch, capsys)
    assert status == 0
    assert [" ".join(line.split()[:2]) for line in lines[-5:]] == [
        "commands checked", "largest velocity", "largest acceleration", "NaNs sent", "problems 0",
    ]  # fmt: skip


def broken(_random):
    raise ZeroDivisionError("a defect")


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (lambda _: Outcome(Figures(9, 1.2, 1.0, 0, ["too fast"])), "run 0: too fast"),
        (broken, "run 2: ZeroDivisionError: a defect"),
    ],
)
def test_the_benchmark_fails_with_the_number_of_the_run(benchmark, monkeypatch, capsys, run, line):
    status, lines = ended(benchmark, monkeypatch, capsys, run)
    assert status == 1
    assert line in lines


def test_runs_of_two_seeds_do_not_overlap(benchmark):
    numbers = [n for seed in (0, 1) for batch in benchmark.batches(seed, 120) for n in batch]
    assert len(set(numbers)) == 240

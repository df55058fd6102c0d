"""Recording in processes with a simulator that hangs, or that is slow."""

import sys
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import watch
from dipole.envs.experts.demonstrate import DemonstrationSpec, demonstrations
from dipole.envs.experts.task_environment import TaskEnvironment
from dipole.envs.experts.watch import LOOK_SECONDS, Watch, limited

sys.path.insert(0, str(Path(__file__).parent))  # worker processes find the module the same way
from tiny_simulator import TinySimulator

NAME = "gym:hanging:Hanging-v0"
TASK = f"""
name: hanging
environment:
  name: {NAME}
  options: {{hangs_in: 23, broken: broken}}
observation: {{state: {{shape: [1]}}}}
action: {{shape: [1]}}
window: {{n_obs_steps: 1, horizon: 16, n_action_steps: 8}}
"""


@pytest.fixture
def looked_at():
    """A worker's notes in this process, and the looks at them."""
    found = Watch()
    before = watch._NOTED.set(found.noted)
    yield found
    watch._NOTED.reset(before)


def test_a_call_that_goes_on_for_longer_than_it_may_is_found(looked_at):
    with limited(2.0):
        assert looked_at.exceeded(0.9) is None  # nobody knows how much of it was in this call
        assert looked_at.exceeded(0.9) is None
        assert looked_at.exceeded(0.9) is None
        assert looked_at.exceeded(0.9) == 2.0


def test_steps_that_follow_each_other_are_never_too_long_together(looked_at):
    for _ in range(20):
        with limited(2.0):
            assert looked_at.exceeded(0.9) is None
            assert looked_at.exceeded(0.9) is None


def test_nothing_limits_what_is_done_between_a_simulator_s_calls(looked_at):
    with limited(2.0):
        pass
    assert [looked_at.exceeded(0.9) for _ in range(20)] == [None] * 20
    with limited(None):
        assert [looked_at.exceeded(0.9) for _ in range(20)] == [None] * 20


def test_a_first_process_that_slept_does_not_blame_the_simulator(looked_at):
    with limited(2.5):
        assert [looked_at.exceeded(3600) for _ in range(3)] == [None] * 3
        assert looked_at.exceeded(3600) == 2.5
    assert LOOK_SECONDS == 1.0


@pytest.mark.parametrize(
    ("settings", "limits"),
    [({}, (300, 60)), ({"timeout": 200}, (600, 200)), ({"python": "python"}, (0, 0))],
)
def test_a_start_and_a_step_may_take_as_long_as_in_an_evaluation(looked_at, settings, limits):
    """A simulator in an interpreter of its own has a limit there."""
    seen = []

    class Noting(TinySimulator):
        def reset(self, **options):
            seen.append(looked_at.noted[1])
            return super().reset(**options)

        def step(self, action):
            seen.append(looked_at.noted[1])
            return super().step(action)

    environment = TaskEnvironment(Noting, EnvSpec("gym:X-v0", **settings))
    environment.reset(seed=1)
    environment.step(np.zeros(2, np.float32))
    assert (tuple(seen), looked_at.noted[1]) == (limits, 0)


@pytest.mark.heavy
def test_a_recording_whose_simulator_hangs_ends_and_goes_on_behind_what_it_has(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my/task").mkdir(parents=True)
    (tmp_path / "my/task/hanging.yaml").write_text(TASK)
    Path("broken").touch()
    words = ["record", "--config-dir", "my", "task=hanging", "seed=20", "episodes=6"]
    words += ["output=demos.zarr", "workers=2", "resume=true"]
    assert main([*words, "environment.timeout=4"]) == 1
    said = capsys.readouterr().err
    assert "the episode of seed 23: its simulator process has not answered for 4 s" in said
    assert "environment.timeout=SECONDS allows it more" in said
    assert "3 episodes of demos.zarr are whole" in said
    assert active_children() == []
    Path("broken").unlink()
    assert main([*words, "environment.timeout=90"]) == 0
    assert "going on behind 3 episodes" in capsys.readouterr().out
    assert EpisodeStore.open("demos.zarr").episode_numbers()["seed"].tolist() == [*range(20, 26)]


@pytest.mark.heavy
def test_a_simulator_that_is_slow_and_alive_is_not_ended():
    """Its episodes take longer than a step may."""
    spec = DemonstrationSpec(EnvSpec(NAME, {"nap": 0.75}, timeout=8.0))
    made = list(islice(demonstrations(spec, 3, workers=2), 2))
    assert [(each.seed, len(each), each.success) for each in made] == [(3, 16, True), (4, 16, True)]

"""Recorded in processes, and replayed, in the simulators themselves."""

import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore

pytestmark = pytest.mark.heavy
FETCH = {"state", "achieved_goal", "desired_goal", "goal_offset"}


@pytest.mark.parametrize(
    ("task", "package", "keys", "words"),
    [
        ("metaworld/reach", "metaworld", {"state"}, "move the hand to the goal"),
        ("fetch/push", "gymnasium_robotics", FETCH, ""),
    ],
)
def test_disturbed_demonstrations_succeed_again(task, package, keys, words, tmp_path):
    pytest.importorskip(package)
    settings = ["episodes=2", "workers=2", "drift=0.05", "shoves=0.05", "shove=0.2"]
    dataset = str(tmp_path / "demos.zarr")
    assert main(["record", f"task={task}", "expert=scripted", *settings, f"output={dataset}"]) == 0
    with EpisodeStore.open(dataset) as store:
        assert {*store.keys()} == {*keys, "action", "executed_action"}
        assert store.environment["id"] == task
        assert store.tasks == [words] * 2
        if task == "metaworld/reach":  # the options that its expert demonstrates with
            settings = store.attributes["recording"]["environment"]
            assert settings["options"] == {"steps_after_success": 20}
        assert abs(store["action"][:] - store["executed_action"][:]).max() > 0.05
    assert main(["data", "replay", dataset]) == 0

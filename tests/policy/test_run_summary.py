"""What a run says before it begins."""

from types import SimpleNamespace

import pytest

from dipole.policy.training.output.summary import _recorded_elsewhere


@pytest.mark.parametrize(
    ("recorded", "environment", "said"),
    [
        ("fetch/push", {"name": "fetch/pick-and-place"}, True),
        ("fetch/push", "maze/umaze", True),
        ("fetch/push", {"name": "fetch/push", "options": {}}, False),
        ("fetch/push", None, False),
        ("Unitree_G1", {"name": "fetch/push"}, False),
        ("", {"name": "fetch/push"}, False),
        ("pusht", {"name": "pusht"}, False),
    ],
)
def test_demonstrations_of_another_task_of_a_simulator_are_spoken_of(recorded, environment, said):
    store = SimpleNamespace(path="a.zarr", environment={"id": recorded} if recorded else {})
    lines = _recorded_elsewhere(SimpleNamespace(parts=[SimpleNamespace(store=store)]), environment)
    assert bool(lines) == said
    assert not said or lines[0].startswith("note: a.zarr was recorded in fetch/push, and the task")

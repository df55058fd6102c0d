"""Several tasks in one evaluation, several definitions of success, and their comparison."""

import json
import sys
from pathlib import Path

import pytest

from dipole.apps.terminal.task_tables import comparison_by_task, print_tasks, tasks_table
from dipole.envs.compare import compare
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation import EpisodeResult, summarize
from dipole.envs.evaluation.metrics import holm, proportion_over_groups_interval, wilson_interval
from dipole.envs.media.video import Recording, arranged

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TASKS, SeveralTasks


def episode(seed, task, success, at_end=False, returned=1.0):
    return EpisodeResult(seed, success, 1.0, 1.0, 5, returned, None, task, at_end)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_task_has_its_scores_and_the_last_step_s_success_is_told_apart(workers):
    metrics = evaluate(FakePolicy(), SeveralTasks, episodes=7, workers=workers).metrics
    assert list(metrics["per_task"]) == list(TASKS)
    assert [metrics["per_task"][task]["episodes"] for task in TASKS] == [3, 2, 2]
    assert [each["task"] for each in metrics["per_episode"]] == [TASKS[i % 3] for i in range(7)]
    ends = [metrics["per_task"][task]["success_at_end_rate"] for task in TASKS]
    assert (metrics["success_rate"], ends) == (1.0, [1.0, 0.0, 0.0])
    assert metrics["success_at_end_rate"] == 3 / 7
    assert metrics["over_tasks"]["success_at_end_rate"] == pytest.approx(1 / 3)
    rates = {name: found["rate"] for name, found in metrics["successes"].items()}
    assert rates == {"never": 0.0, "touched": 1.0}
    assert metrics["success_name"] == "is_success"


def test_each_task_counts_the_same_in_the_mean_over_tasks():
    results = [episode(0, "a", True), *(episode(i, "b", i == 1) for i in range(1, 4))]
    found = summarize(results)
    assert found["success_rate"] == 0.5
    assert found["over_tasks"]["success_rate"] == pytest.approx((1 + 1 / 3) / 2)
    assert "per_task" not in summarize([episode(0, None, True)])


def test_the_interval_over_tasks_is_the_pooled_one_where_tasks_are_of_one_size():
    assert proportion_over_groups_interval([(10, 20), (20, 20)]) == wilson_interval(30, 40)
    narrow, wide = ([(5, 10), (5, 10)], [(9, 18), (1, 2)])
    width = [high - low for low, high in map(proportion_over_groups_interval, (narrow, wide))]
    assert width[0] < width[1]  # two episodes of a task say little of it


def test_holm_adjusts_the_smallest_most_and_keeps_the_order():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_two_evaluations_are_compared_by_task(tmp_path):
    def written(name, failing):
        results = [episode(i, TASKS[i % 3], (i % 3) not in failing) for i in range(60)]
        terms = summarize(results) | {"environment": {"id": "tiny", "version": "1"}}
        (tmp_path / name).write_text(json.dumps(terms))
        return tmp_path / name

    found = compare(written("a.json", ()), written("b.json", (1,)))
    assert {task: each.differences["score"].value for task, each in found.per_task.items()} == {
        "push": 0.0,
        "reach": 1.0,
        "turn": 0.0,
    }
    assert found.per_task["reach"].holm_p == pytest.approx(3 * 2**-19)
    assert found.over_tasks["success"].value == pytest.approx(1 / 3)
    assert comparison_by_task("B", found).row_count == 4


def test_the_table_is_sorted_with_the_best_task_first():
    results = [episode(i, TASKS[i % 3], i % 3 == 1) for i in range(6)]
    names = list(tasks_table(summarize(results)).columns[0].cells)
    assert names == ["reach", "push", "turn", "mean over 3 tasks"]


def test_one_task_alone_needs_no_table(capsys):
    print_tasks(summarize([episode(i, "push", True) for i in range(3)]))
    assert capsys.readouterr().out == ""


class Drawn(SeveralTasks):
    """Says which tasks it has; reach and turn fail."""

    tasks = TASKS

    def _move(self, action):
        reward, _, truncated, info = super()._move(action)
        return reward, False, truncated, info | {"is_success": self.seed_now % 3 == 0}


def test_one_episode_of_each_task_is_filmed_or_so_many():
    def filmed(asked):
        found = evaluate(FakePolicy(), Drawn, episodes=9, seed=1, video_episodes=asked)
        return [(each.task, each.seed) for each in found.recordings]

    assert filmed(None) == [("reach", 1), ("turn", 2), ("push", 3)]
    assert [seed for _, seed in filmed(2)] == [1, 2, 3, 4, 5, 6]


def test_tiles_of_one_task_are_beside_each_other():
    def order(*tasks):
        return arranged([Recording(i, task=task) for i, task in enumerate(tasks)])

    assert order("b", "a", "b", "a") == ([1, 3, 0, 2], 2)
    assert order("b", "a", "a") == ([1, 2, 0], None)
    assert order(None, None) == ([0, 1], None)


def test_failures_are_filmed_afterwards_and_are_the_same_episodes():
    def run(**words):
        return evaluate(FakePolicy(), Drawn, episodes=7, picture=False, **words)

    found = run(video_episodes=1, video="failures")
    assert [(each.task, each.seed) for each in found.recordings] == [("reach", 1), ("turn", 2)]
    assert found.episodes == run().episodes
    assert [sum(each.rewards) for each in found.recordings] == [
        pytest.approx(found.episodes[seed].episode_return) for seed in (1, 2)
    ]
    assert found.metrics["policy_ms"]["calls"] == run().metrics["policy_ms"]["calls"]


def test_tasks_whose_success_nobody_told_stand_in_a_table_all_the_same():
    episodes = [episode(seed, task, None) for seed, task in enumerate("abab")]
    table = tasks_table(summarize(episodes, score="success_rate"))
    assert [str(cell) for cell in table.columns[0].cells][:2] == ["a", "b"]

"""`dipole compare` of training runs: a table of what differs and what came of it, best first."""

import json

import pytest

from dipole.apps.main import main
from dipole.policy.training.output.different_settings import different_settings

CONFIG = {
    "train": {"steps": 20, "seed": 0, "log_every": 10},
    "task": {"name": "push", "environment": {"name": "pusht"}, "dataset": "push.zarr"},
    "policy": {"name": "unet", "denoiser": {"name": "unet1d", "sizes": [8, 16]}},
    "output": "somewhere",
}


def run(folder, *scores, loss=0.5, steps=20, **settings):
    """A run's folder with its configuration and log; scores: success rates of its evaluations."""
    config = json.loads(json.dumps(CONFIG | {"output": str(folder)}))
    for key, value in settings.items():
        *groups, last = key.split("__")
        inner = config
        for group in groups:
            inner = inner[group]
        inner[last] = value
    lines = [
        {"step": 10, "train/loss": 0.9, "time/data_ms": 1000.0, "time/compute_ms": 2000.0},
        {"step": steps, "train/loss": loss + 0.1, "time/data_ms": 0.0, "time/compute_ms": 3000.0},
        {"step": steps, "validation/loss": 0.7, "validation/loss_ema": loss},
    ]
    for number, rate in enumerate(scores):
        interval = [rate - 0.1, rate + 0.1]
        found = {"success_rate": rate, "success_ci95": interval, "episodes": 50, "score": rate}
        lines.append({"step": 5 + number} | {f"evaluation/{k}": v for k, v in found.items()})
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": config}))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def compared(tmp_path, capsys, *paths):
    """The JSON and what was printed."""
    assert main(["compare", *paths, "--json", str(tmp_path / "table.json")]) == 0
    return json.loads((tmp_path / "table.json").read_text()), capsys.readouterr().out


def test_the_best_run_is_first_with_what_is_different_about_it(tmp_path, capsys):
    worse = run(tmp_path / "a", 0.3, 0.5, 0.4, loss=0.1)
    better = run(tmp_path / "b", 0.2, 0.6, loss=0.3, train__seed=1)
    table, printed = compared(tmp_path, capsys, worse, better)
    assert [row["path"] for row in table["runs"]] == [better, worse]
    assert [row["settings"] for row in table["runs"]] == [{"train.seed": 1}, {"train.seed": 0}]
    assert table["ordered_by"] == "success_rate"
    assert table["runs"][1]["score"] == {
        "name": "success_rate",
        "best": 0.5,
        "last": 0.4,
        "best_step": 6,
        "evaluations": 3,
        "episodes": 50,
        "ci95": [0.4, 0.6],
    }
    assert (table["runs"][0]["train_loss"], table["runs"][0]["validation_loss"]) == (0.4, 0.3)
    assert table["runs"][0]["minutes"] == pytest.approx(1.0)  # twice ten steps of three seconds
    assert "60.0% (50.0% to 70.0%)" in printed
    assert "the intervals of these overlap with that of b: a" in printed
    assert "the best of 2 to 3 evaluations is higher than the policy is" in printed


def test_without_evaluations_the_lowest_validation_loss_is_first(tmp_path, capsys):
    worse, better = run(tmp_path / "a", loss=0.5), run(tmp_path / "b", loss=0.2, train__seed=1)
    table, printed = compared(tmp_path, capsys, worse, better)
    assert table["runs"][0]["path"] == better
    assert "the best first: lowest validation loss" in printed


def test_of_runs_that_score_alike_the_lower_loss_is_first(tmp_path, capsys):
    one, two = run(tmp_path / "a", 0.0, loss=0.5), run(tmp_path / "b", 0.0, loss=0.2)
    assert compared(tmp_path, capsys, one, two)[0]["runs"][0]["path"] == two
    far = run(tmp_path / "c", 0.9)
    assert "overlap" not in compared(tmp_path, capsys, one, far)[1]


def test_losses_of_other_data_are_in_no_order(tmp_path, capsys):
    one = run(tmp_path / "a", loss=0.5)
    two = run(tmp_path / "b", loss=0.2, task__dataset="other.zarr")
    table, printed = compared(tmp_path, capsys, one, two)
    assert [row["path"] for row in table["runs"]] == [one, two]
    assert table["ordered_by"] is None
    assert "losses cannot be compared where these differ: task.dataset" in printed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy__known": {"first": "position", "last": "goal"}}, "policy.known"),
        ({"task__datasets": {"lab": {"path": "lab.zarr"}}}, "task.datasets.lab.path"),
        ({"task__normalizer": "per_part"}, "task.normalizer"),
        ({"task__policy_hz": 5}, "task.policy_hz"),
        ({"task__targets": {"lid": {"shape": [1]}}}, "task.targets.lid.shape"),
        ({"train__validation_windows": 4}, "train.validation_windows"),
    ],
)
def test_losses_that_measure_something_else_are_in_no_order(settings, said, tmp_path, capsys):
    one = run(tmp_path / "a", loss=0.5, train__validation_windows=1024)
    two = run(tmp_path / "b", loss=0.2, **{"train__validation_windows": 1024, **settings})
    table, printed = compared(tmp_path, capsys, one, two)
    assert table["ordered_by"] is None
    assert f"losses cannot be compared where these differ: {said}\n" in printed


def test_other_guidance_forbids_an_order_by_the_loss_of_training_alone(tmp_path, capsys):
    one = run(tmp_path / "a")
    two = run(tmp_path / "b", policy__guidance={"dropout": 0.1, "scale": 2.0})
    assert compared(tmp_path, capsys, one, two)[0]["ordered_by"] == "validation_loss"
    for folder in (tmp_path / "a", tmp_path / "b"):
        lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
        (folder / "log.jsonl").write_text("".join(x for x in lines if "validation" not in x))
    table, printed = compared(tmp_path, capsys, one, two)
    assert table["ordered_by"] is None
    assert "losses cannot be compared where these differ: policy.guidance.dropout\n" in printed


def test_scores_in_other_environments_are_in_no_order(tmp_path, capsys):
    one = run(tmp_path / "a", 0.5)
    two = run(tmp_path / "b", 0.9, task__environment={"name": "fork"})
    table, printed = compared(tmp_path, capsys, one, two)
    assert table["ordered_by"] is None
    assert "not ordered: evaluations differ in task.environment.name" in printed


def test_what_follows_from_a_name_forbids_an_order_all_the_same(tmp_path, capsys):
    flow, vp = {"name": "flow"}, {"name": "vp", "steps": 100}
    one = run(tmp_path / "a", loss=0.5, policy__process=flow)
    two = run(tmp_path / "b", loss=0.2, policy__name="dit", policy__process=vp)
    table, printed = compared(tmp_path, capsys, one, two)
    assert table["ordered_by"] is None
    assert list(table["runs"][0]["settings"]) == ["policy.name"]
    assert "losses cannot be compared where these differ: policy.process.name" in printed


def test_scores_in_the_environments_of_two_tasks_are_in_no_order(tmp_path, capsys):
    fork = {"name": "fork", "environment": {"name": "fork", "label": "left"}, "dataset": "fork.zip"}
    one, two = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.9, task=fork)
    table, printed = compared(tmp_path, capsys, one, two)
    assert table["ordered_by"] is None
    assert [row["settings"] for row in table["runs"]] == [
        {"task.name": "push"},
        {"task.name": "fork"},
    ]
    assert "not ordered: evaluations differ in task.environment\n" in printed
    assert "losses cannot be compared where these differ: task.dataset" in printed


def test_what_follows_from_a_name_is_not_said_beside_it(tmp_path, capsys):
    dit = {"name": "dit", "depth": 4}
    runs = [run(tmp_path / "a"), run(tmp_path / "b", policy__name="dit", policy__denoiser=dit)]
    table, _ = compared(tmp_path, capsys, *runs)
    assert list(table["runs"][0]["settings"]) == ["policy.name"]
    runs.append(run(tmp_path / "c", policy__denoiser={"name": "unet1d", "sizes": [8, 8]}))
    table, _ = compared(tmp_path, capsys, *runs)
    assert list(table["runs"][0]["settings"]) == ["policy.name", "policy.denoiser.sizes"]


@pytest.mark.parametrize(
    ("without", "given", "found"),
    [
        ({"policy": {"known": None}}, {"policy": {"known": {"first": "x"}}}, "policy.known.first"),
        ({"policy": {"name": "a"}}, {"policy": {"name": "a", "guidance": {"dropout": 0.1}}},
         "policy.guidance.dropout"),
        ({"train": {"learning_rates": {}}}, {"train": {"learning_rates": {"encoder.*": 0.1}}},
         "train.learning_rates.encoder.*"),
        ({"train": {"weight_decays": None}}, {"train": {"weight_decays": {"encoder": 0.1}}},
         "train.weight_decays.encoder"),
        ({"task": {"name": "a"}}, {"task": {"name": "a", "datasets": ["b.zarr"]}}, "task.datasets"),
        ({"task": {"name": "a", "datasets": ["b.zarr"]}},
         {"task": {"name": "a", "datasets": {"b": {"path": "b.zarr"}}}}, "task.datasets.b.path"),
        ({"task": {"environment": {"name": "a"}}},
         {"task": {"environment": {"name": "a", "max_steps": 9}}}, "task.environment.max_steps"),
    ],
)  # fmt: skip
def test_what_one_run_has_and_the_other_was_not_asked_for_is_a_difference(without, given, found):
    assert list(different_settings([without, given])) == [found]
    assert different_settings([given, without])[found][1] is None


def test_nothing_is_no_difference_from_nothing_nor_from_what_another_edition_lacks():
    nothing = {"train": {"learning_rates": {}}, "policy": {"known": None}, "task": {"fps": None}}
    as_well = {"train": {"learning_rates": None}, "policy": {"name": "a"}, "task": {"name": None}}
    assert different_settings([nothing, as_well]) == {}
    newer = {"train": {"learning_rates": {}, "amp": True}, "evaluate": {"episodes": 50}}
    assert different_settings([nothing, newer]) == {}


def test_runs_that_lack_something_are_last_and_named(tmp_path, capsys):
    bare = run(tmp_path / "bare", loss=0.01)
    short = run(tmp_path / "short", 0.5, steps=12)
    empty = run(tmp_path / "empty")
    (tmp_path / "empty" / "log.jsonl").unlink()
    table, printed = compared(tmp_path, capsys, bare, empty, short)
    assert table["runs"][0]["path"] == short
    assert "nothing is logged yet: empty" in printed
    assert "not evaluated while trained (train.evaluate_every), so last: bare" in printed
    assert "not trained to the end, or not yet: short" in printed


def test_a_sweep_is_its_runs_and_says_which_job_has_none(tmp_path, capsys):
    run(tmp_path / "sweep/0", 0.2)
    run(tmp_path / "sweep/10", 0.4)
    (tmp_path / "sweep/2").mkdir()
    (tmp_path / "sweep/sweep.json").write_text("[]")
    table, printed = compared(tmp_path, capsys, str(tmp_path / "sweep"))
    (tmp_path / "sweep/sweep.json").unlink()
    (tmp_path / "sweep/.jobs").mkdir()  # as while it runs
    assert compared(tmp_path, capsys, str(tmp_path / "sweep"))[0] == table
    assert [row["path"].rpartition("/")[2] for row in table["runs"]] == ["10", "0"]
    assert "sweep/2: left out" in printed


def test_a_run_and_an_evaluation_are_not_mixed(tmp_path, capsys):
    (tmp_path / "evaluated").mkdir()
    (tmp_path / "evaluated/metrics.json").write_text("{}")
    assert main(["compare", run(tmp_path / "a"), str(tmp_path / "evaluated")]) == 2
    assert "is a training run and" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a")]) == 2
    assert "two runs are needed" in capsys.readouterr().err

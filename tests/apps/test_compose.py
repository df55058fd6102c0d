"""Composition: what the command line says becomes a plain dictionary, or a clear refusal."""

import json
import logging
import re
from pathlib import Path

import pytest

from dipole.apps.compose import compose, run
from dipole.apps.errors import UsageError
from dipole.data.core.errors import DataError

MINE = """
name: mine
environment: {name: pusht, options: {}}
dataset: my.zarr
"""


@pytest.fixture
def my_configs(tmp_path):
    folder = tmp_path / "my configs"  # with a space, as folders have
    (folder / "task").mkdir(parents=True)
    (folder / "task" / "mine.yaml").write_text(MINE)
    return folder


def jobs_of(config_name, argv):
    configs = []
    assert run(config_name, argv, lambda config: configs.append(config) or 0) == 0
    return configs


def refusal(config_name, *argv):
    with pytest.raises(UsageError) as caught:
        compose(config_name, list(argv))
    return str(caught.value)


def test_the_default_is_push_t_with_the_small_network():
    config = compose("train", [])
    assert config["task"]["name"] == "pusht_state"
    assert config["policy"]["denoiser"]["down_dims"] == [64, 128, 256]
    assert config["overrides"] == {}


def test_a_composed_configuration_is_plain_json():
    config = compose("train", ["train.steps=5"])
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize(
    ("policy", "batch_size", "learning_rate"), [("unet_small", 128, 5e-4), ("unet", 256, 1e-4)]
)
def test_a_policy_brings_its_recipe(policy, batch_size, learning_rate):
    train = compose("train", [f"policy={policy}"])["train"]
    assert (train["batch_size"], train["learning_rate"]) == (batch_size, learning_rate)


def test_the_command_line_wins_over_the_recipe_in_any_order():
    for argv in (["train.batch_size=3", "policy=unet"], ["policy=unet", "train.batch_size=3"]):
        assert compose("train", argv)["train"]["batch_size"] == 3


def test_overrides_tell_what_the_command_line_set():
    config = compose("train", ["policy=unet", "train.steps=200", "+train.note=hello"])
    assert config["overrides"] == {"policy": "unet", "train.steps": 200, "train.note": "hello"}
    assert config["train"]["note"] == "hello"


def test_the_output_is_named_for_task_policy_and_time():
    output = compose("train", ["policy=unet"])["output"]
    assert re.fullmatch(r"runs/pusht_state_unet/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", output)


def test_one_setting_of_the_checkpoint_s_solver_can_be_changed():
    config = compose("evaluate", ["checkpoint=RUN", "solver.steps=10"])
    assert config["solver"] == {"name": None, "steps": 10, "spacing": None, "eta": None}
    config = compose("evaluate", ["checkpoint=RUN", "solver=ddim", "solver.steps=7"])
    assert (config["solver"]["name"], config["solver"]["steps"]) == ("ddim", 7)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian.steps=5", "'train.steps'"),
        ("train.stesp=5", "'train.steps'"),
        ("stesp=5", "'train.steps'"),
        ("polcy=unet", "'policy'"),
        ("policy=unet_smal", "'unet_small'"),
        ("~train.wandbb", "'train.wandb'"),
    ],
)
def test_a_mistyped_key_or_choice_names_the_nearest(typed, meant):
    assert f"did you mean {meant}?" in refusal("train", typed)


def choices(group):
    """What ships: one file a choice."""
    folder = Path(__file__).parents[2] / "configs" / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def test_an_unknown_choice_lists_the_choices():
    known = ", ".join(choices("policy"))
    assert refusal("train", "policy=xyzzy").endswith(f"Choices of policy: {known}")


def test_a_mistyped_choice_in_a_sweep_is_found_before_the_first_job():
    with pytest.raises(UsageError, match="unet_small"):
        run("train", ["-m", "policy=unet,unet_smal"], lambda config: pytest.fail("a job ran"))


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("dataset=a b=c", """'dataset="a b=c"'"""),
        ("train.steps", "train.steps=VALUE"),
        ("train.seed=0,1", "--multirun"),
        ("--train.steps=5", "without dashes: train.steps=5"),
        ("--config-dir=nowhere", "no such folder"),
        ("output=${nothing}", "'nothing' not found"),
    ],
)
def test_what_cannot_be_read_is_answered_with_a_remedy(typed, remedy):
    assert remedy in refusal("train", typed)


def test_evaluate_asks_for_its_checkpoint():
    assert refusal("evaluate").endswith("dipole evaluate checkpoint=VALUE")


def test_a_path_with_spaces_can_be_quoted():
    assert compose("train", ['dataset="a b/c (1).zarr"'])["dataset"] == "a b/c (1).zarr"


def test_a_sweep_runs_every_combination_each_in_its_own_folder():
    jobs = jobs_of("train", ["-m", "policy=unet,unet_small", "train.seed=0,1", "output=sweep"])
    assert [(job["policy"]["name"], job["train"]["seed"], job["output"]) for job in jobs] == [
        ("unet", 0, "sweep/0"),
        ("unet", 1, "sweep/1"),
        ("unet_small", 0, "sweep/2"),
        ("unet_small", 1, "sweep/3"),
    ]


def test_the_jobs_of_a_sweep_share_one_folder_by_default():
    jobs = jobs_of("train", ["-m", "policy=glob(*)"])
    assert [job["overrides"]["policy"] for job in jobs] == choices("policy")
    assert [Path(job["output"]).name for job in jobs] == [str(i) for i in range(len(jobs))]
    assert len({Path(job["output"]).parent for job in jobs}) == 1


def test_a_failing_job_does_not_stop_the_sweep(capsys):
    seeds = []

    def job(config):
        seeds.append(config["train"]["seed"])
        if config["train"]["seed"] == 0:
            raise DataError("damaged")
        return 0

    assert run("train", ["--multirun", "train.seed=0,1"], job) == 1
    assert seeds == [0, 1]
    assert "job 0 failed: damaged" in capsys.readouterr().err


def test_without_multirun_the_job_s_exit_code_is_returned():
    assert run("train", [], lambda config: 3) == 3


def test_a_user_s_folder_adds_choices(my_configs):
    config = compose("train", ["--config-dir", str(my_configs), "task=mine"])
    assert config["task"]["dataset"] == "my.zarr"
    assert config["policy"]["name"] == "unet_small"


def test_a_mistyped_choice_of_the_user_s_own_names_the_nearest(my_configs):
    message = refusal("train", "--config-dir", str(my_configs), "task=mnie")
    assert message == (
        "unknown choice task=mnie, did you mean 'mine'? "
        f"Choices of task: {', '.join(['mine', *choices('task')])}"
    )


def test_cfg_prints_the_configuration_and_runs_nothing(capsys):
    argv = ["--cfg", "train.steps=123"]
    assert run("train", argv, lambda config: pytest.fail("a job ran")) == 0
    assert "  steps: 123\n" in capsys.readouterr().out


def test_help_lists_groups_choices_and_settings(capsys):
    assert run("train", ["--help"], lambda config: pytest.fail("a job ran")) == 0
    shown = capsys.readouterr().out
    assert f"  policy={'|'.join(choices('policy'))}\n" in shown
    assert "  train.ema.max_decay=0.9999\n" in shown
    assert run("evaluate", ["-h"], lambda config: pytest.fail("a job ran")) == 0
    assert "  checkpoint=???\n" in capsys.readouterr().out


def test_composing_leaves_no_trace(tmp_path, monkeypatch):
    """No output folders, no change of directory, no logging handlers: hydra's usual ones."""
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    jobs_of("train", ["-m", "train.seed=0,1"])
    assert (Path.cwd(), list(tmp_path.iterdir())) == (tmp_path, [])
    assert logging.getLogger().handlers == handlers

"""Composition: what the command line says becomes a plain dictionary, or a clear refusal."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from dipole.apps.compose import compose, run
from dipole.apps.compose.application import computes_alone
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.errors import DataError
from dipole.policy.checkpoint.migrations import migrated_config

COMPOSED = json.loads((Path(__file__).parent / "composed.json").read_text())


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
    ("policy", "batch_size", "learning_rate"),
    [("unet_small", 128, 5e-4), ("unet_quick", 128, 1e-3), ("unet", 256, 1e-4)],
)
def test_a_policy_brings_its_recipe(policy, batch_size, learning_rate):
    train = compose("train", [f"policy={policy}"])["train"]
    assert (train["batch_size"], train["learning_rate"]) == (batch_size, learning_rate)


@pytest.mark.parametrize(
    ("argv", "denoiser"),
    [
        (["policy=dit_small"], "dit"),
        (["policy/denoiser=dit_small"], "dit"),
        (["policy=unet", "policy/denoiser=dit_small"], "dit"),
        (["policy=dit_small", "policy/denoiser=unet1d_small"], "unet1d"),
    ],
)
def test_a_network_is_chosen_for_any_policy(argv, denoiser):
    found = compose("train", argv)["policy"]["denoiser"]
    assert found["name"] == denoiser
    assert ("down_dims" in found) == (denoiser == "unet1d")


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
    assert config["solver"] == dict.fromkeys(config["solver"]) | {"steps": 10}
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
    """What ships: one file a choice, those of a family of tasks in a folder of theirs."""
    folder = Path(__file__).parents[2] / "configs" / group
    files = folder.glob("**/[!_]*.yaml" if group == "task" else "*.yaml")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def test_an_unknown_choice_lists_the_choices():
    known = ", ".join(choices("policy"))
    assert refusal("train", "policy=xyzzy").endswith(f"Choices of policy: {known}")


def test_a_task_of_a_family_is_a_choice_and_takes_the_family_s_settings():
    task = compose("train", ["task=metaworld/mt10"])["task"]
    assert task["environment"] == {"name": "metaworld/mt10", "options": {}}
    assert list(task["observation"]) == ["state", "rotation", "task"]


def test_a_mistyped_choice_in_a_sweep_is_found_before_the_first_job():
    with pytest.raises(UsageError, match="unet_small"):
        run("train", ["-m", "policy=unet,unet_smal"], lambda config: pytest.fail("a job ran"))


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("dataset=a b=c", """'dataset="a b=c"'"""),
        ("train.steps", "train.steps=VALUE"),
        ("train.seed=0,1", "--multirun"),
        ("--train.steps=5", "without dashes: train.steps=VALUE"),
        ("--config-dir=nowhere", "no such folder"),
        ("output=${nothing}", "'nothing' not found"),
    ],
)
def test_what_cannot_be_read_is_answered_with_a_remedy(typed, remedy):
    assert remedy in refusal("train", typed)


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize("named", ["environment=gym:a:B-v0", "environment={name: gym:a:B-v0}"])
def test_an_environment_and_a_setting_of_it_both_hold_in_any_order(named, plus):
    words = [named, f"{plus}environment.python=/a/python"]
    wanted = {"name": "gym:a:B-v0", "python": "/a/python"}
    for given in (words, words[::-1]):
        assert compose("evaluate", ["checkpoint=RUN", *given])["environment"] == wanted


def test_a_task_s_environment_and_a_setting_of_it_both_hold_in_any_order():
    wanted = {"name": "fork", "options": {}, "max_steps": 2}
    for setting in ("environment.max_steps=2", "+task.environment.max_steps=2"):
        words = ["++task.environment=fork", setting]
        for given in (words, words[::-1]):
            assert compose("train", given)["task"]["environment"] == wanted


def test_a_setting_of_an_environment_without_a_value_is_answered_as_it_was_typed():
    said = refusal("evaluate", "checkpoint=RUN", "environment.python")
    assert "environment.python=VALUE" in said
    assert "++" not in said


def test_evaluate_asks_for_its_checkpoint():
    assert refusal("evaluate").endswith("dipole evaluate checkpoint=VALUE")


def test_a_path_with_spaces_can_be_quoted():
    assert compose("train", ['dataset="a b/c (1).zarr"'])["dataset"] == "a b/c (1).zarr"


def test_without_multirun_the_job_s_exit_code_is_returned():
    assert run("train", [], lambda config: 3) == 3


def test_a_user_s_folder_adds_choices(my_configs):
    config = compose("train", ["--config-dir", str(my_configs), "task=mine"])
    assert config["task"]["dataset"] == "my.zarr"
    assert config["policy"]["name"] == "unet_small"


def test_a_user_s_task_may_begin_with_one_of_a_family(my_configs):
    text = "defaults:\n  - maze/umaze@_here_\n  - _self_\nname: like_it\n"
    (my_configs / "task/like_it.yaml").write_text(text)
    mine, theirs = (
        compose("train", ["--config-dir", str(my_configs), f"task={name}"])["task"]
        for name in ("like_it", "maze/umaze")
    )
    assert mine == {**theirs, "name": "like_it"}
    # From there "maze/_base" would be looked for in task/maze: it is named from the top.
    files = list((Path(__file__).parents[2] / "configs/task").glob("*/*.yaml"))
    begun = [re.findall(r"^  - (.*)@_here_$", file.read_text(), re.MULTILINE) for file in files]
    assert len(files) > 60
    assert all(name.startswith("/task/") for names in begun for name in names)


def test_a_mistyped_choice_of_the_user_s_own_names_the_nearest(my_configs):
    message = refusal("train", "--config-dir", str(my_configs), "task=mnie")
    assert message.startswith("unknown choice task=mnie, did you mean 'mine'? There are ")
    assert ", such as mine" in message
    assert message.endswith("`dipole train --help task` lists them")
    assert len(message) < 300


def test_an_unknown_task_says_where_one_s_own_is_looked_for():
    said = refusal("train", "task=metaworld/reech")
    assert "did you mean 'metaworld/reach'? There are" in said
    assert said.endswith("DIR/task/metaworld/reech.yaml, is found by --config-dir DIR")


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
    assert run("train", ["train.seed=1"], lambda config: 0) == 0
    assert (Path.cwd(), list(tmp_path.iterdir())) == (tmp_path, [])
    assert logging.getLogger().handlers == handlers
    assert not GlobalHydra.instance().is_initialized()


def test_an_exception_of_the_job_is_the_job_s_own(capsys):
    """Hydra would print it and exit."""

    def job(config):
        raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        run("train", [], job)
    assert capsys.readouterr().err == ""


def test_a_key_that_is_given_twice_is_refused():
    assert refusal("train", "train.seed=1", "train.seed=2") == "train.seed is given twice"
    assert compose("train", ["~train.wandb", "+train.wandb=true"])["train"]["wandb"] is True


def flat(node, prefix=""):
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {k: v for name in node for k, v in flat(node[name], f"{prefix}.{name}").items()}


def as_of_this_version(config):
    """Noise process and prediction apart from the head; leading spacing is what vp prefers; so many
    keypoints are what the pooling has by itself."""
    solvers = [config["solver"]] if "solver" in config else []
    if "policy" in config:
        policy = migrated_config(config["policy"], 1)
        assert policy.pop("prediction") == "noise"
        solvers.append(policy["head"]["solver"])
        pooling = policy["encoder"].get("pooling", {})
        assert pooling.pop("n_keypoints", 32) == 32
        config = {**config, "policy": policy}
    for solver in solvers:
        solver["spacing"] = None
    chosen = {"workers": None, "video_episodes": None}  # by what is evaluated, where it is not said
    return {**config, **(chosen if "video_episodes" in config else {})}


ADDED_AUGMENTATIONS = ("hue", "cutout", "cutout_count", "cutout_fill", "blur", "noise")


@pytest.mark.parametrize("words", COMPOSED)
def test_recipes_and_defaults_lists_compose_what_single_files_did(words):
    """composed.json is of the layout in which each policy's file held everything."""
    name, *argv = words.split()
    if name == "train" and argv[0] in ("policy=unet_small", "task=pusht_image"):
        argv.append("policy/process=vp")  # the small network's process was this one
    if argv == ["policy=unet_image_small"]:
        argv += ["policy/process=vp", "train.steps=8000", "policy.encoder.augment.shift=3"]
    config = compose(name, argv)
    if "output" in config:
        config["output"] = config["output"].split("/20")[0]
    now, before = flat(config), flat(as_of_this_version(COMPOSED[words]))
    assert {key: now[key] for key in before} == before
    new = set(now) - set(before) - {".overrides"} - {k for k in now if k.startswith(".overrides.")}
    assert new <= {
        ".part",
        ".video",
        *(f".batch.{each}" for each in ("size", "wait", "max_waiting")),
        ".policies",
        ".watch",
        ".video_views",
        ".keep_episodes",
        ".image_networks",
        ".aspects",
        ".aspects_observations",
        ".aspects_samples",
        ".aspects_likelihood",
        *([".dataset"] if name == "evaluate" else []),
        ".guidance_scale",
        ".costs",
        ".task.policy_hz",
        ".train.validation_windows",
        ".train.memory_limit",
        ".train.shuffle_blocks",
        ".train.matmul_precision",
        ".train.background_checkpoints",
        ".train.copy_to",
        ".train.rank_timeout",
        ".train.sharding",
        ".train.overlap_gradients",
        ".train.weight_decays",
        ".train.decay_norms_and_biases",
        ".train.init.from",
        ".train.init.map",
        ".train.init.weights",
        ".objective.name",
        *(key for key in new if key.startswith(".task.targets.")),
        ".solver.eta",
        ".solver.sde",
        ".solver.published",
        ".solver.rho",
        ".solver.shift",
        ".policy.head.counts_padding",
        ".policy.head.extra_inputs",
        ".policy.head.prefix.probability",
        ".policy.head.prefix.max_length",
        ".policy.encoder.differences",
        *(f".policy.encoder.augment.{name}" for name in ADDED_AUGMENTATIONS),
        ".policy.prediction.name",
        ".policy.process.continuous",
        ".policy.process.beta_start",
        ".policy.process.beta_end",
    }


def test_a_user_s_training_settings_win_over_the_policy_s_recipe(my_configs):
    (my_configs / "train").mkdir()
    (my_configs / "train/mine.yaml").write_text("batch_size: 7\n")
    argv = ["--config-dir", str(my_configs), "train=mine", "policy=unet"]
    train = compose("train", argv)["train"]
    assert (train["batch_size"], train["steps"], train["warmup_steps"]) == (7, 100_000, 500)


def test_a_policy_of_the_user_s_own_needs_no_recipe(my_configs):
    (my_configs / "policy").mkdir()
    (my_configs / "policy/mine.yaml").write_text("defaults: [unet_small, _self_]\nname: mine\n")
    config = compose("train", ["--config-dir", str(my_configs), "policy=mine"])
    assert (config["policy"]["name"], config["train"]["steps"]) == ("mine", 7000)
    config = compose("train", ["--config-dir", str(my_configs), "policy=mine", "recipe=unet"])
    assert config["train"]["steps"] == 100_000


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("hydra/launcher=joblibb", "did you mean 'joblib'?"),
        ("hydra/launcher=ray", "pip install 'hydra-ray-launcher'"),
        ("hydra.sweeper.max_batch=3", "did you mean 'hydra.sweeper.max_batch_size'?"),
        ("hydra.launcher.n_jobs=2", "unknown key 'hydra.launcher.n_jobs'"),
    ],
)
def test_hydra_s_own_settings_are_checked_too(typed, remedy):
    assert remedy in refusal("train", typed)


@pytest.mark.parametrize(
    ("name", "words", "alone"),
    [
        ("train", [], True),
        ("train", ["train.workers=2"], False),
        ("train", ["evaluate.workers=1"], False),
        ("evaluate", ["checkpoint=x"], False),
    ],
)
def test_threads_spin_only_where_training_is_alone(name, words, alone):
    assert computes_alone(name, compose(name, words)) is alone


def test_the_waiting_policy_is_set_before_torch_is_imported():
    code = (
        "import os, sys\n"
        "from dipole.apps.compose import run\n"
        "def job(config):\n"
        "    print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)\n"
        "run('train', sys.argv[1:], job)\n"
        "from dipole.apps.commands import bench, deploy, evaluate, export, record, serve, train\n"
        "print('torch' in sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for words, policy in (([], "None"), (["evaluate.workers=2"], "PASSIVE")):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[:2] == [f"{policy} False", "False"]

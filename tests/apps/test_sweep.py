"""Sweeps: hydra's launchers and sweepers, a process for each job, one Ctrl-C for all of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dipole.apps.compose import run
from dipole.apps.compose import sweep as sweep_module
from dipole.apps.compose.configuration import checking
from dipole.apps.compose.options import Options
from dipole.apps.compose.outputs import job_paths
from dipole.apps.compose.sweep import plan_sweep
from dipole.apps.main import main
from dipole.apps.terminal.errors import UsageError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import sweep_jobs  # noqa: E402

PROGRAM = (
    "import sys, sweep_jobs; from dipole.apps.compose import run\n"
    "if __name__ == '__main__': sys.exit(run('train', sys.argv[1:], sweep_jobs.job))"
)
JOBLIB, SUBMITIT = "hydra/launcher=joblib", "hydra/launcher=submitit_local"


@pytest.fixture(autouse=True)
def jobs_are_importable(monkeypatch):
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [path])]))


def sweep(output, *words):
    return run("train", ["-m", f"output={output}", *words], sweep_jobs.job)


def rows(output):
    return json.loads((output / "sweep.json").read_text())


def said(output, number):
    return (output / str(number) / "said.txt").read_text()


@pytest.mark.parametrize("launcher", [[], [JOBLIB, "hydra.launcher.n_jobs=2"]])
def test_a_sweep_runs_every_combination_each_in_its_own_folder(tmp_path, launcher):
    words = ["policy=unet,unet_small", "train.seed=0,1"]
    assert sweep(tmp_path / "sweep", *launcher, *words) == 0
    assert [said(tmp_path / "sweep", number) for number in range(4)] == [
        "0 unet None null",
        "1 unet None null",
        "0 unet_small None null",
        "1 unet_small None null",
    ]
    assert [row["overrides"] for row in rows(tmp_path / "sweep")] == [
        {"policy": "unet", "train.seed": 0},
        {"policy": "unet", "train.seed": 1},
        {"policy": "unet_small", "train.seed": 0},
        {"policy": "unet_small", "train.seed": 1},
    ]
    assert [(row["state"], row["score"]) for row in rows(tmp_path / "sweep")] == [
        ("done", 0.0),
        ("done", 1.0),
        ("done", 0.0),
        ("done", 1.0),
    ]
    left = {path.name for path in (tmp_path / "sweep").iterdir()}
    assert left == {"0", "1", "2", "3", "sweep.json"}  # nothing of hydra's own


def named_alone(folder, **names):
    """Tasks like the bundled one, whose simulators are given by their names alone."""
    (folder / "task").mkdir(parents=True)
    for task, name in names.items():
        text = f"defaults: [pusht_state, _self_]\nname: {task}\nenvironment: {name}\n"
        (folder / "task" / f"{task}.yaml").write_text(text)
    return ["--config-dir", str(folder)]


@pytest.mark.parametrize("launcher", [[], [JOBLIB, "hydra.launcher.n_jobs=2"]])
def test_settings_of_a_simulator_that_is_a_name_alone_hold_in_each_job(tmp_path, launcher):
    words = ["-m", *named_alone(tmp_path / "mine", one="gym:A-v0"), "task=one", *launcher]
    words += ["environment.max_steps=2,3", "train.seed=0,1", f"output={tmp_path / 'sweep'}"]
    assert run("train", words, sweep_jobs.environment) == 0
    found = [
        json.loads((tmp_path / "sweep" / str(job) / "environment.json").read_text())
        for job in range(4)
    ]
    assert sorted(each["max_steps"] for each in found) == [2, 2, 3, 3]
    assert {each["name"] for each in found} == {"gym:A-v0"}
    for row, each in zip(rows(tmp_path / "sweep"), found, strict=True):
        assert set(row["overrides"]) == {"train.seed", "task.environment.max_steps"}
        assert row["overrides"]["task.environment.max_steps"] == each["max_steps"]


def test_tasks_whose_simulators_are_names_alone_and_differ_take_no_common_setting(tmp_path):
    words = ["-m", *named_alone(tmp_path / "mine", one="gym:A-v0", two="gym:B-v0")]
    words += ["task=one,two", "environment.max_steps=2", f"output={tmp_path / 'sweep'}"]
    with pytest.raises(UsageError, match="one task at a time"):
        run("train", words, sweep_jobs.environment)
    assert not (tmp_path / "sweep").exists()


def test_a_job_that_fails_is_a_row_and_stops_no_other(tmp_path, capsys):
    assert sweep(tmp_path / "sweep", JOBLIB, "train.seed=7,8,9,1") == 1
    states = [(row["state"], row["message"]) for row in rows(tmp_path / "sweep")]
    assert states[0] == ("failed", "it is damaged")
    assert states[1][0] == "failed"
    assert "killed by SIGKILL, as the system does where memory runs out" in states[1][1]
    assert states[2] == ("failed", "ZeroDivisionError: of ours")
    assert states[3] == ("done", "")
    log = (tmp_path / "sweep/2/job.log").read_text()
    assert "Traceback" in log
    assert "0  train.seed=7  failed after" in capsys.readouterr().out


def test_each_job_s_start_and_end_are_said(tmp_path, capsys):
    assert sweep(tmp_path / "sweep", "train.seed=7,1") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[1] == f"job 0 started: train.seed=7 ({tmp_path / 'sweep/0/job.log'})"
    assert re.fullmatch(r"job 0 failed after \d+ s: it is damaged", lines[2])
    assert lines[3].startswith("job 1 started: train.seed=1")
    assert lines[4].endswith("s: loss 1")


def test_jobs_share_one_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", ["-m", "policy=glob(unet_i*,exclude=*small)"], sweep_jobs.job) == 0
    (folder,) = tmp_path.glob("runs/*/*")
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "sweep.json"]


def test_a_sweep_is_never_overwritten(tmp_path):
    assert sweep(tmp_path / "sweep", "train.seed=0") == 0
    with pytest.raises(UsageError, match="already holds a sweep"):
        sweep(tmp_path / "sweep", "train.seed=1")
    assert said(tmp_path / "sweep", 0).startswith("0 ")


def test_optuna_searches_for_the_lowest_score(tmp_path):
    """Values that all jobs share arrive as they were typed: null, quotes, lists."""
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1"]
    fixed = ['dataset="a b=c"', "train.threads=null", "policy.denoiser.down_dims=[8,16]"]
    assert sweep(tmp_path / "sweep", *words, *fixed, "train.seed=choice(0,1,2)") == 0
    found = rows(tmp_path / "sweep")
    assert len(found) == 4
    assert said(tmp_path / "sweep", 0).endswith(" unet_small a b=c null")
    best = (tmp_path / "sweep/optimization_results.yaml").read_text()
    assert f"best_value: {min(row['score'] for row in found)}" in best


def test_a_search_goes_on_past_jobs_that_fail(tmp_path, capsys):
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    assert sweep(tmp_path / "sweep", *words, "train.seed=choice(7)") == 1
    assert [row["state"] for row in rows(tmp_path / "sweep")] == ["failed"] * 3


@pytest.mark.parametrize(
    "words",
    [
        ["resume=a", "train.seed=0,1"],
        ["resume=a,b,./a"],
        ["resume=s3://runs/a,s3://runs/a/"],
        ["resume=a", "hydra/sweeper=optuna", "train.seed=choice(0,1)"],
    ],
)
def test_a_sweep_in_which_jobs_go_on_with_the_same_run_is_refused(words, tmp_path):
    with pytest.raises(UsageError, match=r"several jobs .* this one run.*train.init.from="):
        sweep(tmp_path / "sweep", *words)
    assert not (tmp_path / "sweep").exists()


def test_each_job_of_a_sweep_may_go_on_with_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", ["-m", "output=sweep", "resume=a,b"], sweep_jobs.told) == 0
    told = [json.loads((tmp_path / f"sweep/{n}/told.json").read_text()) for n in range(2)]
    assert told == [{"resume": "a"}, {"resume": "b"}]  # an output is of new runs
    assert [row["output"] for row in rows(tmp_path / "sweep")] == ["a", "b"]


@pytest.mark.parametrize(("evaluate_every", "best"), [(0, "minimize"), (5, "maximize")])
def test_losses_are_minimised_and_success_rates_maximised(evaluate_every, best):
    words = ["hydra/sweeper=optuna", f"train.evaluate_every={evaluate_every}"]
    with checking("train", Options(words)) as checker:
        plan = plan_sweep("train", checker, checker.check(words, True), sweep_jobs.job)
    assert f"hydra.sweeper.direction={best}" in plan.words


def test_no_job_of_this_machine_is_ended_by_submitit_s_limit_for_queues():
    for said in ([], ["hydra.launcher.timeout_min=5"]):
        words = [SUBMITIT, "train.seed=0,1", *said]
        with checking("train", Options(words)) as checker:
            plan = plan_sweep("train", checker, checker.check(words, True), sweep_jobs.job)
        limits = [word for word in plan.words if "timeout_min" in word]
        assert limits == (said or [f"hydra.launcher.timeout_min={365 * 24 * 60}"])


@pytest.mark.heavy
def test_trainings_by_submitit_s_local_executor_are_a_table_afterwards(tmp_path, capsys):
    """`dipole` itself, from the first word to the comparison."""
    words = ["task=pusht_state", "policy=unet_small", "train.steps=2", "train.batch_size=4"]
    words += ["train.log_every=1", "train.validate_every=2", "train.validation_windows=8"]
    words += ["policy.denoiser.down_dims=[16,32]", "train.threads=1", "train.seed=0,1"]
    output = tmp_path / "sweep"
    command = [sys.executable, "-m", "dipole.apps.main", "train", "-m", SUBMITIT, *words]
    subprocess.run([*command, f"output={output}"], check=True)
    assert [row["state"] for row in rows(output)] == ["done", "done"]
    capsys.readouterr()
    assert main(["compare", str(output), "--json", str(tmp_path / "table.json")]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    found = {row["settings"]["train.seed"]: row["validation_loss"] for row in table["runs"]}
    assert sorted(found) == [0, 1]
    assert list(found.values()) == sorted(found.values())
    assert table["ordered_by"] == "validation_loss"
    assert {row["steps"] for row in table["runs"]} == {2}


@pytest.mark.parametrize("command", ["train", "distill"])
def test_a_training_that_a_queue_starts_again_goes_on_with_its_run(tmp_path, monkeypatch, command):
    asked = []
    hydra = SimpleNamespace(get=lambda: SimpleNamespace(job=SimpleNamespace(num=0)))
    monkeypatch.setattr(sweep_module, "HydraConfig", hydra)
    monkeypatch.setattr(sweep_module, "job_configuration", dict)

    def begun(request, state, states, log):
        asked.append(request)
        state.write(states)
        (tmp_path / "0").mkdir(exist_ok=True)
        (tmp_path / "0/run.json").touch()
        return state

    monkeypatch.setattr(sweep_module, "run_in_process", begun)
    job = sweep_module.SweepJob(command, "sweep_jobs:job", str(tmp_path), str(tmp_path))
    job = replace(job, sweeper=sweep_module._here())
    for _ in range(2):
        new = {"resume": None} if command == "train" else {}
        job({"output": "x", **new, "overrides": {"train.seed": 1}})
    output = str(tmp_path / "0")
    assert asked[0].config.get("resume") is None
    assert asked[0].function == "sweep_jobs:job"
    going_on = {"output": output, "resume": output, "overrides": {"output": output}}
    assert asked[1].config == going_on
    assert asked[1].function == "dipole.apps.commands.train:train"


def test_a_range_to_search_in_needs_a_search():
    with pytest.raises(UsageError, match="add hydra/sweeper=optuna"):
        run("train", ["-m", "train.learning_rate=interval(1e-5,1e-3)"], sweep_jobs.job)


def test_a_mistyped_choice_in_a_sweep_is_found_before_the_first_job(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'unet_small'"):
        sweep(tmp_path / "sweep", "policy=unet,unet_smal")
    with pytest.raises(UsageError, match=r"did you mean 'train\.seed'"):
        sweep(tmp_path / "sweep", "policy=unet", "train.sed=1,2")
    assert not (tmp_path / "sweep").exists()


def test_a_robot_is_moved_by_one_job_at_a_time():
    from dipole.apps.main import main

    assert main(["deploy", "-m", "seed=0,1", "checkpoint=x"]) == 2


def started(tmp_path, launcher):
    """A sweep of jobs that wait, once those beside each other do; a process group of its own.

    A process that joblib has started ends by a Ctrl-C which comes before its first job.
    """
    output = tmp_path / "sweep"
    words = ["-m", *launcher, "train.seed=10,11,12,13", f"output={output}"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    beside = [output / f"{number}/waiting" for number in range(2 if launcher else 1)]
    while not all(each.exists() for each in beside):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process, output


def working_on(output):
    """Processes whose command line or input names the folder, or that a job's log is open in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(str(output)) for link in links):
            found.append(folder.name)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("whom", ["the group, as a terminal does", "the sweep alone"])
@pytest.mark.parametrize("launcher", [[], [JOBLIB, "hydra.launcher.n_jobs=2"]])
def test_one_ctrl_c_ends_a_sweep_whole_and_its_jobs_save(tmp_path, launcher, whom):
    process, output = started(tmp_path, launcher)
    if "group" in whom:
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0, printed
    assert (output / "0/saved").exists(), printed
    states = [row["state"] for row in rows(output)]
    assert states[0] == "interrupted"
    assert states[-1] == "not started"
    assert working_on(output) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_jobs_of_a_sweep_that_is_killed_end_too(tmp_path):
    process, output = started(tmp_path, [])
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while working_on(output) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (output / "0/saved").exists()
    assert working_on(output) == []


@pytest.mark.heavy
def test_what_may_not_exist_beforehand_is_written_into_the_job_s_folder(tmp_path):
    from dipole.data import EpisodeStore

    words = ["-m", f"output={tmp_path / 'demos.zip'}", "episodes=1", "seed=0,1"]
    assert main(["record", *words]) == 0
    for number in (0, 1):
        folder = tmp_path / "demos" / str(number)
        assert sorted(path.name for path in folder.iterdir()) == ["demos.zip", "job.log"]
        assert EpisodeStore.open(folder / "demos.zip").n_episodes == 1
    rows = json.loads((tmp_path / "demos/sweep.json").read_text())
    assert [row["output"] for row in rows] == [
        str(tmp_path / f"demos/{number}/demos.zip") for number in (0, 1)
    ]


@pytest.mark.parametrize(
    ("command", "output", "folder", "written"),
    [
        ("train", "runs/a.b", "runs/a.b/2", "runs/a.b/2"),
        ("evaluate", "runs/e", "runs/e/2", "runs/e/2"),
        ("record", "demos", "demos/2", "demos/2/demos"),
        ("record", "d/push.zarr.zip", "d/push/2", "d/push/2/push.zarr.zip"),
        ("export", "e/onnx", "e/onnx/2", "e/onnx/2/onnx"),
        ("bench", "b/time.json", "b/time/2", "b/time/2/time.json"),
    ],
)
def test_where_the_jobs_of_a_sweep_write(command, output, folder, written):
    assert job_paths(command, output, 2) == (Path(folder), Path(written))

"""A student out of a teacher, from the command line to an evaluation."""

import json

import pytest

from dipole.apps.main import main
from dipole.data.core.errors import ConfigError
from dipole.policy.training.distill import student_run
from dipole.policy.training.objectives.distillation.base import distilling_methods

pytestmark = pytest.mark.heavy
TINY = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
SHORT = ["train.steps=4", "train.batch_size=8", "train.validate_every=0", "train.threads=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(demonstrations, a policy that was trained on them)"""
    folder = tmp_path_factory.mktemp("runs")
    demos, teacher = folder / "fork.zarr", folder / "teacher"
    assert main(["record", "task=fork", "expert=fork", "episodes=4", f"output={demos}"]) == 0
    words = ["task=fork", f"dataset={demos}", "policy=unet_small", *TINY, *SHORT]
    assert main(["train", *words, f"output={teacher}"]) == 0
    return demos, teacher


def config(checkpoint):
    return json.loads((checkpoint / "config.json").read_text())


def test_a_student_is_trained_evaluated_and_resumed(runs, tmp_path):
    _, teacher = runs
    student = tmp_path / "student"
    words = ["distill", f"teacher={teacher}", "method=consistency", "method.levels=4", *SHORT]
    assert main([*words, f"output={student}"]) == 0
    saved = config(student / "checkpoints" / "00000004")
    assert saved["policy"]["head"]["solver"] == {"name": "jump", "steps": 1, "gamma": 1.0}
    assert saved["frozen"]["teacher"]["checkpoint"].endswith("teacher/checkpoints/00000004")
    files = {each.name for each in (student / "checkpoints" / "00000004").iterdir()}
    assert not any("teacher" in name for name in files)  # named by its hash, not copied
    assert main(["train", f"resume={student}", "train.steps=6"]) == 0
    evaluation = tmp_path / "evaluation"
    few = ["episodes=1", "video_episodes=0", "picture=false"]
    words = [f"checkpoint={student}", "solver.steps=1", *few, f"output={evaluation}"]
    assert main(["evaluate", *words]) == 0
    assert json.loads((evaluation / "metrics.json").read_text())["episodes"] == 1


@pytest.mark.parametrize("method", distilling_methods())
def test_every_method_trains_a_policy_of_one_step(runs, tmp_path, method):
    _, teacher = runs
    student, evaluation = tmp_path / "student", tmp_path / "evaluation"
    words = [f"teacher={teacher}", f"method={method}", *SHORT[1:], "train.steps=2"]
    assert main(["distill", *words, f"output={student}"]) == 0
    words = [f"checkpoint={student}", "solver.steps=1", "episodes=1", "video_episodes=0"]
    assert main(["evaluate", *words, "picture=false", f"output={evaluation}"]) == 0
    found = json.loads((evaluation / "metrics.json").read_text())
    assert found["evaluations_per_chunk"] == 1


def test_a_student_learns_from_other_data_with_the_teachers_normalisers(runs, tmp_path):
    _, teacher = runs
    demos, student = tmp_path / "other.zarr", tmp_path / "student"
    record = ["record", "task=fork", "expert=fork", "episodes=2", "seed=5", f"output={demos}"]
    assert main(record) == 0
    words = [f"teacher={teacher}", "method=consistency", f"dataset={demos}", *SHORT]
    assert main(["distill", *words, f"output={student}"]) == 0
    from dipole.policy.checkpoint import load_policy

    one, other = load_policy(teacher), load_policy(student)
    for (name, mine), theirs in zip(
        one.normalizers.state_dict().items(), other.normalizers.state_dict().values(), strict=True
    ):
        assert mine.tolist() == theirs.tolist(), name


def test_a_student_is_made_from_python(runs, tmp_path):
    import dipole

    _, teacher = runs
    settings = {"steps": 2, "batch_size": 8, "validate_every": 0, "threads": 1}
    made = dipole.distill(teacher, method="consistency", train=settings, output=tmp_path / "one")
    assert made.step == 2
    assert dipole.load_policy(made.checkpoint).solver.name == "jump"


def test_a_teacher_that_is_none_is_refused(tmp_path, capsys):
    assert main(["distill", f"teacher={tmp_path}", "method=consistency"]) != 0
    assert f"teacher={tmp_path}" in capsys.readouterr().err


def test_what_distils_nothing_is_no_method(runs):
    _, teacher = runs
    given = {"teacher": str(teacher), "weights": "ema", "method": {"name": "behaviour_cloning"}}
    with pytest.raises(ConfigError, match=r"'behaviour_cloning' distils nothing: choose .*consist"):
        student_run(given)

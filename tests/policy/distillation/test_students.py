"""A student's configuration: it is sampled at the levels that its method trains."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_fixture import NETWORK, WINDOW, method

from dipole.data import ConfigError, WindowSpec
from dipole.policy.core.components import OBJECTIVES, PROCESSES, build
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.training import distill
from dipole.policy.training.objectives.distillation.pairs import ode_solver
from dipole.policy.training.objectives.distillation.steps import LevelGrid

TEACHER = {
    "encoder": {"name": "state"},
    "denoiser": NETWORK,
    "process": {"name": "vp"},
    "prediction": None,
    "head": {"name": "diffusion"},
    "guidance": None,
}
SPACINGS = {
    "vp": ("trailing", "uniform", "karras", "log_snr"),
    "flow": ("uniform", "shifted", "karras", "log_snr"),
    "edm": ("trailing", "karras", "log_snr"),
}
SPACED = ("adversarial", "consistency", "ctm", "lcm", "progressive", "segmented")


@pytest.mark.parametrize(
    ("process", "spacing"), [(p, s) for p, known in SPACINGS.items() for s in known]
)
def test_a_student_s_first_jump_begins_where_its_method_trains(process, spacing):
    made = build(PROCESSES, {"name": process})
    first = LevelGrid(made, 8, spacing).at(torch.tensor(0))
    for name in SPACED:
        config = OBJECTIVES[name].student(TEACHER, {"spacing": spacing})["head"]["solver"]
        begun = solver_from(config).levels(made)[0]
        assert begun.time == pytest.approx(float(first.time), rel=1e-5)
    assert "spacing" not in OBJECTIVES["ctm"].student(TEACHER, {"spacing": None})["head"]["solver"]


@pytest.mark.parametrize("process", sorted(SPACINGS))
def test_pairs_are_drawn_along_the_levels_at_which_other_methods_train(process):
    made = build(PROCESSES, {"name": process})
    times = [float(level.time) for level in ode_solver(made, 10).levels(made)]
    assert times == pytest.approx(LevelGrid(made, 10).at(torch.arange(11)).time.tolist(), rel=1e-4)


def test_a_spacing_that_does_not_begin_at_the_most_noise_is_refused():
    said = r"spacing is 'leading'.* begin at the most noise.*: choose trailing, uniform, karras"
    with pytest.raises(ConfigError, match=said):
        method(OBJECTIVES["consistency"], "vp", spacing="leading")
    with pytest.raises(ConfigError, match=r"solver.spacing is 'trailin', did you mean 'trailing'"):
        method(OBJECTIVES["consistency"], "vp", spacing="trailin")


@pytest.mark.parametrize("name", ["progressive", "segmented"])
def test_a_student_of_stages_draws_in_as_many_jumps_as_its_last_one_trains(name):
    kind = OBJECTIVES[name]
    for stages in ([8, 4, 2, 1], [8, 4, 2], [8, 4]):
        solver = kind.student(TEACHER, {"stages": stages})["head"]["solver"]
        assert solver == {"name": "jump", "steps": stages[-1], "gamma": 0.0}
    assert kind.student(TEACHER, {})["head"]["solver"]["steps"] == 1
    for stages in (4, [], "8421"):
        with pytest.raises(ConfigError, match=r"stages is .*: a list of whole numbers is needed"):
            kind.student(TEACHER, {"stages": stages})


@pytest.mark.parametrize(
    ("name", "process", "options", "said"),
    [
        ("progressive", "vp", {"spacing": "karras"}, "stages begins with 8, and .* has 5 levels"),
        ("progressive", "flow", {"stages": 4}, r"stages is 4: a list of whole numbers"),
        ("progressive", "flow", {"shares": 3}, r"shares is 3: a list of numbers is needed"),
        (
            "progressive",
            "flow",
            {"adversarial": -1.0},
            r"adversarial is -1.0: a number of 0",
        ),
        ("progressive", "flow", {"max_decay": 1.0}, r"max_decay is 1.0: from 0 to below 1"),
        ("segmented", "flow", {"stages": [1, 2, 4]}, r"stages is \[1, 2, 4\].* below the one befo"),
        ("segmented", "flow", {"stages": 4}, r"stages is 4: a list of whole numbers"),
        ("adversarial", "flow", {"distillation": -1.0}, r"distillation is -1.0: a number of 0"),
        ("adversarial", "flow", {"distillation": float("nan")}, r"distillation is nan: a number"),
        ("consistency", "flow", {"target_decay": 1.0}, r"target_decay is 1.0: from 0 to below 1"),
        ("ctm", "flow", {"denoising": float("inf")}, r"denoising is inf: a number of 0 or more"),
        ("ctm", "flow", {"denoising_rows": 1.5}, r"denoising_rows is 1.5: a share lies between"),
        ("consistency", "flow", {"target_decay": None}, r"target_decay is None: from 0 to below"),
        ("shortcut", "flow", {"target_decay": None}, r"target_decay is None: from 0 to below"),
        ("consistency", "flow", {"levels": 0}, r"asks for 0 noise levels \(of its options levels,"),
        ("ctm", "vp", {"levels": 200}, r"asks for 200 noise levels .* solver.steps is 200"),
        ("reflow", "vp", {"steps": 200}, r"solver.steps is 200"),
        ("progressive", "flow", {"stages": [8, 2], "adversarial_from": 1}, "no stage has so few"),
    ],
)
def test_options_that_cannot_be_are_refused(name, process, options, said):
    with pytest.raises(ConfigError, match=said):
        method(OBJECTIVES[name], process, **options)


def test_a_student_may_execute_another_number_of_actions_than_its_teacher():
    """A run may be resumed with another n_action_steps; with another window it is not the same."""
    kind = OBJECTIVES["consistency"]
    made = method(kind, student={"window": WindowSpec(2, 4, 1)}, teacher={"window": WINDOW})
    assert made.policy.window.n_action_steps == 1
    for other in (WindowSpec(1, 4, 2), WindowSpec(2, 8, 2)):
        with pytest.raises(ConfigError, match="the teacher's window is not the student's"):
            method(kind, student={"window": other}, teacher={"window": WINDOW})


def test_levels_that_the_process_rounds_away_are_told_of():
    with pytest.warns(UserWarning, match=r"of 10 noise levels .* 'karras' this process has 6"):
        method(OBJECTIVES["consistency"], "vp", spacing="karras")


@pytest.mark.parametrize("name", ["consistency", "shortcut", "gan"])
def test_the_student_of_a_policy_that_is_none_of_diffusion_is_refused(name):
    with pytest.raises(ConfigError, match="head is 'regression': a diffusion policy is needed"):
        OBJECTIVES[name].student({**TEACHER, "head": {"name": "regression"}}, {})


def test_a_teacher_may_have_no_prefix_at_all():
    head = {"name": "diffusion", "prefix": None}
    made = OBJECTIVES["consistency"].student({**TEACHER, "head": head}, {})
    assert made["head"]["prefix"] == {"probability": 0.0}


def test_a_student_of_a_teacher_with_prefixes_has_none_and_a_note(tmp_path):
    head = {"name": "diffusion", "prefix": {"probability": 0.5, "max_length": 2}}
    kind, teacher = OBJECTIVES["consistency"], {**TEACHER, "head": head}
    made = kind.student(teacher, {})
    assert made["head"]["prefix"]["probability"] == 0
    assert "real-time chunking" in " ".join(kind.notes(teacher, made, tmp_path))
    assert "real-time" not in " ".join(kind.notes(TEACHER, made, tmp_path))


@pytest.fixture
def distilled(monkeypatch):
    """The run of a student of RUN, by its method and its training."""
    run = {"task": {}, "policy": TEACHER, "dataset": "x.zarr"}
    monkeypatch.setattr(distill, "find_checkpoint", Path)
    monkeypatch.setattr(distill, "read_config", lambda _: {"run": run})
    monkeypatch.setattr(distill, "origin", str)

    def made(name, train):
        given = {"teacher": "RUN", "weights": "ema", "method": {"name": name}, "dataset": None}
        return distill.student_run({**given, "train": train, "evaluate": {}, "output": "o"}).config

    return made


def test_weights_to_begin_with_are_the_teacher_s(distilled):
    other = {"steps": 5, "init": {"from": "OTHER", "map": None, "weights": "raw"}}
    with pytest.raises(ConfigError, match=r"train.init.from=OTHER: a student begins with its teac"):
        distilled("consistency", other)
    assert distilled("meanflow", other)["train"] == other  # without a teacher: as in any run
    for none in ({}, {"init": None}, {"init": {"from": None, "map": None, "weights": "ema"}}):
        named = distilled("consistency", none)["train"]["init"]["from"]
        assert named == str(Path("RUN").resolve())  # the run is resumed from any folder

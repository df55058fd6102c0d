"""The table of `benchmarks/distillation_study.py`."""

import json
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dipole.benchmarks import distillation_study
from dipole.benchmarks.distillation_study import found, picture, table

SVG = "{http://www.w3.org/2000/svg}"


def result(place, **changed):
    place.mkdir(parents=True)
    scores = {
        "method": "ctm",
        "steps": 1,
        "success": 0.5,
        "success_ci95": [0.4, 0.6],
        "reward": 0.9,
        "reward_ci95": [0.8, 1.0],
        "jerk": 3.0,
        "evaluations": 1,
        "episodes": 200,
        "fork_success": 1.0,
        "entropy": 0.9,
        "energy_distance": 0.01,
        "minutes": 3.0,
    }
    (place / "result.json").write_text(json.dumps(scores | changed))


def test_each_method_and_number_of_steps_has_one_row(tmp_path):
    result(tmp_path / "ctm/steps_1_200")
    result(tmp_path / "ctm/steps_1_500", episodes=500, success=0.7)
    result(tmp_path / "teacher/steps_10_200", method="teacher", steps=10, minutes=None)
    (tmp_path / "times.json").write_text(json.dumps({"ctm 1 eager": {"ms": 2.0, "faster": 7.5}}))
    rows = found(tmp_path)
    assert [(row["method"], row["episodes"]) for row in rows] == [("teacher", 200), ("ctm", 500)]
    assert "| ctm | 1 | 70.0 (40.0 to 60.0) |" in table(rows)
    assert "2.0 (7.5×)" in table(rows)
    written = {text.text for text in ElementTree.fromstring(picture(rows)).iter(f"{SVG}text")}
    assert {"teacher", "ctm", "evaluations of a chunk, log scale"} <= written


def test_a_study_that_goes_on_with_other_settings_is_refused(tmp_path, monkeypatch):
    """Before, it took the old students and scores for what was asked for."""
    calls = []

    def dipole(*words):
        folder = Path(words[-1].removeprefix("output="))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text("{}")
        calls.append(words)

    monkeypatch.setattr(distillation_study, "dipole", dipole)

    def study(train=(), evaluate=()):
        chosen = Namespace(train=list(train), evaluate=list(evaluate), episodes=2)
        distillation_study.trained(tmp_path / "run", ["distill", "teacher=T"], chosen)
        cell = {"method": "ctm", "steps": 1}
        distillation_study.scored(tmp_path / "run", "main", cell, tmp_path / "scores", chosen)

    study(evaluate=["n_action_steps=4"])
    study(evaluate=["n_action_steps=4"])
    assert [words[0] for words in calls] == ["distill", "evaluate"]
    with pytest.raises(SystemExit, match=r"scores was made with .*n_action_steps=4, and now .*=2"):
        study(evaluate=["n_action_steps=2"])
    with pytest.raises(SystemExit, match=r"run was made with .*, and now .*train.steps=5"):
        study(train=["train.steps=5"], evaluate=["n_action_steps=4"])
    assert len(calls) == 2

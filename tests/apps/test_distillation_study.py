"""The table of `benchmarks/distillation_study.py`."""

import json
from xml.etree import ElementTree

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

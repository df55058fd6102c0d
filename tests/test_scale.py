"""The page on scale says what the script computes."""

from pathlib import Path

import pytest
import yaml

from dipole.benchmarks.scale import ENCODINGS, Setting, main

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


def test_the_tables_of_the_page_are_the_scripts(capsys):
    main([])
    page = PAGE.read_text()
    for line in capsys.readouterr().out.splitlines():
        assert line in page


def test_numbers_follow_from_what_is_assumed():
    setting = Setting()
    assert setting.pictures == 10_000 * 3600 * 30 * 4
    assert ENCODINGS[0].size * setting.pictures == pytest.approx(40.9e12, rel=1e-2)
    half = Setting(gpus=32)
    assert half.rate(ENCODINGS[0]) == setting.rate(ENCODINGS[0]) / 2
    assert Setting(gpus=8).all_reduce() == 0  # of one machine: nothing between machines


def test_the_examples_of_a_cluster_are_of_the_kinds_that_the_page_says():
    folder = PAGE.parent / "cluster"
    kinds = {
        name: [each["kind"] for each in yaml.safe_load_all((folder / f"{name}.yaml").read_text())]
        for name in ("train", "evaluate")
    }
    assert kinds == {"train": ["Service", "Job"], "evaluate": ["RayJob"]}
    job = [*yaml.safe_load_all((folder / "train.yaml").read_text())][1]["spec"]
    words = job["template"]["spec"]["containers"][0]["args"]
    assert f"--nnodes={job['completions']}" in words
    assert words[words.index("--no-python") :][:3] == ["--no-python", "dipole", "train"]

"""Where an evaluation is written: what cannot work is said before the first episode."""

import json

import pytest

from dipole.apps.commands import evaluate as command
from dipole.apps.main import main
from dipole.deploy.evaluation import checkpoint
from dipole.envs import Evaluation
from dipole.envs.evaluation import EpisodeResult, summarize


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "nowhere").symlink_to("not_there/at_all")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/zarr.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("afile", "nothing can be written there (Not a directory)"),
        ("afile/x/y", "nothing can be written there (Not a directory)"),
        ("nowhere", "nothing can be written there (No such file or directory)"),
        ("x" * 300, "nothing can be written there (File name too long)"),
        ("dataset", "a dataset lies there"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(
    folder, output, why, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoint, "evaluate_checkpoint", lambda config: pytest.fail("it ran"))
    before = sorted(folder.iterdir())
    assert main(["evaluate", "checkpoint=RUN", f"output={output}"]) == 2
    said = capsys.readouterr().err
    assert f"output {output}: {why}" in said
    assert said.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_an_output_that_is_new_is_not_made_before_there_is_something_in_it(
    folder, monkeypatch, capsys
):
    def evaluated(config):
        assert not (folder / "new").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "evaluate_checkpoint", evaluated)
    assert main(["evaluate", "checkpoint=RUN", "output=new/inner"]) == 130
    assert not (folder / "new").exists()


def test_what_was_measured_is_kept_where_nothing_told_what_decides(folder, monkeypatch, capsys):
    episodes = [EpisodeResult(seed, None, 1.0, 0.5, 9, 4.0) for seed in range(3)]
    metrics = summarize(episodes, "success_rate") | {"seconds": 1.0}
    monkeypatch.setattr(
        checkpoint, "evaluate_checkpoint", lambda config: Evaluation(metrics, episodes)
    )
    monkeypatch.setattr(command, "_times", lambda *_: "a second")
    assert main(["evaluate", "checkpoint=RUN", "output=new"]) == 2
    assert "set environment.score=return_mean" in capsys.readouterr().err
    kept = json.loads((folder / "new/metrics.json").read_text())
    assert (kept["score"], kept["return_mean"]) == (None, 4.0)


def test_the_score_is_printed_before_it_is_saved(folder, monkeypatch, capsys):
    class Full(Evaluation):
        def save(self, folder):
            raise OSError("no space left on device")

    evaluation = Full({}, [])
    monkeypatch.setattr(checkpoint, "evaluate_checkpoint", lambda config: evaluation)
    monkeypatch.setattr(command, "describe", lambda metrics: "mean max reward 0.7")
    with pytest.raises(OSError, match="no space left"):
        main(["evaluate", "checkpoint=RUN", "output=new"])
    assert "mean max reward 0.7" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["kept", "kept/results", "./kept"])
def test_an_output_within_the_dataset_of_kept_episodes_is_refused_first(
    folder, output, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoint, "evaluate_checkpoint", lambda config: pytest.fail("it ran"))
    assert main(["evaluate", "checkpoint=RUN", f"output={output}", "keep_episodes=kept"]) == 2
    assert "lies in keep_episodes=kept, which becomes a dataset" in capsys.readouterr().err
    assert not (folder / "kept").exists()

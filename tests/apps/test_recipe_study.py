"""Which trainings `benchmarks/recipe_study.py` makes, and what it takes for done."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dipole.benchmarks import recipe_study

MILLISECONDS = {"as it is": 100.0, "three frames": 200.0}
METRICS = {
    "max_reward_mean": 0.9,
    "max_reward_ci95": [0.8, 1.0],
    "success_rate": 0.5,
    "success_ci95": [0.4, 0.6],
}


class Study:
    """The study in a folder; `trained` are the commands of `dipole train`, its trials apart."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trained, self.trials, self.stops = folder, [], [], False

    def run(self, command, **_options):
        words = dict(word.split("=", 1) for word in command[4:])
        if "resume" in words:
            self.trained.append(words)
            return
        run, steps = Path(words["output"]), int(words["train.steps"])
        (self.trials if steps == recipe_study.TRIAL_STEPS else self.trained).append(words)
        run.mkdir(parents=True, exist_ok=True)
        (run / "run.json").write_text(json.dumps({"config": {"train": {"steps": steps}}}))
        slow = words.get("task.window.n_obs_steps") == "3"
        took = {
            "time/data_ms": 0,
            "time/compute_ms": MILLISECONDS["three frames" if slow else "as it is"],
        }
        (run / "log.jsonl").write_text("".join(json.dumps(took) + "\n" for _ in range(6)))
        if self.stops and run.is_relative_to(self.folder):
            raise KeyboardInterrupt

    def __call__(self, *words, dataset="DATA", output="results.json"):
        self.trained.clear()
        self.trials.clear()
        where = ["--output", str(self.folder / output)]
        recipe_study.main([dataset, "--of", "pixels", *words, *where])
        results = json.loads((self.folder / output).read_text())
        return {(found["variant"], found["words"][-1]): found["updates"] for found in results}

    @property
    def runs(self):
        return "--runs", str(self.folder / "runs")


@pytest.fixture
def study(tmp_path, monkeypatch):
    made = Study(tmp_path)
    monkeypatch.setattr(recipe_study, "subprocess", SimpleNamespace(run=made.run, DEVNULL=None))
    monkeypatch.setattr(recipe_study, "load_runnable", lambda *_given, **_options: None)
    scores = SimpleNamespace(metrics=METRICS)
    monkeypatch.setattr(recipe_study, "evaluate", lambda *_given, **_options: scores)
    return made


ONE = ("--variants", "as it is")
MINUTES = ("--minutes", "10", "--variants", "as it is", "three frames")


@pytest.mark.parametrize("kept", [False, True])
def test_each_variant_trains_for_as_many_updates_as_its_own_speed_allows(study, kept):
    found = study(*MINUTES, *(study.runs if kept else ()))
    assert found == {("as it is", "dataset=DATA"): 6000, ("three frames", "dataset=DATA"): 3000}
    assert not any(Path(words["output"]).exists() for words in study.trials)


def test_what_the_output_holds_is_not_trained_again(study):
    study(*ONE, "--updates", "100")
    assert len(study.trained) == 1
    study(*ONE, "--updates", "100")
    assert study.trained == []
    assert len(study(*ONE, "--updates", "200")) == 1  # a second result of the same variant
    assert len(study.trained) == 1


def test_another_dataset_s_results_are_its_own(study):
    study(*ONE, "--updates", "100")
    found = study(*ONE, "--updates", "100", dataset="OTHER")
    assert [words["dataset"] for words in study.trained] == ["OTHER"]
    assert set(found) == {("as it is", "dataset=DATA"), ("as it is", "dataset=OTHER")}


def test_settings_of_all_variants_stand_before_each_one_s_own(study):
    words = ("--updates", "100", "--variants", "as it is", "with shifts")
    study(*words, "--settings", "policy.encoder.crop=90")
    assert [each["policy.encoder.crop"] for each in study.trained] == ["90", "90"]
    shifts = [each.get("policy.encoder.augment.shift") for each in study.trained]
    assert shifts == [None, "3"]


@pytest.mark.parametrize("length", [("--updates", "6000"), ("--minutes", "10")])
def test_a_training_that_was_stopped_goes_on(study, length):
    study.stops = True
    with pytest.raises(KeyboardInterrupt):
        study(*ONE, *length, *study.runs)
    (begun,) = study.trained
    assert study(*ONE, *length, *study.runs) == {("as it is", "dataset=DATA"): 6000}
    assert [words["resume"] for words in study.trained] == [begun["output"]]
    assert study.trials == []


def test_a_run_of_another_dataset_is_refused_by_its_folder(study):
    study(*ONE, "--updates", "100", *study.runs)
    (run,) = (study.folder / "runs").iterdir()
    with pytest.raises(SystemExit, match=f"{run.name} holds a run of dataset=DATA, not of"):
        study(*ONE, "--updates", "100", *study.runs, dataset="OTHER", output="other.json")
    assert study.trained == []
    (run / recipe_study.WORDS).unlink()
    with pytest.raises(SystemExit, match="holds a run of settings that it does not say"):
        study(*ONE, "--updates", "100", *study.runs, output="other.json")

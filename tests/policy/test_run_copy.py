"""A run's copy in object storage: whole, kept as the run is, and never waited for."""

import json
import sys
import threading
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from memory_store import broken, memory_store, names, puts

from dipole.data.core.errors import CheckpointError, ConfigError, StorageError
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint import Checkpoint, find_checkpoint, mark_best, origin
from dipole.policy.checkpoint.checkpoint_folder import save_checkpoint
from dipole.policy.core.files import remove_folder
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.output.checkpoint_writer import CheckpointWriter
from dipole.policy.training.process.launch import Launch
from dipole.policy.training.storage import resumption
from dipole.policy.training.storage.fetched_run import fetch_run
from dipole.policy.training.storage.remote_run import TakenError
from dipole.policy.training.storage.run_copy import RunCopy

pytest.importorskip("obstore", reason="needs obstore: pip install 'dipole[object-storage]'")
URL = ObjectUrl.parse("s3://robots/runs/first")


@pytest.fixture(autouse=True)
def store(tmp_path):
    with memory_store(tmp_path) as store:
        yield store


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


def new_run(folder):
    folder.mkdir()
    run = {"config": {"train": {"steps": 10}}, "launch": "mine"}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "log.jsonl").write_text("")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.1.host").write_bytes(b"a scalar")
    return folder


def checkpoint(step):
    numbers = torch.full((3,), float(step))
    stems = ("model", "ema", "training", "training.discriminator")
    return Checkpoint({}, {stem: {"numbers": numbers} for stem in stems}, {"step": step})


def add(run, *steps):
    """As a run does that has come so far."""
    for step in steps:
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps({"step": step}) + "\n")
        save_checkpoint(run / "checkpoints" / f"{step:08d}", checkpoint(step))


def copy_of(run, keep=2, new=True, said=None):
    copy = RunCopy(run, URL, keep, (lambda _: None) if said is None else said.append)
    copy.claim(new)
    return copy


def whole():
    return [name.split("/")[1] for name in names(URL) if name.endswith("/manifest.json")]


def test_a_checkpoint_counts_when_all_of_it_and_the_log_of_its_steps_are_there(run):
    add(run, 10)
    order = []
    with puts(order.append):
        copy_of(run).bring_up_to_date()
    order = [key.removeprefix("runs/first/") for key in order]
    assert order[0] == "copy.json"
    assert order[-1] == "checkpoints/00000010/manifest.json"
    assert order.index("log.jsonl") > order.index("checkpoints/00000010/ema.safetensors")
    assert sorted(order) == names(URL)
    assert find_checkpoint(f"{URL}").name == "00000010"


def test_half_a_checkpoint_is_none_and_is_gone_on_with(run):
    copy = copy_of(run)
    add(run, 10)
    copy.bring_up_to_date()
    add(run, 20)
    with puts(broken("20/model.safetensors")), pytest.raises(StorageError, match="cable"):
        copy.bring_up_to_date()
    assert "checkpoints/00000020/ema.safetensors" in names(URL)
    assert find_checkpoint(f"{URL}").name == "00000010"
    copy.bring_up_to_date()
    assert find_checkpoint(f"{URL}").name == "00000020"


def test_the_newest_and_the_best_stay_and_leftovers_go(run):
    copy = copy_of(run)
    for step in (10, 20, 30, 40):
        add(run, step)
        if step == 20:
            mark_best(run, run / "checkpoints" / "00000020", 0.5, {})
        copy.bring_up_to_date()
    assert whole() == ["00000020", "00000030", "00000040"]
    assert find_checkpoint(f"{URL}/best").name == "00000020"
    client = ObjectClient(URL)
    client.put("runs/first/checkpoints/00000035/ema.safetensors", b"of a process that was killed")
    mark_best(run, run / "checkpoints" / "00000040", 0.6, {})
    copy.bring_up_to_date()
    there = {name.split("/")[0] for name in names(f"{URL}/checkpoints")}
    assert there == {"00000030", "00000040"} == set(whole())
    assert find_checkpoint(f"{URL}/best").name == "00000040"


def test_best_json_names_what_is_there(run):
    copy = copy_of(run)
    add(run, 10)
    mark_best(run, run / "checkpoints" / "00000010", 0.5, {})
    with puts(broken("manifest.json")), pytest.raises(StorageError):
        copy.bring_up_to_date()
    assert "best.json" not in names(URL)


def test_training_does_not_wait_for_a_store_that_hangs(run):
    writer = CheckpointWriter(run, keep=2, background=False)
    copy, asked, answers = copy_of(run), threading.Event(), threading.Event()

    def hang(key):
        if key.endswith("10/ema.safetensors"):
            asked.set()
            assert answers.wait(60)

    with puts(hang), copy.beside(writer):
        writer.write(10, lambda: checkpoint(10))
        assert asked.wait(60)
        for step in (20, 30, 40, 50):
            writer.write(step, lambda step=step: checkpoint(step))
        assert [path.name for path in (run / "checkpoints").iterdir()] != []
        assert not (run / "checkpoints" / "00000010").exists()  # and is sent all the same
        answers.set()
        assert copy.finish() is None
    assert whole() == ["00000040", "00000050"]


def test_a_checkpoint_that_is_removed_while_it_is_sent_arrives_whole(run, tmp_path):
    add(run, 10)
    copy = copy_of(run)

    def prune(key):
        if key.endswith("10/config.json"):
            remove_folder(run / "checkpoints" / "00000010")

    with puts(prune):
        copy.bring_up_to_date()
    target = tmp_path / "elsewhere"
    fetch_run(URL, target)
    assert [path.name for path in (target / "checkpoints").iterdir()] == ["00000010"]


def test_errors_are_told_and_what_is_missing_is_sent_with_the_next(run):
    said = []
    writer, copy = CheckpointWriter(run, keep=3, background=True), copy_of(run, keep=3, said=said)
    with copy.beside(writer):
        failed = threading.Event()
        copy.say = lambda line: (said.append(line), failed.set())
        with puts(broken("model.safetensors")):
            writer.write(10, lambda: checkpoint(10))
            assert failed.wait(60)
        writer.write(20, lambda: checkpoint(20))
        writer.wait()
        assert copy.finish() is None
    assert "the cable was pulled out; it is tried again with the next checkpoint" in said[-1]
    assert whole() == ["00000010", "00000020"]


def test_what_could_not_be_sent_is_said_in_the_end_and_sent_by_the_next_start(run):
    copy = copy_of(run)
    with puts(broken("manifest.json")), copy.beside(CheckpointWriter(run, 2, False)) as _:
        add(run, 10)
        assert "the cable was pulled out" in copy.finish()
    assert whole() == []
    again = copy_of(run, new=False)
    with again.beside(CheckpointWriter(run, 2, False)):
        assert again.finish() is None
    assert whole() == ["00000010"]


def test_a_run_that_goes_on_does_not_need_the_store_to_begin(run):
    add(run, 10)
    copy_of(run)
    said = []
    with puts(broken("copy.json")):
        copy = copy_of(run, new=False, said=said)
    assert "cable" in said[0]
    copy.bring_up_to_date()
    assert whole() == ["00000010"]


def test_a_place_with_anything_in_it_is_refused(run, tmp_path):
    add(run, 10)
    copy_of(run).bring_up_to_date()
    with pytest.raises(TakenError, match="already holds a run, or other files"):
        copy_of(new_run(tmp_path / "second"))
    with pytest.raises(TakenError, match=r"go on with that run by `dipole train resume=s3://"):
        copy_of(tmp_path / "second", new=False)
    ObjectClient(URL).put("runs/thesis/thesis.pdf", b"years of work")
    thesis = RunCopy(tmp_path / "second", URL.parent / "thesis", 2, print)
    with pytest.raises(TakenError, match="or other files"):
        thesis.claim(new=True)


def test_a_folder_that_is_behind_the_copy_is_refused(run):
    add(run, 10, 20)
    copy_of(run).bring_up_to_date()
    remove_folder(run / "checkpoints" / "00000020")
    with pytest.raises(TakenError, match="holds a newer checkpoint of this run, 00000020"):
        copy_of(run, new=False)


def test_the_process_that_began_last_writes(run):
    first = copy_of(run)
    second = copy_of(run, new=False)
    add(run, 10)
    said = []
    first.say = said.append
    with first.beside(CheckpointWriter(run, 2, False)):
        assert "another process goes on with this run" in first.finish()
    assert whole() == []
    second.bring_up_to_date()
    assert whole() == ["00000010"]


def test_a_run_is_fetched_with_its_files_and_goes_on_from_there(run, tmp_path):
    add(run, 10, 20, 30)
    mark_best(run, run / "checkpoints" / "00000010", 0.5, {})
    copy_of(run).bring_up_to_date()
    target = Path(fetch_run(URL, tmp_path / "fetched"))
    assert sorted(p.name for p in (target / "checkpoints").iterdir()) == ["00000010", "00000030"]
    for name in ("log.jsonl", "best.json", "copy.json", "tensorboard/events.out.tfevents.1.host"):
        assert (target / name).read_bytes() == (run / name).read_bytes()
    for file in (run / "checkpoints" / "00000030").iterdir():
        assert (target / "checkpoints" / "00000030" / file.name).read_bytes() == file.read_bytes()
    said = json.loads((target / "run.json").read_text())
    assert said["config"] == {"train": {"steps": 10}, "output": str(target)}
    copy, sent = copy_of(target, new=False), []
    add(target, 40)
    with puts(sent.append):
        copy.bring_up_to_date()
    assert [key for key in sent if "tensorboard" in key] == []  # they are there already
    assert whole() == ["00000010", "00000030", "00000040"]


def test_fetching_that_was_cut_short_is_gone_on_with(run, tmp_path, monkeypatch):
    add(run, 10)
    copy_of(run).bring_up_to_date()
    with monkeypatch.context() as cut:
        cut.setattr("dipole.policy.training.storage.fetched_run._fetch_files", None)
        with pytest.raises(TypeError):
            fetch_run(URL, tmp_path / "fetched")
    assert not (tmp_path / "fetched" / "run.json").exists()
    fetch_run(URL, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "run.json").exists()


def test_a_folder_that_holds_something_else_or_newer_is_refused(run, tmp_path):
    add(run, 10)
    copy_of(run).bring_up_to_date()
    other = new_run(tmp_path / "other")
    with pytest.raises(ConfigError, match="holds another run, and not the run of s3://"):
        fetch_run(URL, other)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.pdf").touch()
    with pytest.raises(ConfigError, match=r"holds thesis.pdf, and not"):
        fetch_run(URL, tmp_path / "thesis")
    assert fetch_run(URL, run) == str(run)  # nothing is missing
    add(run, 20)
    with pytest.raises(ConfigError, match=f"go on with it by `dipole train resume={run}`"):
        fetch_run(URL, run)
    assert fetch_run(URL, run, newer=True) == str(run)


def test_a_place_without_a_run_is_said():
    with pytest.raises(CheckpointError, match=r"resume=s3://robots/runs/first: no run there"):
        resumption.run_to_resume(str(URL), "output").configuration()
    with pytest.raises(ConfigError, match="say where it goes on on this machine: output=FOLDER"):
        resumption.run_to_resume(str(URL), None)


def test_a_group_on_a_machine_that_has_nothing_goes_on_with_its_own_run(run, tmp_path, monkeypatch):
    add(run, 10)
    copy_of(run).bring_up_to_date()
    launch = Launch(restarts=0, identity="mine")
    monkeypatch.setattr(resumption.Launch, "of", lambda: launch)
    config = {"train": {"copy_to": str(URL)}}
    found = resumption.begun_before(tmp_path / "fresh", config)
    assert found == str(tmp_path / "fresh")
    assert (tmp_path / "fresh" / "checkpoints" / "00000010").exists()
    assert resumption.begun_before(tmp_path / "new", {"train": {"copy_to": f"{URL}2"}}) is None
    launch = Launch(restarts=0, identity="another's")
    assert resumption.begun_before(tmp_path / "new", config) is None


def test_a_launcher_of_the_same_name_goes_on_unless_it_says_other_settings(run, monkeypatch):
    launch = Launch(restarts=0, identity="mine")
    monkeypatch.setattr(resumption.Launch, "of", lambda: launch)
    assert resumption.begun_before(run, {"train": {"threads": 4}}) == str(run)
    other = {"train": {"steps": 20}}
    with pytest.raises(ConfigError, match=r"'mine' .* other settings \(train.steps 10 → 20\)"):
        resumption.begun_before(run, other)
    launch = Launch(restarts=1, identity="mine")  # its own command once more
    assert resumption.begun_before(run, other) == str(run)


def test_a_launcher_of_the_same_name_is_refused_where_it_asks_for_a_group_of_settings_anew(
    run, monkeypatch
):
    monkeypatch.setattr(resumption.Launch, "of", lambda: Launch(restarts=0, identity="mine"))
    begun = {"train": {"steps": 10, "learning_rates": {}}, "policy": {"name": "unet"}}
    (run / "run.json").write_text(json.dumps({"config": begun, "launch": "mine"}))
    assert resumption.begun_before(run, begun) == str(run)
    for group, added, said in (
        ("train", {"learning_rates": {"encoder": 0.1}}, "train.learning_rates.encoder None → 0.1"),
        ("policy", {"guidance": {"dropout": 0.1}}, "policy.guidance.dropout None → 0.1"),
    ):
        other = {**begun, group: {**begun[group], **added}}
        with pytest.raises(ConfigError, match=rf"other settings \({said}\)"):
            resumption.begun_before(run, other)


@pytest.mark.parametrize(
    ("place", "told"),
    [("runs/first", "no place in object storage"), ("https://host/run", "cannot be written to")],
)
def test_a_copy_goes_where_can_be_written(place, told):
    with pytest.raises(ConfigError, match=f"train.copy_to.*{told}"):
        TrainConfig(copy_to=place)


def test_a_policy_s_checkpoint_is_fetched_once_and_without_the_optimiser(run):
    add(run, 10)
    copy_of(run).bring_up_to_date()
    folder = find_checkpoint(f"{URL}")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "ema.safetensors",
        "fetched.json",
        "manifest.json",
        "model.safetensors",
        "training.json",
    ]
    assert origin(folder) == f"{URL}/checkpoints/00000010"
    ObjectClient(URL).delete(["runs/first/checkpoints/00000010/ema.safetensors"])
    assert find_checkpoint(f"{URL}/checkpoints/00000010") == folder

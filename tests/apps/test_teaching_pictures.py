"""A policy from state teaches one that sees pictures: the lines of docs/teachers.md, in small."""

import json

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore

pytestmark = pytest.mark.heavy
NETWORK = ["policy.denoiser.down_dims=[8,16]", "policy.denoiser.time_embed_dim=8"]
SHORT = ["train.steps=2", "train.batch_size=4", "train.warmup_steps=1", "train.evaluate_every=0"]
EYES = ["policy=unet_image_small", "policy.encoder.backbone.widths=[16]"]
EYES += ["policy.encoder.backbone.blocks=[1]", "policy.encoder.augment={shift: 2}"]
RECORD = ["record", "task=pusht_image", "solver.steps=1", "episodes=2"]
RECORD += ["keep=all", "+task.environment.max_steps=16"]
TAUGHT = """
defaults: [pusht_image, _self_]
name: pusht_taught
datasets:
  shown: {{path: "{shown}", weight: 0.5}}
  visited: {{path: "{visited}", weight: 0.5, action: {{source: teacher_chunk, chunks: true}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The teacher, what it shows alone, a student of that, and what it is taught where it gets."""
    path = tmp_path_factory.mktemp("taught")
    teacher = ["train", "task=pusht_state", "policy=unet_small", f"output={path / 'teacher'}"]
    assert main([*teacher, *NETWORK, *SHORT]) == 0
    shown = [*RECORD, f"teacher={path / 'teacher'}", f"output={path / 'shown.zarr'}"]
    assert main(shown) == 0
    student = ["train", "task=pusht_image", *EYES, f"dataset={path / 'shown.zarr'}"]
    assert main([*student, *NETWORK, *SHORT, f"output={path / 'student'}"]) == 0
    runs = [f"teacher={path / 'teacher'}", f"student={path / 'student'}"]
    assert main([*RECORD, *runs, "seed=7", f"output={path / 'visited.zarr'}"]) == 0
    return path


def test_a_recording_has_what_both_see(folder):
    store = EpisodeStore.open(folder / "visited.zarr")
    assert {"img", "state", "action", "teacher_chunk"} <= set(store.keys())
    assert store["img"].shape[1:] == (96, 96, 3)
    assert len(np.unique(store["img"][:])) > 10
    hashes = store.attributes["recording"]["teaching"]["sha256"]
    assert hashes["student"] != hashes["teacher"]
    first = EpisodeStore.open(folder / "shown.zarr")["action"][:16]
    assert not np.allclose(first, store["action"][:16])


def test_labels_are_the_teacher_s_chunks_at_the_states_that_the_student_reached(folder, tmp_path):
    again = tmp_path / "again.zarr"
    words = ["data", "relabel", str(folder / "visited.zarr"), str(again)]
    assert main([*words, "--teacher", str(folder / "teacher"), "--solver-steps", "1"]) == 0
    before, after = (EpisodeStore.open(path) for path in (folder / "visited.zarr", again))
    np.testing.assert_allclose(before["teacher_chunk"][:], after["teacher_chunk"][:], atol=1e-3)


def test_the_next_student_learns_from_both_and_is_evaluated(folder, tmp_path):
    (tmp_path / "task").mkdir()
    paths = {name: folder / f"{name}.zarr" for name in ("shown", "visited")}
    (tmp_path / "task" / "pusht_taught.yaml").write_text(TAUGHT.format(**paths))
    run, words = tmp_path / "next", ["train", "--config-dir", str(tmp_path), "task=pusht_taught"]
    words += [*EYES, *NETWORK, *SHORT, f"train.init.from={folder / 'student'}", f"output={run}"]
    assert main(words) == 0
    config = json.loads(next(run.glob("checkpoints/*/config.json")).read_text())
    assert [part["name"] for part in config["dataset"]["parts"]] == ["shown", "visited"]
    evaluated = ["evaluate", f"checkpoint={run}", "episodes=1", "solver.steps=1"]
    evaluated += ["video_episodes=0", f"output={tmp_path / 'e'}"]
    assert main(evaluated) == 0

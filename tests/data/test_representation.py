"""Vectors relative to a pose: encoded, decoded, in batches, in statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter, Features, make_loader
from dipole.data.loading.task_data import TaskData
from dipole.data.loading.windows import Windows, WindowSpec
from dipole.data.transforms.column_group import ColumnGroup
from dipole.data.transforms.representation import Representation

WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
HAND = {
    "of": "pose",
    "groups": [
        {"columns": [0, 1, 2], "frame": "current"},
        {"columns": [3, 4, 5, 6, 7, 8], "kind": "rotation_6d"},
    ],
}
POINT = {"of": "pose", "groups": [{"columns": [0, 1]}]}


def represent(to="relative", **changes):
    return Representation.from_dict({"to": to, **HAND, **changes})


def poses(rng, *lead, angle=None):
    """x, y, z, two rows of a rotation, a gripper; angle: how far all are turned."""
    vectors = rng.normal(size=(int(np.prod(lead)), 3))
    if angle is not None:
        vectors *= angle / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = Rotation.from_rotvec(vectors).as_matrix().reshape(*lead, 9)[..., :6]
    return np.concatenate([rng.normal(size=(*lead, 3)), rows, rng.random((*lead, 1))], -1)


@pytest.mark.parametrize(
    ("to", "expected"),
    [("relative", [2 - 3, 4 - 3, 7 - 3, 10 - 3]), ("delta", [2 - 1, 4 - 3, 7 - 4, 10 - 7])],
)
def test_each_action_is_relative_to_the_current_pose_or_to_the_one_before(to, expected):
    observed = np.array([1.0, 3.0]).reshape(1, 2, 1)
    actions = np.array([2.0, 4.0, 7.0, 10.0]).reshape(1, 4, 1)
    form = Representation.from_dict({"to": to, "of": "pose", "groups": [{"columns": [0]}]})
    base = form.base(1, {"pose": observed})
    found = form.encode(actions, base)
    assert found.ravel().tolist() == expected
    assert form.decode(found, base).ravel().tolist() == [2.0, 4.0, 7.0, 10.0]


@pytest.mark.parametrize("layout", ["rotation_6d", "rotation_6d_columns"])
def test_a_relative_pose_is_the_inverse_of_the_current_one_times_the_target(layout):
    rng = np.random.default_rng(0)
    now, target = (Rotation.from_rotvec(v).as_matrix() for v in rng.normal(size=(2, 3)))
    at, to = rng.normal(size=(2, 3))

    def written(position, matrix):
        m = matrix if layout == "rotation_6d" else matrix.T
        return np.concatenate([position, m.ravel()[:6]])[None, None]

    form = represent(groups=[{**HAND["groups"][0]}, {**HAND["groups"][1], "kind": layout}])
    found = form.encode(written(to, target), form.base(9, {"pose": written(at, now)}))
    assert found == pytest.approx(written(now.T @ (to - at), now.T @ target))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    to=st.sampled_from(["relative", "delta"]),
    frame=st.sampled_from(["world", "current"]),
    angle=st.sampled_from([None, 0.0, np.pi, np.pi - 1e-9]),
)
def test_what_is_encoded_is_decoded(seed, to, frame, angle):
    rng = np.random.default_rng(seed)
    form = represent(to, groups=[{**HAND["groups"][0], "frame": frame}, HAND["groups"][1]])
    actions, observed = poses(rng, 3, 6, angle=angle), poses(rng, 3, 2, angle=angle)
    base = form.base(10, {"pose": observed})
    found = form.encode(actions, base)
    assert np.abs(found[..., 9] - actions[..., 9]).max() == 0  # no group names the gripper
    assert np.allclose(form.decode(found, base), actions, atol=1e-9)
    tensors = form.base(10, {"pose": torch.from_numpy(observed)})
    again = form.decode(torch.from_numpy(found), tensors)
    assert np.allclose(again.numpy(), actions, atol=1e-9)


def test_turning_and_moving_the_world_leaves_a_relative_chunk_as_it_is():
    rng = np.random.default_rng(0)
    actions, observed = poses(rng, 1, 8), poses(rng, 1, 2)
    turn, shift = Rotation.from_rotvec([1.0, 2.0, 0.5]).as_matrix(), np.array([3.0, -1.0, 2.0])

    def moved(values):
        rows = np.concatenate([values[..., 3:9], np.cross(values[..., 3:6], values[..., 6:9])], -1)
        turned = turn @ rows.reshape(*values.shape[:-1], 3, 3)
        place = values[..., :3] @ turn.T + shift
        return np.concatenate([place, turned.reshape(*rows.shape)[..., :6], values[..., 9:]], -1)

    form = represent()
    before = form.encode(actions, form.base(10, {"pose": observed}))
    after = form.encode(moved(actions), form.base(10, {"pose": moved(observed)}))
    assert np.abs(after - before).max() < 1e-12


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"to": "relativ", **POINT}, "choose absolute, relative or delta"),
        ({"to": "relative", "groups": [{"columns": [0]}]}, "relative to nothing: give `of`"),
        ({"to": "relative", "of": "pose", "groups": []}, "groups is empty"),
        ({"to": "relative", "of": "pose", "groups": [{"columns": [0]}, {"columns": [0]}]},
         "column 0 is in two groups"),
        ({"to": "relative", "of": "pose", "groups": [{"columns": [0, 1, 2], "frame": "current"}]},
         "no group of kind rotation_6d follows"),
        ({"to": "relative", "of": "pose", "groups": [{"columns": [0], "kind": "quaternion"}]},
         "convert: quaternion_to_6d"),
        ({"to": "relative", "of": "pse", "groups": [{"columns": [0]}]}, "did you mean 'pose'"),
        ({"to": "relative", "of": "camera", "groups": [{"columns": [0]}]}, "of kind image"),
        ({"to": "relative", "of": "mm", "groups": [{"columns": [0]}]}, "is in m, but .* is in mm"),
        ({"to": "relative", "of": "grip", "groups": [{"columns": [1, 2]}]}, "which by reference"),
        ({"to": "relative", "of": "pose", "groups": [{"columns": [7]}]}, "column 7 of a feature"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(entry, said):
    with pytest.raises(ConfigError, match=said):
        Features.from_dict(
            {
                "observation": {
                    "pose": {"shape": [2], "units": "m"},
                    "mm": {"shape": [2], "units": "mm"},
                    "grip": {"shape": [1]},
                    "camera": {"shape": [8, 8, 3], "kind": "image"},
                },
                "action": {"shape": [3], "units": "m", "represent": entry},
            }
        )


def test_absolute_is_as_if_nothing_were_said_and_what_is_said_is_kept():
    task = {"observation": {"pose": {"shape": [2]}}, "action": {"shape": [2]}}
    plain = Features.from_dict(task)
    absolute = {**task, "action": {"shape": [2], "represent": {"to": "absolute"}}}
    assert Features.from_dict(absolute) == plain
    assert "represent" not in plain.to_dict()["action"]
    said = {"to": "delta", "of": "pose", "groups": [{"columns": [0, 1], "kind": "position"}]}
    kept = Features.from_dict({**task, "action": {"shape": [2], "represent": said}}).to_dict()
    assert kept["action"]["represent"] == said
    assert Features.from_dict(kept).to_dict() == kept


# In windows ---------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    """Points that move to the right; what is commanded is where they are a frame later."""
    with EpisodeWriter(tmp_path / "points", fps=10) as writer:
        for start in (0.0, 100.0, 200.0):
            at = start + np.arange(20.0)
            pose = np.stack([at, -2 * at], 1)
            target = np.stack([at + 1, -2 * at - 2, 0 * at], 1)
            writer.add_episode({"pose": pose, "action": target})
    return tmp_path / "points"


def task(path, to="relative", **changes):
    entry = {"to": to, **POINT}
    return {
        "name": "points",
        "dataset": str(path),
        "observation": {"pose": {"shape": [2], "represent": {"to": "relative", **POINT}}},
        "action": {"shape": [3], "represent": entry},
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        "split": {"val_ratio": 0.3},
        **changes,
    }


def test_windows_hold_what_the_network_sees_and_statistics_are_of_that(dataset):
    windows = TaskData.open(task(dataset), None).train
    batch = windows.gather(np.array([5]))
    assert batch["observation"]["pose"][0].tolist() == [[-1, 2], [0, 0]]
    assert batch["action"][0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    found = windows.statistics()
    assert found["action"].min.tolist() == [0, -14, 0]
    assert found["action"].max.tolist() == [7, 0, 0]
    assert found["pose"].max.tolist() == [0, 2]
    deltas = TaskData.open(task(dataset, "delta"), None).train
    assert deltas.gather(np.array([5]))["action"][0].tolist() == [[1, -2, 0]] * 8


@pytest.mark.parametrize("to", ["relative", "delta"])
def test_resident_and_streaming_batches_are_the_same(dataset, to):
    windows = TaskData.open(task(dataset, to), None).train
    batches = []
    for limit in (None, 0):
        with make_loader(
            windows, batch_size=8, seed=0, memory_limit_bytes=limit, log=lambda _: None
        ) as loader:
            assert loader.resident == (limit is None)
            batches.append(next(loader.batches(3)))
    resident, streaming = batches
    assert torch.equal(resident["action"], streaming["action"])
    assert torch.equal(resident["observation"]["pose"], streaming["observation"]["pose"])
    assert resident["action"].abs().max() < 20  # and not hundreds, as absolute ones


def test_a_mixture_represents_each_part_by_its_own_pose(dataset, tmp_path):
    with EpisodeWriter(tmp_path / "flat", fps=10) as writer:
        at = 5000 + 3 * np.arange(20.0)
        writer.add_episode({"place": np.stack([at, at], 1), "action": np.stack([at + 3, at], 1)})
    several = {
        "points": {"path": str(dataset)},
        "flat": {
            "path": str(tmp_path / "flat"),
            "observation": {"pose": {"source": "place"}},
            "action": {"shape": [2], "entries": [0, 1]},
        },
    }
    for normalizer in ("merged", "per_part"):
        mixed = task(None, dataset=None, datasets=several, normalizer=normalizer)
        train = TaskData.open(mixed, None).train
        with make_loader(train, batch_size=16, seed=0, log=lambda _: None) as loader:
            batch = next(loader.batches())
        assert batch["action"].shape == (16, 8, 3)
        assert batch["action"].abs().max() < 50
        gathered = train.gather(np.array([len(train) - 8]))
        if normalizer == "merged":
            assert gathered["action"][0, :4].tolist() == [
                [0, -3, 0],
                [3, 0, 0],
                [6, 3, 0],
                [9, 6, 0],
            ]
    both = {**task(None)["observation"], "other": {"shape": [2], "source": "pose"}}
    lacking = {**several["flat"], "observation": {"pose": None, "other": {"source": "place"}}}
    with pytest.raises(ConfigError, match=r"'flat'.* relative to 'pose', which is no observation"):
        TaskData.open(
            task(None, dataset=None, datasets={**several, "flat": lacking}, observation=both), None
        )


def test_actions_of_a_part_that_are_in_no_group_are_kept_resident_and_streaming(dataset, tmp_path):
    with EpisodeWriter(tmp_path / "grip", fps=10) as writer:
        at = 7 + np.arange(20.0)
        writer.add_episode({"pose": np.stack([at, at], 1), "action": at[:, None]})
    several = {
        "points": {"path": str(dataset)},
        "grip": {"path": str(tmp_path / "grip"), "action": {"shape": [1], "entries": [2]}},
    }
    train = TaskData.open(task(None, dataset=None, datasets=several), None).train
    batches = []
    for limit in (None, 0):
        with make_loader(
            train, batch_size=16, seed=0, memory_limit_bytes=limit, log=lambda _: None
        ) as loader:
            batches.append(next(loader.batches()))
    resident, streaming = batches
    assert torch.equal(resident["action"], streaming["action"])
    grip = resident["action_is_missing"][:, 0]
    assert grip.any()
    assert (resident["action"][grip][..., 2] >= 7).all()


@pytest.mark.parametrize(
    ("columns", "size", "reference"),
    [((1, 0), 2, (1, 0)), ((3, 4), 2, (0, 1)), ((1, 2), 2, (0, 1)), ((1, 2), 3, (1, 2))],
)
def test_columns_are_relative_to_those_of_the_same_numbers_or_to_all(columns, size, reference):
    assert ColumnGroup(columns).reference_columns(size) == reference


def test_a_position_is_not_turned_by_another_arms_rotation():
    arms = [
        {"columns": [at, at + 1, at + 2], "frame": "current"}
        if kind == "position"
        else {"columns": list(range(at, at + 6)), "kind": kind}
        for at, kind in ((0, "position"), (3, "rotation_6d"), (9, "position"), (12, "rotation_6d"))
    ]
    both = represent(groups=arms)
    assert both.for_entries(range(9, 18), {"pose": 18}).columns == tuple(range(9))
    with pytest.raises(ConfigError, match=r"turned by columns .* not all there"):
        both.for_entries([0, 1, 2, *range(9, 18)], {"pose": 18})


def test_a_pose_that_holds_no_rotation_is_named(tmp_path):
    frames = poses(np.random.default_rng(0), 20)
    broken = frames.copy()
    broken[7, 3:9] = 0
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"pose": broken, "action": frames})
    features = Features.from_dict(
        {
            "observation": {"pose": {"shape": [10]}},
            "action": {"shape": [10], "represent": {"to": "relative", **HAND}},
        }
    )
    windows = Windows(EpisodeStore.open(tmp_path / "a"), WINDOW, features)
    with pytest.raises(DataError, match=r"relative to the pose in frame 7: .* no rotation's"):
        windows.statistics()

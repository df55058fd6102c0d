"""Operations on sources: each gives a new source, and refuses what does not agree."""

import sys
from pathlib import Path

import numpy as np
import pytest

import dipole.envs.pusht.geometry  # noqa: F401  registers its mirror
from dipole.data import ConfigError, DataError
from dipole.data.convert import conversion_identity, convert
from dipole.data.sources.combine.concatenated import concatenated
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.metadata import with_missing_metadata
from dipole.data.sources.combine.mirrored import MIRRORS, Mirror, Reflection, mirrored
from dipole.data.sources.combine.renamed import renamed
from dipole.data.sources.combine.retyped import retyped
from dipole.data.sources.combine.selected import refuse_absent, selected
from dipole.data.sources.combine.uint8_images import with_uint8_images
from dipole.data.sources.source import ArrayEpisode, EpisodeRef
from dipole.data.store.schema import FrameSchema

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import MemorySource, frames, pair

# Renaming, concatenating, dtypes


def test_a_renamed_key_reads_the_same_and_action_becomes_an_action():
    source = MemorySource([{"actions": np.full((3, 2), 7.0, np.float32)}])
    renewed = renamed(source, {"actions": "action"})
    assert renewed.info.frames["action"].kind == "action"
    assert frames(renewed, "action")[0].tolist() == [7, 7]
    assert "actions" in source.info.frames  # the source itself is as it was


def test_two_keys_cannot_have_one_name():
    with pytest.raises(DataError, match="state and action would both be called 'action'"):
        renamed(MemorySource([pair()]), {"state": "action"})
    with pytest.raises(ConfigError, match="no key 'actoin', did you mean 'action'"):
        renamed(MemorySource([pair()]), {"actoin": "x"})
    with pytest.raises(DataError, match="letters, digits"):
        renamed(MemorySource([pair()]), {"state": "../state"})


def test_vectors_are_concatenated_with_their_names_and_units():
    arrays = {
        "left": np.full((3, 2), 1, np.float32),
        "right": np.full((3, 2), 2, np.float32),
        "grip": np.full(3, 3, np.int64),
    }
    source = MemorySource([arrays], names={"left": ("a", "b"), "right": ("a", "b")})
    together = concatenated(source, {"action": ("left", "right", "grip")})
    schema = together.info.frames["action"]
    assert frames(together, "action")[0].tolist() == [1, 1, 2, 2, 3]
    assert schema.names == ("left.a", "left.b", "right.a", "right.b", "grip")
    assert (schema.shape, schema.kind) == ((5,), "action")
    plain = concatenated(MemorySource([arrays]), {"action": ("left", "grip")})
    assert plain.info.frames["action"].names == ()


def test_pictures_and_unknown_keys_are_not_concatenated():
    source = MemorySource([pair(image=np.zeros((3, 4, 4, 3), np.uint8))])
    with pytest.raises(DataError, match=r"'image' has frames of shape \[4, 4, 3\]"):
        concatenated(source, {"all": ("state", "image")})
    with pytest.raises(ConfigError, match="no key 'stat', did you mean 'state'"):
        concatenated(source, {"all": ("stat",)})
    with pytest.raises(DataError, match="'state' exists already"):
        concatenated(source, {"state": ("action",)})


def test_a_dtype_that_holds_the_numbers_is_taken_and_any_other_refused():
    source = MemorySource([pair(count=np.array([1, 2, 300]), x=np.array([0.0, 1.0, 0.5]))])
    assert frames(retyped(source, {"count": "int16"}), "count").dtype == np.int16
    with pytest.raises(DataError, match="episode 0, 'count', frame 2: numbers that uint8"):
        frames(retyped(source, {"count": "uint8"}), "count")
    with pytest.raises(DataError, match="'x', frame 2"):
        frames(retyped(source, {"x": "int32"}), "x")
    with pytest.raises(ConfigError, match=r"write e.g. float32"):
        retyped(source, {"x": "float23"})
    with pytest.raises(ConfigError, match="holds no numbers"):
        retyped(source, {"x": "U8"})


def test_arrays_of_different_lengths_are_no_episode():
    arrays = {"state": np.zeros((3, 2)), "action": np.zeros((4, 2))}
    with pytest.raises(DataError, match=r"run_7: .*different numbers of frames: \{'state': 3"):
        ArrayEpisode(EpisodeRef(7, name="run_7"), arrays)


# Selecting


def test_groups_and_episodes_are_both_asked():
    source = MemorySource([pair()] * 5, groups={"train": (0, 2, 4), "valid": (1, 3)})
    chosen = selected(source, episodes=(2, 3, 4), groups=("train",))
    assert [ref.id for ref in chosen.episodes()] == [2, 4]
    with pytest.raises(DataError, match="no episode is selected of 5"):
        selected(source, episodes=(1,), groups=("train",))


def test_an_unreadable_key_is_refused_unless_others_are_chosen():
    source = MemorySource([pair()], unreadable={"words": "its dtype is text"})
    with pytest.raises(DataError, match=r"'words' cannot be read.*--keys state,action"):
        refuse_absent(source)
    refuse_absent(selected(source, keys=("state", "action")))
    with pytest.raises(DataError, match="'words' cannot be taken: its dtype is text"):
        selected(source, keys=("words",))


def test_a_dataset_without_episodes_is_named(tmp_path):
    source = MemorySource([pair(img=np.zeros((3, 16, 16, 3), np.float32))])
    source.episodes = list
    with pytest.raises(DataError, match="memory: there are no episodes in it"):
        convert(source, tmp_path / "a.zarr")


def test_76_000_episodes_are_listed_and_selected_with_one_look_at_each():
    class Refs(list):
        looks = 0

        def __iter__(self):
            for ref in super().__iter__():
                Refs.looks += 1
                yield ref

        def __contains__(self, ref):
            Refs.looks += len(self)
            return super().__contains__(ref)

        def index(self, *arguments):
            Refs.looks += len(self)
            return super().index(*arguments)

    class Many(MemorySource):
        refs = Refs(EpisodeRef(n, 100) for n in range(76_000))

        def episodes(self):
            return self.refs

        def open(self, ref):
            raise AssertionError("an episode is opened though nothing is read")

    absent = {"state": list(range(1, 76_000, 2))}
    source = joined([Many([pair()], absent=absent), Many([pair()])])
    chosen = selected(source, episodes=range(0, 76_000, 2))
    refuse_absent(chosen)
    conversion_identity(chosen)
    assert len(chosen.episodes()) == 38_000
    assert Refs.looks <= 10 * 2 * 76_000


# Joining


def test_joints_in_another_order_are_put_into_the_first_datasets_order():
    one = MemorySource([{"action": np.tile([[1.0, 2.0]], (3, 1))}], names={"action": ("s", "e")})
    two = MemorySource([{"action": np.tile([[2.0, 1.0]], (3, 1))}], names={"action": ("e", "s")})
    both = joined([one, two])
    assert both.info.frames["action"].names == ("s", "e")
    assert frames(both, "action", 1)[0].tolist() == [1, 2]


def test_units_follow_their_entries():
    def source(names, units):
        schema = FrameSchema((2,), np.dtype(np.float64), "action", units, names)
        return MemorySource([{"action": np.zeros((3, 2))}], frames={"action": schema})

    joined([source(("s", "g"), ("rad", "m")), source(("g", "s"), ("m", "rad"))])
    with pytest.raises(DataError, match="units of 'action'"):
        joined([source(("s", "g"), ("rad", "m")), source(("g", "s"), ("rad", "m"))])


def test_units_that_one_dataset_does_not_record_are_those_of_the_other_and_said():
    def source(units, names=("s", "g")):
        schema = FrameSchema((2,), np.dtype(np.float64), "action", units, names)
        return MemorySource([{"action": np.zeros((3, 2))}], frames={"action": schema})

    for sources in ([source(""), source("px")], [source("px"), source("")]):
        both = joined(sources)
        assert both.info.frames["action"].units == "px"
        assert "'action' has no units" in both.info.warnings[0]
    turned = joined([source(""), source(("m", "rad"), ("g", "s"))])
    assert turned.info.frames["action"].units == ("rad", "m")


def test_other_joints_are_refused_by_name():
    one = MemorySource([{"action": np.zeros((3, 2))}], names={"action": ("s", "e")})
    two = MemorySource([{"action": np.zeros((3, 2))}], names={"action": ("s", "wrist")})
    with pytest.raises(DataError, match="entries of 'action' are s, wrist, but s, e in"):
        joined([one, two])


def test_entries_that_one_dataset_does_not_name_are_said():
    one = MemorySource([{"action": np.zeros((3, 2))}], names={"action": ("s", "e")})
    two = MemorySource([{"action": np.zeros((3, 2))}])
    both = joined([two, one])
    assert "have no names" in both.info.warnings[0]
    assert both.info.frames["action"].names == ("s", "e")


def test_groups_and_missing_frames_are_counted_on():
    one = MemorySource([pair()] * 2, groups={"train": (1,)}, absent={"state": [0]})
    two = MemorySource([pair()] * 3, groups={"train": (0,)}, absent={"state": [2]})
    both = joined([one, two])
    assert both.info.groups == {"train": (1, 2)}
    assert both.info.absent == {"state": [0, 4]}


# Mirroring


@pytest.fixture
def side_mirror():
    turn = Reflection(lambda x: -x)
    MIRRORS.add("test_sides")(Mirror({"state": turn, "action": turn}))
    yield
    del MIRRORS._table["test_sides"]


@pytest.mark.usefixtures("side_mirror")
def test_the_words_of_the_mirrored_task_change_sides():
    words = ((0, "Put the LEFT cup right of the leftmost plate"), (2, "what is leftover"))
    source = mirrored(MemorySource([pair()], tasks=words), "test_sides")
    assert source.open(source.episodes()[0]).tasks == words
    assert source.open(source.episodes()[1]).tasks == (
        (0, "Put the RIGHT cup left of the rightmost plate"),
        (2, "what is leftover"),
    )


@pytest.mark.usefixtures("side_mirror")
def test_chosen_episodes_are_mirrored_also_where_videos_of_others_are_missing():
    source = MemorySource([pair()] * 4, absent={"state": [0, 3]})
    twice = mirrored(selected(source, episodes=(1, 2)), "test_sides")
    refuse_absent(twice)
    assert [ref.id for ref in twice.episodes()] == [0, 1, 2, 3]
    assert frames(twice, "action", 3)[0].tolist() == [-1, -1]
    all_of_them = mirrored(source, "test_sides")
    with pytest.raises(DataError, match=r"missing for 4 of 8 episodes \(0,3-4,7\)"):
        refuse_absent(all_of_them)


def test_the_mirror_of_a_family_is_that_of_its_tasks():
    turn = Reflection(lambda x: -x)
    MIRRORS.add("test_arm")(Mirror({"state": turn, "action": turn}, environment="arm"))
    try:
        lift = mirrored(MemorySource([pair()], environment={"id": "arm/lift"}), "test_arm")
        assert frames(lift, "action", 1)[0].tolist() == [-1, -1]
        for other in ("army/lift", "lift/arm"):
            with pytest.raises(DataError, match=f"recorded in '{other}', and --mirror test_arm"):
                mirrored(MemorySource([pair()], environment={"id": other}), "test_arm")
    finally:
        del MIRRORS._table["test_arm"]


def test_the_words_of_push_t_change_as_its_diagonal_does():
    assert MIRRORS["pusht"].words("push it to the top left") == "push it to the right bottom"


# Metadata and pictures


def test_a_task_is_given_to_episodes_without_words_only():
    silent = with_missing_metadata(MemorySource([pair()]), task="push it")
    assert silent.open(silent.episodes()[0]).tasks == ((0, "push it"),)
    worded = with_missing_metadata(MemorySource([pair()], tasks=((0, "pull"),)), task="push it")
    assert worded.open(worded.episodes()[0]).tasks == ((0, "pull"),)


def pictures(values):
    return MemorySource([pair(img=np.broadcast_to(v, (3, 16, 16, 3)).astype("f4")) for v in values])


def test_float_pictures_of_0_to_255_become_uint8_without_loss():
    before = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3))
    source = with_uint8_images(pictures([before]))
    assert source.info.frames["img"].kind == "image"
    after = frames(source, "img")
    assert after.dtype == np.uint8
    assert np.array_equal(after, before)
    assert "float32: stored as uint8, whole numbers of 0 to 255" in source.info.warnings[0]


def test_float_pictures_of_0_to_1_are_scaled():
    before = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3))
    source = with_uint8_images(pictures([before / np.float32(255)]))
    assert np.array_equal(frames(source, "img"), before)
    assert "times 255" in source.info.warnings[0]


@pytest.mark.parametrize("values", [-1.0, 300.0, 17.5])
def test_other_ranges_are_refused_with_the_range(values):
    with pytest.raises(
        DataError, match=rf"values of {values:g} to {values:g}.*--dtype img=float32"
    ):
        with_uint8_images(pictures([values]))
    numbers = retyped(pictures([values]), {"img": "float32"})
    assert with_uint8_images(numbers) is numbers


def test_the_range_is_checked_on_every_frame():
    values = np.full((3, 16, 16, 3), 200.0)
    source = pictures([values] * 30)
    source._episodes[1].arrays["img"][1, 5, 5, 0] = 0.25  # in no sample
    with pytest.raises(DataError, match="episode 1, 'img', frame 1: not whole numbers of 0 to 255"):
        frames(with_uint8_images(source), "img", 1)


def test_what_is_only_shaped_like_a_picture_stays():
    source = MemorySource([pair(heights=np.zeros((3, 16, 16, 1), "f4"))])
    assert with_uint8_images(source) is source

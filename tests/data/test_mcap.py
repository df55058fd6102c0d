"""MCAP recordings of ROS 2: topics of different rates become frames of one rate."""

import io
import struct
from types import SimpleNamespace as Message

import numpy as np
import pytest
from PIL import Image

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.combine.metadata import with_missing_metadata
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source

mcap_writer = pytest.importorskip("mcap_ros2.writer")
Writer = pytest.importorskip("mcap.writer").Writer
IndexType = pytest.importorskip("mcap.writer").IndexType

SEPARATOR = "\n" + "=" * 80 + "\n"
HEADER = "std_msgs/Header header\n"
HEADER_DEFINITION = SEPARATOR + (
    "MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    + SEPARATOR.strip("\n")
    + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec"
)
DEFINITIONS = {
    "sensor_msgs/msg/JointState": HEADER
    + "string[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort"
    + HEADER_DEFINITION,
    "sensor_msgs/msg/CompressedImage": HEADER + "string format\nuint8[] data" + HEADER_DEFINITION,
    "sensor_msgs/msg/Image": HEADER
    + "uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data"
    + HEADER_DEFINITION,
    "geometry_msgs/msg/Point": "float64 x\nfloat64 y\nfloat64 z",
    "std_msgs/msg/String": "string data",
    "std_msgs/msg/Float64MultiArray": "std_msgs/MultiArrayLayout layout\nfloat64[] data"
    + SEPARATOR
    + "MSG: std_msgs/MultiArrayLayout\nstd_msgs/MultiArrayDimension[] dim\nuint32 data_offset"
    + SEPARATOR
    + "MSG: std_msgs/MultiArrayDimension\nstring label\nuint32 size\nuint32 stride",
}
STAMP = Message(stamp=Message(sec=0, nanosec=0), frame_id="")


def joints(*position, names=("a", "b")):
    values = {"position": list(position), "velocity": [], "effort": []}
    return "sensor_msgs/msg/JointState", Message(header=STAMP, name=list(names), **values)


def command(*values):
    layout = Message(dim=[], data_offset=0)
    return "std_msgs/msg/Float64MultiArray", Message(layout=layout, data=list(values))


def jpeg(brightness):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 16, 3), brightness, np.uint8)).save(file, "JPEG", quality=95)
    data = Message(header=STAMP, format="jpeg", data=file.getvalue())
    return "sensor_msgs/msg/CompressedImage", data


def raw(pixels, encoding, padding=0):
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    said = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0}
    data = Message(header=STAMP, step=rows.shape[1], data=rows.tobytes(), **said)
    return "sensor_msgs/msg/Image", data


def write(path, messages):
    """messages: (milliseconds, topic, (type, message))."""
    with open(path, "wb") as file:
        writer = mcap_writer.Writer(file, chunk_size=4096)
        schemas = {}
        for at, topic, (kind, message) in sorted(messages, key=lambda entry: entry[0]):
            if kind not in schemas:
                schemas[kind] = writer.register_msgdef(kind, DEFINITIONS[kind])
            writer.write_message(topic, schemas[kind], message, log_time=1_000_000 * at)
        writer.finish()
    return path


def arm(offset=0, until=1000):
    """Joints every 10 ms, commands every 50 ms, pictures every 100 ms from 30 ms on."""
    return (
        [(t, "/joint_states", joints(offset + t, -t)) for t in range(0, until, 10)]
        + [(t, "/command", command(t, t + 0.5)) for t in range(5, until, 50)]
        + [(t, "/camera/image/compressed", jpeg(t // 20)) for t in range(30, until, 100)]
    )


def at_rate(path, fps):
    return with_missing_metadata(open_source(path), fps=fps)


def first(source):
    return source.open(source.episodes()[0])


def test_a_frame_holds_what_had_been_received_by_its_time(tmp_path):
    source = at_rate(write(tmp_path / "a.mcap", arm()), 20)
    assert sorted(source.info.frames) == [
        "camera.image.compressed",
        "command",
        "joint_states.position",
    ]
    episode = first(source)
    # From the first picture, 30 ms, to the last one, 930 ms, every 50 ms.
    assert episode.n_frames == 19
    assert episode.read("joint_states.position", 0, 3)[:, 0].tolist() == [30, 80, 130]
    assert episode.read("command", 0, 3)[:, 0].tolist() == [5, 55, 105]
    brightness = episode.read("camera.image.compressed", 0, 4)[:, 0, 0, 0].astype(int)
    assert np.abs(brightness - [1, 1, 6, 6]).max() <= 1
    assert np.array_equal(
        episode.read("camera.image.compressed", 5, 9),
        episode.read("camera.image.compressed", 0, 19)[5:9],
    )


def test_without_frames_a_second_it_is_refused_with_the_words_to_give(tmp_path):
    source = selected(open_source(write(tmp_path / "a.mcap", arm())), ("command",))
    with pytest.raises(DataError, match=r"rates of their own.*--fps N"):
        first(source)


def test_a_task_does_not_hide_the_choice_of_topics(tmp_path):
    late = [(t, "/late", command(t)) for t in range(700, 1000, 10)]
    source = open_source(write(tmp_path / "a.mcap", arm() + late))
    worded = with_missing_metadata(source, fps=20, environment="arm", task="reach")
    episode = first(selected(worded, ("command", "joint_states.position")))
    assert (episode.n_frames, episode.tasks) == (20, ((0, "reach"),))


def test_topics_are_chosen_before_they_bound_the_frames(tmp_path):
    late = [(t, "/late", command(t)) for t in range(700, 1000, 10)]
    path = write(tmp_path / "a.mcap", arm() + late)
    chosen = selected(at_rate(path, 20), ("command", "joint_states.position"))
    assert first(chosen).n_frames == 20  # 5 to 955 ms
    assert first(at_rate(path, 20)).n_frames == 5  # 700 to 930 ms


def test_a_topic_that_falls_silent_is_refused_with_the_time(tmp_path):
    some = [
        entry for entry in arm(until=2000) if entry[1] != "/command" or not 300 < entry[0] < 1500
    ]
    source = at_rate(write(tmp_path / "a.mcap", some), 20)
    with pytest.raises(DataError, match=r"at frame 15 \(0.75 s\).* /command is 0.5[23] s old"):
        first(source)


def test_joints_in_another_order_are_put_into_the_first_messages_order(tmp_path):
    turned = [(t, "/joint_states", joints(-t, t, names=("b", "a"))) for t in range(500, 1000, 10)]
    path = write(tmp_path / "a.mcap", [e for e in arm() if e[0] < 500] + turned)
    episode = first(selected(at_rate(path, 100), ("joint_states.position",)))
    assert episode.read("joint_states.position", 49, 51).tolist() == [[490, -490], [500, -500]]


def test_other_joints_in_one_topic_are_refused(tmp_path):
    other = [(995, "/joint_states", joints(1.0, names=("gripper",)))]
    source = at_rate(write(tmp_path / "a.mcap", arm() + other), 20)
    with pytest.raises(DataError, match="joints gripper, but a, b in the first message"):
        first(source)


def test_a_vector_that_changes_its_length_is_refused(tmp_path):
    source = at_rate(write(tmp_path / "a.mcap", [*arm(), (995, "/command", command(1.0))]), 20)
    with pytest.raises(DataError, match=r"/command, message 20: 1 numbers where .* has 2"):
        first(source)


def test_fields_of_any_message_are_a_vector_with_their_names(tmp_path):
    point = "geometry_msgs/msg/Point", Message(x=1.0, y=2.0, z=3.0)
    path = write(tmp_path / "a.mcap", [(t, "/tip", point) for t in (0, 100)])
    source = at_rate(path, 10)
    assert source.info.frames["tip"].names == ("x", "y", "z")
    assert first(source).read("tip", 0, 2).tolist() == [[1, 2, 3]] * 2


def test_raw_pictures_are_turned_to_rgb_and_depth_keeps_its_units(tmp_path):
    bgr = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    depth = (np.arange(12, dtype=np.uint16) * 1000).reshape(3, 4)
    path = write(
        tmp_path / "a.mcap",
        [(t, "/color", raw(bgr, "bgr8", padding=5)) for t in (0, 100)]
        + [(t, "/depth", raw(depth, "16UC1")) for t in (0, 100)],
    )
    source = at_rate(path, 10)
    assert np.array_equal(first(source).read("color", 0, 1)[0], bgr[..., ::-1])
    assert np.array_equal(first(source).read("depth", 0, 1)[0, :, :, 0], depth)
    schema = source.info.frames["depth"]
    assert (schema.kind, schema.units, schema.dtype) == ("depth", "mm", np.uint16)


def test_depth_that_was_not_measured_is_0(tmp_path):
    depth = np.array([[1.5, np.nan], [np.inf, 2.0]], np.float32)
    path = write(tmp_path / "a.mcap", [(t, "/depth", raw(depth, "32FC1")) for t in (0, 100)])
    source = at_rate(path, 10)
    assert first(source).read("depth", 0, 1)[0, :, :, 0].tolist() == [[1.5, 0], [0, 2]]
    assert source.info.frames["depth"].units == "m"


def test_what_is_not_taken_is_listed_with_the_reason(tmp_path):
    text = [(t, "/words", ("std_msgs/msg/String", Message(data="go"))) for t in (0, 100)]
    once = [(50, "/once", command(1.0))]
    left_out = open_source(write(tmp_path / "a.mcap", arm() + text + once)).info.left_out
    assert "no numbers" in left_out["/words"]
    assert left_out["/once"] == "one message in the whole recording"


def test_topics_that_are_no_messages_of_ros_2_hinder_no_others(tmp_path):
    with open(tmp_path / "a.mcap", "wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        for name, encoding, definition in (
            ("/json", "json", b"{}"),
            ("/odd", "cdr", b"this is % no definition"),
            ("/short", "cdr", b"float64 x"),
            ("/good", "cdr", b"float64 x"),
        ):
            schema = writer.register_schema(f"a/msg/{name[1:].title()}", "ros2msg", definition)
            channel = writer.register_channel(name, encoding, schema)
            content = b"\0\1\0\0" + (b"" if name == "/short" else struct.pack("<d", 7.0))
            for at in (0, 10**8):
                writer.add_message(channel, at, content, at)
        writer.finish()
    source = at_rate(tmp_path / "a.mcap", 10)
    assert list(source.info.frames) == ["good"]
    assert first(source).read("good", 0, 2).tolist() == [[7], [7]]
    assert "not a message of ROS 2" in source.info.left_out["/json"]
    assert "not a message of ROS 2" in source.info.left_out["/odd"]
    assert "a damaged message" in source.info.left_out["/short"]


def test_each_file_is_an_episode_and_the_files_of_a_bag_follow_one_another(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for number in (10, 2):
        write(runs / f"run_{number}.mcap", arm(offset=number * 1000))
    bag = runs / "run_20"
    bag.mkdir()
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    messages = arm()
    write(bag / "run_20_0.mcap", [m for m in messages if m[0] < 500])
    write(bag / "run_20_1.mcap", [m for m in messages if m[0] >= 500])
    source = at_rate(runs, 20)
    assert [ref.name for ref in source.episodes()] == ["run_2", "run_10", "run_20"]
    second = source.open(source.episodes()[1])
    assert second.read("joint_states.position", 0, 1)[0, 0] == 10030
    whole = source.open(source.episodes()[2])
    assert whole.n_frames == 19
    assert whole.read("joint_states.position", 9, 11)[:, 0].tolist() == [480, 530]
    assert at_rate(bag, 20).episodes()[0].name == "run_20"


def test_a_recording_converts_with_an_action_of_its_commands(tmp_path):
    from dipole.data.convert import run
    from dipole.data.sources.words import ConversionRequest

    path = write(tmp_path / "a.mcap", arm())
    with pytest.raises(DataError, match="--rename command=action"):
        convert(at_rate(path, 20), tmp_path / "ours.zarr")
    request = ConversionRequest(
        path, tmp_path / "ours.zarr", fps=20, rename={"command": "action"}, task="reach"
    )
    report = run(request)
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert (store.fps, store.tasks, report.n_frames) == (20, ["reach"], 19)
    assert "at 20 frames a second, of each the last message received" in report.warnings[0]
    assert store.schema("action")["kind"] == "action"
    assert store.schema("joint_states.position")["names"] == ["a", "b"]


def test_a_recording_that_was_cut_short_is_named(tmp_path):
    path = write(tmp_path / "a.mcap", arm())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"a.mcap: damaged.*mcap recover"):
        open_source(path)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_chunk_that_becomes_more_than_it_says_is_refused(tmp_path, compression):
    chosen = pytest.importorskip("mcap.writer").CompressionType[compression.upper()]
    with open(tmp_path / "a.mcap", "wb") as file:
        writer = Writer(file, compression=chosen, enable_crcs=False)
        writer.start("ros2", "test")
        channel = writer.register_channel("/zeros", "cdr", 0)
        for at in (0, 1):
            writer.add_message(channel, at, bytes(2**22), at)
        writer.finish()
    raw = bytearray((tmp_path / "a.mcap").read_bytes())
    claimed = struct.pack("<Q", 2**22 + 31)
    assert claimed in raw
    (tmp_path / "a.mcap").write_bytes(raw.replace(claimed, struct.pack("<Q", 1000), 1))
    with pytest.raises(DataError, match=r"a chunk of 1,000 bytes becomes 4,194,335, refused"):
        open_source(tmp_path / "a.mcap")


def test_a_file_without_an_index_is_refused_with_what_to_do(tmp_path):
    with open(tmp_path / "a.mcap", "wb") as file:
        writer = Writer(file, use_summary_offsets=False, index_types=IndexType.NONE)
        writer.start("ros2", "test")
        channel = writer.register_channel("/zeros", "cdr", 0)
        writer.add_message(channel, 0, bytes(8), 0)
        writer.finish()
    with pytest.raises(DataError, match=r"no index of its chunks. `mcap recover`"):
        open_source(tmp_path / "a.mcap")


@pytest.mark.parametrize("definition", ["string format", "string format\nstring data"])
def test_pictures_that_are_defined_in_another_way_are_left_out(tmp_path, monkeypatch, definition):
    kind = "sensor_msgs/msg/CompressedImage"
    monkeypatch.setitem(DEFINITIONS, kind, HEADER + definition + HEADER_DEFINITION)
    picture = Message(header=STAMP, format="jpeg", data="text")
    arms = [(time, "/joint_states", joints(time, -time)) for time in range(0, 200, 10)]
    camera = [(time, "/camera", (kind, picture)) for time in (0, 100)]
    write(tmp_path / "a.mcap", arms + camera)
    source = open_source(tmp_path / "a.mcap")
    assert "CompressedImage" in source.info.left_out["/camera"]
    assert list(source.info.frames) == ["joint_states.position"]

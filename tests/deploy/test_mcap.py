"""MCAP: what was recorded is read back by its own reader, channel by channel."""

import base64
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image

from dipole.apps.main import main
from dipole.data.errors import DataError
from dipole.deploy import ActionSpec, Channel, Limits, RobotSpec
from dipole.deploy.recording.file_format import MAGIC, Record, pack, read_recording
from dipole.deploy.recording.to_mcap import export_mcap

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import fly


def messages(path):
    """{topic: [(seconds, content)]}, and {topic: schema}."""
    found, schemas = {}, {}
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert channel.message_encoding == "json"
            assert schema.encoding == "jsonschema"
            schemas[channel.topic] = json.loads(schema.data)
            content = json.loads(message.data)
            assert set(content) <= set(schemas[channel.topic]["properties"])
            found.setdefault(channel.topic, []).append((message.log_time / 1e9, content))
    return found, schemas


@pytest.fixture(scope="module")
def flown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mcap")
    robot, _, _ = fly(folder / "flight.rec", seconds=10.0)
    assert main(["replay", str(folder / "flight.rec"), "--mcap", str(folder / "out.mcap")]) == 0
    return robot, list(read_recording(folder / "flight.rec")), *messages(folder / "out.mcap")


def test_every_command_is_there_by_the_names_of_its_numbers(flown):
    robot, _, found, _ = flown
    assert [content["a"] for _, content in found["/command"]] == [
        float(a[0]) for _, a in robot.sent
    ]
    assert [time for time, _ in found["/command"]] == pytest.approx([t for t, _ in robot.sent])


def test_wanted_actions_limits_and_holds_are_told(flown):
    _, records, found, _ = flown
    acts = [record for record in records if record.kind == "act"]
    acted = [record for record in acts if "action" in record.arrays]
    assert len(found["/action/limited"]) == len(found["/action/wanted"]) == len(acted) > 20
    clamped = [content["count"] for _, content in found["/limits"]]
    assert clamped == [len(record.values["clamps"]) for record in acted]
    assert sum(clamped) > 0
    assert len(found["/hold"]) == len(acts) - len(acted) > 0


def test_chunks_and_states_are_told_when_they_came(flown):
    _, records, found, _ = flown
    results = [record for record in records if record.kind == "result"]
    assert [c["chunk_id"] for _, c in found["/chunk"]] == [
        r.values["ticket"]["chunk_id"] for r in results
    ]
    assert np.shape(found["/chunk"][0][1]["actions"]) == (16, 2)
    assert found["/chunk"][6][1]["actions"][0] == [None, None]  # NaN: the seventh of `wandering`
    times = [time for time, _ in found["/chunk"]]
    assert times == sorted(times)
    assert times[0] > 100.0  # the virtual clock's beginning
    states = [content["state"] for _, content in found["/state"]]
    assert states[:2] == ["WARMUP", "ARMED"]
    assert states[-1] == "STOPPED"


def test_observations_are_told_once_each_at_their_capture(flown):
    _, records, found, _ = flown
    times = [time for time, _ in found["/observation/x"]]
    assert len(set(times)) == len(times) > 50
    first = next(r for r in records if r.kind == "act")
    assert times[0] == pytest.approx(first.values["captured"])
    assert found["/observation/x"][0][1]["values"] == first.arrays["seen.x"].tolist()


def test_an_image_is_one_that_foxglove_shows(tmp_path):
    limits = Limits((0.0,), (1.0,), (1.0,), (1.0,))
    robot = RobotSpec(
        {"camera": Channel((4, 6, 3), "uint8")}, ActionSpec(("x",), kind="joint_velocity"), limits
    )
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    begin = Record("begin", {"robot": asdict(robot)})
    values = {"now": 2.5, "captured": 2.25, "hold": "", "clamps": []}
    act = Record("act", values, {"seen.camera": picture})
    (tmp_path / "one.rec").write_bytes(MAGIC + pack(begin) + pack(act))
    assert export_mcap(tmp_path / "one.rec", tmp_path / "one.mcap") == 1
    found, schemas = messages(tmp_path / "one.mcap")
    assert schemas["/observation/camera"]["title"] == "foxglove.CompressedImage"
    ((time, content),) = found["/observation/camera"]
    assert time == 2.25
    assert content["timestamp"] == {"sec": 2, "nsec": 250_000_000}
    shown = Image.open(io.BytesIO(base64.b64decode(content["data"])))
    assert np.array_equal(np.asarray(shown), picture)


def test_nothing_is_overwritten_and_no_half_file_is_left(tmp_path):
    fly(tmp_path / "flight.rec", seconds=1.0)
    (tmp_path / "there.mcap").write_text("mine")
    with pytest.raises(DataError, match=r"there\.mcap exists"):
        export_mcap(tmp_path / "flight.rec", tmp_path / "there.mcap")
    damaged = (tmp_path / "flight.rec").read_bytes()[:-40] + b"\0" * 40
    (tmp_path / "damaged.rec").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        export_mcap(tmp_path / "damaged.rec", tmp_path / "new.mcap")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "damaged.rec", "flight.rec", "there.mcap",
    ]  # fmt: skip

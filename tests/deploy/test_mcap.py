"""MCAP: what was recorded is read back by its own reader, channel by channel."""

import base64
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image

from dipole.apps.main import main
from dipole.data.core.errors import DataError
from dipole.deploy import Channel
from dipole.deploy.recording.file_format import read_recording
from dipole.deploy.recording.to_mcap import LIMITS, export_mcap

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import FORMAT_1, Handwritten, fly, fly_grouped


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


def exported(recording):
    """The messages of a recording, read back."""
    output = recording.with_suffix(".mcap")
    assert main(["replay", str(recording), "--mcap", str(output)]) == 0
    return messages(output)


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
    # The robot of these runs takes up to 12 ms for a command; its time is when it was given.
    took = [sent - time for (time, _), (sent, _) in zip(found["/command"], robot.sent, strict=True)]
    assert min(took) >= 0
    assert max(took) < 0.0121


def test_wanted_actions_limits_and_holds_are_told(flown):
    _, records, found, _ = flown
    acts = [record for record in records if record.kind == "act"]
    acted = [record for record in acts if "action" in record.arrays]
    assert len(found["/action/wanted"]) == len(acted) > 20
    commands = [record for record in records if record.kind == "command"]
    assert [(time, content["count"], content["behind"]) for time, content in found["/limits"]] == [
        (pytest.approx(r.values["now"]), len(r.values["clamps"]), r.values["behind"])
        for r in commands
    ]
    assert sum(content["velocity"] for _, content in found["/limits"]) > 10
    assert len(found["/hold"]) == len(acts) - len(acted) > 0


def test_limits_of_several_groups_are_told_by_kind_and_by_group(tmp_path):
    fly_grouped(tmp_path / "flight.rec")
    found, _ = exported(tmp_path / "flight.rec")
    met = [content for _, content in found["/limits"]]
    assert {name for content in met for name in content["met"]} >= {"arm velocity", "tool velocity"}
    for content in met:
        kinds = {name.split()[-1] for name in content["met"]}
        assert {limit for limit in LIMITS if content[limit]} == kinds
        assert content["count"] == len(content["met"])


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
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    channels = {"camera": Channel((4, 6, 3), "uint8")}
    kept = Handwritten(tmp_path / "one.rec", ("camera",), channels)
    kept.act(25, {"camera": picture}, {"camera": 2.25}, hold="wait")
    kept.close()
    found, schemas = exported(tmp_path / "one.rec")
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
    kept = Handwritten(tmp_path / "hand.rec")
    kept.actions(0, 3)
    kept.act(math.nan)  # a time that MCAP cannot hold
    kept.close()
    with pytest.raises(DataError, match="of the time nan s"):
        export_mcap(tmp_path / "hand.rec", tmp_path / "new.mcap")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "flight.rec", "hand.rec", "there.mcap",
    ]  # fmt: skip


def test_of_a_damaged_recording_what_comes_before_is_written(tmp_path, capsys):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.actions(0, 10)
    kept.close()
    damaged = (tmp_path / "flight.rec").read_bytes()[:-40] + b"\xff" * 40
    (tmp_path / "damaged.rec").write_bytes(damaged)
    output = tmp_path / "new.mcap"
    assert main(["replay", str(tmp_path / "damaged.rec"), "--mcap", str(output)]) == 1
    assert "only what comes before the damage" in capsys.readouterr().out
    assert len(messages(output)[0]["/command"]) == 20


def test_each_entry_of_an_observation_has_its_own_time_once(tmp_path):
    """A camera at half the rate, and joints of which one time lies in the future."""
    channels = {"camera": Channel((1, 1, 1), "uint8"), "x": Channel((2,))}
    kept = Handwritten(tmp_path / "flight.rec", ("camera", "x"), channels)
    for number in range(6):
        values = {"camera": np.uint8([[[number // 2]]]), "x": np.float32([number, 0])}
        x = 1000.0 if number == 1 else number / 10 - 0.01
        kept.act(number, values, {"camera": number // 2 / 5, "x": x}, hold="wait")
    kept.close()
    found, _ = exported(tmp_path / "flight.rec")
    assert [time for time, _ in found["/observation/camera"]] == [0.0, 0.2, 0.4]
    # A time that MCAP cannot hold, -0.01 s, is that of the loop.
    times = [time for time, _ in found["/observation/x"]]
    assert times == pytest.approx([0.0, 0.19, 0.29, 0.39, 0.49, 1000.0])


def test_what_was_dropped_and_how_the_task_went_are_told(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.actions(0, 2)
    kept.recorder._queue.drop("act")
    kept.recorder._queue.drop("act")
    kept.actions(4, 5)
    kept.recorder.outcome({"success": 1.0})
    kept.close()
    found, _ = exported(tmp_path / "flight.rec")
    ((time, content),) = found["/missing"]
    assert time == pytest.approx(0.15)  # of the last record before them
    assert content == {"count": 2, "kinds": {"act": 2}}
    assert [content for _, content in found["/outcome"]] == [{"outcome": {"success": 1.0}}]


def test_the_wall_clocks_time_at_the_beginning_is_in_the_metadata(tmp_path):
    Handwritten(tmp_path / "flight.rec", dry_run=True).close()
    exported(tmp_path / "flight.rec")
    begin = next(read_recording(tmp_path / "flight.rec")).values
    with (tmp_path / "flight.mcap").open("rb") as file:
        (told,) = make_reader(file).iter_metadata()
    assert told.name == "dipole"
    assert told.metadata == {
        "format": "2", "dry_run": "true", "wall_time": json.dumps(begin["wall_time"]),
        "monotonic_time": json.dumps(begin["monotonic_time"]),
    }  # fmt: skip
    assert begin["wall_time"] > 1.7e9


def test_a_recording_of_format_1_is_written(tmp_path):
    path = tmp_path / "old.rec"
    path.write_bytes(FORMAT_1.read_bytes())
    found, _ = exported(path)
    assert len(found["/command"]) == 355
    assert len(found["/action/limited"]) == len(found["/limits"]) == 71
    assert len(found["/hold"]) == 9
    assert found["/observation/x"][0][0] == pytest.approx(found["/observation/light"][0][0] - 0.02)

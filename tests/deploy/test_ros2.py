"""The node in docs/ros2.md runs, against a stand-in for rclpy that refuses what rclpy has not."""

import pickle
import re
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from enough import LONG, stop_after
from virtual_robot import WINDOW

from dipole.deploy import ControlLoop, LoopConfig, RealClock
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop import preparation
from dipole.deploy.loop.states import StateError
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.robots.registry import import_robots, make_robot
from dipole.deploy.types import PolicySpec

PAGE = (Path(__file__).parents[2] / "docs" / "ros2.md").read_text()
OFFSET = 1e9  # seconds between the ROS clock and the monotonic one


def message(kind, **fields):
    """A message class: its fields, of their types, and no others, as the generated ones have."""

    class Message:
        __slots__ = tuple(fields)

        def __init__(self):
            for field, make in fields.items():
                setattr(self, field, make())

        def __setattr__(self, field, value):
            wanted = fields[field]()  # KeyError: there is no such field
            if isinstance(wanted, list):
                assert isinstance(value, list), f"{kind}.{field} takes a list"
                kinds = {type(entry) for entry in value}
                assert kinds <= {float} or field not in ("positions",), f"{kind}.{field}: {kinds}"
            else:
                assert isinstance(value, type(wanted)), f"{kind}.{field} is {type(value)}"
            object.__setattr__(self, field, value)

    Message.__name__ = kind
    return Message


Time = message("Time", sec=int, nanosec=int)
Header = message("Header", stamp=Time, frame_id=str)
Duration = message("Duration", sec=int, nanosec=int)
JointState = message(
    "JointState", header=Header, name=list, position=list, velocity=list, effort=list
)
Image = message(
    "Image", header=Header, height=int, width=int, encoding=str, is_bigendian=int, step=int,
    data=bytes,
)  # fmt: skip
Point = message(
    "JointTrajectoryPoint", positions=list, velocities=list, accelerations=list, effort=list,
    time_from_start=Duration,
)  # fmt: skip
Trajectory = message("JointTrajectory", header=Header, joint_names=list, points=list)


class Bus:
    """Topics of the stand-in: what is published reaches who subscribed, by the executor."""

    def __init__(self):
        self.initialised, self.nodes, self.published, self.subscribed = False, [], {}, {}


class FakeNode:
    def __init__(self, name):
        assert BUS.initialised, "rclpy.init() comes before the first node"
        BUS.nodes.append(name)

    def create_publisher(self, kind, topic, qos_profile):
        def publish(sent):
            assert isinstance(sent, kind)
            BUS.published.setdefault(topic, []).append(sent)
            if topic in BUS.subscribed:
                BUS.subscribed[topic][1](sent)

        return SimpleNamespace(publish=publish)

    def create_subscription(self, kind, topic, callback, qos_profile):
        BUS.subscribed[topic] = (kind, callback)

    def get_clock(self):
        now = SimpleNamespace(nanoseconds=int((time.monotonic() + OFFSET) * 1e9))
        return SimpleNamespace(now=lambda: now)

    def get_logger(self):
        return SimpleNamespace(error=BUS.published.setdefault("log", []).append)

    def destroy_node(self):
        BUS.nodes.clear()


class FakeExecutor:
    """Spins until it is shut down; meanwhile the arm goes where it was told, and says so."""

    def __init__(self):
        self.over = threading.Event()

    def add_node(self, node):
        pass

    def spin(self):
        while not self.over.wait(0.005):
            arm_says()

    def shutdown(self, timeout_sec=None):
        self.over.set()


BUS = Bus()
ARM = SimpleNamespace(positions=[0.0] * 6, sag=0.0)
COMMANDS = "/joint_trajectory_controller/joint_trajectory"


def stamp(age=0.0):
    header = Header()
    nanoseconds = int((time.monotonic() + OFFSET - age) * 1e9)
    header.stamp.sec, header.stamp.nanosec = divmod(nanoseconds, 10**9)
    return header


def arm_says():
    """Joint states in another order than the policy's, with a gripper among them; a picture."""
    if sent := BUS.published.get(COMMANDS):
        ARM.positions = [position - ARM.sag for position in sent[-1].points[0].positions]
    names = ["shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3"]
    joints = JointState()
    joints.header = stamp()
    joints.name = [*reversed(names), "gripper"]
    joints.position = [*reversed(ARM.positions), 0.04]
    BUS.subscribed["/joint_states"][1](joints)
    picture = Image()
    picture.header = stamp(age=0.05)
    picture.height, picture.width, picture.step, picture.encoding = 200, 192, 580, "rgb8"
    picture.data = np.full((200, 580), 7, np.uint8).tobytes()  # rows are padded to 580 bytes
    BUS.subscribed["/camera/image_raw"][1](picture)


def modules():
    def start(args=None, *, context=None, domain_id=None, signal_handler_options=None):
        assert signal_handler_options == "NO", "the loop answers Ctrl-C, not rclpy"
        BUS.initialised = True

    def end():
        BUS.initialised = False

    contents = {
        "rclpy": {"init": start, "shutdown": end},
        "rclpy.executors": {"SingleThreadedExecutor": FakeExecutor},
        "rclpy.node": {"Node": FakeNode},
        "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="NO")},
        "rclpy.qos": {"qos_profile_sensor_data": object()},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Image, "JointState": JointState},
        "trajectory_msgs": {},
        "trajectory_msgs.msg": {"JointTrajectory": Trajectory, "JointTrajectoryPoint": Point},
    }
    for name, held in contents.items():
        module = ModuleType(name)
        vars(module).update(held)
        yield name, module


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    example = re.search(r'```python\n("""ros2_arm.*?)```', PAGE, re.DOTALL)[1]
    path = tmp_path_factory.mktemp("docs") / "ros2_arm.py"
    path.write_text(example)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules():
            patch.setitem(sys.modules, name, module)
        import_robots(path)
        yield make_robot("ros2_arm")


def reach(ticket, observation):
    """Every joint towards 1 rad; the picture has to be the camera's."""
    assert observation["camera"].max() == 7
    here = observation["joints"][-1]
    steps = np.linspace(0.0, 0.4, WINDOW.horizon)[:, None]
    return {"action": here + steps * (1.0 - here)}


@pytest.fixture
def connected(arm, monkeypatch):
    """Without a thread that spins: `joints` are what the test says."""
    monkeypatch.setattr(FakeExecutor, "spin", lambda self: None)
    BUS.published.clear()
    arm.connect()
    yield arm
    arm.close()


def sent_positions():
    return [sent.points[0].positions for sent in BUS.published[COMMANDS]]


def test_the_node_moves_the_arm_within_its_limits_and_stops_it(arm, monkeypatch):
    monkeypatch.setattr(ARM, "sag", 0.05)  # five times as far as one command may move it
    policy = PolicySpec({"joints": (6,), "camera": (96, 96, 3)}, 6, WINDOW)
    config = LoopConfig(max_observation_age=10.0, call_timeout=10.0, align_to="camera")
    inference = ThreadInference(policy, reach)
    loop = ControlLoop(arm, inference, config, clock=RealClock(), log=lambda line: None)
    loop.prepare()
    loop.arm()
    stop_after(loop, 12)
    report = run_watched(loop, LONG)
    sent = BUS.published[COMMANDS]
    positions = np.array(sent_positions())
    loop.close()
    assert report.stopped is True
    assert report.counts["actions"] > 11
    assert np.abs(np.diff(positions, axis=0)).max() <= 0.01 + 1e-6  # stop() is the last of them
    assert (positions[-1] == positions[-2]).all()
    assert sent[0].joint_names[0] == "shoulder_pan"
    assert all(0.02 < position < 1.6 for position in sent[-1].points[0].positions)
    assert sent[-1].points[0].time_from_start.nanosec == 20_000_000
    assert 0.05 <= report.samples["observation_age"].summary()["p50"] < 1.0  # the camera's
    assert not BUS.initialised
    assert BUS.nodes == []


def test_a_picture_of_another_kind_is_said_and_not_used(arm):
    arm.connect()
    arm.camera, picture = None, Image()
    picture.encoding = "bgr8"
    arm.on_image(picture)
    arm.close()
    assert "bgr8; rgb8 is needed" in BUS.published["log"][-1]


def test_a_stop_repeats_the_last_command_wherever_the_arm_is(connected):
    connected.joints = 0.0, np.full(6, 0.5, np.float32)  # it lags
    connected.command(np.full(6, 0.55))
    connected.command(np.full(6, 0.6))
    connected.stop()
    connected.joints = 0.0, np.full(6, 0.4, np.float32)  # it sags
    connected.stop()
    assert sent_positions()[-2:] == [[0.6] * 6] * 2


def test_before_any_command_nothing_is_sent(connected):
    """The controller keeps its setpoint; a measured position, however old, would move the arm."""
    connected.joints = 0.0, np.full(6, 0.5, np.float32)
    connected.hold()
    connected.stop()
    assert COMMANDS not in BUS.published


def test_nothing_is_sent_before_anybody_armed_it(arm, monkeypatch):
    """Without a camera there is no observation, and the preparation is given up."""
    monkeypatch.setattr(preparation, "LONGEST_SECONDS", 0.3)
    monkeypatch.setattr(type(arm), "on_image", lambda self, picture: None)
    BUS.published.clear()
    policy = PolicySpec({"joints": (6,), "camera": (96, 96, 3)}, 6, WINDOW)
    config, inference = LoopConfig(call_timeout=10.0), ThreadInference(policy, reach)
    loop = ControlLoop(arm, inference, config, clock=RealClock(), log=lambda line: None)
    with pytest.raises(StateError, match="no usable observation within"):
        loop.prepare()
    loop.close()
    assert COMMANDS not in BUS.published


def test_a_command_of_an_earlier_connection_is_not_repeated(connected):
    connected.command(np.full(6, 0.6))
    connected.close()
    connected.connect()  # somebody has moved it
    connected.stop()
    assert sent_positions() == [[0.6] * 6]


def test_the_watchdog_repeats_the_last_command(connected):
    stop_arm = pickle.loads(pickle.dumps(connected.stopper()))
    connected.command(np.full(6, 0.55))
    connected.command(np.full(6, 0.6))
    arm_says()  # it lags
    stop_arm()
    assert sent_positions()[-1] == [0.6] * 6


def test_before_any_command_the_watchdog_sends_the_arm_to_where_it_is_measured(arm):
    BUS.subscribed.clear()
    stop_arm = pickle.loads(pickle.dumps(arm.stopper()))  # as it arrives in its process
    assert BUS.nodes == ["dipole_watchdog"]
    with pytest.raises(RuntimeError, match="no joint state that is new enough"):
        stop_arm()  # it knows no joint yet; the watchdog calls it again
    ARM.positions = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    BUS.published.clear()
    BUS.subscribed["/camera/image_raw"] = (None, lambda picture: None)
    arm_says()
    stop_arm()
    sent = BUS.published[COMMANDS][-1]
    assert sent.joint_names[0] == "shoulder_pan"
    assert sent.points[0].positions == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_the_watchdog_sends_the_arm_to_no_position_that_is_old(connected):
    stop_arm = pickle.loads(pickle.dumps(connected.stopper()))
    arm_says()
    stop_arm.measured = stop_arm.measured[0] - 1.0, stop_arm.measured[1]  # its driver is silent
    with pytest.raises(RuntimeError, match="new enough"):
        stop_arm()
    assert COMMANDS not in BUS.published

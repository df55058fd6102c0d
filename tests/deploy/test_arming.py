"""Before a robot is armed: who says no, and how a run ends that somebody gives up."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"
QUESTION = "anything else to end: "
SECONDS = 60  # after which a child that says nothing is ended


class Child:
    """A run in a terminal of its own."""

    def __init__(self, folder, where):
        self.said = ""
        self.terminal, far_end = pty.openpty()
        command = [sys.executable, str(SUPPORT / "run_before_arming.py"), str(folder), where]
        self.process = subprocess.Popen(
            command, stdin=far_end, stdout=far_end, stderr=far_end, start_new_session=True
        )
        os.close(far_end)

    def until(self, text):
        while text not in self.said:
            self.said += os.read(self.terminal, 4096).decode()

    def rest(self):
        """All that it says until it ends."""
        try:
            while data := os.read(self.terminal, 4096):
                self.said += data.decode()
        except OSError:  # Linux's way to say that the other side of a terminal is closed
            pass
        self.process.wait()
        os.close(self.terminal)
        return self.said.replace("\r\n", "\n")


@pytest.fixture
def start(tmp_path):
    children = []

    def begin(where):
        children.append(Child(tmp_path, where))
        return children[-1]

    previous = signal.signal(signal.SIGALRM, lambda *_: children[-1].process.kill())
    signal.alarm(SECONDS)
    yield begin
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def report(folder):
    return json.loads((folder / "run" / "report.json").read_text())


@pytest.mark.parametrize(("answer", "meant"), [("\x04", "Ctrl-D"), ("no\n", "no")])
def test_whoever_does_not_type_arm_ends_the_run(tmp_path, start, answer, meant):
    child = start("asking")
    child.until(QUESTION)
    os.write(child.terminal, answer.encode())
    said = child.rest()
    assert "not armed: nothing was moved" in said
    assert "RETURNED None" in said
    assert said.index("ROBOT stop") < said.index("ROBOT close")
    assert not (tmp_path / "run" / "flight.rec").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_at_the_question_stops_and_closes_the_robot_and_is_said(tmp_path, start, name):
    child = start("asking")
    child.until(QUESTION)
    child.process.send_signal(signal.Signals[name])
    said = child.rest()
    by = "" if name == "SIGINT" else f" by {name}"
    assert f"interrupted{by} before the robot was armed: nothing was moved" in said
    assert said.index("ROBOT stop") < said.index("ROBOT close")
    assert "RAISED KeyboardInterrupt" in said
    assert report(tmp_path)["state"] == "REFUSED"
    assert report(tmp_path)["reason"].startswith("KeyboardInterrupt")
    assert not (tmp_path / "run" / "flight.rec").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_so_it_does_while_the_policy_warms_up(start, name):
    child = start("warming up")
    child.until("SEEN")
    child.process.send_signal(signal.Signals[name])
    said = child.rest()
    assert "before the robot was armed: nothing was moved" in said
    assert said.index("ROBOT stop") < said.index("ROBOT close")


def test_a_signal_while_the_policy_is_loaded_ends_the_run_without_the_robot(start):
    child = start("loading")
    child.until("BEGAN")
    child.process.send_signal(signal.SIGTERM)
    said = child.rest()
    assert "interrupted by SIGTERM before the robot was armed: nothing was moved" in said
    assert "ROBOT" not in said

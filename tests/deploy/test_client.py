"""The client on real sockets: a server that dies, comes back, is slow, lies, or goes silent."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ControlLoop, LoopConfig, State
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.deploy.wire import websocket
from dipole.deploy.wire.codec import MessageLimits, pack
from dipole.deploy.wire.openpi import OpenpiTerms
from dipole.deploy.wire.protocol import ProtocolError, Schema, greeting
from dipole.deploy.wire.websocket import ClientConfig

sys.path.insert(0, str(Path(__file__).parent / "support"))
from faulty_server import BlockedServer, Close, FaultyServer, Proxy
from real_processes import RealRobot
from real_server import OBSERVATION, SPEC, TOKEN, Running, running, served, wait_until
from virtual_robot import WINDOW, counting

GREETING = greeting(Schema(SPEC), 2**25)
HUGE = PolicySpec({"x": (3_000_000,)}, 2, WINDOW)  # more than sockets hold
HUGE_OBSERVATION = {"x": np.zeros((2, 3_000_000), np.float32)}
IMPATIENT = ClientConfig(ping_interval=0.2, ping_timeout=0.3, open_timeout=1.0)


def request(number, epoch=0):
    return Request(Ticket(number, epoch, 0.0, 0), OBSERVATION)


def answer(inference, seconds=20.0):
    found = []
    wait_until(lambda: found.append(inference.poll()) or found[-1] is not None, seconds)
    return found[-1]


@pytest.fixture
def client():
    made = []

    def make(address, *more, **options):
        made.append(RemoteInference(address, *more, **options))
        return made[-1]

    yield make
    for inference in made:
        inference.close()


# Chunks -------------------------------------------------------------------------------------------


def test_a_server_is_one_more_inference(client):
    with running() as server:
        remote, local = client(server.address), ThreadInference(SPEC, counting())
        assert remote.spec == SPEC
        for inference in (remote, local):
            inference.warm_up(OBSERVATION, 2)
            inference.submit(request(3))
        far, near = answer(remote), answer(local)
        assert far.ticket == near.ticket
        assert far.answer["action"].tolist() == near.answer["action"].tolist()
        assert far.seconds > 0
        assert remote.round_trips.count == 3
        assert "round trip p50" in remote.notes[0]
        local.close()


def test_what_is_known_of_a_chunk_is_sent_with_the_request(client):
    def compute(ticket, observation, known=None):
        return {"action": np.asarray(known["values"]) + known["clip"]}

    policy = served(compute, PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True))
    with running(policy) as server:
        inference = client(server.address)
        assert inference.spec.inpaints
        known = {"values": np.ones((16, 2)), "clip": 3}
        inference.submit(Request(Ticket(1, 0, 0.0, 0), OBSERVATION, known))
        assert answer(inference).answer["action"][0, 0] == 4.0


def test_what_is_wrong_with_a_request_is_an_answer(client):
    with running() as server:
        inference = client(server.address)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"y": np.zeros((2, 2))}))
        assert "the server: the observation has no 'x'" in answer(inference).error
        inference.submit(request(2))
        assert answer(inference).error == ""


# Who is refused -----------------------------------------------------------------------------------


def test_a_server_that_never_starts_is_said(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InferenceDied, match=r"no policy server at .* within 0.5 s: .*refused"):
            client(address, config=ClientConfig(start_timeout=0.5))


def test_a_server_that_starts_late_is_waited_for(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = []
    timer = threading.Timer(0.5, lambda: late.append(Running(port=port)))
    timer.start()
    inference = client(f"ws://127.0.0.1:{port}", config=ClientConfig(start_timeout=60.0))
    assert inference.spec == SPEC
    timer.join()
    late[0].stop()


def test_a_wrong_token_is_said_at_once(client):
    with running(token=TOKEN) as server:
        patient = ClientConfig(start_timeout=60.0)
        with pytest.raises(InferenceDied, match=r"HTTP 401\): wrong token, or none"):
            client(server.address, "wrong", config=patient)
        assert client(server.address, TOKEN).spec == SPEC


def test_a_second_client_for_one_robot_is_refused_with_the_servers_words(client):
    with running() as server:
        client(server.address + "/left")
        with pytest.raises(InferenceDied, match="robot 'left' has a client already"):
            client(server.address + "/left", config=ClientConfig(start_timeout=0.5))
        client(server.address + "/right")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "http://127.0.0.1:8000", "ws://", "ws://127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_said(client, address):
    with pytest.raises(ConfigError, match="server="):
        client(address)


# A network that fails -----------------------------------------------------------------------------


def test_a_request_that_went_with_its_connection_is_lost_and_the_next_is_answered(client):
    go_on = threading.Event()

    def compute(ticket, observation):
        if ticket.chunk_id == 1:
            go_on.wait(20)
        return counting()(ticket, observation)

    with running(served(compute)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address)
        inference.submit(request(1))
        wait_until(lambda: proxy.passed > 1)
        proxy.cut()
        assert answer(inference).lost
        go_on.set()
        inference.submit(request(2))  # asked on the old connection: lost with it
        inference.submit(request(2))
        while (result := answer(inference)).lost:
            inference.submit(request(3))
        assert result.answer["action"][1, 0] in (200.0, 300.0)
        assert inference.reconnections == 1


def test_what_was_asked_while_there_was_no_connection_is_lost_with_it(client):
    first = Running()
    inference = client(first.address)
    first.stop()
    wait_until(lambda: not inference._socket.is_open)
    inference.submit(request(1))
    wait_until(lambda: inference._slot is None)  # it looks for the server
    inference.submit(request(2))
    with running(port=first.port):
        lost = [answer(inference) for _ in range(2)]
        assert sorted(result.ticket.chunk_id for result in lost) == [1, 2]
        assert all(result.lost for result in lost)
        inference.submit(request(3))
        assert answer(inference).answer["action"][1, 0] == 300.0


def test_a_half_open_connection_is_noticed_and_replaced(client):
    with running(ping_interval=20.0) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address + "/left", config=IMPATIENT)
        proxy.freeze()  # what is sent goes nowhere, and no end is seen
        inference.submit(request(1))
        assert answer(inference).lost
        inference.submit(request(2))
        assert inference.poll() is None
        proxy.thaw()  # for new connections; the server still believes in the old one
        while (result := answer(inference)).lost:
            inference.submit(request(3))
        assert result.error == ""
        assert len(server.server.connections) == 1


def test_answers_nobody_waits_for_are_dropped_and_counted(client):
    def answers(number, good):
        old = {**good, "ticket": {**good["ticket"], "chunk_id": number - 1}}
        return [old, good, good, old]  # from before, right, doubled, from before

    with FaultyServer(GREETING, answers) as server:
        inference = client(server.address)
        for number in range(1, 6):
            inference.submit(request(number))
            result = answer(inference)
            assert result.ticket.chunk_id == number
            assert result.answer["action"][1, 0] == 100.0 * number
        assert inference.stale >= 5


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x91" * 3000, b"\x90", pack({"ticket": 1}), b""])
def test_a_servers_garbage_is_an_error_and_never_a_chunk(client, garbage):
    with FaultyServer(GREETING, lambda number, good: [garbage]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        result = answer(inference)
        assert result.error.startswith("the server's answer: ")
        assert result.answer is None


def test_a_server_that_comes_back_with_another_policy_is_a_death(client):
    first = Running(served(fingerprint="a"))
    inference = client(first.address)
    first.stop()
    with running(served(fingerprint="b"), port=first.port):
        inference.submit(request(1))
        with pytest.raises(InferenceDied, match="came back with another policy"):
            answer(inference)


def test_a_protocol_of_another_version_is_said(client):
    told = greeting(Schema(SPEC), 2**25)
    told["dipole"]["protocol"] = 2
    with (
        FaultyServer(told, None) as server,
        pytest.raises(ProtocolError, match="speaks protocol 2"),
    ):
        client(server.address)


PATIENT = ClientConfig(answer_timeout=600.0, ping_interval=600.0)  # nothing ends by itself


def closes(inference):
    """Whether `close` returns, and the thread that waited ends."""
    closing = threading.Thread(target=inference.close)
    closing.start()
    closing.join(20)
    inference._thread.join(20)
    return not closing.is_alive() and not inference._thread.is_alive()


def test_closing_ends_the_wait_for_an_answer(client):
    asked = threading.Event()
    with FaultyServer(GREETING, lambda number, good: asked.set() or []) as server:
        inference = client(server.address, config=PATIENT)
        inference.submit(request(1))
        assert asked.wait(20)
        assert closes(inference)


def test_closing_ends_a_request_that_is_not_taken(client):
    with running(served(spec=HUGE)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address, config=PATIENT)
        proxy.freeze()
        inference.submit(Request(Ticket(1, 0, 0.0, 0), HUGE_OBSERVATION))
        wait_until(inference._socket._connection.protocol_mutex.locked)  # it is being sent
        assert closes(inference)


def test_closing_ends_the_search_for_a_server(client):
    server = Running()
    inference = client(server.address)
    server.stop()
    inference.submit(request(1))
    wait_until(lambda: inference._last_loss != "")
    assert closes(inference)


def test_a_request_that_is_not_taken_is_given_up_after_the_answers_timeout(client):
    impatient = ClientConfig(answer_timeout=0.3, ping_interval=600.0)
    with running(served(spec=HUGE)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address, config=impatient)
        proxy.freeze()
        inference.submit(Request(Ticket(1, 0, 0.0, 0), HUGE_OBSERVATION))
        assert answer(inference).lost


# Messages that are refused ------------------------------------------------------------------------


def test_a_request_that_is_too_large_is_refused_before_it_is_sent_and_says_what_to_do(client):
    with running(max_message=400) as server:
        inference = client(server.address)
        for number in (1, 2):
            inference.submit(Request(Ticket(number, 0, 0.0, 0), {"x": np.zeros((2, 200))}))
            said = answer(inference).error
            assert "bytes, and the server takes 400: send fewer or smaller pictures" in said
            assert "serve with a larger server.max_message" in said
        inference.submit(request(3))
        assert answer(inference).answer["action"][1, 0] == 300.0
        assert inference.reconnections == 0
        with pytest.raises(InferenceDied, match=r"a larger server\.max_message"):
            inference.warm_up({"x": np.zeros((2, 200))}, 1)


def test_an_oversized_request_to_a_server_that_names_no_limit_is_no_storm_of_connections(client):
    greeting = {"dipole": {"protocol": 1}, "policy": GREETING["policy"]}
    too_large = {"x": np.zeros((2, 100_000))}  # for FaultyServer, which takes 1 MiB
    with FaultyServer(greeting, lambda number, good: [good]) as server:
        inference = client(server.address)
        said, until, number = set(), time.monotonic() + 3.0, 0
        while time.monotonic() < until:
            number += 1
            inference.submit(Request(Ticket(number, 0, 0.0, 0), too_large))
            result = answer(inference)
            if not result.lost:
                said.add(result.error)
        assert 2 <= server.connections <= 8
    assert said
    assert all("1009" in error and "a larger server.max_message" in error for error in said)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009])
def test_a_connection_that_ends_because_of_a_message_is_an_error_with_its_reason(client, code):
    closes = [Close(code, "what you sent is odd")]
    with FaultyServer(GREETING, lambda number, good: closes if number == 1 else [good]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        result = answer(inference)
        assert not result.lost
        assert result.error.startswith(
            f"the server's answer: it closed the connection with {code} ("
        )
        assert "what you sent is odd" in result.error
        inference.submit(request(2))
        assert answer(inference).lost  # it was asked before there was a connection
        inference.submit(request(3))
        assert answer(inference).error == ""


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013])
def test_a_connection_that_ends_for_another_reason_is_lost_and_the_report_says_why(client, code):
    closes = [Close(code, "going home")]
    with FaultyServer(GREETING, lambda number, good: closes) as server:
        inference = client(server.address)
        inference.submit(request(1))
        assert answer(inference).lost
        assert "last lost: " in inference.notes[0]
        assert "going home" in inference.notes[0]


def test_an_answer_that_is_too_large_is_an_error_and_not_asked_for_for_ever(client, monkeypatch):
    monkeypatch.setattr(websocket, "LIMITS", MessageLimits(size=1000))
    with FaultyServer(GREETING, lambda number, good: [b"0" * 2000]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        assert "this client closed the connection with 1009" in answer(inference).error


def test_connections_that_bring_no_chunk_come_at_longer_and_longer_intervals(client, monkeypatch):
    pauses = []
    with FaultyServer(GREETING, lambda number, good: [Close(1001)]) as server:
        inference = client(server.address)
        monkeypatch.setattr(
            inference._closing, "wait", lambda pause: pauses.append(pause) or server.connections > 7
        )
        while inference._death is None:
            inference.submit(request(1))
            wait_until(lambda: inference._death is not None or inference._answers)
            inference._answers.clear()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


# openpi -------------------------------------------------------------------------------------------


def test_a_server_of_openpi_is_spoken_to_in_its_own_words(client, tmp_path):
    seen = []

    def answers(number, observation):
        seen.append(observation)
        return [{"actions": np.full((10, 2), float(number)), "server_timing": {"infer_ms": 2.0}}]

    with FaultyServer({"anything": 1}, answers, openpi=True) as server:
        terms = OpenpiTerms({"observation/state": "x"}, prompt="push")
        inference = client(server.address, robot=RealRobot(tmp_path).spec, openpi=terms)
        assert inference.spec.window.horizon == 10
        assert inference.spec.window.n_obs_steps == 1
        assert inference.spec.window.n_action_steps == 5
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.array([[3.0, 4.0]])}))
        assert answer(inference).answer["action"].tolist() == [[2.0, 2.0]] * 10
    assert seen[-1]["prompt"] == "push"
    assert seen[-1]["observation/state"].tolist() == [3.0, 4.0]


def test_an_openpi_servers_traceback_is_its_last_line(client, tmp_path):
    def answers(number, observation):
        good = {"actions": np.zeros((4, 2))}
        return [good] if number == 1 else ["Traceback ...\n  File x.py\nKeyError: 'image'\n"]

    with FaultyServer({}, answers, openpi=True) as server:
        inference = client(server.address, robot=RealRobot(tmp_path).spec)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.zeros((1, 2))}))
        assert answer(inference).error == "the server's answer: it says KeyError: 'image'"


def test_a_server_that_blocks_its_event_loop_while_it_computes_is_waited_for(client, tmp_path):
    pings = ClientConfig(ping_interval=0.05, ping_timeout=0.1)
    with BlockedServer(seconds=1.0) as server:
        inference = client(server.address, config=pings, robot=RealRobot(tmp_path).spec)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.zeros((1, 2))}))
        result = answer(inference)
        assert (result.lost, result.error) == (False, "")
        assert result.answer["action"].shape == (10, 2)
        assert inference.reconnections == 0


@pytest.mark.parametrize(
    ("greetings", "lengths", "same"),
    [
        ([{"of": "a"}] * 3, [10, 0, 10], True),
        ([{"of": "a"}, {"of": "a"}, {"of": "b"}], [10, 0, 10], False),
        ([{"of": "a"}] * 3, [10, 0, 8], False),
        ([{"of": "a"}, {"of": "a"}, GREETING], [10, 0, 10], False),
    ],
)
def test_a_server_of_openpi_that_comes_back_is_the_same_by_its_greeting_and_its_chunks(
    client, tmp_path, greetings, lengths, same
):
    def answers(number, observation):
        rows = lengths[min(number, 3) - 1]
        return [{"actions": np.zeros((rows, 2))} if rows else Close(1001)]

    with FaultyServer(lambda n: greetings[n - 1], answers, openpi=True) as server:
        inference = client(server.address, robot=RealRobot(tmp_path).spec)
        seen = {"x": np.zeros((1, 2))}
        inference.submit(Request(Ticket(1, 0, 0.0, 0), seen))
        assert answer(inference).lost
        inference.submit(Request(Ticket(2, 0, 0.0, 0), seen))
        if same:
            assert answer(inference).lost
            inference.submit(Request(Ticket(3, 0, 0.0, 0), seen))
            assert answer(inference).answer["action"].shape == (10, 2)
        else:
            with pytest.raises(InferenceDied, match="came back with another policy"):
                answer(inference)


def test_what_an_openpi_server_is_asked_has_to_be_the_robots(client, tmp_path):
    with FaultyServer({}, None, openpi=True) as server:
        with pytest.raises(ConfigError, match="is 'y'"):
            client(server.address, robot=RealRobot(tmp_path).spec, openpi=OpenpiTerms({"s": "y"}))
        with pytest.raises(ConfigError, match="none of dipole's"):
            client(server.address)


# The loop -----------------------------------------------------------------------------------------


def start_loop(folder, inference, **settings):
    patient = {
        "max_limited": None,
        "max_approach": None,
        "max_observation_age": 2.0,
        "call_timeout": 2.0,
    }
    loop = ControlLoop(RealRobot(folder), inference, LoopConfig(**patient | settings),
                       log=lambda line: None)  # fmt: skip
    loop.prepare()
    loop.arm()
    return loop


def in_background(loop, seconds):
    thread = threading.Thread(target=loop.run, args=(seconds,))
    thread.start()
    wait_until(lambda: loop.states.state is State.RUN)
    return thread


def test_a_server_that_dies_is_held_through_and_nothing_old_is_replayed(client, tmp_path):
    first = Running()
    loop = start_loop(tmp_path, client(first.address), max_hold=None)
    thread = in_background(loop, 60.0)
    first.stop()
    wait_until(lambda: loop.states.state is State.HOLD)
    robot = loop.supervisor._robot
    wait_until(lambda: len({tuple(action) for _, action in robot.sent[-30:]}) == 1)  # it holds
    moved, newest = len(robot.moves), robot.sent[-1][1][0] // 100
    with running(port=first.port):
        wait_until(lambda: len(robot.moves) > moved + 20)
    loop.request_stop("done")
    thread.join(20)
    assert loop.report.counts["requests_lost"] >= 1
    chunks = [(action[0] + 1) // 100 for _, action in robot.moves]
    assert chunks == sorted(chunks)
    assert chunks[moved + 10] > newest  # and moves on by a chunk that was asked for later
    loop.close()


def test_a_server_that_stays_away_ends_in_a_stop_within_the_holds_bound(client, tmp_path):
    server = Running()
    loop = start_loop(tmp_path, client(server.address), max_hold=0.5)
    thread = in_background(loop, 60.0)
    server.stop()
    thread.join(30)
    assert loop.states.state is State.STOPPED
    assert loop.states.reason.startswith("held for 0.5 s")
    assert loop.report.stopped is True
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_process_that_is_killed_or_stopped_blocks_no_slot(fault, client, tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "support" / "serve_counting.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        inference = client(f"ws://127.0.0.1:{process.stdout.readline().strip()}",
                           config=ClientConfig(ping_interval=5.0, ping_timeout=5.0))  # fmt: skip
        loop = start_loop(tmp_path, inference)
        threading.Timer(0.5, os.kill, (process.pid, fault)).start()
        report = run_watched(loop, 5.0)
        process.kill()
    assert "HOLD" in [str(t.state) for t in report.transitions]
    assert report.samples["lateness"].maximum < 2.0  # a slot that waited would wait for 10 s
    assert report.stopped is True
    assert report.to_dict()["state"] == "STOPPED"
    loop.close()


@pytest.mark.slow
def test_delay_jitter_reordering_and_duplicates_on_the_wire_bring_no_old_chunk_back(
    client, tmp_path
):
    rng = np.random.default_rng(0)
    held_back = []

    def answers(number, good):
        time.sleep(float(rng.uniform(0, 0.5) if rng.random() < 0.8 else rng.uniform(1, 2.5)))
        held_back.append(good)
        order = [held_back[i] for i in rng.permutation(len(held_back))[:3]]
        return [*order, good, good] if rng.random() < 0.9 else order[:1]

    with FaultyServer(GREETING, answers) as server:
        quick = ClientConfig(answer_timeout=1.0, ping_interval=5.0, ping_timeout=5.0)
        loop = start_loop(tmp_path, client(server.address, config=quick), inference_timeout=1.0)
        report = run_watched(loop, 5.0)
    chunks = [round(action[0] // 100) for _, action in loop.supervisor._robot.sent]
    assert chunks == sorted(chunks)
    assert len(set(chunks)) >= 3
    assert report.samples["lateness"].maximum < 1.0  # an answer is waited for so long
    loop.close()

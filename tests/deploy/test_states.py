"""The states: which ways there are, and that of several threads each finds a whole one."""

import threading

import pytest

from dipole.deploy.loop.states import State, StateError, StateMachine


def machine(*way, note=lambda transition: None):
    states = StateMachine(lambda: 5.0, note)
    for state in way:
        states.to(state, f"to {state}")
    return states


RUNNING = (State.WARMUP, State.ARMED, State.RUN)


@pytest.mark.parametrize("way", [RUNNING[:2], RUNNING, (*RUNNING, State.HOLD)])
@pytest.mark.parametrize("end", [State.STOPPED, State.FAULT])
def test_a_robot_that_may_move_is_stopped_by_way_of_stopping(way, end):
    states = machine(*way, State.STOPPING)
    with pytest.raises(StateError, match="the loop is STOPPING; it cannot become RUN"):
        states.to(State.RUN, "again")
    assert states.to(end, "it rests") is True
    assert (states.state, states.reason) == (end, "it rests")


def test_a_robot_that_was_never_armed_has_nothing_to_stop():
    with pytest.raises(StateError, match="the loop is WARMUP; it cannot become STOPPING"):
        machine(State.WARMUP, State.STOPPING)


def test_the_first_end_is_kept():
    states = machine(*RUNNING)
    assert states.to(State.FAULT, "the cable is out") is True
    assert states.to(State.STOPPED, "Ctrl-C") is False
    assert states.to(State.FAULT, "another") is False
    assert states.reason == "the cable is out"


def test_a_note_that_blocks_keeps_no_other_thread_from_changing_it():
    inside, go, noted = threading.Event(), threading.Event(), []

    def note(transition):
        if transition.state is State.HOLD:
            inside.set()
            go.wait(30)
        noted.append(str(transition.state))

    states = machine(*RUNNING, note=note)
    loop = threading.Thread(target=states.to, args=(State.HOLD, "no action"), daemon=True)
    loop.start()
    inside.wait(30)
    monitor = threading.Thread(target=states.to, args=(State.FAULT, "stuck"), daemon=True)
    monitor.start()
    monitor.join(30)
    assert states.state is State.FAULT
    assert noted == ["WARMUP", "ARMED", "RUN", "FAULT"]
    go.set()
    loop.join(30)
    assert noted[-1] == "HOLD"
    assert states.state is State.FAULT

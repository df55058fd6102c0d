"""Signals of a terminal ask for a stop, and do nothing else."""

import signal
import subprocess
import sys

import pytest

from dipole.deploy.safety.signals import stop_signals

NAMES = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_asks_for_a_stop_however_often_it_comes(name):
    asked, number = [], getattr(signal, name)
    before = signal.getsignal(number)
    with stop_signals(asked.append):
        signal.raise_signal(number)
        signal.raise_signal(number)  # a shell passes on the terminal's hangup: it comes twice
    assert asked == [name, name]
    assert signal.getsignal(number) == before


def test_a_second_interrupt_acts_as_ever():
    asked = []
    with stop_signals(asked.append):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked == ["SIGINT"]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_run_under_nohup_stops_when_its_terminal_is_closed_too():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asked = []
        with stop_signals(asked.append):
            signal.raise_signal(signal.SIGHUP)
        assert asked == ["SIGHUP"]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_program_in_the_background_is_not_suspended_by_its_terminal():
    with stop_signals(lambda name: None):
        assert signal.getsignal(signal.SIGTTOU) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTTIN) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTTOU) == signal.SIG_DFL


def test_processes_beside_the_loop_ignore_the_terminal_and_obey_terminate():
    code = (
        "import signal\n"
        "from dipole.deploy.safety.signals import ignore_terminal_signals\n"
        "ignore_terminal_signals()\n"
        "for name in ('SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU'):\n"
        "    signal.raise_signal(getattr(signal, name))\n"
        "print('alive', flush=True)\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n"
    assert done.returncode == -signal.SIGTERM

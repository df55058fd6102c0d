"""Keep the stack on which this thread's signals are handled.

OpenVINO gives the thread that compiles a model another one, and unmaps it when the model goes. The
next signal, a child's end for example, then has no stack, and the system kills the process.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """stack_t of signal.h, on Linux."""

    _fields_ = (
        ("base", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Whatever happens inside, this thread's alternate signal stack is afterwards as before."""
    exchange = getattr(ctypes.CDLL(None), "sigaltstack", None)
    if exchange is None:  # Windows has none
        yield
        return
    before = SignalStack()
    exchange(None, ctypes.byref(before))
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)

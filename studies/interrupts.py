"""When Ctrl-C takes effect: not while the storage is written.

An interrupt in the middle of a transaction can leave a locked connection behind, and Python swallows one that comes in
a destructor. So a worker holds interrupts back, except while it scores or waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_depth = 0  # of `held`, in the main thread, which alone gets signals
_asked = False


@contextmanager
def interruptible() -> Iterator[None]:
    """A context in which SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, even if the process was started
    with these signals ignored, as shells start background jobs."""
    global _asked

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        global _asked
        _asked = True
        if _depth == 0:
            raise KeyboardInterrupt

    _asked = False
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = False


@contextmanager
def held() -> Iterator[None]:
    """A context in which an interrupt waits for the end, or for the next `released`."""
    global _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if _depth == 0:
        _raise_if_asked()


@contextmanager
def released() -> Iterator[None]:
    """A context within `held` in which interrupts are raised, also one that came before."""
    global _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    depth, _depth = _depth, 0
    try:
        _raise_if_asked()
        yield
    finally:
        _depth = depth


def _raise_if_asked() -> None:
    if _asked:
        raise KeyboardInterrupt

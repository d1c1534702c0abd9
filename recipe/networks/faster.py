"""The compiler for a training on a GPU: taken where it measures faster, never in the way of the training."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from training.loop import Training
from training.team import Loss

STEPS = 5
AGAIN = 5.0
"""Seconds after which a block that swallowed the first exception is told again."""


class TookTooLongError(Exception):
    """What was tried outlasted its time."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TookTooLongError in the block after a number of seconds (in the main thread of a process on Unix)."""

    def stop(*_: Any) -> None:
        raise TookTooLongError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def seconds_a_step(loss_of: Loss, training: Training, steps: int = STEPS) -> float:
    """Seconds of a forward and a backward pass, the first of which is not counted; no parameter moves."""
    started = 0.0
    for number in range(steps + 1):
        if number == 1:
            _wait()
            started = time.perf_counter()
        loss_of(training.step + number, slice(None))["loss"].backward()
    _wait()
    taken = (time.perf_counter() - started) / steps
    training.optimizer.zero_grad(set_to_none=True)
    return taken


def quicker(model: Any, loss_by: Callable[[Any], Loss], training: Training, limit: float) -> Loss:
    """The loss of `model` or of its compiled form, whichever steps faster; `model`'s own where the compiler fails or is
    not done after `limit` seconds. The time that this takes counts as the training's."""
    started = time.monotonic()
    plain = loss_by(model)
    eager = seconds_a_step(plain, training)
    chosen = plain
    try:
        with within(limit):
            fast = loss_by(torch.compile(model, dynamic=False))
            compiled = seconds_a_step(fast, training)
        print(f"a step: {1000 * eager:.1f} ms, compiled {1000 * compiled:.1f} ms", flush=True)
        chosen = fast if compiled < eager else plain
    except Exception as error:  # whatever a compiler raises, the training goes on without it
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"a step: {1000 * eager:.1f} ms; not compiled: {type(error).__name__}: {said[:200]}", flush=True)
    if chosen is plain:
        torch._dynamo.reset()
    training.optimizer.zero_grad(set_to_none=True)
    training.seconds += time.monotonic() - started
    return chosen


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

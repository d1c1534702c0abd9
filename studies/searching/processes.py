"""Several worker processes on one study: start, watch and interrupt them together, and report how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from explorer.errors import StudyError
from studies.queue.heartbeats import PARENT_VARIABLE

INTERRUPTED = 130
GRACE_SECONDS = 60.0  # for the plan in hand to be given back after Ctrl-C


@dataclass(frozen=True)
class WorkerExit:
    """How a worker process ended.

    Attributes:
        index: Its number among the processes, from 0.
        pid: Its process id.
        status: Its exit status; negative for a signal.
        words: The last line of its stderr.
    """

    index: int
    pid: int
    status: int
    words: str

    @property
    def crashed(self) -> bool:
        """Whether it neither finished nor was interrupted."""
        return self.status not in (0, INTERRUPTED)

    def __str__(self) -> str:
        if self.status < 0:
            return f"worker {self.index} was ended by {signal.Signals(-self.status).name}"
        return f"worker {self.index} ended with status {self.status}" + (f": {self.words}" if self.words else "")


def run_workers(
    n: int,
    command_for: Callable[[int], Sequence[str]],
    environment: Mapping[str, str] | None = None,
    on_poll: Callable[[int], None] | None = None,
    poll_seconds: float = 0.5,
) -> list[WorkerExit]:
    """Run several worker processes until all have ended. It prints nothing; the workers have no terminal.

    A KeyboardInterrupt interrupts every worker once, waits for them and is raised again. A second one kills them; the
    study survives that too. Workers end by themselves when this process is killed.

    Args:
        n: Number of processes.
        command_for: Gives the command of a process by its number, from 0.
        environment: Further environment variables, such as a URL with a password, which a command line would show.
        on_poll: Called with the number of workers alive.
        poll_seconds: Seconds between two calls of it.

    Returns:
        How each worker ended.

    Raises:
        StudyError: When `n` is not positive or a worker cannot be started.
    """
    if n < 1:
        raise StudyError(f"the number of workers must be at least 1, got {n}.")
    running: list[tuple[int, subprocess.Popen[bytes], IO[bytes]]] = []
    try:
        for index in range(n):
            errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, with the others
            running.append((index, _start(command_for(index), environment or {}, errors), errors))
        while alive := sum(process.poll() is None for _, process, _ in running):
            if on_poll is not None:
                on_poll(alive)
            time.sleep(poll_seconds)
        return [_exit(index, process, errors) for index, process, errors in running]
    except BaseException:
        _interrupt([process for _, process, _ in running])
        raise
    finally:
        for _, _, errors in running:
            errors.close()


def _start(command: Sequence[str], environment: Mapping[str, str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: the terminal's Ctrl-C reaches this process alone, which passes it on once.
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | dict(environment) | {PARENT_VARIABLE: str(os.getpid())},
            start_new_session=sys.platform != "win32",
        )
    except OSError as error:
        raise StudyError(f"cannot start a worker ({error.strerror or error}): {' '.join(command)}.") from error


def _interrupt(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in processes:
            process.kill()
            process.wait()


def _exit(index: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> WorkerExit:
    errors.seek(0)
    lines = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    return WorkerExit(index, process.pid, process.returncode, lines[-1] if lines else "")

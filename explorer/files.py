"""Atomic writes, and locks that processes share."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: it is complete or absent, also if the process is killed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` against other processes.

    Args:
        path: The lock file, created where it is missing. A killed process releases its lock.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Whether the lock is held: without `wait`, False when another process has it.

    Raises:
        OSError: When the file cannot be opened.
    """
    lock = FileLock(path, blocking=wait)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()

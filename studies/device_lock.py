"""The lock by which this machine's explorer processes share a device."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import ReadWriteLock

from explorer.errors import StudyError

if TYPE_CHECKING:
    from explorer.devices import DeviceInfo


@contextlib.contextmanager
def on_device(info: DeviceInfo, *, shared: bool = False) -> Iterator[None]:
    """Hold this machine's device against the other processes of the explorer.

    Args:
        info: The device.
        shared: A latency is measured alone (False); pictures may be made side by side (True).

    Raises:
        StudyError: When the lock file cannot be used.
    """
    path = lock_path(info)
    try:
        lock = ReadWriteLock(path, is_singleton=False)  # one for each hold: threads wait for each other too
        (lock.acquire_read if shared else lock.acquire_write)()
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise StudyError(f"the device lock {path} cannot be used ({reason}); make it writable or remove it.") from error
    try:
        yield
    finally:
        lock.release()


def lock_path(info: DeviceInfo) -> Path:
    """The device's lock file, one for each user of this machine."""
    name = "".join(c if c.isalnum() else "-" for c in f"{info.kind}-{info.name}")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"inheritance-explorer-{name}-{user}.lock"

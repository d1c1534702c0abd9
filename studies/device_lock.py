"""The lock by which this machine's explorer processes share a device."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import StudyError

if TYPE_CHECKING:
    from explorer.devices import DeviceInfo


@contextlib.contextmanager
def on_device(info: DeviceInfo, *, shared: bool = False) -> Iterator[None]:
    """Hold this machine's device against the other workers of the explorer: a latency is measured alone, pictures may
    be made side by side. Where the system has no file locks nothing is held."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        yield
        return
    name = "".join(c if c.isalnum() else "-" for c in f"{info.kind}-{info.name}")
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"inheritance-explorer-{name}-{user}.lock"
    with _opened(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = path.open("a")
    except OSError as error:
        raise StudyError(f"the device lock {path} cannot be opened ({error.strerror}); make it writable.") from error
    with file:
        yield file

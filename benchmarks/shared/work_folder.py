"""What a long benchmark keeps on disk, so that a killed run goes on and several processes share the work.

A folder of JSON documents. Each is written whole or not at all; what is dear to make is made by one process while the
others wait for it. Locks are the system's own, so that a killed process leaves none behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from explorer.errors import StudyError
from explorer.files import locked, write_whole

LOCKS = 64
"""Lock files that documents share: two documents of one lock wait for each other, which harms nothing."""


def digest(facts: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that tell one setting from another."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


class WorkFolder:
    """Documents by name (`plans/4f2a`), each a JSON file under `folder`. Raises StudyError where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._explained():
            (folder / "locks").mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> Any:
        """The document, None where there is none. One that is damaged (a full disk) counts as none."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.path(name).read_text(encoding="utf-8"))
        return None

    def write(self, name: str, document: Any) -> None:
        path = self.path(name)
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(document, ensure_ascii=False).encode())

    def drop(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The document; made and kept where there is none, by one process at a time. `make` must ask for no other."""
        standing = self.read(name)
        if standing is not None:
            return standing
        with self.locked(str(int(hashlib.sha256(name.encode()).hexdigest(), 16) % LOCKS)):
            standing = self.read(name)  # another process may have made it meanwhile
            if standing is None:
                standing = make()
                self.write(name, standing)
            return standing

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a lock against other processes. Gives whether it is held: without `wait`, False when another has it."""
        with contextlib.ExitStack() as stack:
            with self._explained():
                held = stack.enter_context(locked(self.folder / "locks" / f"{name}.lock", wait=wait))
            yield held

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder} ({error.strerror or error}); make room or give another --work, then "
                "run the same command to resume."
            ) from error


class Ticker:
    """Tells on stderr what is done and how long the rest will take, at the rate of this process."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self._began = total, 0, time.monotonic()

    def tell(self, words: str, *, count: int = 1, worked: bool = True) -> None:
        """`count` more are done. worked: False for what existed already, which says nothing of the rate."""
        from studies.cli.commands.output import duration

        if not worked:
            self.total -= count
            return
        self.done += count
        left = (time.monotonic() - self._began) / self.done * (self.total - self.done)
        print(f"[{self.done}/{self.total}] {words}; {duration(left)} left", file=sys.stderr, flush=True)

"""Wait for a storage that is not reachable: retry with growing pauses, then stop with a message."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from explorer.errors import StudyError
from studies.interrupts import released
from studies.storage.troubles import StorageGone

VARIABLE = "EXPLORER_STORAGE_PATIENCE"
SECONDS = 300.0  # a database server that is started again, or a short cut in the network
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0

T = TypeVar("T")


def patience_seconds() -> float:
    """How long a storage is waited for: `EXPLORER_STORAGE_PATIENCE`, otherwise five minutes.

    Raises:
        StudyError: when the variable is no number of seconds.
    """
    text = os.environ.get(VARIABLE, str(SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise StudyError(f"{VARIABLE} must be a number of seconds, got {text!r}.")
    return seconds


class Patience:
    """How long one process waits for its storage. Once it is over, nothing more is waited for, so that the end of a
    command is not held up by every last thing that it would write."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = seconds <= 0
        self.troubled = float("-inf")  # when the storage was last found gone, by the monotonic clock

    def keep_trying(self, work: Callable[[bool], T]) -> T:
        """`work(False)`, then `work(True)` while the storage is not reachable: an earlier try may have been written.

        Raises:
            StudyError: when the storage has not come back in time.
        """
        gone_at: float | None = None
        pause = FIRST_PAUSE
        while True:
            try:
                result = work(gone_at is not None)
            except StorageGone as error:
                self.troubled = now = time.monotonic()
                if self.over:
                    raise
                if gone_at is None:
                    gone_at = now
                    _say(f"{error} Trying again for {self.seconds:.0f} s.")
                self._pause(pause, gone_at + self.seconds - now, error)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if gone_at is not None:
                    _say(f"the storage is back after {time.monotonic() - gone_at:.0f} s; continuing.")
                return result

    def _pause(self, seconds: float, left: float, error: StorageGone) -> None:
        if left <= 0:
            self.over = True
            raise StudyError(
                f"the storage did not come back in {self.seconds:.0f} s ({str(error).rstrip('.')}); what was recorded "
                "is kept: run the same command again to resume when it is back."
            ) from error
        try:
            with released():
                time.sleep(min(left, seconds * random.uniform(0.5, 1.0)))  # many workers do not come back in one moment
        except BaseException:
            self.over = True
            raise


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)

"""What the timing benchmarks share: the pipeline and its profile at the options given, with progress on stderr."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from explorer.devices import resolve_device, resolve_dtype
from explorer.errors import StudyError
from explorer.explained import run_explained
from explorer.models.loading import fingerprint, load_pipeline
from explorer.models.workload import twin

if TYPE_CHECKING:
    from explorer.timing.profile import Profile
    from explorer.timing.profiling import ProfileProgress
    from studies.config import SearchConfig


_shared: dict[tuple[str, str, str], Any] | None = None
"""The pipeline that was loaded last, where the benchmarks of this process share it."""


def share_loading() -> None:
    """Load a model once for the benchmarks that follow one another in this process. Each has a pipeline, UNet object
    and scheduler of its own over the same weights; what it left on a module is taken off."""
    global _shared
    _shared = {}


def load(arguments: argparse.Namespace) -> Any:
    """The pipeline of --model on --device in --dtype."""
    device = resolve_device(arguments.device)
    dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
    if _shared is None:
        return load_pipeline(arguments.model, device=str(device), dtype=dtype)
    key = arguments.model, str(device), dtype
    if key not in _shared:
        _shared.clear()  # one at a time: two may not fit
        _shared[key] = load_pipeline(arguments.model, device=str(device), dtype=dtype)
    pipe = _shared[key]
    for module in pipe.unet.modules():
        module.__dict__.pop("forward", None)  # DeepCache leaves one on every block
    return twin(pipe)


def profiled(
    pipe: Any,
    arguments: argparse.Namespace,
    steps: int,
    started: Profile | None = None,
    on_round: Callable[[Profile], None] | None = None,
) -> Profile:
    """A profile measured now, at the workload of the options; with --quick of few rounds. started: an earlier one to
    go on with, which is given back as it is where it is complete. on_round: called with it after each round."""
    from explorer.compile_modes import check_mode
    from explorer.timing.profiling import profile_pipeline, workload_of

    check_mode(arguments.compile, resolve_device(arguments.device))
    work = workload_of(
        pipe, device=arguments.device, dtype=arguments.dtype, batch=arguments.batch, resolution=arguments.resolution,
        compile=arguments.compile,
    )  # fmt: skip
    if started is not None and (started.workload, started.fingerprint) != (work, fingerprint(pipe)):
        raise StudyError("the profile to go on with is of another workload or of other weights; give another --out.")
    if started is not None and started.complete:
        return started
    rounds = arguments.rounds or (3 if arguments.quick else None)
    return profile_pipeline(
        pipe, arguments.model, work, steps=steps, rounds=rounds, started=started, on_progress=tell(), on_round=on_round
    )


def without_savings(config: SearchConfig) -> SearchConfig:
    """The options of a search that scores every plan whole and replays nothing, as a fair count of seconds needs."""
    return replace(config, racing="off", replay=0)


def tell() -> Callable[[ProfileProgress], None]:
    """One line on stderr at each tenth of a stage."""
    from studies.cli.commands.output import duration

    seen: set[int] = set()

    def show(standing: ProfileProgress) -> None:
        tenth = standing.done * 10 // max(1, standing.total)
        if tenth not in seen and standing.seconds_left is not None:
            seen.add(tenth)
            print(f"{standing.stage}: {tenth * 10}%, {duration(standing.seconds_left)} left", file=sys.stderr)

    return show


class Pace:
    """Tells on stderr what was done and how long the rest takes, at the pace of this run."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done = total, done
        self._before, self._start = done, time.monotonic()

    def tell(self, words: str, count: int = 1) -> None:
        """`count` more are done."""
        from studies.cli.commands.output import duration

        self.done += count
        each = (time.monotonic() - self._start) / (self.done - self._before)
        left = duration(each * (self.total - self.done))
        print(f"{self.done} of {self.total}: {words}, {left} left", file=sys.stderr)


def run(main: Callable[[], None]) -> None:
    """Run a benchmark's main; what a user can fix is one sentence and status 1, an interrupt status 130."""
    run_explained(main, "the benchmark")

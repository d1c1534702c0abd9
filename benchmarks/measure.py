"""What the timing benchmarks share: the pipeline and its profile at the options given, with progress on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from explorer.devices import resolve_device, resolve_dtype
from explorer.errors import ExplorerError
from explorer.models import load_pipeline

if TYPE_CHECKING:
    from explorer.profiler import Standing
    from explorer.profiles import Profile
    from studies.config import SearchConfig


def load(arguments: argparse.Namespace) -> Any:
    """The pipeline of --model on --device in --dtype."""
    device = resolve_device(arguments.device)
    dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
    return load_pipeline(arguments.model, device=str(device), dtype=dtype)


def profiled(pipe: Any, arguments: argparse.Namespace, steps: int) -> Profile:
    """A profile measured now, at the workload of the options; with --quick of few rounds."""
    from explorer.compiling import check_mode
    from explorer.profiler import profile_pipeline, workload_of

    check_mode(arguments.compile, resolve_device(arguments.device))
    work = workload_of(
        pipe, device=arguments.device, dtype=arguments.dtype, batch=arguments.batch, resolution=arguments.resolution,
        compile=arguments.compile,
    )  # fmt: skip
    rounds = arguments.rounds or (3 if arguments.quick else None)
    return profile_pipeline(pipe, arguments.model, work, steps=steps, rounds=rounds, on_progress=tell())


def without_savings(config: SearchConfig) -> SearchConfig:
    """The options of a search that scores every plan whole and replays nothing, as a fair count of seconds needs."""
    return replace(config, racing="off", replay=0)


def tell() -> Callable[[Standing], None]:
    """One line on stderr at each tenth of a stage."""
    from studies.commands.output import duration

    seen: set[int] = set()

    def show(standing: Standing) -> None:
        tenth = standing.done * 10 // max(1, standing.total)
        if tenth not in seen and standing.seconds_left is not None:
            seen.add(tenth)
            print(f"{standing.stage}: {tenth * 10}%, {duration(standing.seconds_left)} left", file=sys.stderr)

    return show


def run(main: Callable[[], None]) -> None:
    """Run a benchmark's main; what a user can mend is one sentence and status 1, an interrupt status 130."""
    try:
        main()
    except ExplorerError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

"""How far a latency can be trusted while other processes burn the CPUs in bursts: bias and coverage of the speed-up.

Plans of known ratio are timed under the load: `n` matrix products against `m`, and plans of the model against its
un-accelerated loop, whose ratio is measured first in quiet. The estimator in use is compared with the one that it
replaced, the median of all pairs' ratios with a bootstrap interval, on the first pairs of the same samples. Then a
small search runs under the same load, and its front is held against what each plan could reach at best.

Run it on a machine that does nothing else: `python -m benchmarks.noisy_latency`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.shared.measure import Pace, load, run
from benchmarks.shared.report import options, write_figure, write_result
from explorer.bootstrap import RESAMPLES, interval, resample
from explorer.estimate import Estimate
from explorer.timing.latency import WARMUPS, compare, ratio_estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BURST, GAP = (0.2, 2.0), (0.5, 4.0)
"""Seconds of a burst of load, and between two: drawn evenly."""
SIDE = 256
PRODUCTS = {"products 2:1": 2.0, "products 4:1": 4.0, "products 5:4": 1.25}
PLANS = ("DC0/P3", "plain@10")
STUDY = "noisy"
WORTH = ("coverage", "median bias", "median error", "largest error", "median half-width")


def bootstrap_median(ratios: Array) -> Estimate:
    """The median of `ratios` (n,) with a bootstrap interval: the estimator that took stalled pairs like any others."""
    rows = resample(len(ratios), RESAMPLES)
    return interval(float(np.median(ratios)), np.median(ratios[rows], axis=1), len(ratios))


def burn(seed: int) -> None:
    """Keep one core busy in bursts until the process is ended; those of one seed burn together."""
    rng, parent = np.random.default_rng(seed), os.getppid()
    until = time.monotonic()
    while os.getppid() == parent:
        until += rng.uniform(*GAP)
        time.sleep(max(0.0, until - time.monotonic()))
        until += rng.uniform(*BURST)
        while time.monotonic() < until:
            pass


@contextlib.contextmanager
def load_beside(seed: int) -> Iterator[None]:
    """Within it as many processes as there are cores burn in bursts."""
    spawn = multiprocessing.get_context("spawn")
    burners = [spawn.Process(target=burn, args=(seed,), daemon=True) for _ in range(os.cpu_count() or 1)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


Calls = tuple[Callable[[], object], Callable[[], object]]


def products(seconds: float, ratio: float) -> Calls:
    """Two loads of matrix products, the first of about `seconds`, with exactly `ratio` times the work of the second."""
    import torch

    matrix, product = torch.randn(SIDE, SIDE), torch.empty(SIDE, SIDE)

    def work(count: int) -> None:
        for _ in range(count):
            torch.mm(matrix, matrix, out=product)

    work(50)
    began = time.perf_counter()
    work(200)
    unit = max(1, round(seconds / ((time.perf_counter() - began) / 200) / (4 * ratio)))
    return lambda: work(round(4 * ratio) * unit), lambda: work(4 * unit)


@contextlib.contextmanager
def plan_calls(pipe: Any, name: str, steps: int) -> Iterator[Calls]:
    """The model's un-accelerated loop and that of a plan."""
    import torch

    from explorer import inherit, strategy
    from explorer.models.workload import random_embeds, twin

    embeds, other = random_embeds(pipe, 1, torch.device("cpu")), twin(pipe)
    plan = strategy(name, unet=pipe.unet) if "@" in name else strategy(name, steps=steps, unet=pipe.unet)

    def loop(which: Any, count: int) -> None:
        generator = torch.Generator("cpu").manual_seed(0)
        which(**embeds, num_inference_steps=count, output_type="latent", generator=generator)

    with inherit(other, plan):
        yield lambda: loop(pipe, steps), lambda: loop(other, plan.steps)


def timed(calls: Calls, pairs: int) -> Any:
    import torch

    return compare(*calls, device=torch.device("cpu"), images=1, warmups=WARMUPS, pairs=pairs, baseline_warm=True)


def quiet_ratio(calls: Calls, pairs: int) -> Estimate:
    """The ratio in quiet, of the quickest half of many pairs."""
    samples = np.array(timed(calls, pairs).samples)
    order = np.argsort((samples / samples.min(axis=0)).max(axis=1))[: max(3, len(samples) // 2)]
    return ratio_estimate(samples[order, 0] / samples[order, 1])


def repeated(name: str, calls: Calls, truth: float, arguments: argparse.Namespace, pace: Pace) -> dict[str, Any]:
    """Every repeat of one load: both estimates and all samples."""
    rows = []
    for _ in range(arguments.repeats):
        latency = timed(calls, arguments.pairs)
        first = np.array(latency.samples[: arguments.pairs])
        rows.append(
            {
                "old": bootstrap_median(first[:, 0] / first[:, 1]).to_json(),
                "new": None if latency.unsteady else latency.speedup.to_json(),
                "pairs": latency.rows,
            }
        )
        pace.tell(name)
    return {"name": name, "truth": truth, "repeats": rows}


def worth(rows: list[dict[str, Any] | None], truth: float) -> dict[str, Any]:
    """Coverage, median bias and its size, over the estimates that would be quoted; how many would not."""
    known = [row for row in rows if row is not None]
    if not known:
        return dict.fromkeys(WORTH) | {"unsteady": len(rows)}
    errors = np.array([row["value"] / truth - 1 for row in known])
    covered = [row["low"] <= truth <= row["high"] for row in known]
    widths = [(row["high"] - row["low"]) / 2 / row["value"] for row in known]
    found = (np.mean(covered), np.median(errors), np.median(abs(errors)), abs(errors).max(), np.median(widths))
    return dict(zip(WORTH, map(float, found), strict=True)) | {"unsteady": len(rows) - len(known)}


def search(arguments: argparse.Namespace) -> dict[str, Any]:
    """A small search in a process of its own: its front, and what each plan of it could reach at best."""
    from explorer import InheritancePlan
    from explorer.timing.speed_limit import speed_limit
    from studies import Store
    from studies.queue.quiet_machine import WAIT_VARIABLE, StudyLedger
    from studies.results.rows import trials
    from studies.results.summary import front_of, plain_row
    from studies.storage.tables import UNSTEADY

    with tempfile.TemporaryDirectory() as folder:
        storage = str(Path(folder) / "noisy.db")
        command = [sys.executable, "-m", "studies.cli", "search", "--study", STUDY, "--storage", storage]
        command += ["--model", arguments.model, "--steps", str(arguments.steps), "--pairs", str(arguments.pairs)]
        command += ["--objectives", "latency,psnr", "--prompt-count", "4", "--reference", "baseline", "--device", "cpu"]
        command += ["--baselines", "short", "--no-calibrate", "--trials", str(arguments.trials), "--racing", "off"]
        waits = {WAIT_VARIABLE: "1"} if arguments.quick else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | waits)
        with Store.open(storage, read_only=True) as store:
            study = store.study(STUDY)
            rows = trials(store, study)
            waited = StudyLedger(store, study).spent()
    plain = plain_row(rows, arguments.steps)
    front: list[dict[str, Any]] = []
    for row in front_of(rows, study.settings.objectives):
        plan = InheritancePlan.from_json({k: v for k, v in (row.plan or {}).items() if k != "evaluations"})
        limit = speed_limit(plan, row.evaluations or plan.steps, (plain and plain.evaluations) or arguments.steps)
        front.append({"plan": row.nickname, "speedup": row.scores["speedup"].to_json(), "limit": limit})
    return {
        "front": front,
        "beyond": sum(each["speedup"]["value"] > each["limit"] for each in front),
        "unsteady": sum(row.state == UNSTEADY for row in rows),
        "seconds waited": waited,
    }


def chart(loads: list[dict[str, Any]]) -> Any:
    """Every repeat's error, old beside new."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for which in ("old", "new"):
        pairs = [(each["name"], row[which]["value"] / each["truth"] - 1) for each in loads for row in each["repeats"]
                 if row[which] is not None]  # fmt: skip
        figure.add_trace(go.Box(x=[x for x, _ in pairs], y=[y for _, y in pairs], name=which, boxpoints="all"))
    figure.update_yaxes(title="speed-up over the truth - 1", tickformat=".0%")
    return figure.update_layout(boxmode="group", template="simple_white")


def main() -> None:
    parser = options("Bias and coverage of a speed-up while other processes burn the CPUs in bursts.")
    parser.add_argument("--repeats", type=int, default=100, help="of each load")
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs of a measurement")
    parser.add_argument("--seconds", type=float, default=0.3, help="of the slower load of matrix products")
    parser.add_argument("--steps", type=int, default=20, help="of the model's un-accelerated loop")
    parser.add_argument("--trials", type=int, default=16, help="plans of the search; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the bursts")
    arguments = parser.parse_args()
    arguments.device, quiet_pairs = "cpu", 31
    if arguments.quick:
        arguments.repeats, arguments.seconds, arguments.steps, arguments.trials, quiet_pairs = 2, 0.02, 2, 3, 3
    pipe = load(arguments)
    plans = [name.replace("@10", f"@{max(1, arguments.steps // 2)}") for name in PLANS]
    pace = Pace((len(PRODUCTS) + len(plans)) * arguments.repeats)
    loads, quiet = [], {}
    for name in plans:  # all of the quiet before any of the load
        with plan_calls(pipe, name, arguments.steps) as calls:
            quiet[name] = quiet_ratio(calls, quiet_pairs)
    with load_beside(arguments.seed):
        for name, ratio in PRODUCTS.items():
            loads.append(repeated(name, products(arguments.seconds, ratio), ratio, arguments, pace))
        for name in plans:
            with plan_calls(pipe, name, arguments.steps) as calls:
                loads.append(repeated(name, calls, quiet[name].value, arguments, pace))
        found = search(arguments) if arguments.trials else None
    figures: dict[str, Any] = {}
    for each in loads:
        both = {which: worth([row[which] for row in each["repeats"]], each["truth"]) for which in ("old", "new")}
        figures[each["name"]] = {"truth": each["truth"], **both}
    print_table(figures)
    if found is not None:
        figures["search"] = {name: value for name, value in found.items() if name != "front"}
        print(
            f"\nsearch under the load: {len(found['front'])} plans on its front, {found['beyond']} beyond their limit, "
            f"{found['unsteady']} unsteady, {found['seconds waited']:.0f} s waited"
        )
    samples = {"loads": loads, "quiet": {name: each.to_json() for name, each in quiet.items()}, "search": found}
    write_figure(chart(loads), write_result("noisy-latency", figures, [samples], arguments))


def print_table(figures: dict[str, Any]) -> None:
    print(f"| load (truth) | estimator | {' | '.join(WORTH)} | unsteady |")
    print("|---|---|" + "---|" * (len(WORTH) + 1))
    for name, found in figures.items():
        for which in ("old", "new"):
            shown = ["" if found[which][key] is None else f"{found[which][key]:.1%}" for key in WORTH]
            print(f"| {name} ({found['truth']:.2f}) | {which} | {' | '.join(shown)} | {found[which]['unsteady']} |")


if __name__ == "__main__":
    run(main)

"""Trials a second through the real queue, with nothing to score: `python benchmarks/storage_throughput.py`.

So many worker processes share one study on SQLite and on a PostgreSQL server of the benchmark's own (with the server's
stock settings: every commit reaches the disk), or on the one that EXPLORER_TEST_POSTGRESQL names. Each trial is what a
search does but for the pictures: asked of the sampler, claimed, recorded with four scores, told to Optuna. Where a
plan takes a minute to score, 32 workers ask for half a trial a second; the rate here is how far that is from the
storage's own limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import optuna  # noqa: E402
import psutil  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from studies import SamplerSettings, Store, counts, run_worker  # noqa: E402
from studies.storage.database import parse_url  # noqa: E402
from studies.storage.postgresql import is_postgresql  # noqa: E402
from studies.storage.tables import plans  # noqa: E402
from tests.studies.cluster import running_server, why_not  # noqa: E402
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings  # noqa: E402

# Stand-ins for a space, an evaluator and a plan's reader. In so large a space a plan is hardly ever proposed twice.
TOYS: tuple[Any, Any, Any] = (ToySpace(5000, 5000), ToyEvaluator(), ToyPlan.from_json)
RESULTS = ROOT / "benchmarks" / "results" / "storage_throughput.json"


def work(url: str, seconds: float, until: float) -> None:
    """One worker: wait for the common start, then go through trials until the time is over."""
    with Store.open(url) as store:
        store.optuna_study(store.study("s"))
        time.sleep(max(0.0, until - time.time()))
        run_worker(store, "s", *TOYS, timeout=seconds)


def measure(url: str, workers: int, seconds: float, sampler: str) -> dict[str, Any]:
    """Trials a second of a number of workers, with the longest wait for a trial and what was lost or doubled."""
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings(sampler=SamplerSettings(sampler, {}, 0)))
        warm_up = 5.0 + 1.5 * workers  # loading Optuna takes a second or so of a core
        until = time.time() + warm_up
        command = [sys.executable, str(Path(__file__)), "--worker", url, str(seconds), str(until)]
        running = [subprocess.Popen(command, cwd=ROOT) for _ in range(workers)]
        time.sleep(max(0.0, until + seconds / 2 - time.time()))
        connections = _connections(store)
        statuses = [each.wait(seconds + 300) for each in running]
        if any(statuses):
            raise SystemExit(f"workers ended with {statuses}")
        rows = store.read(sa.select(plans.c.claimed, plans.c.finished).where(plans.c.study_id == study.id))
        standing = counts(store, study)
        complete = sum(trial.state.name == "COMPLETE" for trial in store.optuna_study(study).get_trials(deepcopy=False))
    begun = min(row.claimed for row in rows)
    return {
        "storage": "postgresql" if is_postgresql(parse_url(url)) else "sqlite",
        "sampler": sampler,
        "workers": workers,
        "trials": standing.done,
        "seconds": max(row.finished for row in rows) - begun,
        "trials_a_second": standing.done / (max(row.finished for row in rows) - begun),
        "lost": standing.running + standing.waiting + standing.failed,
        "without_a_complete_trial": standing.done - complete,
        "late_start_seconds": max(0.0, begun - until),
        "server_connections": connections,
    }


def _connections(store: Store) -> int | None:
    """Connections that the server holds for this database."""
    if not is_postgresql(store.url):
        return None
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with store.begin() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        url, seconds, until = sys.argv[2:]
        return work(url, float(seconds), float(until))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--storages", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rows: list[dict[str, Any]] = []
    print("| storage | sampler | workers | trials a second | trials | connections of the server | lost |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(
            f"| {row['storage']} | {row['sampler']} | {row['workers']} | {row['trials_a_second']:.1f} | "
            f"{row['trials']} | {row['server_connections'] or '-'} | {row['lost'] + row['without_a_complete_trial']} |",
            flush=True,
        )

    cases = [(sampler, workers) for sampler in asked.samplers for workers in asked.workers]
    if "sqlite" in asked.storages:
        for sampler, workers in cases:
            with tempfile.TemporaryDirectory() as folder:
                add(measure(f"sqlite:///{folder}/explorer.db", workers, asked.seconds, sampler))
    if "postgresql" in asked.storages and (reason := why_not()) is not None:
        print(f"PostgreSQL is left out: {reason}", file=sys.stderr)
    elif "postgresql" in asked.storages:
        with running_server(safe=True) as server:
            for sampler, workers in cases:
                made = server.database()
                add(measure(made.render_as_string(hide_password=False), workers, asked.seconds, sampler))
                server.drop(made)
    facts = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total, "python": platform.python_version(), "optuna": optuna.__version__,
        "load_at_the_end": os.getloadavg()[0],
    }  # fmt: skip
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Print the table of quality against speed of a study: `python -m benchmarks.front_table demo demo/explorer.db`.

The controls, the fastest plan without a loss that the pictures show, and for each step of speed-up the best plan by
paired PSNR, searched or named.
"""

from __future__ import annotations

import argparse

from benchmarks.shared.measure import run
from studies.results.rows import TrialRow, trials
from studies.results.summary import scored_rows, without_loss
from studies.storage.store import Store

STEPS_OF_SPEED = (1.25, 1.5, 2.0, 2.5, 3.0, 3.6, 4.4, 5.5, 8.0)


def chosen(rows: list[TrialRow], lossless: list[TrialRow]) -> list[TrialRow]:
    """Rows of the table, slowest first."""
    picked = {row.key: row for row in rows if (row.name or "").startswith("plain@")}
    picked.update({row.key: row for row in lossless[:1]})
    for low, high in zip(STEPS_OF_SPEED, (*STEPS_OF_SPEED[1:], 1e9), strict=True):
        within = [row for row in rows if row.speedup is not None and low <= row.speedup < high]
        if within:
            best = max(within, key=lambda row: row.scores["psnr"].value)
            picked[best.key] = best
    return sorted(picked.values(), key=lambda row: row.speedup or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", help="its name")
    parser.add_argument("storage", help="SQLite file or SQLAlchemy URL")
    arguments = parser.parse_args()
    run(lambda: table(arguments.study, arguments.storage))


def table(study_name: str, storage: str) -> None:
    with Store.open(storage, read_only=True) as store:
        study = store.study(study_name)
        rows = scored_rows(trials(store, study), study.settings.objectives)
        lossless = without_loss(rows, study.settings.objectives, study.settings.steps)
    metrics = ["psnr", *(o.name for o in study.settings.objectives if o.name not in ("latency", "speedup"))]
    print(f"| plan | origin | speed-up | {' | '.join(metrics)} |")
    print("|---|---|---|" + "---|" * len(metrics))
    for row in chosen(rows, lossless):
        values = [row.scores["speedup"], *(row.scores[metric] for metric in metrics)]
        shown = [f"{v.value:.2f} [{v.low:.2f}, {v.high:.2f}]" for v in values]
        origin = "searched" if row.origin == "search" else "baseline"
        print(f"| {row.nickname} | {origin} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()

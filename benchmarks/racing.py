"""What racing saves and what it loses: a study that was scored whole, raced again from its stored drifts.

    explorer search --study whole --racing off --batch 8 --prompt-count 64 ...
    python -m benchmarks.racing --study whole --storage sqlite:///explorer.db

Every searched plan meets those that stood when it was scored. Printed for several levels of the first look: the share
of the searched plans' pictures that would have been made, how many plans would have been screened out, how many of
those are on the front of the study's objectives and on that of latency and drift alone, and the hypervolume that is
left.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from studies import Store, StudyRecord
from studies.metrics import SPEEDS
from studies.pareto.front import hypervolume
from studies.results.rows import TrialRow, front_rows, objective_losses, samples, trials
from studies.results.summary import scale_of, scored_rows
from studies.scoring.racing import DEFAULT, Race, Rival, beaten_by, losses_of, rungs
from studies.settings import Objective


@dataclass(frozen=True)
class RaceResult:
    """Of one way to race. made: share of the searched plans' pictures. dropped: their rows, with the look's prompts."""

    made: float
    dropped: list[tuple[TrialRow, int]]


def rivals_of(store: Store, study: StudyRecord, rows: list[TrialRow]) -> dict[str, Rival]:
    """Every row as those after it meet it, by key."""
    race = Race(store, study)
    found = {}
    for row in rows:
        drift = {metric: losses_of(metric, samples(store, study, row.key, metric)) for metric in race.metrics}
        costs = race.costs({name: score.value for name, score in row.scores.items()})
        found[row.key] = Rival(row.words, costs, drift)
    return found


def raced(rows: list[TrialRow], rivals: dict[str, Rival], count: int, batch: int, first: int) -> RaceResult:
    """The study in the order in which it was scored; what is dropped is no rival of what comes later."""
    standing: list[Rival] = []
    dropped, pictures, whole = [], 0, 0
    for row in rows:
        mine = rivals[row.key]
        if row.origin == "search":
            whole += count
            for look in rungs(count, batch, first):
                drift = {metric: values[:look] for metric, values in mine.drift.items()}
                if beaten_by(standing, mine.costs, drift) is not None:
                    dropped.append((row, look))
                    pictures += look
                    break
            else:
                pictures += count
                standing.append(mine)
            continue
        standing.append(mine)
    return RaceResult(pictures / max(1, whole), dropped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True)
    parser.add_argument("--storage", default="sqlite:///explorer.db")
    parser.add_argument("--batch", type=int, help="pictures a UNet call [the study's]")
    arguments = parser.parse_args()
    with Store.open(arguments.storage, read_only=True) as store:
        study = store.study(arguments.study)
        objectives = study.settings.objectives
        rows = sorted(scored_rows(trials(store, study), objectives), key=lambda row: row.finished or 0.0)
        rivals = rivals_of(store, study, rows)
    count = min(len(values) for rival in rivals.values() for values in rival.drift.values())
    batch = arguments.batch or study.settings.batch
    names = [objective.name for objective in objectives]
    drift = (*(o for o in objectives if o.name in SPEEDS), Objective(DEFAULT, "maximize"))
    both = {"all": objectives, "drift": drift}
    fronts = {label: {row.key for row in front_rows(rows, of)} for label, of in both.items()}
    searched = sum(row.origin == "search" for row in rows)
    print(f"{study.name}: {len(rows)} plans scored whole on {count} prompts, {searched} searched; batch {batch}")
    print(f"front of {', '.join(names)}: {len(fronts['all'])} plans; of latency and drift: {len(fronts['drift'])}\n")
    print("| first look | pictures made | screened out | off the whole front | off latency and drift | hypervolume |")
    print("|---|---|---|---|---|---|")
    scale = scale_of(rows, objectives)
    for first in (8, 16, 32):
        found = raced(rows, rivals, count, batch, first)
        gone = {row.key for row, _ in found.dropped}
        lost = {label: len(gone & keys) for label, keys in fronts.items()}
        kept = [row for row in rows if row.key not in gone]
        ratio = "-"
        if scale is not None:
            volumes = [
                hypervolume(scale.apply(objective_losses(some, objectives)), scale.corner) for some in (kept, rows)
            ]
            ratio = f"{volumes[0] / volumes[1]:.4f}" if volumes[1] else "-"
        print(f"| {first} | {found.made:.1%} | {len(gone)} of {searched} | {lost['all']} | {lost['drift']} | {ratio} |")


if __name__ == "__main__":
    main()

"""`explorer list` and `show`: reading what a storage holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from explorer.estimate import Estimate
from search_spaces.axes import alone
from studies.choosing.choice import AskedLimits, Choice
from studies.choosing.pick import answer
from studies.cli.commands.output import out, print_command, print_json, table
from studies.queue.queue import counts
from studies.results.rows import TrialRow, trials
from studies.results.shared import shared_drift
from studies.results.summary import (
    agreement,
    cost_agreement,
    dominated_baselines,
    front_of,
    gain,
    plain_row,
    scored_rows,
    without_loss,
)
from studies.results.tally import BASELINE, Tally, source_of, tally
from studies.settings import scheduler_words
from studies.storage.command_lines import command_line
from studies.storage.database import show_url
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import SCREENED, UNSTEADY
from studies.wording import ratio


def list_command(storage: str, as_json: bool) -> None:
    with Store.open(storage, read_only=True) as store:
        found = [(study, counts(store, study)) for study in store.studies()]
    rows: list[dict[str, Any]] = [
        {
            "study": study.name,
            "model": study.settings.model,
            "device": study.settings.device,
            "space": study.settings.space,
            "steps": study.settings.steps,
            "objectives": [objective.name for objective in study.settings.objectives],
            "done": count.done,
            "failed": count.failed,
            "running": count.running,
            "waiting": count.waiting,
            "untimed": count.untimed,
            "screened": count.screened,
            "unsteady": count.unsteady,
            "created": datetime.fromtimestamp(study.created).astimezone().isoformat(timespec="seconds"),
        }
        for study, count in found
    ]
    if as_json:
        print_json(rows)
        return
    states = ("done", "screened", "failed", "waiting")
    shown = table("study", "model", "device", "space", "objectives", *(f">{state}" for state in states), "created")
    for row in rows:
        shown.add_row(
            row["study"], row["model"], row["device"], row["space"], ", ".join(row["objectives"]),
            *(str(row[state]) for state in states), row["created"],
        )  # fmt: skip
    begin = command_line("search", storage=storage)
    out().print(shown if rows else f"no study in {show_url(storage)}; start one with `{begin}`.", soft_wrap=not rows)


def show_command(
    name: str,
    storage: str,
    html: Path | None,
    png: Path | None,
    asked: AskedLimits,
    as_json: bool,
    in_full: bool = False,
) -> None:
    with Store.open(storage, read_only=True) as store:
        study = store.study(name)
        choice = answer(store, study, asked) if asked else None
        if html is not None or png is not None:
            from studies.results.charts import front_figure, write_html, write_png

            settings = study.settings
            title = f"{name}: {settings.model}, {settings.steps} steps, {settings.device}"
            figure = front_figure(trials(store, study, keep_plans=False), settings.objectives, title)
            if html is not None:
                write_html(figure, html)
            if png is not None:
                write_png(figure, png, width=1000, height=int(figure.layout.height))
        if as_json:
            chosen = {} if choice is None else {"choice": _choice_document(choice)}
            print_json(study_document(store, study) | chosen)
            return
        print_front(store, study, in_full=in_full)
        if choice is not None:
            out().print(f"\n{choice.words}", markup=False, soft_wrap=True)
            if choice.plan is not None:
                words = ("export", name, "--trial", choice.plan.number, "--out", "DIR")
                print_command(out(), "take it home", command_line(*words, storage=storage))


def _choice_document(choice: Choice) -> dict[str, Any]:
    """trial: None when no plan keeps every limit; nearest is then the one that misses by least."""
    return {
        "trial": None if choice.plan is None else choice.plan.number,
        "nearest": None if choice.nearest is None else choice.nearest.number,
        "kept": choice.kept,
        "sure": choice.sure,
        "words": choice.words,
    }


def study_document(store: Store, study: StudyRecord) -> dict[str, Any]:
    """The contract of `explorer show --json`."""
    rows = trials(store, study)
    settings = study.settings
    volume = gain(rows, settings.objectives)
    drift = agreement(rows, settings.objectives, shared_drift(store, study, rows, settings.objectives))
    cost = cost_agreement(rows)
    return {
        "study": study.name,
        "model": settings.model,
        "device": settings.device,
        "objectives": [{"name": o.name, "direction": o.direction} for o in settings.objectives],
        "front": [row.number for row in front_of(rows, settings.objectives)],
        "hypervolume": None if volume is None else {"all": volume.all, "baselines": volume.baselines},
        "proposals": [each.to_json() for each in tally(rows, settings.objectives)],
        "prediction": None if drift is None else drift.to_json(),
        "predicted_cost": None if cost is None else cost.to_json(),
        "settings": settings.to_json(),
        "trials": [_trial_document(row) for row in rows],
    }


def _trial_document(row: TrialRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.state,
        "origin": row.origin,
        "proposed_by": row.proposed_by,
        "name": row.name,
        "aliases": row.aliases,
        "nickname": row.nickname,
        "words": row.words,
        "networks": list(row.facts.networks),
        "scheduler": row.facts.scheduler,
        "spacing": row.facts.spacing,
        "key": row.key,
        "speedup": row.speedup,
        "devices": row.devices,
        "scores": {metric: score.to_json() for metric, score in row.scores.items()},
        "reason": row.reason,
        "plan": row.plan,
    }


def print_front(store: Store, study: StudyRecord, *, in_full: bool = False) -> None:
    """The front as a table, then what it means in words. in_full: plans in words and not by their nicknames."""
    rows = trials(store, study, keep_plans=False)
    objectives = study.settings.objectives
    front = front_of(rows, objectives)
    names = [objective.name for objective in objectives if objective.name not in ("latency", "speedup")]
    shown = table(">trial", "plan", ">speed-up", *(f">{name}" for name in names), "proposed by", "dominates")
    for row in front:
        beaten = dominated_baselines(rows, row, objectives)
        shown.add_row(
            str(row.number), row.words if in_full else row.nickname, f"{_interval(row.scores['speedup'], 3)}x",
            *(_interval(row.scores[name], 4) for name in names), source_of(row), _few(beaten),
        )  # fmt: skip
    console = out()
    if not front:
        unsteady = sum(row.state == UNSTEADY for row in rows)
        also = f" {unsteady} plans are unsteady: search on when the machine is quiet." if unsteady else ""
        console.print(f"{study.name}: nothing has been scored yet.{also}")
        return
    count = front[0].scores[names[0]].n if names else 0
    screened, unsteady = (sum(row.state == state for row in rows) for state in (SCREENED, UNSTEADY))
    console.print(shown)
    settings = study.settings
    console.print(
        f"\n{study.name}: {settings.model} on {settings.device}, {settings.dtype}, {settings.steps} steps of "
        f"{scheduler_words(settings)}; {len(scored_rows(rows, objectives))} plans scored, {len(front)} on the front"
        + (f", {screened} screened out on few prompts" if screened else "")
        + (f", {unsteady} unsteady and on no front" if unsteady else "")
        + (f"; scores @{count} pictures, 95% intervals" if count else "")
    )
    best = without_loss(rows, objectives, settings.steps)
    if best:
        speed = ratio(best[0].scores["speedup"])
        console.print(f"fastest at no measurable loss: {best[0].title}, {speed}", markup=False)
    volume = gain(rows, objectives)
    if volume is not None:
        console.print(f"hypervolume of all plans over that of the baselines: {volume.ratio:.3f}")
    drift = agreement(rows, objectives, shared_drift(store, study, rows, objectives))
    for what, found in (("drift", drift), ("cost", cost_agreement(rows))):
        if found is not None:
            console.print(
                f"predicted {what} against measured {found.metric}: rank correlation {found.spearman:.2f} over "
                f"{found.over}"
            )
    _say_when_plain_wins(rows, front, settings.steps)
    _print_tally(tally(rows, objectives))
    for row in [row for row in rows if row.state == UNSTEADY][:5]:
        console.print(f"unsteady: {row.title}: {row.reason}", markup=False)
    for row in [row for row in rows if row.state == "failed"][:5]:
        console.print(f"failed: {row.title}: {row.reason}", markup=False)


def _say_when_plain_wins(rows: list[TrialRow], front: list[TrialRow], steps: int) -> None:
    """A note when fewer plain steps, which inheritance must beat, are on the front."""
    controls = [row for row in front if row.facts.plain and row is not plain_row(rows, steps)]
    winners = [row.words for row in controls]
    if winners:
        also = "".join(f" or {other}" for other in alone(row.facts for row in controls))
        out().print(f"fewer plain steps{also} hold {len(winners)} of the front's points: {', '.join(winners)}")


def _print_tally(kinds: list[Tally]) -> None:
    """Who proposed what, where the study knows it."""
    if all(each.kind == BASELINE for each in kinds):
        return
    shown = table("proposed by", ">scored", ">failed", ">screened out", ">on the front", ">hypervolume added")
    for each in kinds:
        numbers = (each.scored, each.failed, each.screened, each.on_front)
        shown.add_row(each.kind, *map(str, numbers), f"{each.hypervolume_gain:.3g}")
    out().print(shown)


def _interval(score: Estimate, digits: int) -> str:
    return f"{score.value:.{digits}g} [{score.low:.{digits}g}, {score.high:.{digits}g}]"


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

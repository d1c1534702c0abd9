"""How well a search's scores order plans: Kendall's tau between them and certificates of many pictures.

    python -m benchmarks.certificate_tau --study NAME --storage sqlite:///explorer.db --pictures 1000

Plans of a study are chosen, half of them spread over its front and half over the layers behind it, and scored again on
held-out prompts with fresh seeds, as `explorer certify` does. A metric that the study did not measure is first measured
on the search's own prompts and seeds, as many as the search had. Kept plan by plan and batch by batch in --work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.measure import run as explained
from benchmarks.shared.measure import without_savings
from benchmarks.shared.rank_correlation import KINDS, cell, correlate, document
from benchmarks.shared.report import options, write_figure, write_result
from benchmarks.shared.rescoring import Rescoring
from benchmarks.shared.work_folder import Ticker
from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from explorer.quality.registry import LEAST
from studies.certificates.held_out import check_held_out, held_out
from studies.config import STORAGE_VARIABLE, SearchConfig
from studies.pareto.front import non_dominated
from studies.results.rows import TrialRow, objective_losses, trials
from studies.searching.asking import config_of
from studies.searching.session import open_session
from studies.settings import Objective
from studies.storage.database import show_url
from studies.storage.store import Store
from studies.storage.tables import DONE

METRICS = ("fd", "kid", "clip")
"""Beside the paired drift, which every study measures."""


@dataclass(frozen=True)
class Chosen:
    """A plan of the study. layer: 0 on the front, 1 on the front of the rest, and so on."""

    row: TrialRow
    plan: InheritancePlan
    layer: int


def choose(rows: Sequence[TrialRow], objectives: tuple[Objective, ...], count: int) -> list[Chosen]:
    """`count` of the scored plans that inherit or take fewer steps: half spread over the front, half over the layers
    behind it, each evenly by the first objective; fewer on the front leave more to the layers.

    Raises:
        StudyError: when the study has fewer than four such plans.
    """
    names = {objective.name for objective in objectives}
    known: list[tuple[TrialRow, InheritancePlan]] = []
    most = 0
    for row in rows:
        if row.state == DONE and row.plan is not None and names <= row.scores.keys():
            plan = InheritancePlan.from_json(row.plan)
            known.append((row, plan))
            most = max(most, plan.steps if plan.extracts_always else 0)
    known = [(row, plan) for row, plan in known if not (plan.extracts_always and plan.steps == most)]
    if len(known) < 4:
        raise StudyError(f"the study has {len(known)} scored plans to certify, and at least 4 are needed; search on.")
    points = objective_losses([row for row, _ in known], objectives)
    layers: list[list[int]] = []
    left = np.arange(len(known))
    while len(left):
        front = non_dominated(points[left])
        layers.append([int(k) for k in left[front]])
        left = left[~front]
    level = {k: number for number, layer in enumerate(layers) for k in layer}
    behind: list[int] = []
    wanted = max(count - count // 2, count - len(layers[0]))
    for layer in layers[1:]:
        if len(behind) >= wanted:
            break
        behind += layer
    second = _spread(behind, points, min(wanted, len(behind)))
    first = _spread(layers[0], points, min(count - len(second), len(layers[0])))
    return [Chosen(*known[k], level[k]) for k in (*first, *second)]


def _spread(places: list[int], points: Any, count: int) -> list[int]:
    """`count` of the places, evenly along the first objective's order."""
    ordered = sorted(places, key=lambda k: tuple(points[k]))
    if not ordered:
        return []
    return [ordered[int(k)] for k in np.linspace(0, len(ordered) - 1, count).round()]


def with_metrics(config: SearchConfig, metrics: Sequence[str]) -> SearchConfig:
    """The options with every metric of `metrics` among the objectives, under whatever true name it has."""
    present = [name.partition("_")[0].replace("fid", "fd") for name in config.objectives]
    return replace(config, objectives=(*config.objectives, *(name for name in metrics if name not in present)))


def measure(arguments: Any) -> dict[str, Any]:
    """Score the chosen plans again; the figures and, under `plans`, every plan's two sets of scores."""
    if arguments.pictures < LEAST:
        raise StudyError(f"a certificate needs at least {LEAST} pictures, got --pictures {arguments.pictures}.")
    with Store.open(arguments.storage, read_only=True) as store:
        study = store.study(arguments.study)
        rows = trials(store, study)
    chosen = choose(rows, study.settings.objectives, arguments.plans)
    searched = config_of(
        study.settings, arguments.study, device=arguments.device, storage=arguments.storage
    )  # fmt: skip
    searched = without_savings(searched)
    certified = with_metrics(held_out(searched, arguments.prompts), METRICS)
    session = open_session(replace(certified, batch=arguments.pictures_batch))
    check_held_out(session, study.settings)
    certificate = Rescoring(session, arguments.work / "certificates", arguments.pictures)
    scorer = certificate.scorer
    signs = {each.name: -1.0 if each.direction == "minimize" else 1.0 for each in scorer.objectives}
    lacking = [name for name in signs if any(name not in each.row.scores for each in chosen)]
    again = None
    if lacking:
        config = with_metrics(replace(searched, batch=arguments.pictures_batch), METRICS)
        other = open_session(config, session.evaluator.pipe)
        again = Rescoring(other, arguments.work / "searches", len(other.evaluator.prompts))
    plans = [each.plan for each in chosen]
    both = [scoring for scoring in (again, certificate) if scoring is not None]
    ticker = Ticker(sum(scoring.missing(plan) for scoring in both for plan in (None, *plans)))
    found: list[dict[str, Any]] = []
    for number, each in enumerate(chosen):
        words = f"pictures; plan {number + 1} of {len(chosen)}: {each.row.words}"

        def tell(made: int, words: str = words) -> None:
            ticker.tell(words, count=made)

        try:
            first = {name: score.value for name, score in each.row.scores.items() if name in signs}
            if again is not None:
                scores = again.scores(each.plan, tell)
                first |= {name: scores[name].value for name in lacking}
            second = {name: score.value for name, score in certificate.scores(each.plan, tell).items()}
        except StudyError:
            raise
        except ExplorerError as error:
            print(f"left out: {each.row.words} ({error})", file=sys.stderr)
            continue
        found.append({
            "number": each.row.number, "words": each.row.words, "layer": each.layer,
            "search": first, "certificate": second,
        })  # fmt: skip
    return figures_of(found, signs, lacking) | {"pictures": arguments.pictures, "plans": found}


def figures_of(found: list[dict[str, Any]], signs: dict[str, float], lacking: Sequence[str]) -> dict[str, Any]:
    """tau and rho of every metric, over all plans and over those of the front; and tau of every search score with every
    certified one, more being better on both sides."""

    def column(rows: list[dict[str, Any]], side: str, name: str) -> Any:
        return signs[name] * np.array([row[side][name] for row in rows])

    front = [row for row in found if row["layer"] == 0]
    same: dict[str, Any] = {}
    for name in signs:
        same[name] = {
            kind: document(correlate(column(found, "search", name), column(found, "certificate", name), kind))
            for kind in KINDS
        }
        same[name]["kendall, front alone"] = document(
            correlate(column(front, "search", name), column(front, "certificate", name))
        )
        same[name]["measured again"] = name in lacking
    crossed = {
        name: {
            other: KINDS["kendall"](column(found, "search", name), column(found, "certificate", other))
            for other in signs
        }
        for name in signs
    }
    finite = {
        name: {other: value if np.isfinite(value) else None for other, value in row.items()}
        for name, row in crossed.items()
    }
    return {"count": len(found), "on the front": len(front), "metrics": same, "tau of all pairs": finite}


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['count']} plans, {figures['on the front']} on the front; {figures['pictures']} pictures each",
        "",
        "| metric | Kendall's tau | Spearman's rho | tau on the front |",
        "|---|---|---|---|",
    ]
    for name, row in figures["metrics"].items():
        mark = " (search's side measured again)" if row["measured again"] else ""
        cells = [cell(row[kind]) for kind in ("kendall", "spearman", "kendall, front alone")]
        lines.append(f"| {name}{mark} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(figures: dict[str, Any]) -> Any:
    """One panel for each metric: the search's score against the certificate's."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names, plans = list(figures["metrics"]), figures["plans"]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names)
    for column, name in enumerate(names, start=1):
        points = go.Scatter(
            x=[row["search"][name] for row in plans], y=[row["certificate"][name] for row in plans], mode="markers",
            text=[row["words"] for row in plans], showlegend=False,
            marker={"color": [row["layer"] for row in plans], "colorscale": "Viridis", "cmin": 0, "cmax": 4},
        )  # fmt: skip
        figure.add_trace(points, row=1, col=column)
        figure.update_xaxes(title_text="search", row=1, col=column)
    figure.update_yaxes(title_text="certificate", row=1, col=1)
    return figure.update_layout(template="simple_white", width=300 * len(names), height=380)


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--study", default="search", help="the study whose plans are scored again")
    parser.add_argument("--storage", help=f"its database; by default what {STORAGE_VARIABLE} names, then explorer.db")
    parser.add_argument("--plans", type=int, default=30, help="plans of its front and behind it")
    parser.add_argument("--pictures", type=int, default=1000, help="of each plan")
    parser.add_argument("--prompts", help="held-out prompts; the set that goes with the search's by default")
    parser.add_argument("--pictures-batch", type=int, default=32, help="pictures made at once")
    parser.add_argument("--work", type=Path, default=Path("build/certificate-tau"), help="where all of it is kept")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.plans, arguments.pictures = 5, 8

    arguments.storage = arguments.storage or os.environ.get(STORAGE_VARIABLE) or SearchConfig().storage

    def go() -> None:
        figures = measure(arguments)
        arguments.storage = show_url(arguments.storage)  # no password goes into a result
        print(table(figures))
        path = write_result("certificate-tau", {k: v for k, v in figures.items() if k != "plans"}, figures["plans"],
                            arguments)  # fmt: skip
        write_figure(chart(figures), path)

    explained(go)


if __name__ == "__main__":
    main()

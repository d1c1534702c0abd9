"""The Plan page's numbers: the objectives at a glance, every score with its interval, and where the plan comes from."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.wording import interval, metric_words, number, plain, score_words
from explorer.estimate import Estimate
from studies.choosing.paired import Difference, difference
from studies.metrics import SPEEDS, metric_of
from studies.results.lineage import lineage
from studies.results.rows import TrialRow
from studies.searching import findings
from studies.storage.store import Store, StudyRecord

VERDICTS = {"better": "↑ better", "worse": "↓ worse", "tied": "= tied"}


def show_metrics(study: StudyRecord, row: TrialRow, control: TrialRow | None) -> None:
    """The speed-up and the study's objectives, each with its interval and what the un-accelerated pipeline has."""
    names = ["speedup", *(o.name for o in study.settings.objectives if o.name != "speedup")]
    names = [name for name in names if name in row.scores]
    if not names:
        return
    for column, name in zip(st.columns(len(names)), names, strict=True):
        score = row.scores[name]
        value = f"{score.value:.2f}x" if name == "speedup" else number(score.value)
        known = metric_of(name)
        label = known.axis if known is not None and known.axis else plain(metric_words(name))
        column.metric(label, value, border=True)
        beside = ""
        if control is not None and name in control.scores and control.key != row.key and name != "speedup":
            beside = f"; un-accelerated {number(control.scores[name].value)}"
        column.caption(plain(f"95%: {interval(score)}, N = {score.n}{beside}"))


def show_scores(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> None:
    st.subheader("Scores", anchor=False)
    floors = findings.floors_of(store, study)
    beside = None if control is None or control.key == row.key else control
    differences: dict[str, Difference | None] = {}
    if beside is not None:
        names = [metric for metric in row.scores if compares(metric, beside)]
        differences = {metric: difference(store, study, row, beside, metric) for metric in names}
    table = score_table(row, control, floors, differences)
    st.dataframe(table, hide_index=True, alt="Every score of this plan with its interval")
    st.caption(
        "N counts pictures (of latency and speed-up: pairs of timings). Difference: this plan minus "
        "the un-accelerated pipeline, prompt by prompt for scores of single pictures (marked paired). Tied: the "
        "difference's interval contains 0. Floor: the distance between two sets of real pictures at this N. Scores of "
        "a search are slightly optimistic, because the best of many noisy values is chosen."
    )


def compares(metric: str, control: TrialRow | None) -> bool:
    """Whether a difference from the un-accelerated pipeline says something: it is perfect in what compares pictures
    with its own."""
    score = None if control is None else control.scores.get(metric)
    return score is not None and (metric in SPEEDS or score.high > score.low)


def score_table(
    row: TrialRow,
    control: TrialRow | None,
    floors: dict[str, Estimate] | None = None,
    differences: dict[str, Difference | None] | None = None,
) -> list[dict[str, Any]]:
    """A line for each score; columns that would be empty for all of them are left out."""
    floors, differences = floors or {}, differences or {}
    lines = [
        {
            "metric": metric_words(metric),
            "value (95% interval)": score_words(score),
            "N": score.n,
            "un-accelerated": score_words(control.scores[metric]) if control and metric in control.scores else "",
            "difference": difference_words(differences.get(metric)),
            "verdict": VERDICTS[found.verdict] if (found := differences.get(metric)) is not None else "",
            "floor": score_words(floors[metric]) if metric in floors else "",
            "extractor": row.extractors.get(metric, ""),
            "device": row.devices.get(metric, ""),
        }
        for metric, score in row.scores.items()
    ]
    empty = {name for name in (lines[0] if lines else {}) if all(line[name] == "" for line in lines)}
    return [{name: value for name, value in line.items() if name not in empty} for line in lines]


def difference_words(found: Difference | None) -> str:
    """A difference with its sign, its interval and whether it is paired."""
    if found is None:
        return ""
    each = found.estimate
    return f"{each.value:+.3g} ({each.low:+.3g} to {each.high:+.3g})" + (", paired" if found.paired else "")


def show_lineage(store: Store, study: StudyRecord, row: TrialRow) -> None:
    st.subheader("Where it comes from", anchor=False)
    found = lineage(store, study, row)
    st.markdown(plain(found.words()[:1].upper() + found.words()[1:] + "."))
    if found.choices:
        with st.expander("Its choices in the search space", icon=":material/tune:"):
            lines = [{"choice": name, "value": str(value)} for name, value in found.choices.items()]
            st.dataframe(lines, hide_index=True, alt="The parameters that give this plan")
            st.caption("The parameters that the sampler suggested, by name; the same ones give the same plan.")

"""Front: measured speed-up against each quality objective; a click on a point opens its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.context import PLAN, choose_trial, chosen_study, nothing_scored, open_store, rows_of
from dashboard.wording import metric_words, number, plain, say
from studies.charts import SERIES, front_figure, group_of
from studies.rows import TrialRow
from studies.settings import Objective
from studies.store import StudyRecord
from studies.summary import LATENCIES, dominated_baselines, front_of, plain_row, scored_rows, without_loss

PANELS = 2  # shown at first: more of them side by side are too narrow to read


def page() -> None:
    st.title("Front")
    with open_store() as store:
        study = chosen_study(store)
        rows = rows_of(store, study)
    objectives = study.settings.objectives
    scored = [row for row in scored_rows(rows, objectives) if row.speedup is not None]
    if not scored:
        raise nothing_scored(study, rows)
    front = front_of(rows, objectives)
    st.markdown(summary(study, rows, scored, front))
    shown, panels = _filters(scored, objectives)
    if not shown:
        say("no group is chosen, so there is nothing to draw; choose one above.")
    else:
        _chart(shown, panels)
    st.subheader(f"The front: {len(front)} of {len(scored)} plans", anchor=False)
    event = st.dataframe(
        front_table(rows, front, objectives), hide_index=True, on_select="rerun", selection_mode="single-row",
        key="front-table", column_config={f"{metric} 95%": "95%" for metric in ("speedup", *_quality(objectives))},
        alt="The plans of the front with their scores, the fastest first",
    )  # fmt: skip
    st.caption(
        "The plans that no other one matches in every objective and beats in one, fastest first. After each value its "
        "95% interval; N is how many pictures it was found from. Tick a row to open its plan. "
        "`beats` counts the baselines that are no better in any objective and worse in one."
    )
    picked = event["selection"]["rows"]
    if picked and picked[0] < len(front):
        _open(front[picked[0]].number)


def summary(study: StudyRecord, rows: list[TrialRow], scored: list[TrialRow], front: list[TrialRow]) -> str:
    """What the chart says, in sentences, as Markdown."""
    settings = study.settings
    words = [
        plain(f"{settings.model} on {settings.device}, {settings.steps} steps of {settings.scheduler}:"),
        f" **{len(scored)}** plans are scored, **{len(front)}** are on the front.",
    ]
    best = without_loss(rows, settings.objectives, settings.steps)
    if best:
        words.append(f" Fastest at no measurable loss: **{best[0].speedup:.2f}x**, {plain(best[0].words)}.")
    control = plain_row(rows, settings.steps)
    winners = [row for row in front if group_of(row) == "plain steps" and row is not control]
    if winners:
        names = ", ".join(plain(row.name) for row in winners)
        words.append(f" Fewer plain steps, without any inheritance, hold {len(winners)} of them: {names}.")
    return "".join(words)


def _quality(objectives: tuple[Objective, ...]) -> list[str]:
    return [objective.name for objective in objectives if objective.name not in LATENCIES]


def _filters(scored: list[TrialRow], objectives: tuple[Objective, ...]) -> tuple[list[TrialRow], tuple[Objective, ...]]:
    """The rows of the chosen groups and the objectives of the chosen panels."""
    groups = [name for name in SERIES if any(group_of(row) == name for row in scored)]
    quality = _quality(objectives)
    chosen = st.pills("Groups", groups, selection_mode="multi", default=groups, key="groups")
    if len(quality) > 1:
        picked = st.pills("Quality", quality, selection_mode="multi", default=quality[:PANELS], key="quality")
        quality = picked or quality[:1]
    panels = tuple(objective for objective in objectives if objective.name in quality)
    return [row for row in scored if group_of(row) in chosen], panels or objectives


def _chart(shown: list[TrialRow], panels: tuple[Objective, ...]) -> None:
    figure = front_figure(shown, panels, "")
    figure.update_layout(height=520, margin={"t": 24, "b": 90, "l": 8, "r": 8}, clickmode="event+select")
    event = st.plotly_chart(
        figure, on_select="rerun", selection_mode="points", key="front-chart",
        alt="Measured speed-up of each plan against its quality, with 95% intervals",
    )  # fmt: skip
    st.caption(
        "One point is one plan: further right is faster, by measurement. Thin bars are 95% intervals: where "
        "they overlap, a difference may be chance. The dotted line joins the points of a panel that no other point "
        "shown beats in it. Plain steps (diamonds, with their number of steps) are the un-accelerated pipeline with "
        "fewer steps, the control that inheritance must beat. **Click a point to open its plan.**"
    )
    _open(clicked(event))


def clicked(event: Mapping[str, Any]) -> int | None:
    """The trial's number behind the point that was clicked."""
    for point in event["selection"]["points"]:
        data = point.get("customdata")
        found = data[0] if isinstance(data, list) and data else data
        if isinstance(found, int):
            return found
    return None


def _open(trial: int | None) -> None:
    if trial is not None:
        choose_trial(trial)
        st.switch_page(PLAN)


def front_table(rows: list[TrialRow], front: list[TrialRow], objectives: tuple[Objective, ...]) -> list[dict[str, Any]]:
    """A line for each plan of the front: numbers stay numbers, so that a column can be sorted."""
    quality = _quality(objectives)
    lines = []
    for row in front:
        line: dict[str, Any] = {"trial": row.number, "plan": row.words}
        line["beats"] = len(dominated_baselines(rows, row, objectives))
        for metric in ("speedup", *quality):
            if metric in row.scores:
                score = row.scores[metric]
                line[metric_words(metric)] = float(number(score.value))
                line[f"{metric} 95%"] = f"{number(score.low)}–{number(score.high)}"
        counts = {row.scores[metric].n for metric in quality}
        line["N"] = ", ".join(str(count) for count in sorted(counts))
        lines.append(line)
    return lines


if __name__ == "__main__":
    page()

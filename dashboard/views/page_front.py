"""Front: measured speed against quality, which plan to take, and the way to each plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.context import (
    COMPARE,
    COMPARED,
    PLAN,
    board_of,
    choose_compared,
    choose_trial,
    chosen_study,
    go,
    nothing_scored,
    open_store,
)
from dashboard.palette import CONFIG
from dashboard.parts.front_filters import filters
from dashboard.parts.front_wish import wish
from dashboard.parts.plan_pictures import show_few
from dashboard.pictures.front_chart import TAKE, Drawn, View, front_chart
from dashboard.wording import axis_words, headed, metric_words, number, plain, say
from search_spaces.axes import choices
from studies.choosing.choice import Choice
from studies.choosing.paired import against
from studies.metrics import of_pictures
from studies.results.board import Board, Flags
from studies.results.rows import TrialRow
from studies.settings import scheduler_words
from studies.storage.store import StudyRecord
from studies.storage.tables import UNSTEADY
from studies.wording import ratio

SERIES_COLOUR = "series"
NICKNAMES = (
    "A plan without a name has a nickname. ~DC0/P3+f2@20 inherits nearly what DC0 does (without ~: exactly that), "
    "extracts at every third evaluation, forecasts with order 2 and has 20 steps. S5: a written-out schedule with 5 "
    "extract steps; N5: DeepCache's curve; 7u: a mask of 7 units that no named one is like. "
    f"{' '.join(axis.in_names for axis in choices())} The column `in full` describes the plan."
)


def page() -> None:
    headed("Front", "**Which plan do I take?** How fast the plans of this study are, and what each costs in quality.")
    with open_store() as store:
        study = chosen_study(store)
        board = board_of(store, study)
        if not len(board):
            raise nothing_scored(study, board.rows)
        answer = st.container()
        st.markdown(summary(study, board))
        found = wish(board, study.id, None if board.control is None else against(store, study, board.control))
        if found is not None and found.plan is not None:
            with answer:
                st.markdown(taken(found.plan, board))
                show_few(store, study, found.plan, board.control)
    view = _view(board, found, study.id)
    shown = filters(board, _ranged(board), (view.x, view.y), study.id)
    if shown.any():
        _chart(board, shown, view)
    else:
        say("no plan passes the filters; widen them above.")
    _table(board)


def taken(row: TrialRow, board: Board) -> str:
    """The answer in a line, as Markdown."""
    parts = []
    for metric in [name for name in _quality(board) if name in row.scores][:2]:
        stock = None if board.control is None else board.control.scores.get(metric)
        held = "" if stock is None else f" (stock: {number(stock.value)})"
        parts.append(f"{metric} {number(row.scores[metric].value)}{held}")
    at = f", at {', '.join(parts)}" if parts else ""
    return f"### Take this plan: {plain(row.title)}, {row.speedup or 0:.2f} times as fast{plain(at)}."


def summary(study: StudyRecord, board: Board) -> str:
    """What the chart says, in sentences, as Markdown."""
    settings = study.settings
    words = [
        plain(f"{settings.model} on {settings.device}, {settings.steps} steps of {scheduler_words(settings)}:"),
        f" **{len(board):,}** plans are scored, **{len(board.front)}** are on the front.",
    ]
    if unsteady := sum(row.state == UNSTEADY for row in board.rows):
        words.append(f" {unsteady:,} are unsteady (their timings were disturbed) and on no front.")
    if board.lossless:
        best = board.lossless[0]
        speed = ratio(best.scores["speedup"]).partition(" ")
        words.append(f" Fastest at no measurable loss: **{speed[0]}** {speed[2]}, {plain(best.title)}.")
    winners = [board.measured[i] for i in board.front if board.series[i] == "plain steps"]
    winners = [row for row in winners if row is not board.control]
    if winners:
        names = ", ".join(plain(row.words) for row in winners)
        words.append(f" Fewer plain steps, without any inheritance, hold {len(winners)} of them: {names}.")
    return "".join(words)


def _quality(board: Board) -> list[str]:
    """The study's quality objectives, then the other scores."""
    names = [objective.name for objective in board.objectives if objective.name in board.columns]
    return of_pictures(dict.fromkeys([*names, *board.columns]))


def _ranged(board: Board) -> list[str]:
    return ["speedup", *_quality(board)]


def _view(board: Board, found: Choice | None, study: int) -> View:
    """The boxes over the chart."""
    quality = _quality(board)
    speeds = [metric for metric in ("speedup", "latency") if metric in board.columns]
    options = [SERIES_COLOUR, *(metric for metric in board.columns if metric not in speeds[:1])]
    kept: Any = {"format_func": axis_words, "width": 164, "persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        x = st.selectbox("Across", speeds, key=f"axis-x-{study}", **kept)
        y = st.selectbox("Up", quality or speeds[::-1], key=f"axis-y-{study}", **kept)
        colour = st.selectbox("Colour", options, key=f"axis-colour-{study}", **kept)
        with_bars = st.toggle("95% intervals", value=True, key="bars", persist_state="session")
    rings = []
    opened = st.session_state.get("trial")
    if opened is not None:
        rings.append((int(opened), "opened last"))
    if found is not None and found.plan is not None and found.plan.number is not None:
        rings.append((found.plan.number, TAKE))
    return View(x, y, None if colour == SERIES_COLOUR else colour, with_bars, tuple(rings))


def _chart(board: Board, shown: Flags, view: View) -> None:
    drawn = front_chart(board, shown, view)
    event = st.plotly_chart(
        drawn.figure, on_select="rerun", selection_mode="points", key="front-chart", config=CONFIG,
        alt=f"{axis_words(view.x)} of each plan against {axis_words(view.y)}, with 95% intervals",
    )  # fmt: skip
    st.caption(chart_words(drawn, int(shown.sum()), view))
    _open(clicked(event))


def chart_words(drawn: Drawn, shown: int, view: View) -> str:
    """The caption, as Markdown."""
    direction = "further right is faster" if view.x == "speedup" else "further left is faster"
    words = [f"Each point is a plan; {direction}. **Click a point to open its plan.**"]
    if view.bars:
        which = "" if drawn.all_bars else " (only of the front and the baselines, for speed)"
        words.append(f"Thin bars are 95% intervals{which}; if they overlap, a difference may be chance.")
    words.append(
        "The dotted line is the front of the shown plans in these two metrics; speeds count with the worse end of "
        "their interval. Full points are on the study's front in all objectives, faint ones are not. Rings: plans off "
        "the front, but within its intervals. Diamonds: the un-accelerated pipeline with fewer plain steps, which "
        "inheritance must beat. Named are the plan to take and the baselines on the line (plain steps by "
        "their number); point at another to read its name."
    )
    if drawn.points < shown:
        words.append(
            f"{drawn.points:,} of {shown:,} plans are drawn: off the front one point represents those next to it."
        )
    return " ".join(words)


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
        go(PLAN)


def _table(board: Board) -> None:
    st.subheader(f"The front: {len(board.front)} of {len(board):,} plans", anchor=False)
    quality = [name for name in _quality(board) if any(o.name == name for o in board.objectives)]
    buttons = st.container()
    # A tick means a plan: when others join the front, the table is drawn again with the ticks on the same plans.
    on_front = [board.measured[i].number for i in board.front]
    ticked = [on_front.index(number) for number in st.session_state.get("ticked", []) if number in on_front]
    event = st.dataframe(
        front_table(board, quality), hide_index=True, on_select="rerun", selection_mode="multi-row",
        key=f"front-table-{hash(tuple(on_front))}",
        selection_default={"selection": {"rows": ticked}}, column_config={
            "trial": st.column_config.NumberColumn(width="small"),
            "plan": st.column_config.TextColumn(width="medium", help=NICKNAMES),
            "in full": st.column_config.TextColumn(width="large"),
            **{f"{metric} 95%": "95%" for metric in ("speedup", *quality)},
        },
        alt="The plans of the front with their scores, the fastest first",
    )  # fmt: skip
    st.caption(
        "The plans that no other plan dominates, fastest first, with 95% intervals. N is the number of pictures. "
        "`beats` is the number of baselines that the plan dominates: no better in any objective and worse in one."
    )
    picked = [board.front[i] for i in event["selection"]["rows"] if i < len(board.front)]
    numbers = [number for i in picked if (number := board.measured[i].number) is not None]
    st.session_state["ticked"] = numbers
    with buttons.container(horizontal=True, vertical_alignment="center"):
        if st.button("Open the plan", disabled=len(numbers) != 1, key="open-plan", icon=":material/grid_on:"):
            _open(numbers[0])
        able = 2 <= len(numbers) <= COMPARED
        if st.button("Compare", disabled=not able, key="compare", icon=":material/compare:"):
            choose_compared(numbers)
            go(COMPARE)
        if not numbers:
            st.caption(f"Tick one row to open its plan, two to {COMPARED} to compare them.")


def front_table(board: Board, quality: list[str]) -> list[dict[str, Any]]:
    """A line for each plan of the front: numbers stay numbers, so that a column can be sorted."""
    lines = []
    for i, beaten in zip(board.front, board.beaten, strict=True):
        row = board.measured[i]
        line: dict[str, Any] = {"trial": row.number, "plan": row.nickname, "beats": beaten}
        for metric in ("speedup", *quality):
            score = row.scores[metric]
            line[metric_words(metric)] = float(number(score.value))
            line[f"{metric} 95%"] = f"{number(score.low)}–{number(score.high)}"
        line["N"] = ", ".join(str(count) for count in sorted({row.scores[metric].n for metric in quality}))
        line["in full"] = row.words
        lines.append(line)
    return lines


if __name__ == "__main__":
    page()

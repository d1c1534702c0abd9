"""Students, the smaller networks of a study: what each lacks and costs, how it was trained, what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.context import COMPARE, COMPARED, board_of, choose_compared, chosen_study, go, open_store
from dashboard.costs import anatomy_of, timing_of
from dashboard.palette import CONFIG
from dashboard.pictures.distillation import curves_figure
from dashboard.pictures.steps import removed_steps
from dashboard.pictures.unet import unet_figure
from dashboard.step_costs import Timing
from dashboard.students import curves_of, held_students
from dashboard.wording import headed, metric_words, number, plain, say
from explorer.errors import ModelError
from explorer.unet.mask import Mask
from studies.metrics import of_pictures
from studies.results.board import Board
from studies.results.rows import TrialRow

if TYPE_CHECKING:
    from explorer.networks.student import Student

TOP = 12  # plans of a student that are listed


def page() -> None:
    headed("Students", "**Which smaller networks can run in place of the UNet, and what are they worth?**")
    with open_store() as store:
        study = chosen_study(store)
        board = board_of(store, study)
        held = held_students(study.settings)
        try:
            whole: int | None = anatomy_of(store, study).parameters if held.students else None
        except ModelError:
            whole = None
        timing = timing_of(store, study) if held.students else None
    if not held.students and not held.missing:
        say(
            "this study has no students; `explorer distill M2 --out m2` makes one, and `explorer search --students "
            "m2=m2` searches with it."
        )
        return
    for name, reason in held.missing.items():
        say(f"the student {name} cannot be shown: {reason}")
        _plans(name, board)
    for name, (student, folder) in held.students.items():
        st.header(plain(name), anchor=False)
        _facts(student, whole, timing)
        st.plotly_chart(
            unet_figure(student.architecture, removed_steps(student.architecture, student.removed)),
            key=f"unet-{name}", config=CONFIG, alt=f"The UNet of the student {name}: what it lacks is orange",
        )  # fmt: skip
        st.caption(f"Orange: not in this network. Blue: computed. Removed: {plain(', '.join(student.removed.forms))}.")
        _curves(name, folder)
        _plans(name, board)


def _facts(student: Student, whole: int | None, timing: Timing | None) -> None:
    share = "" if not whole else f"{student.parameters / whole:.0%} of the teacher's"
    with st.container(horizontal=True):
        st.metric(
            "Parameters", f"{student.parameters / 1e6:.2f} M", share or None, delta_color="off", delta_arrow="off"
        )
        if timing is None:
            size = student.config["sample_size"]
            height, width = (size, size) if isinstance(size, int) else size
            st.metric("Multiply-accumulates", f"{student.macs_share(height, width):.0%}")
        else:
            own, full = (timing.model.step_seconds(mask) * 1e3 for mask in (student.removed, Mask()))
            st.metric(
                "An evaluation", f"{own:.3g} ms", f"{full:.3g} ms of the teacher", delta_color="off", delta_arrow="off"
            )
        st.metric("Removed", f"{len(student.removed.forms)} nodes")
        st.metric("Trained", f"{len(student.trained)} blocks", help=plain(", ".join(student.trained) or "none"))
    if timing is None:
        st.caption("Of the teacher's, counted: no profile of this device is stored (`explorer profile` makes one).")
    else:
        st.caption(plain(f"Time by the node times of a profile measured on {timing.where}."))


def _curves(name: str, folder: Path) -> None:
    try:
        losses, drift = curves_of(folder)
    except ModelError as error:
        say(error)
        return
    if not losses and not drift:
        st.caption("No curves of its distillation stand beside it.")
        return
    st.plotly_chart(
        curves_figure(losses, drift), key=f"curves-{name}", config=CONFIG,
        alt=f"Losses of the distillation of {name} and the PSNR of its pictures to the teacher's, by the step",
    )  # fmt: skip


def plans_of(name: str, board: Board) -> list[TrialRow]:
    """The measured plans that run a student, those of the front first, then the surely fastest."""
    found = [(i, row) for i, row in enumerate(board.measured) if name in row.facts.networks]
    found.sort(key=lambda each: (not board.on_front[each[0]], -each[1].sure_speedup))
    return [row for _, row in found]


def _plans(name: str, board: Board) -> None:
    rows = plans_of(name, board)
    if not rows:
        st.caption(plain(f"No plan with {name} is scored yet."))
        return
    shown = rows[:TOP]
    event = st.dataframe(
        plans_table(shown, board), hide_index=True, key=f"plans-{name}", on_select="rerun", selection_mode="multi-row",
        alt=f"Plans that run the student {name}, with their scores",
    )  # fmt: skip
    st.caption(f"{len(shown)} of the {len(rows)} scored plans that run it, those of the front first.")
    picked = [shown[i].number for i in event["selection"]["rows"] if i < len(shown)]
    numbers = [each for each in picked if each is not None]
    control = None if board.control is None else board.control.number
    if len(numbers) == 1 and control is not None and control not in numbers:
        numbers.append(control)
    able = 2 <= len(numbers) <= COMPARED
    help_ = "Tick plans; one alone is compared with the un-accelerated pipeline."
    if st.button("Compare", disabled=not able, key=f"compare-{name}", icon=":material/compare:", help=help_):
        choose_compared(numbers)
        go(COMPARE)


def plans_table(rows: list[TrialRow], board: Board) -> list[dict[str, Any]]:
    """A line for each plan."""
    quality = of_pictures(dict.fromkeys([*(o.name for o in board.objectives), *board.columns]))
    lines = []
    for row in rows:
        line: dict[str, Any] = {"trial": row.number, "plan": row.nickname}
        line["front"] = bool(row.number is not None and board.on_front[board.by_number[row.number]])
        for metric in ("speedup", *quality):
            line[metric_words(metric)] = float(number(row.scores[metric].value)) if metric in row.scores else None
        lines.append(line)
    return lines


if __name__ == "__main__":
    page()

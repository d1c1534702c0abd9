"""Anatomy: where a UNet's parameters, multiply-accumulates and measured time go, and which units hardly change."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard.context import chosen_study, open_store
from dashboard.costs import anatomy_of, timing_of
from dashboard.palette import CONFIG
from dashboard.pictures.anatomy import sensitivity_figure, steady, trade_figure, treemap
from dashboard.step_costs import Timing
from dashboard.wording import headed, plain, say
from explorer.errors import ModelError
from explorer.timing.anatomy import Anatomy
from studies.searching import findings
from studies.storage.store import StudyRecord


@dataclass(frozen=True)
class Measure:
    """What a treemap's sizes can be: by node, in `unit`."""

    name: str
    unit: str
    values: dict[str, float]
    words: str


def page() -> None:
    headed("Anatomy", "**Where does the time of the UNet go, and which parts of it hardly change?**")
    with open_store() as store:
        study = chosen_study(store)
        try:
            anatomy: Anatomy | None = anatomy_of(store, study)
        except ModelError as error:
            say(error)
            anatomy = None
        found = findings.sensitivity_of(store, study)
        timing = timing_of(store, study)
    if anatomy is None:
        return
    st.markdown(plain(summary(study, anatomy)))
    measures = measures_of(anatomy, timing)
    _where(anatomy, measures)
    st.subheader("How much each unit changes", anchor=False)
    if found is None:
        say(
            "the change of units from step to step is not measured in this study; continue the search once "
            "(explorer search with the same name), which measures it first. A model with random weights has none."
        )
        return
    cost = measures[-1]
    scaled = st.segmented_control(
        "Colour", ["Change", f"Change per {cost.unit}"], default="Change", key="sensitivity-scale", required=True
    )
    each = cost.values if scaled != "Change" else None
    unit = "a step" if each is None else f"a step and {cost.unit}"
    st.plotly_chart(
        sensitivity_figure(found, each, unit), key="sensitivity", config=CONFIG,
        alt="How much the residual branch of each unit changes from one evaluation to the next",
    )  # fmt: skip
    divided = "" if each is None else f", divided by the unit's {cost.name.lower()}"
    st.caption(
        "How much a unit's residual branch differs from the previous evaluation (relative L2 distance, mean of "
        f"{found.pictures} pictures of one un-accelerated run, measured in {found.seconds:.1f} s){divided}. Dark: it "
        "hardly changes, so little is lost by inheriting it. If the scheduler evaluates a timestep twice (PNDM's "
        "second), the column is dark. A change is not an error of the picture; the search measures that."
    )
    st.plotly_chart(
        trade_figure(anatomy, found, cost.values, cost.unit), key="trade", config=CONFIG,
        alt="The cost of each unit against how much it changes from step to step",
    )  # fmt: skip
    st.caption(
        f"Each point is a unit. Further right it costs more ({plain(cost.words)}), further down it changes less from "
        "step to step. The rings mark the six with the least change for their cost: "
        f"{', '.join(steady(found, cost.values))}."
    )


def summary(study: StudyRecord, anatomy: Anatomy) -> str:
    height, width = anatomy.latent
    return (
        f"{study.settings.model}: {anatomy.architecture.describe()}; {anatomy.parameters / 1e6:.2f} M parameters, "
        f"{anatomy.macs / 1e9:.3g} GMACs a sample and evaluation at {height}x{width} latents."
    )


def measures_of(anatomy: Anatomy, timing: Timing | None = None) -> list[Measure]:
    """Parameters, multiply-accumulates and, where there is a profile, measured time; the last one is what changes are
    held against."""
    nodes = anatomy.nodes
    found = [
        Measure("Parameters", "parameters", {node.name: float(node.parameters) for node in nodes}, "its weights"),
        Measure("MACs", "MMAC", {node.name: node.macs / 1e6 for node in nodes}, "multiply-accumulates, counted"),
    ]
    if timing is not None:
        times = {name: seconds * 1e3 for name, seconds in timing.model.nodes.items()}
        found.append(Measure("Time", "ms", times, f"milliseconds by the profile of {timing.where}"))
    return found


def _where(anatomy: Anatomy, measures: list[Measure]) -> None:
    st.subheader("Where it goes", anchor=False)
    names = [measure.name for measure in measures]
    if len(measures) < 3:
        st.caption("There is no profile of this device, so time is not shown. `explorer profile` makes one.")
    chosen = st.segmented_control("Size", names, default=names[-1], key="anatomy-size", required=True)
    measure = next(measure for measure in measures if measure.name == chosen)
    st.plotly_chart(
        treemap(anatomy, measure.values, measure.unit), key="treemap", config=CONFIG,
        alt=f"The share of each block and unit in the UNet's {measure.name}",
    )  # fmt: skip
    st.caption(
        f"Each rectangle is a node of the UNet; its size is the node's share ({plain(measure.words)}). Blue: residual "
        "units; orange: attention units; grey: samplers, input and output. Click a block to enlarge it."
    )


if __name__ == "__main__":
    page()

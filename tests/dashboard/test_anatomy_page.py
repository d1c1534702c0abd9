"""The Anatomy page: where it goes, and which units hardly change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.pictures.anatomy import sensitivity_figure, steady, treemap
from dashboard.views.page_anatomy import measures_of
from explorer.calibration.sensitivity import Sensitivity
from explorer.timing.profiling import workload_of
from studies import Store
from studies.searching.profiles import measured_profile
from tests.architectures import sd15_anatomy
from tests.conftest import make_pipeline
from tests.dashboard.small_study import ARCHITECTURE, fill, found
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]
ANATOMY = "views/page_anatomy.py"


def test_what_is_kept_is_drawn(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, ANATOMY), "Anatomy")
    tree, heat, trade = (json.loads(chart.proto.spec) for chart in app.get("plotly_chart"))
    assert tree["data"][0]["type"] == "treemap"
    assert heat["data"][0]["type"] == "heatmap"
    assert {trace["type"] for trace in trade["data"]} == {"scatter"}
    assert "38 units" in texts(app) and "mean of 4 pictures" in texts(app)
    app.button_group(key="anatomy-size").set_value("Parameters").run()
    again = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert again["data"][0]["values"] != tree["data"][0]["values"]
    app.button_group(key="sensitivity-scale").set_value("Change per MMAC").run()
    assert not app.exception
    assert "divided by the unit's macs" in texts(app)


def test_a_study_without_them_says_what_to_do(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "old.db") as store:
        fill(store, "old", ["plain@20"])
        fill(store, "gone", ["plain@20"], model="no/such-model")
    app = whole(open_app(tmp_path / "old.db", ANATOMY, study="old"), "Anatomy")
    assert "has another architecture than the study" in texts(app)  # the model of that name is the embedded one
    app = whole(open_app(tmp_path / "old.db", ANATOMY, study="gone"), "Anatomy")
    assert "continue the search once, which stores them" in texts(app).replace("\\", "")
    assert not app.get("plotly_chart")


def test_an_older_study_is_counted_here(open_app: Open, tmp_path: Path) -> None:
    from explorer.models.loading import load_empty_unet
    from explorer.timing.anatomy import anatomy

    found = anatomy(load_empty_unet("emoji"))
    with Store.open(tmp_path / "old.db") as store:
        fill(store, "old", ["plain@20"], architecture=found.architecture.signature)
    app = whole(open_app(tmp_path / "old.db", ANATOMY), "Anatomy")
    assert f"{found.parameters / 1e6:.2f} M parameters" in texts(app).replace("\\", "")
    assert "is not measured in this study" in texts(app)


@pytest.mark.parametrize("number", [0, 1])
def test_the_treemap_adds_up(number: int) -> None:
    found = sd15_anatomy()
    measure = measures_of(found)[number]
    trace = treemap(found, measure.values, measure.unit).data[0]
    sizes = dict(zip(trace.ids, trace.values, strict=True))
    parents = dict(zip(trace.ids, trace.parents, strict=True))
    assert sizes["unet"] == pytest.approx(sum(measure.values.values()))
    for parent in {p for p in parents.values() if p}:
        assert sizes[parent] == pytest.approx(sum(sizes[each] for each in parents if parents[each] == parent))
    assert len(set(trace.ids)) == len(trace.ids)
    total = found.parameters if measure.name == "Parameters" else found.macs / 1e6
    assert 0.98 < sizes["unet"] / total <= 1  # what is left is the time embedding


def test_the_heat_map_divides_by_cost() -> None:
    units = ARCHITECTURE.units
    values = np.ones((len(units), 4)) * 0.2
    values[:, 0] = np.nan
    found = Sensitivity(units, values, 1, 1.0)
    plain = sensitivity_figure(found, None, "a step").data[0]
    assert plain.z.shape == (len(units), 3) and (np.asarray(plain.z) == 0.2).all()
    costs = {unit: 2.0 + i for i, unit in enumerate(units)}
    divided = sensitivity_figure(found, costs, "a step and ms").data[0]
    np.testing.assert_allclose(divided.customdata[1], 0.2 / 3.0)
    np.testing.assert_allclose(divided.z, np.log10(divided.customdata))
    assert steady(found, costs, 2) == [units[-1], units[-2]]


def test_a_profile_of_the_studys_device_gives_times(open_app: Open, tmp_path: Path) -> None:
    pipe = make_pipeline()  # of the small study's architecture
    with Store.open(tmp_path / "timed.db") as store:
        work = workload_of(pipe, device="cpu")
        profile = measured_profile(store, pipe, "emoji", work, steps=4, rounds=3)
        here = f"{profile.device.kind}: {profile.device.name}"
        same = {"resolution": work.resolution, "dtype": work.dtype}
        found(store, fill(store, "here", ["plain@20", "DC0/P3"], device=here, **same))
        found(store, fill(store, "elsewhere", ["plain@20"], device="cuda: another", **same))
    app = whole(open_app(tmp_path / "timed.db", ANATOMY, study="here"), "Anatomy")
    assert app.button_group(key="anatomy-size").value == "Time"
    tree = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]
    shown = dict(zip(tree["ids"], tree["values"], strict=True))
    timed = profile.cost_model.nodes
    assert shown["unet"] == pytest.approx(sum(timed.values()) * 1e3)
    assert all(shown[name] == pytest.approx(seconds * 1e3) for name, seconds in timed.items() if seconds > 0)
    app = whole(open_app(tmp_path / "timed.db", "views/page_plan.py", study="here", trial="1"), "Plan")
    assert "from the node times of a profile measured on" in texts(app)
    app = whole(open_app(tmp_path / "timed.db", ANATOMY, study="elsewhere"), "Anatomy")
    assert app.button_group(key="anatomy-size").options == ["Parameters", "MACs"]

"""The Plan page on a small real storage: pictures, what is computed, scores, lineage, and the way home."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.parts.picture_views import DIFFERENCE, FLICKER, SIDE, difference, fitted, in_turn, strip
from dashboard.parts.take_home import zip_of
from dashboard.pictures.steps import steps_of
from dashboard.pictures.unet import places, shares
from dashboard.step_costs import Timing, counted, timed
from dashboard.wording import plain
from explorer.errors import StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import strategy
from explorer.timing.cost_model import CostModel
from studies import Store
from studies.storage import tables
from tests.architectures import ARCHITECTURES, SD15, sd15_anatomy
from tests.dashboard.small_study import HOSTILE, PROMPTS, STEPS, fill, plan_of, psnr
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]
PLAN, COMPARE = "views/page_plan.py", "views/page_compare.py"


def figures(app: AppTest) -> list[dict[str, list[dict[str, object]]]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_by_its_address(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, PLAN, trial="5"), "Plan")
    values = {metric.label: metric.value for metric in app.metric}
    assert values["measured speed-up"] == "1.50x"
    assert values[plain("fd_toy")] == "20.4"
    assert values["evaluations that compute everything"] == "11 of 21"
    assert values["rule"] == "forecast2"
    unet, steps = figures(app)
    assert unet["data"][0]["type"] == "heatmap"
    assert [trace["type"] for trace in steps["data"][:2]] == ["bar", "heatmap"]
    assert plain("multiply-accumulates of each evaluation") in texts(app)


def test_all_scores_with_all_that_is_known(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="2")
    table = app.dataframe[0].value.set_index("metric")
    assert list(table.columns) == [
        "value (95% interval)", "N", "un-accelerated", "difference", "verdict", "floor", "extractor", "device"
    ]  # fmt: skip
    assert table.loc["fd_toy"].to_dict() == {
        "value (95% interval)": "32 (29.8 to 34.2)", "N": len(PROMPTS), "un-accelerated": "20 (19 to 21)",
        "difference": "+12 (+9.58 to +14.4)", "verdict": "↓ worse", "floor": "5 (4 to 6)",
        "extractor": "toy-extractor", "device": "a small machine",
    }  # fmt: skip
    assert table.loc["clip", "difference"] == "-0.6 (-0.6 to -0.6), paired"  # the prompts cancel
    assert table.loc["clip", "verdict"] == "↓ worse"
    assert table.loc["psnr (dB)", "difference"] == ""  # the un-accelerated pictures are perfect in it


def test_the_worst_pictures_come_first(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="2")
    captions = [str(caption.value) for caption in app.caption if "dB**, seed" in str(caption.value)]
    values = sorted((psnr(i, 12.0), i) for i in range(len(PROMPTS)))
    assert len(captions) == 6
    expected = [f"**{plain(f'{value:.1f} dB')}**, " + plain(f"seed {i}") for value, i in values[:6]]
    assert [caption.split("\\:")[0] for caption in captions] == expected
    app.toggle(key="all-pairs").set_value(True).run()
    assert sum("dB**, seed" in str(caption.value) for caption in app.caption) == len(PROMPTS)
    assert plain(HOSTILE) in texts(app)
    assert HOSTILE not in texts(app)


@pytest.mark.parametrize("view", [SIDE, DIFFERENCE, FLICKER])
@pytest.mark.parametrize("large", [False, True])
def test_each_view_draws_every_pair(view: str, large: bool, open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="2")
    app.button_group(key="view").set_value(view)
    app.toggle(key="full-size").set_value(large).run()
    assert not app.exception
    assert len(app.get("image")) == 6
    assert (len(app.select_slider) == 1) == (view == DIFFERENCE)


def test_missing_and_wrong_pictures_are_said(open_app: Open, small_storage: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_storage.parent, tmp_path / "copy") / small_storage.name
    for path in (copy.parent / "explorer-pictures").rglob("*.png"):
        path.unlink()
    app = whole(open_app(copy, PLAN, trial="2"), "Plan")
    assert not app.get("image")
    assert texts(app).count(plain("this picture's file is missing")) == 12
    with Store.open(copy) as store, store.begin() as connection:
        connection.execute(sa.delete(tables.pictures))
    assert "this plan has no pictures" in texts(open_app(copy, PLAN, trial="2"))


def test_the_un_accelerated_plan_stands_alone(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN)
    box = app.selectbox(key="trial-box")
    assert box.value == 5  # the fastest without measurable loss
    assert box.options[0] == "1.98x, #1 plain@10"
    box.select(0).run()
    assert [shown.value for shown in whole(app, "Plan").header] == [plain("plain@20")]
    assert "These are the un-accelerated pictures" in texts(app)


def test_compare_begins_with_the_plain_steps_next_to_it(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="2")
    app.button(key="compare-this").click().run()
    whole(app, "Compare")
    assert app.multiselect(key="compare-box").value == [2, 1]


def test_an_unknown_trial_is_one_sentence(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="99")
    assert not app.exception
    assert [info.value for info in app.info] == [
        plain("the study small has no trial 99; choose a point on the Front page.")
    ]


def test_a_failed_plan_says_why(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "sad.db") as store:
        fill(store, "sad", ["plain@20", "DC0/P3"], broken=True)
    app = whole(open_app(tmp_path / "sad.db", PLAN, trial="1"), "Plan")
    assert "this plan is failed: plan 1 ran out of memory" in texts(app).replace("\\", "")
    assert not app.code
    assert "measured speed-up" not in {metric.label for metric in app.metric}


def test_where_it_comes_from(open_app: Open, small_storage: Path) -> None:
    assert plain("A baseline of every study, scored by worker 0") in texts(open_app(small_storage, PLAN, trial="2"))
    assert plain("Proposed by the sampler tpe (seed 0) in the space none") in texts(
        open_app(small_storage, PLAN, trial="5")
    )


def test_the_two_lines_and_the_command(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="5")
    lines, command = (code.value for code in app.code)
    assert lines == 'from explorer import inherit\ninherit(pipe, "small-trial-5")'
    assert command.splitlines()[0] == f"explorer export small --trial 5 --out small-trial-5 --storage {small_storage}"


def test_the_zip_is_a_whole_export(small_storage: Path, tmp_path: Path) -> None:
    content = zip_of(str(small_storage), "small", 5, "small-trial-5")()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert all(name.startswith("small-trial-5/") and ".." not in name for name in archive.namelist())
        archive.extractall(tmp_path)
    folder = tmp_path / "small-trial-5"
    assert {path.name for path in folder.iterdir()} >= {"inheritance.json", "metrics.json", "README.md", "reproduce.sh"}
    plan = InheritancePlan.from_pretrained(folder)
    assert plan.key(STEPS + 1) == plan_of("DC0/P2+f2", "search").key(STEPS + 1)
    with pytest.raises(StudyError, match="no trial 99"):
        zip_of(str(small_storage), "small", 99, "x")()


def test_a_difference_is_absolute_and_amplified() -> None:
    one, other = (Image.new("RGB", (2, 2), colour) for colour in ((10, 200, 0), (13, 190, 0)))
    assert difference(one, other, 4).getpixel((0, 0)) == (12, 40, 0)
    assert difference(other, one, 100).getpixel((1, 1)) == (255, 255, 0)


def test_pictures_in_a_row_and_in_turn() -> None:
    one, other = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    assert strip([one, other], 8).size == (22, 4)
    assert np.unique(np.asarray(fitted(one, 8)).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]
    with Image.open(io.BytesIO(in_turn(one, other, 8))) as turning:
        assert turning.format == "PNG" and getattr(turning, "n_frames", 1) == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_node_has_a_place_of_its_own(name: str) -> None:
    architecture = ARCHITECTURES[name]
    found = places(architecture)
    assert set(found) == {node.name for node in architecture.nodes if node.kind != "cat"}
    assert len(set(found.values())) == len(found)
    for node in architecture.nodes:
        if node.is_unit and node.block != "mid":
            assert found[node.name][0] == architecture.level(node.block)
    bottom = max(row for row, _ in found.values())
    middle = {found[node.name][0] for node in architecture.nodes if node.block == "mid"}
    assert middle == ({bottom} if architecture.mid_res else set())


def test_shares_of_a_run() -> None:
    steps = steps_of(strategy("DC0/P2", steps=4, unet=SD15), 4)
    assert shares(steps)["up3.l2.attn"] == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert shares(steps)["up3.l1.attn"] == (0.5, 0.0, 0.5, 0.0, 0.0)
    assert shares(steps)["mid.attn"] == (0.5, 0.0, 0.0, 0.0, 0.5)


def test_costs_without_a_profile_are_counts() -> None:
    found = sd15_anatomy()
    plan = strategy("DC0/P2", steps=4, unet=found.architecture)
    costs = counted(plan, 4, found)
    assert costs.unit == "GMACs"
    assert costs.values[0] == pytest.approx(401.64, abs=0.01)
    assert costs.values[1] / costs.values[0] == pytest.approx(0.079, abs=0.001)  # design.md, 5
    assert costs.ratio == pytest.approx(2 / 1.079, abs=0.002)


def test_costs_with_a_profile_are_times() -> None:
    model = CostModel(
        SD15, {node.name: 2e-3 for node in SD15.nodes}, dict.fromkeys(SD15.units, 0.0005), fixed=1e-3, read=1e-4,
        term=2e-4,
    )  # fmt: skip
    plan = strategy("DC0/P2+f2", steps=6, unet=SD15)
    costs = timed(plan, 6, Timing(model, "a small machine"))
    assert costs.unit == "ms" and "a small machine" in costs.words
    full = 1 + 2 * len(SD15.nodes)
    inherits = [1 + 0.1 + 2 * 5 + terms * 0.2 for terms in (1, 2, 3)]  # conv_in and the last layer run
    inherits[0] -= 0.2  # one term is no combination
    assert costs.values == pytest.approx([full, inherits[0], full, inherits[1], full, inherits[2]])
    assert costs.full == pytest.approx(full)
    assert costs.ratio == pytest.approx(6 * full / sum(costs.values))

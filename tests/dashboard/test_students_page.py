"""The Students page and plans of casts on the others, with a real student of the small study's UNet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from streamlit.testing.v1 import AppTest

from dashboard.students import curves_of, held_students
from explorer.errors import ModelError
from explorer.networks.student import Student
from studies import Store
from tests.dashboard.small_study import PLANS, UNET, fill, found, settings
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]
STUDENTS = "views/page_students.py"
NAMES = ["plain@20", "DC0/P3", "m2+plain@20", "m2@0.4+DC0/P3", "plain@10/DPMSolverMultistep"]


@pytest.fixture(scope="module")
def cast_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a student, plans that run it, and one under another scheduler."""
    folder = tmp_path_factory.mktemp("students")
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET, norm_num_groups=8, sample_size=8)
    Student.removing(unet, {"dn0.l1.res": "zero", "dn0.l1.attn": "zero"}, name="m2").save(folder / "m2")
    (folder / "m2" / "checkpoint").mkdir()
    (folder / "m2" / "checkpoint" / "losses.csv").write_text(
        "step,seconds,lr,loss,out\n1,1,0.001,0.5,0.4\n2,2,0.001,0.4,0.3\n"
    )
    (folder / "m2" / "drift.csv").write_text("step,psnr,low,high\n0,10,9,11\n2,12,11,13\n")
    with pytest.MonkeyPatch.context() as patch, Store.open(folder / "explorer.db") as store:
        for name in NAMES:
            patch.setitem(PLANS, name, PLANS.get(name, (1.4, 5.0 + len(name), "baseline")))
        extra = {"students": ["teacher", f"m2={folder / 'm2'}", "gone=/nowhere/gone"]}
        found(store, fill(store, "cast", NAMES, extra=extra))
    return folder / "explorer.db"


def test_a_student_is_shown_with_what_it_lacks_costs_and_is_worth(open_app: Open, cast_storage: Path) -> None:
    app = whole(open_app(cast_storage, STUDENTS), "Students")
    assert [shown.value for shown in app.header] == ["m2"]
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Removed"] == "2 nodes" and shown["Parameters"].endswith(" M")
    assert 0 < int(shown["Multiply-accumulates"].rstrip("%")) < 100
    unet, curves = (json.loads(chart.proto.spec) for chart in app.get("plotly_chart"))
    assert "dn0.l1.res: computed in 0% of the evaluations<br>removed in 100%" in json.dumps(unet)
    assert [trace["name"] for trace in curves["data"]] == ["loss", "out", "PSNR to the teacher"]
    assert sorted(app.dataframe[0].value["trial"]) == [2, 3]
    assert "gone cannot be shown" in texts(app) and "No plan with gone" in texts(app)


def test_a_study_without_students_says_how_to_get_one(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, STUDENTS), "Students")
    assert "explorer distill" in texts(app).replace("\\", "")


def test_the_plan_and_compare_pages_know_the_cast(open_app: Open, cast_storage: Path) -> None:
    app = whole(open_app(cast_storage, "views/page_plan.py", trial="3"), "Plan")
    assert "Networks: m2 in evaluations 0 to 8, teacher in 9 to 20." in texts(app).replace("\\", "")
    steps = json.loads(app.get("plotly_chart")[1].proto.spec)
    assert [trace["text"] for trace in steps["data"] if trace["type"] == "bar" and "text" in trace] == ["m2", "teacher"]
    app = whole(open_app(cast_storage, "views/page_compare.py", compared="2,3,4,0"), "Compare")
    said = texts(app).replace("\\", "")
    assert "A: m2 in evaluations 0 to 20; B: m2 in evaluations 0 to 8, teacher in 9 to 20" in said
    assert len(app.get("plotly_chart")) == 2


def test_a_student_of_another_unet_and_a_torn_log_are_one_sentence(tmp_path: Path) -> None:
    small = UNet2DConditionModel(**{**UNET, "layers_per_block": 1}, norm_num_groups=8, sample_size=8)
    Student.removing(small, {"dn0.l0.attn": "zero"}, name="other").save(tmp_path / "other")
    held = held_students(settings(extra={"students": [f"other={tmp_path / 'other'}"]}))
    assert not held.students and "another architecture" in held.missing["other"]
    assert curves_of(tmp_path) == ([], [])
    (tmp_path / "losses.csv").write_text("step,loss\n1,half\n")
    with pytest.raises(ModelError, match="cannot be read"):
        curves_of(tmp_path)

"""An export of a plan with a cast carries its students: one folder, by which a pipeline makes the plan's picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, ModelError, Student, StudyError, inherit, load_pipeline, strategy
from explorer.models.loading import EMBEDDED
from explorer.networks.found import read_found
from explorer.networks.student import block_of
from studies import Store, StudyRecord
from studies.certificates.card import card_text
from studies.certificates.carried import students_option
from studies.certificates.document import certificate_of
from studies.certificates.export import find_trial, read_export, set_aside, write_card, write_export
from studies.cli import run
from studies.cli.commands.certify import _of_export, certificate_config
from tests.studies.scored_study import STEPS, emoji_architecture, fill

CAST = "m1@0.5+DC0/P2"
NAMES = ("plain@4", CAST, "DC0/P2", "base+plain@4")
OF_STUDENT = {"student.json", "student.safetensors"}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load_pipeline("emoji")


@pytest.fixture(scope="module")
def students(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two students of the embedded model, which are not what their teacher is."""
    place = tmp_path_factory.mktemp("students")
    for name, kind in (("m1", "M1"), ("base", "Base")):
        moved = {n: p.detach() * 1.1 for n, p in pipe.unet.named_parameters() if block_of(n) == "up3"}
        Student.named(kind, pipe.unet).trained_as(moved, ("up3",)).save(place / name)
    (place / "m1" / "checkpoint").mkdir()
    (place / "m1" / "checkpoint" / "state.json").write_text("{}")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A file alone: what is read here does not differ between databases."""
    with Store.open(tmp_path / "explorer.db") as opened:
        yield opened


def filled(store: Store, students: Path, **change: Any) -> StudyRecord:
    study = fill(store, names=NAMES, **change)
    extra: dict[str, Any] = study.settings.extra
    extra["students"] = ["teacher", f"m1={students / 'm1'}", f"base={students / 'base'}"]
    extra["student weights"] = {name: read_found(students / name).fingerprint for name in ("m1", "base")}
    return study


def export(store: Store, study: StudyRecord, number: int, folder: Path, **more: Any) -> set[str]:
    files = write_export(store, study, find_trial(store, study, number), folder, **more)
    return {str(path.relative_to(folder)) for path in files}


def pictures(pipe: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return pipe(
        "bee, flat style", num_inference_steps=STEPS, guidance_scale=3.0, generator=generator, output_type="pt"
    ).images


def test_the_folder_alone_makes_the_plan_s_picture(store: Store, students: Path, tmp_path: Path, pipe: Any) -> None:
    """To the bit; also by diffusers' custom_pipeline, from the folder's new place."""
    from diffusers import DiffusionPipeline

    study = filled(store, students)
    files = export(store, study, 1, tmp_path / "first")
    assert {"students/m1/student.json", "students/m1/student.safetensors", "inheritance.json"} <= files
    folder = tmp_path / "elsewhere"
    (tmp_path / "first").rename(folder)
    assert {each.name for each in (folder / "students").rglob("*")} == {"m1", *OF_STUDENT}
    plan, stock = InheritancePlan.from_pretrained(folder), pictures(pipe)
    with inherit(pipe, plan, students={"m1": students / "m1"}):
        expected = pictures(pipe)
    with inherit(pipe, folder):
        assert torch.equal(pictures(pipe), expected)
    assert torch.equal(pictures(pipe), stock) and not torch.equal(expected, stock)
    for place in (folder, folder / "pipeline.py"):
        custom: Any = DiffusionPipeline.from_pretrained(
            EMBEDDED / "emoji", custom_pipeline=str(place), trust_remote_code=True
        )
        assert torch.equal(pictures(custom), expected)
        custom.inheritance.remove()
        assert torch.equal(pictures(custom), stock)


def test_a_custom_pipeline_with_students_becomes_others_and_is_saved_as_the_stock_one(
    store: Store, students: Path, tmp_path: Path
) -> None:
    import diffusers

    folder = tmp_path / "plan"
    export(store, filled(store, students), 1, folder)
    load = diffusers.DiffusionPipeline.from_pretrained
    given: dict[str, Any] = {"custom_pipeline": str(folder), "trust_remote_code": True}
    custom: Any = load(EMBEDDED / "emoji", **given)
    made = pictures(custom)
    assert torch.equal(pictures(diffusers.AutoPipelineForText2Image.from_pipe(custom)), made)
    custom.save_pretrained(tmp_path / "saved")
    saved = load(tmp_path / "saved")
    assert type(saved) is diffusers.StableDiffusionPipeline
    assert torch.equal(pictures(load(tmp_path / "saved", **given)), made)
    custom.inheritance.remove()
    assert torch.equal(pictures(saved), pictures(custom)) and not torch.equal(pictures(saved), made)
    again = type(custom)(**custom.components, requires_safety_checker=False)  # of the same class, by no folder
    assert torch.equal(pictures(again), made)


def test_students_of_another_teacher_are_refused(store: Store, students: Path, tmp_path: Path, pipe: Any) -> None:
    folder = tmp_path / "plan"
    export(store, filled(store, students), 1, folder)
    document = json.loads((folder / "students" / "m1" / "student.json").read_text())
    (folder / "students" / "m1" / "student.json").write_text(json.dumps(document | {"teacher": "0123456789ab"}))
    with pytest.raises(
        ModelError, match=rf"fingerprint 0123456789ab, and this one has {document['teacher']} \(another"
    ):
        inherit(pipe, folder)


def test_the_card_and_the_numbers_name_the_students_and_their_sizes(
    store: Store, students: Path, tmp_path: Path, pipe: Any
) -> None:
    study, folder = filled(store, students), tmp_path / "plan"
    export(store, study, 1, folder)
    plan, metrics = read_export(folder)
    assert metrics is not None
    m1 = read_found(students / "m1")
    facts = metrics["students"]["m1"]
    whole = sum(p.numel() for p in pipe.unet.parameters())
    assert set(metrics["students"]) == {"m1"}
    assert (facts["parameters"], facts["teacher_parameters"]) == (m1.student.parameters, whole)
    assert facts["bytes"] == pytest.approx((students / "m1" / "student.safetensors").stat().st_size, rel=0.02)
    assert (facts["weights"], facts["trained"]) == (m1.fingerprint, ["up3"])
    card = (folder / "README.md").read_text()
    assert f"m1 is the student M1: {m1.student.parameters / 1e6:.1f} M parameters" in card and "MiB differ" in card
    assert "`students/m1/`: the student m1" in card and "students={" not in card
    assert b"/tmp/" not in (folder / "README.md").read_bytes() + (folder / "metrics.json").read_bytes()
    export(store, study, 2, tmp_path / "other")
    other = (tmp_path / "other" / "README.md").read_text()
    assert "Students" not in other and "students" not in json.loads((tmp_path / "other" / "metrics.json").read_text())
    assert "students={'m1': DIR}" in card_text(
        plan, {k: v for k, v in metrics.items() if k != "students"}, None, strip=False
    )
    metrics["students"]["m1"]["parameters"] = "many"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(StudyError, match=r"students\.m1\.parameters"):
        write_card(folder, {})


def test_a_new_export_leaves_no_student_of_the_earlier_one(store: Store, students: Path, tmp_path: Path) -> None:
    study, folder = filled(store, students), tmp_path / "plan"
    export(store, study, 1, folder)
    (folder / "students" / "mine").mkdir()
    export(store, study, 3, folder)
    assert {path.name for path in (folder / "students").iterdir()} == {"base", "mine"}
    (folder / "students" / "mine").rmdir()
    export(store, study, 2, folder)
    assert not (folder / "students").exists()
    export(store, study, 1, folder)
    place = set_aside(folder)
    assert place is not None and not (folder / "students").exists()
    assert {path.name for path in (place / "students" / "m1").iterdir()} == OF_STUDENT


def test_students_that_are_gone_or_others_now_are_not_exported(store: Store, students: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(students, own)
    study = filled(store, own)
    (own / "m1").rename(own / "moved")
    with pytest.raises(StudyError, match=r"student 'm1', which is not there any more .*; say with --students m1=DIR"):
        export(store, study, 1, tmp_path / "plan")
    found = export(store, study, 1, tmp_path / "plan", students=[f"m1={own / 'moved'}"])
    assert "students/m1/student.json" in found
    with pytest.raises(StudyError, match=r"has the weights .*, and the study 'small' measured one with"):
        export(store, study, 1, tmp_path / "next", students=[f"m1={own / 'base'}"])
    assert not (tmp_path / "next").exists()
    (own / "moved" / "student.json").write_text("{")
    with pytest.raises(StudyError, match="the plan's student 'm1' cannot be exported: "):
        export(store, study, 1, tmp_path / "next", students=[f"m1={own / 'moved'}"])


@pytest.fixture(scope="module")
def carried(students: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with its student, and the plan alone beside it."""
    place = tmp_path_factory.mktemp("carried")
    with Store.open(place / "explorer.db") as store:
        export(store, filled(store, students), 1, place / "plan")
    shutil.copyfile(place / "plan" / "inheritance.json", place / "alone.json")
    return place


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The words with which a command ends."""
    capsys.readouterr()
    assert run([*arguments, "--device", "cpu", "--json"]) == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_bench_needs_the_folder_alone_or_the_plan_and_its_students(
    carried: Path, students: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["bench", str(carried / "plan"), "--pairs", "3", "--device", "cpu", "--json"]) == 0
    rows = {row["role"]: row for row in json.loads(capsys.readouterr().out)["contenders"]}
    assert rows["plan"]["name"] == CAST and len(rows["plan"]["latency"]["samples"]) == 3
    alone, base = str(carried / "alone.json"), f"base={students / 'base'}"
    assert "there is no student 'm1' (looked for at" in refused(["bench", alone], capsys)
    words = "--students names 'base', which the plan does not run (its students: m1)"
    assert words in refused(["bench", str(carried / "plan"), "--students", base], capsys)
    assert "or a plan's file" in refused(["bench", str(carried / "nowhere.json")], capsys)
    plan, given = InheritancePlan.load(alone), f"m1={students / 'm1'}"
    assert students_option(carried / "alone.json", plan, [given]) == ("teacher", given)
    assert students_option(carried / "alone.json", plan) == ("teacher", "m1")
    for place in (carried / "plan", carried / "plan" / "inheritance.json"):
        assert students_option(place, plan) == ("teacher", f"m1={carried / 'plan' / 'students' / 'm1'}")


def test_a_certificate_of_a_plan_with_students(
    carried: Path, students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the folder; of the plan's file with its students."""
    prompts = tmp_path / "mine.txt"
    prompts.write_text("bee, flat style\nlion, 3d style\nanchor, noto style\n")
    few = ["--prompts", str(prompts), "--pairs", "3", "--device", "cpu", "--batch", "8", "--count", "8", "--json"]
    capsys.readouterr()
    assert run(["certify", str(carried / "plan"), *few]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["students"]["m1"]["name"] == "M1" and document["plan"]["nickname"] == CAST
    assert document["settings"]["extra"]["student weights"] == {"m1": read_found(students / "m1").fingerprint}
    assert document["runs"]["plan"]["scores"]["psnr"]["value"] < 100
    page, card = ((carried / "plan" / name).read_text() for name in ("certificate.html", "README.md"))
    assert "m1 is the student M1: " in page and "m1 is the student M1: " in card and "## Certificate" in card
    alone = str(carried / "alone.json")
    assert "is a plan's file; say with --out in which folder" in refused(["certify", alone], capsys)
    assert "there is no student 'm1'" in refused(["certify", alone, "--out", str(tmp_path / "out")], capsys)
    given = {"students": ("teacher", f"m1={students / 'm1'}")}
    subject = _of_export(carried / "alone.json", tmp_path / "out", given)
    assert (subject.config.students, subject.folder) == (given["students"], tmp_path / "out")
    assert _of_export(carried / "plan" / "inheritance.json", None, {}).folder == carried / "plan"
    # It goes along with another export of the plan only where the students are the same: one that was distilled again
    # under its old name is another network.
    plan, extra = InheritancePlan.load(alone), document["settings"]["extra"]
    assert certificate_of(carried / "plan", plan, extra) is not None
    for other in ({"student weights": {}}, {"student weights": {"m1": "c"}}, {"weights": "c"}):
        assert certificate_of(carried / "plan", plan, extra | other) is None


def test_a_certificate_of_a_trial_finds_the_study_s_students(store: Store, students: Path, tmp_path: Path) -> None:
    given = {"prompts": "emoji-certificate"}
    settings = filled(store, students).settings
    plan = strategy(CAST, steps=STEPS, unet=emoji_architecture())
    config = certificate_config(settings, "small", given, plan.cast)
    assert config.students == ("teacher", f"m1={students / 'm1'}")
    assert certificate_config(settings, "small", given).students == ("teacher",)


def test_the_command_takes_the_places_of_students(
    students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store, names=NAMES)  # a study that says nothing of its students' folders
    given = ["export", "small", "--trial", "3", "--storage", str(tmp_path / "explorer.db"), "--out"]
    assert run([*given, str(tmp_path / "plan")]) == 1
    assert "the plan runs the student 'base', which is not there any more" in " ".join(capsys.readouterr().err.split())
    assert run([*given, str(tmp_path / "plan"), "--students", f"base={students / 'base'}", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert {"students/base/student.json", "students/base/student.safetensors", "README.md"} <= {*files}

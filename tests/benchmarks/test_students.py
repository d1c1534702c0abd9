"""The benchmarks of students: what they draw and declare, and that a killed run goes on to the same result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.shared import assembly_rows
from benchmarks.shared.assembly_figures import ordering_rows, pooled, tables
from benchmarks.shared.assembly_rows import ORDERINGS, TABLES, TEACHER_LABEL, rows_of, tables_of
from benchmarks.shared.students import has_experts
from benchmarks.students import assembly, removal_additivity
from benchmarks.students.assembly import LEFT_OUT
from benchmarks.students.removal_additivity import SIZES, draw_removals, figures_of, table, verdict
from explorer import Student
from explorer.errors import StudyError
from explorer.networks.student import block_of
from explorer.unet.architecture import Architecture
from tests.architectures import SD15
from tests.explorer.calibration.test_removals import cost_of
from tests.explorer.tiny_pipelines import sd
from training.distill import initial


class Killed(Exception):
    pass


def run(benchmark: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """The result of a quick run on a small pipeline."""
    out = folder / "result.json"
    same = ["--model", "tiny", "--device", "cpu", "--quick", "--rounds", "2", "--calls", "1"]
    monkeypatch.setattr(benchmark, "load", lambda _: sd())
    monkeypatch.setattr(benchmark, "write_figure", lambda figure, path: figure)
    monkeypatch.setattr(sys, "argv", [str(benchmark.__file__), *same, "--work", str(folder), "--out", str(out), *words])
    benchmark.main()
    return dict(json.loads(out.read_text()))


def killed_after(count: int, benchmark: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The result that a run leaves which ends after the `count`-th thing was written."""
    written = 0

    def write(*arguments: Any, **named: Any) -> Path:
        nonlocal written
        path = real(*arguments, **named)
        written += 1
        if written == count:
            raise Killed
        return path

    real = benchmark.write_result  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "write_result", write)
        with pytest.raises(Killed):
            run(benchmark, folder, patch, *words)
    return json.loads((folder / "result.json").read_text())


def test_removals_are_valid_different_and_of_all_sizes() -> None:
    drawn = draw_removals(SD15, 60)
    assert len({each.mask for each in drawn}) == 60
    assert [each.size for each in drawn[: len(SIZES)]] == [*SIZES]
    for each in drawn:
        each.mask.check(SD15)
        assert sum(name in SD15.units for name in each.mask.forms) == each.size
    assert [each.mask for each in draw_removals(SD15, 60)] == [each.mask for each in drawn]
    assert {form for each in drawn for form in each.mask.forms.values()} == {"zero", "bypass"}


def test_errors_that_add_up_correlate_and_a_difference_that_holds_zero_decides_nothing() -> None:
    rows = [
        {"size": 1 + number % 3, "predicted": 0.1 * (number + 1), "before": 0.2 * (number + 1), "psnr": 30.0 - number}
        for number in range(8)
    ]
    rows[-1]["psnr"] = None
    difference = {"psnr": {"value": 1.0, "low": 0.5, "high": 1.5}, "clip": {"value": 0.1, "low": -0.2, "high": 0.4},
                  "fd_a": {"value": 2.0, "low": 1.0, "high": 3.0}}  # fmt: skip
    assert verdict(difference) == {"psnr": "chosen", "clip": "neither", "fd_a": "named"}
    contest = {"measured_share": {"chosen": {"value": 0.7, "low": 0.69, "high": 0.71},
                                  "M2": {"value": 0.71, "low": 0.7, "high": 0.72}},
               "chosen less named": difference}  # fmt: skip
    found = figures_of(rows, {"M2": contest})
    assert found["removals"] == 8 and found["distilled"] == 7
    for kind in ("spearman", "kendall", "pearson"):
        assert found["before"][kind]["value"] == pytest.approx(1.0)
    assert found["after"]["spearman"]["value"] == pytest.approx(1.0)
    assert found["measured over predicted by size"] == pytest.approx({"1": 2.0, "2": 2.0, "3": 2.0})
    assert "| M2 | 0.70 [0.69, 0.71] | 0.71 [0.70, 0.72] | 1.00 [0.50, 1.50] (chosen)" in table(found)


def test_the_tables_are_the_paper_s() -> None:
    assert [row.label for row in TABLES["I"]] == ["Base", "M1*", "M1", "M2*", "M2", "M3*", "M3"]
    plain = [row.label for row in TABLES["II"] if not row.experts]
    assert plain == ["Base", "Small", "Tiny"] and sum(row.experts > 0 for row in TABLES["II"]) == 9
    every = rows_of(["I", "II"])
    assert len(every) == 7 + 12 - 1 and len({row.key for row in every}) == len({row.label for row in every}) == 18
    assert tables_of(every[0]) == ["I", "II"] and tables_of(every[1]) == ["I"]
    labels = {TEACHER_LABEL, *(row.label for row in every)}
    assert all(labels.issuperset(pair) for ordering in ORDERINGS for pair in ordering.pairs)
    with pytest.raises(StudyError, match="--tables takes I, II"):
        rows_of(["III"])


def test_an_assembled_student_takes_its_thinned_blocks_alone() -> None:
    pipe = sd()
    base = Student.named("Base", pipe.unet)
    tensors = {name: p.detach() + 1 for name, p in pipe.unet.named_parameters() if name in base.computed(pipe.unet)}
    blocks = tuple(dict.fromkeys(block_of(name) for name in tensors))
    found = initial(Student.named("M1", pipe.unet), pipe.unet, blocks, base.trained_as(tensors, blocks))
    own = dict(pipe.unet.named_parameters())
    changed = {block_of(name) for name, tensor in found.tensors.items() if not torch.equal(tensor, own[name])}
    assert changed == {"dn0", "up3"}


def test_an_interval_holds_the_pictures_and_the_seeds() -> None:
    one = {"value": 2.0, "low": 1.0, "high": 3.0}
    found = pooled([one])
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1.0, 3.0))
    assert pooled([one, one]).low == pytest.approx(1.0)  # the pictures are the same ones
    assert pooled([one, one | {"value": 6.0}]).low < 4.0 - 1.96 * 2.0


def test_an_ordering_holds_is_reversed_or_is_not_separated() -> None:
    def of(low: float, high: float) -> dict[str, float]:
        return {"value": (low + high) / 2, "low": low, "high": high}

    found = ordering_rows({
        ("M2*", TEACHER_LABEL): {"fd_a": of(-2, -1), "fd_b": of(1, 2), "clip": of(1, 2)},
        ("M2", "M1"): {"fd_a": of(-1, 1), "clip": of(0.1, 0.2), "psnr": of(1, 2)},
    })  # fmt: skip
    assert [(row["metric"], row["better"], row["verdict"]) for row in found] == [
        ("fd_a", "M2*", "holds"), ("fd_b", "M2*", "reversed"), ("fd_a", "M2", "not separated"), ("clip", "M2", "holds"),
    ]  # fmt: skip


def test_a_killed_run_of_removals_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(Architecture.of(sd().unet))  # a profile takes a minute, and has a test of its own
    monkeypatch.setattr(removal_additivity, "profiled", lambda *_: SimpleNamespace(cost_model=cost))
    early = killed_after(7, removal_additivity, tmp_path, monkeypatch)  # in the middle of the distilled ones
    assert early["figures"]["removals"] == 5 and early["figures"]["distilled"] == 2
    trained: list[str] = []
    distilled = removal_additivity.Bench.distilled

    def watched(self: Any, student: Student, name: str, *arguments: Any, **named: Any) -> Student:
        if not (self.work.folder / "students" / name / "student.json").exists():
            trained.append(name)
        return distilled(self, student, name, *arguments, **named)

    monkeypatch.setattr(removal_additivity.Bench, "distilled", watched)
    done = run(removal_additivity, tmp_path, monkeypatch)
    assert trained == ["random-002-1", "random-003-1", "chosen-M1-2-none", "M1-2-none"]
    assert done["samples"][:2] == early["samples"][:2] and done["figures"]["distilled"] == 4
    contest = done["figures"]["contests"]["M1"]
    assert contest["predicted_share"]["chosen"] <= contest["predicted_share"]["M1"] + 1e-5
    assert contest["chosen less named"].keys() == {"clip", "psnr", "fd_emojiclip"}
    assert done["figures"]["wins"]["M1"]["psnr"] in ("chosen", "named", "neither")


def test_a_killed_run_of_the_tables_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"I": TABLES["I"][:3], "II": tuple(row for row in TABLES["II"] if row.student == "Base")}
    monkeypatch.setattr(assembly_rows, "TABLES", few)
    monkeypatch.setattr(assembly, "POINTS", (0.5, 1.0))
    early = killed_after(2, assembly, tmp_path, monkeypatch)
    assert [*early["figures"]["rows"]] == ["Base", "M1*"]
    done = run(assembly, tmp_path, monkeypatch)
    figures = done["figures"]
    rows = ["Base", "M1*", "M1", *(row.label for row in few["II"][1:] if has_experts())]
    assert [*figures["rows"]] == rows and {*figures["times"]} == {"teacher", *rows}
    assert figures["rows"]["M1*"] == early["figures"]["rows"]["M1*"]
    assert figures["times"]["teacher"]["share"]["value"] == 1.0
    assert [row["step"] for row in figures["curve"]] == [1, 2]
    pairs = {(row["better"], row["worse"]) for row in figures["orderings"]}
    assert ("M1*", "M1") in pairs and (TEACHER_LABEL, "M1*") in pairs
    shown = tables(figures)
    assert "Table I\n" in shown and "| M1* |" in shown and (LEFT_OUT in shown) is not has_experts()
    assert torch.is_grad_enabled()

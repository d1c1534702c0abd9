"""Plans with students are scored like any other: timed, predicted, limited and told apart by weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, Student, strategy
from explorer.compile_modes import CompileMode
from explorer.devices import describe
from explorer.errors import ModelError, PlanError, StudyError
from explorer.networks.found import BESIDE, find_student, own_bytes
from explorer.timing.cost_model import CostModel
from explorer.timing.speed_limit import speed_limit
from explorer.unet.mask import Mask, without
from search_spaces.axes.networks import Networks
from studies.config import SearchConfig, make_config
from studies.scoring.assembly import make_evaluator
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.limits import PlanLimits, variants
from studies.searching.asking import config_of, measured_config
from studies.searching.opening import values_of
from studies.settings import differences
from tests.architectures import SD15
from tests.conftest import embeds, make_pipeline
from tests.studies.plan_problem import plan_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


@pytest.fixture(scope="module")
def base(pipe: Any) -> Student:
    moved = {name: p.detach() * 1.1 for name, p in pipe.unet.named_parameters() if name.startswith("conv_in.")}
    return Student.named("Base", pipe.unet).trained_as(moved, ("conv_in",))


def evaluator_of(pipe: Any, **students: Student) -> CandidateEvaluator:
    return make_evaluator(
        pipe, steps=4, guidance=2.0, prompts=(), scorer=None, device=CPU, info=describe(CPU), pairs=3, size=(32, 32),
        embeds=embeds(), students=students,
    )  # fmt: skip


def test_a_cast_is_timed_and_a_missing_student_named(pipe: Any, base: Student) -> None:
    plan = strategy("S1", steps=4, unet=pipe.unet)
    scored = evaluator_of(pipe, base=base).score(plan)
    assert next(iter(scored.estimates.values())).value > 0 and len(next(iter(scored.samples.values()))) == 3
    held = scored.estimates["cache_mib"].value
    assert held == own_bytes(base, 4) / 2**20 > 0, "nothing is inherited: only the student's own weights are held"
    inheriting = evaluator_of(pipe, base=base).score(strategy("base@0.5+DC0/P2", steps=4, unet=pipe.unet))
    assert inheriting.estimates["cache_mib"].value > held
    assert evaluator_of(pipe).score(strategy("plain@4", unet=pipe.unet)).estimates["cache_mib"].value == 0
    with pytest.raises(PlanError, match="needs the student 'base'"):
        evaluator_of(pipe).score(plan)


def test_a_student_s_step_is_predicted_as_the_teacher_s_without_its_nodes() -> None:
    cost = CostModel(SD15, dict.fromkeys(SD15.by_name, 1.0), dict.fromkeys(SD15.units, 0.1), 1.0, 0.1)
    removed = {"base": Mask.of(["mid.attn", "mid.res0"], "zero")}
    plain = InheritancePlan(SD15, 10)
    step = cost.step_seconds(Mask())
    smaller = cost.step_seconds(removed["base"])
    assert smaller < step
    found = cost.loop_seconds(plain.with_cast("base@0.4"), 10, students=removed)
    assert found == pytest.approx(cost.loop_seconds(plain, 10) - 4 * (step - smaller))
    mixed = strategy("base@0.4+DC0/P2", steps=10, unet=SD15)
    mask = mixed.masks[0]
    by_hand = 2 * smaller + 2 * cost.step_seconds(without(mask, removed["base"])) + 3 * step
    by_hand += 3 * cost.step_seconds(mask)
    assert cost.loop_seconds(mixed, 10, students=removed) == pytest.approx(by_hand)
    with pytest.raises(PlanError, match="needs the student 'base'"):
        cost.loop_seconds(mixed, 10)


def test_no_true_speed_up_of_a_student_is_beyond_the_limit() -> None:
    """Without a profile its steps are not known, and with none of the teacher's there is no limit."""
    plain = InheritancePlan(SD15, 10)
    assert speed_limit(plain, 10, 10) == pytest.approx(1.3)
    assert speed_limit(plain.with_cast("base@0.5"), 10, 10) == pytest.approx(2.6)
    assert speed_limit(plain.with_cast("base"), 10, 10) == float("inf")


def test_limits_count_the_weights_of_students_and_the_steps_of_each_network(base: Student) -> None:
    size = own_bytes(base, 4)
    assert size == 4 * sum(tensor.numel() for tensor in base.tensors.values()) > 0
    plan, cast = InheritancePlan(SD15, 10), InheritancePlan(SD15, 10).with_cast("base@0.5")
    limits = PlanLimits(cache_mib=1.0, student_bytes={"base": 2 * 2**20})
    assert limits.reason(plan, 10) is None
    assert limits.reason(cast, 10) == "beyond the limit of 1 MiB of features and students: 2"
    assert variants(plan, 10) == 1 and variants(cast, 10) == 2
    both = strategy("base@0.5+DC0/P2", steps=10, unet=SD15)
    assert variants(both, 10) == 4 and PlanLimits(variants=3).reason(both, 10) is not None


def test_a_student_is_found_where_it_is_said_to_be_or_beside_the_model(
    pipe: Any, base: Student, tmp_path: Path
) -> None:
    folder = tmp_path / "somewhere"
    base.save(folder)
    found = find_student("base", str(folder), pipe)
    assert found.folder == folder and found.removed == base.removed
    beside = tmp_path / "model" / BESIDE / "base"
    base.save(beside)
    pipe.register_to_config(_name_or_path=str(tmp_path / "model"))
    again = find_student("base", None, pipe)
    assert again.folder == beside and again.fingerprint == found.fingerprint
    assert find_student("base", str(tmp_path / "gone"), pipe).folder == beside
    with pytest.raises(
        ModelError, match=r"no student 'm2' \(looked for at .*m2\); say where it is with --students m2=DIR"
    ):
        find_student("m2", None, pipe)
    other = base.trained_as({name: tensor * 2 for name, tensor in base.tensors.items()}, base.trained)
    other.save(folder)
    assert find_student("base", str(folder), pipe).fingerprint != found.fingerprint
    with torch.no_grad():
        stranger = make_pipeline()
        stranger.unet.conv_in.weight += 1
    with pytest.raises(ModelError, match="another fine-tune"):
        find_student("base", str(folder), stranger)


def test_a_study_knows_its_students_by_their_weights(pipe: Any, base: Student, tmp_path: Path) -> None:
    base.save(tmp_path / "here")
    kept = Networks.kept(Networks.known(["teacher", f"base={tmp_path / 'here'}"], pipe, 4))
    settings = plan_settings(extra=kept)
    config = config_of(settings, "again")
    assert config.students == ("teacher", f"base={tmp_path / 'here'}")
    base.save(tmp_path / "there")
    moved = Networks.kept(Networks.known([f"base={tmp_path / 'there'}"], pipe, 4))
    assert differences(settings, replace(settings, extra=moved)) == [], "a folder that was moved, or copied"
    other = base.trained_as({name: tensor * 2 for name, tensor in base.tensors.items()}, base.trained)
    other.save(tmp_path / "there")
    changed = Networks.kept(Networks.known([f"base={tmp_path / 'there'}"], pipe, 4))
    assert [name for name, *_ in differences(settings, replace(settings, extra=changed))] == ["student weights"]
    assert measured_config(settings, "one").students == ("teacher",), "one plan needs its own students alone"
    needed = strategy("S1", steps=12, unet=SD15).cast
    assert measured_config(settings, "one", cast=needed).students == config.students


def test_by_default_a_search_has_the_students_beside_the_model(base: Student, tmp_path: Path) -> None:
    """Where a plan may have any, and of those the model's own."""
    pipe, model = make_pipeline(), tmp_path / "model"
    usual = SearchConfig()
    assert values_of(usual, pipe)["cast"] == {}, "a model without a folder"
    pipe.register_to_config(_name_or_path=str(model))
    assert values_of(usual, pipe)["cast"] == {}, "a model without students"
    base.save(model / BESIDE / "base")
    base.save(model / BESIDE / "m2")
    (model / BESIDE / "notes").mkdir()
    found = values_of(usual, pipe)["cast"]
    assert {name: each.folder for name, each in found.items()} == {n: model / BESIDE / n for n in ("base", "m2")}
    assert [*values_of(SearchConfig(students=("m2",)), pipe)["cast"]] == ["m2"]
    for none in ({"students": ("teacher",)}, {"space": "unit"}, {"compile": "cudagraphs"}):
        assert values_of(SearchConfig(**none), pipe)["cast"] == {}
    (model / BESIDE / "m2" / "student.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"beside the model is left out: .*m2.student\.json is no student"):
        assert [*values_of(usual, pipe)["cast"]] == ["base"]
    with torch.no_grad():
        pipe.unet.conv_in.weight += 1
    with pytest.warns(UserWarning, match="another fine-tune"):
        assert values_of(usual, pipe)["cast"] == {}


def test_a_study_keeps_to_the_students_that_it_was_made_with(base: Student, pipe: Any, tmp_path: Path) -> None:
    """Those that came beside the model later are none of its; so are all in a study of an earlier version."""
    assert config_of(plan_settings(extra={}), "old").students == ("teacher",)
    base.save(tmp_path / "base")
    kept = Networks.kept(Networks.known([f"base={tmp_path / 'base'}"], pipe, 4))
    resumed = make_config({}, base=config_of(plan_settings(extra=kept), "again"))
    assert resumed.students == ("teacher", f"base={tmp_path / 'base'}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a b=x", "--students: a student is called by a letter"),
        ("teacher=x", "teacher is the model's own UNet"),
        ("base,base=x", "has 'base' twice"),
        ("base=", "'base' without a folder"),
    ],
)
def test_bad_students_are_refused(given: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        make_config({"students": given})


def test_students_and_spacings_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config({"students": "base,m2=runs/m2", "spacings": "own,trailing"})
    assert config.students == ("teacher", "base", f"m2={tmp_path / 'runs' / 'm2'}")
    assert config.spacings == ("own", "trailing")
    assert (SearchConfig().students, SearchConfig().spacings) == (None, ("own",))
    file = tmp_path / "search.toml"
    file.write_text('students = ["base"]\nspacings = ["own", "linspace"]\n')
    assert make_config({}, file).students == ("teacher", "base") and make_config({}, file).spacings[1] == "linspace"
    for spacings, words in (("trailing", "must have own among"), ("own,even", "may not name the spacing 'even'")):
        with pytest.raises(StudyError, match=words):
            make_config({"spacings": spacings})


@pytest.mark.parametrize("mode", ["cudagraphs", "cudagraphs-eager"])
def test_captured_steps_and_students_are_refused_together(base: Student, mode: CompileMode) -> None:
    from types import SimpleNamespace

    from studies.searching.opening import evaluator_of as opened

    config: Any = SimpleNamespace(compile=mode, max_cache_mib=None)
    model: Any = SimpleNamespace(pipe=SimpleNamespace(unet=SimpleNamespace(dtype=torch.float32)))
    with pytest.raises(
        StudyError, match=f"--compile {mode} captures the steps of one network, and --students names base"
    ):
        opened(config, model, None, SimpleNamespace(feature_bytes={}), {"base": base})  # type: ignore[arg-type]

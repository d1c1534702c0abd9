"""Plans: identity, files, and every way in which a plan or its file is refused in one sentence."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.errors import ExplorerError, PlanError
from explorer.plans.document import SCHEMA
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.rules import Rule
from explorer.plans.schedule import Curve, Periodic, Segments
from explorer.plans.strategies import STRATEGIES, baselines, strategy
from explorer.unet.mask import Mask
from tests.architectures import SD15, SDXL, TINY

LI1, DC0, EP = (STRATEGIES[name].mask(SD15) for name in ("LI1", "DC0", "EP"))
PLANS = {
    "plain": InheritancePlan(SD15, 20),
    "mode": strategy("CO6", mode="P5†", unet=SD15),
    "curve": strategy("DC0", mode="N", unet=SD15, rule="forecast2"),
    "switches": InheritancePlan(SD15, 50, (LI1, DC0, EP), Periodic(4, 1, 0.1, (0.3, 0.7)), Rule("forecast", 1)),
    "scheduler": replace(strategy("DC0/P3+f2", unet=SD15, steps=20), scheduler="DPMSolverMultistepScheduler"),
    "segments": InheritancePlan(TINY, 4, (Mask.of(["mid.res0"]),), Segments.of([0, 1, 0, 1])),
}


@pytest.mark.parametrize("name", PLANS)
def test_files_round_trip(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    plan.save(tmp_path / "plan.json")
    again = InheritancePlan.load(tmp_path / "plan.json")
    evaluations = 4 if name == "segments" else 51
    assert again == plan and again.key(evaluations) == plan.key(evaluations) and again.describe() == plan.describe()


@pytest.mark.parametrize("name", PLANS)
def test_a_truncated_file_is_refused_wherever_it_was_cut(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLANS[name].save(path)
    text = path.read_text(encoding="utf-8").rstrip()
    for cut in sorted(random.Random(0).sample(range(len(text)), 25)):
        path.write_text(text[:cut], encoding="utf-8")
        with pytest.raises(PlanError, match=r"truncated|not a plan"):
            InheritancePlan.load(path)


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for content in (b"", b"\x89PNG\r\n\x1a\n\x00", b"[]", b"null", b"3", b'{"kind": "recipe"}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(PlanError, match=r"plan\.json"):
            InheritancePlan.load(path)


@pytest.mark.parametrize("where", ["", "missing.json", ".", "a\0b"])
def test_a_place_that_cannot_be_read_or_written_is_named(where: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="plan"):
        InheritancePlan.load(f"{tmp_path}/{where}")
    if where != "missing.json":
        with pytest.raises(PlanError, match="cannot write the plan"):
            PLANS["mode"].save(f"{tmp_path}/{where}")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with path.open("wb") as file:
        file.truncate(5_000_000)
    with pytest.raises(PlanError, match="larger than any plan"):
        InheritancePlan.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": SCHEMA + 1}, "upgrade the explorer"),
        ({"schema": 0}, "schema 0 cannot be read"),
        ({"schema": "1"}, "schema '1' cannot be read"),
        ({"kind": "plan"}, "not a plan"),
        ({"steps": 0}, "1 to 10000 steps, got 0"),
        ({"steps": 50.0}, "got 50.0"),
        ({"masks": [{"dn9.l9.res": "residual"}]}, "unknown unit 'dn9.l9.res'"),
        ({"masks": [{"dn0.l0.res": "diagonal"}]}, "unknown form 'diagonal'"),
        ({"masks": [{"up3.l2.attn": "output"}]}, "no longer depends on the current sample"),
        ({"masks": []}, "asks for mask 1 and the plan has 0"),
        ({"masks": [{}] * 65}, "at most 64 masks"),
        ({"masks": {"dn0.l0.res": "residual"}}, "masks cannot be read"),
        ({"schedule": {"kind": "segments", "runs": [[1, 5], [0, 5]]}}, "first step inherits"),
        (
            {"schedule": {"kind": "periodic", "period": 5, "offset": 0, "tail": 10**400, "switches": []}},
            "cannot be read",
        ),
        ({"rule": {"kind": "forecast", "order": 9}}, "unknown rule 'forecast9'"),
        ({"architecture": SDXL.to_json()}, "unknown unit"),
        ({"architecture": {"down": "everything"}}, "architecture cannot be read"),
        ({"scheduler": "os.system"}, "may not name the scheduler 'os.system'; expected one of PNDMScheduler"),
        ({"scheduler": "EDMEulerScheduler"}, "may not name the scheduler"),
        ({"scheduler": "DDIM"}, "by its class, DDIMScheduler"),
        ({"scheduler": ["DDIMScheduler"]}, "may not name the scheduler"),
        ({"name": 7}, "name must be a text"),
        ({"name": "\ud800"}, "printable"),
        ({"name": "\x1b[2J"}, "printable"),
    ],
)
def test_a_document_with_one_wrong_part_is_refused_by_what_is_wrong(change: dict[str, Any], words: str) -> None:
    document = {**PLANS["mode"].to_json(), **change}
    with pytest.raises(PlanError, match=words):
        InheritancePlan.from_json(document)


@pytest.mark.parametrize("field", ["steps", "architecture", "masks", "schedule", "rule"])
def test_a_document_that_lacks_a_part_is_refused_by_its_name(field: str) -> None:
    document = {key: value for key, value in PLANS["mode"].to_json().items() if key != field}
    with pytest.raises(PlanError, match=f"lacks {field}"):
        InheritancePlan.from_json(document)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -1, 0, 2**63]), st.floats(), st.text(max_size=4)
)
hostile = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every part of a JSON document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, part in parts for path in places(part, (*at, key)))]


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_hostile_document_is_read_or_refused_and_never_crashes(name: str, data: st.DataObject) -> None:
    original = json.loads(json.dumps(PLANS[name].to_json()))
    document = copy.deepcopy(original)
    for path in data.draw(st.lists(st.sampled_from(places(original)[1:]), min_size=1, max_size=3)):
        parent = document
        try:
            for key in path[:-1]:
                parent = parent[key]
            action = data.draw(st.sampled_from(["replace", "remove", "add"]))
            if action == "replace":
                parent[path[-1]] = data.draw(hostile)
            elif action == "remove":
                del parent[path[-1]]
            else:
                parent["extra" if isinstance(parent, dict) else slice(0, 0)] = data.draw(hostile)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this part away
    try:
        plan = InheritancePlan.from_json(document)
    except PlanError as error:
        assert len(str(error)) > 10 and "\n" not in str(error)
        return
    assert InheritancePlan.from_json(plan.to_json()) == plan
    try:
        plan.key(51)
    except PlanError as error:
        assert "writes out" in str(error)


@given(document=hostile)
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(PlanError):
        InheritancePlan.from_json(document)


@pytest.mark.parametrize(
    "make",
    [
        lambda: InheritancePlan(SD15, 0),
        lambda: InheritancePlan(SD15, 50, (), Periodic(5)),
        lambda: InheritancePlan(SD15, 50, (LI1,), Periodic(5, switches=(0.5,))),
        lambda: InheritancePlan(SD15, 50, (LI1,), Segments(((0, 1), (2, 1)))),
        lambda: InheritancePlan(SDXL, 50, (LI1,), Periodic(5)),
        lambda: InheritancePlan(SD15, 50, (Mask.of(["out"], "output"),), Periodic(5)),
    ],
)
def test_a_plan_is_checked_when_it_is_made(make: Any) -> None:
    with pytest.raises(PlanError):
        make()


# Identity ------------------------------------------------------------------------------------------------------------

SAME = {
    "a name": (PLANS["mode"], replace(PLANS["mode"], name="mine")),
    "a schedule written out": (
        InheritancePlan(SD15, 50, (LI1,), Periodic(5)),
        InheritancePlan(SD15, 50, (LI1,), Segments.of(Periodic(5).resolve(51))),
    ),
    "masks that nobody uses": (
        InheritancePlan(SD15, 50, (LI1,), Periodic(5)),
        InheritancePlan(SD15, 50, (LI1, DC0), Periodic(5)),
    ),
    "masks in another order": (
        InheritancePlan(SD15, 51, (LI1, DC0), Segments(((0, 1), (1, 20), (0, 1), (2, 29)))),
        InheritancePlan(SD15, 51, (DC0, LI1), Segments(((0, 1), (2, 20), (0, 1), (1, 29)))),
    ),
    "entries that nobody reads": (
        InheritancePlan(SD15, 50, (DC0,), Periodic(5)),
        InheritancePlan(SD15, 50, (Mask.of([*DC0.forms, "mid.res0", "dn1.down"], "output"),), Periodic(5)),
    ),
    "the rule where nothing inherits": (
        InheritancePlan(SD15, 50),
        InheritancePlan(SD15, 50, (Mask(),), Periodic(5), Rule("forecast", 2)),
    ),
    "one mask under two numbers": (
        InheritancePlan(SD15, 50, (LI1,), Periodic(5)),
        InheritancePlan(SD15, 50, (LI1, LI1), Periodic(5, switches=(0.5,))),
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_plans_that_do_the_same_have_one_key(what: str) -> None:
    one, other = SAME[what]
    assert one.key(51) == other.key(51)


def test_plans_that_differ_have_different_keys() -> None:
    plans = list(baselines(SD15, 50))
    keys = {plan.key(51): plan.name for plan in plans}
    assert len(keys) == len(plans)
    base = PLANS["mode"]
    changed = [
        InheritancePlan(base.architecture, 49, base.masks, base.schedule),
        InheritancePlan(base.architecture, 50, base.masks, base.schedule, Rule("forecast", 1)),
        InheritancePlan(base.architecture, 50, (LI1,), base.schedule),
        InheritancePlan(base.architecture, 50, base.masks, Curve(10, 0.3, 1.4)),
    ]
    assert len({plan.key(51) for plan in [base, *changed]}) == 5


def test_always_extracting_is_plain() -> None:
    assert PLANS["plain"].extracts_always and PLANS["plain"].describe() == "plain@20"
    assert InheritancePlan(SD15, 50, (Mask(),), Periodic(5)).extracts_always
    assert not PLANS["mode"].extracts_always


def test_a_plan_tells_itself_in_words() -> None:
    assert PLANS["mode"].describe() == "CO6/P5†" and PLANS["curve"].describe() == "DC0/N+f2"
    words = PLANS["switches"].describe()
    assert "P4@1|tail 0.1" in words and "switching at 30%, 70%" in words and "+f1, 50 steps" in words
    blocks = InheritancePlan(SD15, 25, (STRATEGIES["IN2"].mask(SD15),), Periodic(3))
    assert blocks.describe() == "dn0 dn1 up2 up3 / P3, 25 steps"


# Runs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("start", [0, 7])
def test_a_run_stores_what_a_later_step_reads_and_nothing_else(order: int, start: int) -> None:
    rule = Rule("forecast", order) if order else Rule()
    run = resolve_run(InheritancePlan(SD15, 50, (LI1, DC0), Periodic(5, switches=(0.5,)), rule), 50, start)
    assert len(run.choices) == 50 - start and run.choices[0] == 0
    features = {0: set(), 1: {(name, "residual") for name in LI1.forms}, 2: {("up3.l1.attn", "output")}}
    reads: dict[tuple[int, Any], int] = {}
    for i, choice in enumerate(run.choices):
        extracts = [k for k in range(i) if run.choices[k] == 0][-rule.history :]
        for source in extracts if choice else ():
            reads.update({(source, feature): i for feature in features[choice]})
    assert run.last_read == reads
    assert [set(s) for s in run.stores] == [{f for at, f in reads if at == i} for i in range(len(run.choices))]


def test_errors_are_of_the_one_family() -> None:
    assert issubclass(PlanError, ExplorerError)


# Keys that studies of earlier versions have stored: a plan that names no scheduler keeps its own, and its file.
STORED = {
    "plain": "72bd409cec9542329de1",
    "mode": "8e1a4a177c3b21fa8245",
    "curve": "4324a6939a438ecd3eef",
    "switches": "13f45fa0fa4b4c0bf73c",
    "segments": "29368815c62b36a94905",
}


@pytest.mark.parametrize("name", STORED)
def test_a_plan_without_a_scheduler_is_what_it_was(name: str) -> None:
    plan, evaluations = PLANS[name], 4 if name == "segments" else 51
    document = plan.to_json()
    assert plan.key(evaluations) == STORED[name]
    assert document["schema"] == 2 and "scheduler" not in document
    assert InheritancePlan.from_json({**document, "scheduler": None}) == plan
    other = replace(plan, scheduler="DDIMScheduler")
    assert other.key(evaluations) != plan.key(evaluations)
    assert other.to_json()["schema"] == 3, "an older version must refuse it"

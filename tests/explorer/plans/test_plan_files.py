"""Plan files: short texts for masks and schedules, older files, folders, and the hub's client."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.networks.found import students_beside
from explorer.plans.plan import InheritancePlan, MadeFor
from explorer.plans.plan_files import HUB_PATTERNS, find_plan, is_hub_id, push
from explorer.plans.plan_text import mask_from_text, mask_to_text, schedule_from_text, schedule_to_text
from explorer.plans.rules import Rule
from explorer.plans.schedule import Curve, Every, Periodic, Segments
from explorer.plans.strategies import STRATEGIES, strategy
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask
from tests.architectures import ARCHITECTURES, SD15, SDXL

PLAN = strategy("DC0", mode="P3", steps=50, unet=SD15, rule="forecast2")


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_masks_come_back(architecture: Architecture, data: st.DataObject) -> None:
    forms: dict[str, Form] = {}
    for name in data.draw(st.lists(st.sampled_from([*architecture.blocks, *architecture.layers]), max_size=4)):
        form = data.draw(st.sampled_from(["residual", "output", "zero", "bypass"]))
        for unit in architecture.blocks.get(name) or architecture.layers.get(name) or ():
            forms[unit] = form
    nodes = [node for node in architecture.nodes if node.kind not in ("out",)]
    for node in data.draw(st.lists(st.sampled_from(nodes), max_size=6)):
        able: list[Form] = ["residual", "output", "zero", "bypass"] if node.is_unit else ["output", "bypass"]
        forms[node.name] = data.draw(st.sampled_from(able))
    mask = Mask.of(forms)
    text = mask_to_text(architecture, mask)
    assert mask_from_text(architecture, text) == mask
    assert len(text.split()) <= len(mask)


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("dn0.l1-", {"dn0.l1.res": "zero", "dn0.l1.attn": "zero"}),
        ("mid- dn0.l1.res=", {"mid.res0": "zero", "mid.attn": "zero", "mid.res1": "zero", "dn0.l1.res": "output"}),
        ("up3.l1--", {"up3.l1.cat": "bypass", "up3.l1.res": "bypass", "up3.l1.attn": "bypass"}),
        ("dn2.down--", {"dn2.down": "bypass"}),
    ],
)
def test_removals_read_well(text: str, forms: dict[str, Form]) -> None:
    assert mask_from_text(SD15, text) == Mask.of(forms)
    assert set(mask_to_text(SD15, Mask.of(forms)).split()) == set(text.split())


fractions = st.floats(0, 1, allow_nan=False)
switches = st.lists(st.floats(0.001, 0.999), max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
schedules = st.one_of(
    st.builds(
        lambda n, o, t, s: Periodic(n, o % n, t, s), st.integers(1, 999), st.integers(0, 999), fractions, switches
    ),
    st.builds(Curve, st.integers(1, 999), fractions, st.floats(1, 10), fractions, switches),
    st.builds(Every, switches),
    st.lists(st.tuples(st.integers(0, 64), st.integers(1, 40)), min_size=1, max_size=9).map(
        lambda runs: Segments(tuple(runs))
    ),
)


@given(schedule=schedules)
def test_schedules_come_back_to_the_bit(schedule: Any) -> None:
    text = schedule_to_text(schedule)
    assert schedule_from_text(text) == schedule and text.isascii()


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Periodic(5, tail=0.2), "P5 tail=0.2"),
        (Periodic(4, 1, 0.1, (0.3, 0.7)), "P4@1 tail=0.1 switch=0.3,0.7"),
        (Curve(10, 0.3, 1.4), "N10 centre=0.3 power=1.4"),
        (Segments.of([0, 1, 1, 1, 0, 2]), "0 1*3 0 2"),
        (Every((0.4,)), "every switch=0.4"),
    ],
)
def test_schedules_read_well(schedule: Any, text: str) -> None:
    assert schedule_to_text(schedule) == text


written = st.from_regex(r"([PN][0-9]{1,3}|every)( (tail|power|centre|switch)=[0-9.e,-]{1,8}){0,3}")


@given(text=st.text(max_size=40) | written)
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        made = schedule_from_text(text)
    except PlanError as error:
        assert "\n" not in str(error)
        return
    assert schedule_from_text(schedule_to_text(made)) == made


@pytest.mark.parametrize("text", ["dn0 dn0.l1.res", "mid mid", "up3.l2.attn= up3.l2.attn"])
def test_a_unit_named_twice_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="twice"):
        mask_from_text(SD15, text)


def test_names_that_this_architecture_lacks_are_told_when_the_plan_is_made() -> None:
    document = PLAN.to_json() | {"masks": ["dn9.l9.res"]}
    with pytest.raises(PlanError, match=r"unknown unit 'dn9\.l9\.res'"):
        InheritancePlan.from_json(document)


@pytest.mark.parametrize("name", [*STRATEGIES, "plain@20"])
def test_files_of_the_first_schema_are_read(name: str) -> None:
    plan = strategy(name, steps=50, unet=SD15)
    older = plan.to_json() | {
        "schema": 1,
        "masks": [dict(mask.entries) for mask in plan.masks],
        "schedule": plan.schedule.to_json(),
    }
    assert InheritancePlan.from_json(older) == plan


def test_what_it_was_made_for_is_kept_and_changes_nothing() -> None:
    made_for = MadeFor("owner/name", "0123456789ab", "PNDMScheduler", 51)
    plan = InheritancePlan(SD15, 50, PLAN.masks, PLAN.schedule, PLAN.rule, "mine", made_for)
    again = InheritancePlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan and again.made_for == made_for and again.key(51) == PLAN.key(51)
    assert "made_for" not in PLAN.to_json()


@pytest.mark.parametrize(
    ("made_for", "words"),
    [
        (3, "expected an object"),
        ({"model": 7}, "model must be a text"),
        ({"model": "\x1b[2J"}, "printable"),
        ({"scheduler": "x" * 300}, "at most 200"),
        ({"evaluations": 0}, "from 1 to 10000"),
        ({"evaluations": True}, "from 1 to 10000"),
    ],
)
def test_bad_provenance_is_refused(made_for: Any, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        InheritancePlan.from_json(PLAN.to_json() | {"made_for": made_for})


def test_a_folder_a_file_and_what_is_neither(tmp_path: Path) -> None:
    PLAN.save_pretrained(tmp_path / "deep" / "plan")
    assert [path.name for path in (tmp_path / "deep" / "plan").iterdir()] == ["inheritance.json"]
    for place in (tmp_path / "deep" / "plan", str(tmp_path / "deep" / "plan" / "inheritance.json")):
        assert InheritancePlan.from_pretrained(place) == PLAN
    with pytest.raises(PlanError, match="holds no plan"):
        InheritancePlan.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("{}")
    with pytest.raises(PlanError, match="not a plan"):
        InheritancePlan.from_pretrained(tmp_path / "file")
    with pytest.raises(PlanError, match="cannot make the folder"):
        PLAN.save_pretrained(tmp_path / "file" / "deep")
    for place in ("nowhere", "/no/such/folder", "a/b/c", "plan.json", "./a/b.json", "a\0b", ""):
        with pytest.raises(PlanError, match=r"no plan|not a path|not a plan"):
            InheritancePlan.from_pretrained(place)


def test_a_hub_id_that_cannot_be_had_is_one_sentence() -> None:
    """Tests run offline: the client refuses."""
    with pytest.raises(PlanError, match="no such file or folder here, and the hub gave none") as caught:
        find_plan("owner/name-that-is-not-there")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hub"),
    [
        ("owner/name", True),
        ("name", False),
        ("./owner", False),
        ("/owner", False),
        ("a/b/c", False),
        ("a/b.json", False),
    ],
)
def test_hub_ids(text: str, hub: bool) -> None:
    assert is_hub_id(text) == hub


class Client:
    """A hub that keeps its files in a folder: what is sent can be fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, dict[str, Any]()

    def create_repo(self, *, repo_id: str, private: bool | None, exist_ok: bool) -> str:
        self.made = {"repo_id": repo_id, "private": private, "exist_ok": exist_ok}
        (self.folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://hub/{repo_id}"

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, commit_message: str) -> None:
        assert commit_message
        (self.folder / repo_id / path_in_repo).write_bytes(path_or_fileobj)

    def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str) -> None:
        from huggingface_hub.utils import filter_repo_objects

        files = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        names = [str(path.relative_to(folder_path)) for path in files]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            (self.folder / repo_id / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / repo_id / name).write_bytes((Path(folder_path) / name).read_bytes())


def test_what_is_pushed_can_be_loaded(tmp_path: Path) -> None:
    client = Client(tmp_path / "hub")
    assert push(PLAN, "me/plan", private=True, api=client) == "https://hub/me/plan"
    assert client.made == {"repo_id": "me/plan", "private": True, "exist_ok": True}
    assert InheritancePlan.from_pretrained(tmp_path / "hub" / "me" / "plan") == PLAN


def test_an_export_goes_along_and_nothing_else_that_lies_there(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    PLAN.save_pretrained(folder)
    sent = {"inheritance.json", "README.md", "pictures.png", "metrics.json", "certificate.html", "pipeline.py"}
    for name in {*sent, "secret.txt", ".env"} - {"inheritance.json"}:
        (folder / name).write_text("x")
    push(PLAN, "me/plan", folder=folder, api=Client(tmp_path / "hub"))
    assert {path.name for path in (tmp_path / "hub" / "me" / "plan").iterdir()} == sent
    assert "inheritance.json" in HUB_PATTERNS
    other = strategy("CO6", unet=SDXL)
    with pytest.raises(PlanError, match="holds another plan"):
        push(other, "me/plan", folder=folder, api=Client(tmp_path / "hub"))


def test_the_students_of_a_plan_go_along(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    PLAN.with_cast("m2@0.4").save_pretrained(folder)
    for name in ("students/m2/student.json", "students/m2/student.safetensors", "students/m2/checkpoint/a.json",
                 "students/base/student.json"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    push(PLAN.with_cast("m2@0.4"), "me/plan", folder=folder, api=Client(tmp_path / "hub"))
    sent = tmp_path / "hub" / "me" / "plan" / "students"
    files = {str(path.relative_to(sent)) for path in sent.rglob("*") if path.is_file()}
    assert files == {"m2/student.json", "m2/student.safetensors"}


def test_students_of_a_hub_that_is_away_are_told_in_one_sentence() -> None:
    """Tests run offline: the client refuses."""
    with pytest.raises(
        PlanError, match="the hub did not give what stands beside the plan of 'owner/not-there'"
    ) as found:
        students_beside("owner/not-there", ["m2"])
    assert "\n" not in str(found.value) and students_beside("owner/not-there", []) == {}


def test_a_hub_that_refuses_is_told_in_one_sentence(tmp_path: Path) -> None:
    class Refusing(Client):
        def create_repo(self, **_: Any) -> str:
            raise OSError("401 Client Error\nmore")

    with pytest.raises(PlanError, match=r"refused the plan for me/plan \(401 Client Error\)"):
        push(PLAN, "me/plan", api=Refusing(tmp_path))
    with pytest.raises(PlanError, match="not a hub id"):
        PLAN.push_to_hub("plan")


def test_rules_and_names_survive() -> None:
    assert InheritancePlan.from_json(PLAN.to_json()).rule == Rule("forecast", 2)


@pytest.mark.parametrize("name", [".certificate/000001-full.png", ".tune/explorer-certificates/s/k/certificate.json"])
def test_the_hub_gets_nothing_of_what_certificates_keep(name: str) -> None:
    assert not [pattern for pattern in HUB_PATTERNS if fnmatch(name, pattern)]

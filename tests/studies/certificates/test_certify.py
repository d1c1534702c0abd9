"""Certificates: verdicts, what is kept between runs, and the command on a study's trial and on an export."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from explorer.bootstrap import mean_estimate
from explorer.errors import PlanError, ScoreError, StudyError
from studies import Store
from studies.certificates.card import card_text
from studies.certificates.data import CertificateData
from studies.certificates.document import read_certificate
from studies.certificates.export import exported_plan, find_trial, read_export, write_card, write_export
from studies.certificates.held_out import FRESH_SEED, held_out
from studies.certificates.page import page_html
from studies.choosing.judgement import PROMPTS
from studies.cli import run
from studies.cli.commands.certify import _of_export
from studies.config import SearchConfig
from studies.settings import StudySettings
from tests.studies.scored_study import STEPS, fill


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A file alone: what is read here does not differ between databases."""
    with Store.open(tmp_path / "explorer.db") as opened:
        yield opened


def test_held_out_prompts_and_fresh_seeds() -> None:
    made = held_out(SearchConfig(prompt_count=8, seed=3, objectives=("latency", "psnr")))
    assert (made.prompts, made.prompt_count, made.seed) == ("emoji-certificate", None, FRESH_SEED + 3)
    assert made.objectives == ("latency", "psnr", "clip")
    assert held_out(SearchConfig(model="a/b")).prompts == "hub-certificate"
    assert held_out(SearchConfig(prompts="mine.txt"), "other.txt").prompts == "other.txt"
    with pytest.raises(StudyError, match=r"mine\.txt"):
        held_out(SearchConfig(prompts="mine.txt"))


def test_an_older_certificate_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_text('{"kind": "inheritance-certificate", "schema": 1}')
    with pytest.raises(StudyError, match="schema 1 and this version reads 2; certify again; finished measurements"):
        read_certificate(tmp_path)


class Page(HTMLParser):
    """Tags and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


SMALL = ["--device", "cpu", "--pairs", "3", "--batch", "8", "--count", "8"]


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An export of DC0/P3+f2 on the embedded model, certified by the command; hostile prompts."""
    folder = tmp_path_factory.mktemp("certified")
    with Store.open(folder / "explorer.db") as store:
        study = fill(store)
        write_export(store, study, find_trial(store, study, 2), folder / "plan")
    prompts = ["<script>alert(1)</script> bee, flat style", "lion & 'house', 3d style", "anchor, noto style"]
    rows = zip(prompts, ["full", "<i>open", "full"], strict=True)
    lines = [json.dumps({"prompt": prompt, "category": category}) for prompt, category in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines))
    arguments = ["certify", str(folder / "plan"), "--prompts", str(folder / "mine.jsonl"), *SMALL, "--max-drift", "0.9"]
    assert run(arguments) == 0
    document = read_certificate(folder / "plan")
    assert document is not None
    return folder, document


def test_a_certificate_of_an_export(certified: tuple[Path, dict[str, Any]]) -> None:
    folder, document = certified
    assert document["count"] == 8 and set(document["runs"]) >= {"full", "plan", "same cost"}
    full, plan = document["runs"]["full"], document["runs"]["plan"]
    assert full["steps"] == STEPS and full["scores"]["psnr"]["value"] == 100.0 and full["macs_share"] == 1.0
    assert 0 < plan["macs_share"] < 1 and plan["evaluations"] == STEPS + 1
    clip = document["clip"]
    change = document["differences"]["plan"][clip]
    assert change["value"] == pytest.approx(plan["scores"][clip]["value"] - full["scores"][clip]["value"])
    assert change["low"] <= change["value"] <= change["high"] and change["n"] == 8
    # 8 pictures of 3 prompts: too few prompts to show anything, and each interval is over the prompts.
    assert document["prompts"] == 3 and document["claim"]["undecided"][0] == PROMPTS
    with safe_open(folder / "plan" / ".certificate" / "values-000000.safetensors", framework="numpy") as values:
        each = values.get_tensor(f"plan/each/{clip}") - values.get_tensor(f"full/each/{clip}")
    by_prompt = mean_estimate(each.astype(np.float64), groups=np.arange(8) % 3)
    assert (change["low"], change["high"]) == pytest.approx((by_prompt.low, by_prompt.high))
    assert document["settings"]["seed"] == FRESH_SEED + 5 and document["claim"]["limits"]["drift"] == 0.9
    assert all(each["prompt"] for each in document["worst"]) and len(document["worst"]) <= 12
    card = (folder / "plan" / "README.md").read_text()
    assert "## Certificate" in card and "## Scores of the search" not in card and "The claim" in card
    assert "8 pictures of 3 prompts each, held out" in card and re.search(r"\| \d\.\d\dx \[", card)


def test_what_changes_is_told_by_the_prompts_category(certified: tuple[Path, dict[str, Any]]) -> None:
    folder, document = certified
    found, change = document["categories"], document["differences"]["plan"][document["clip"]]
    assert {name: each["clip_change"]["n"] for name, each in found.items()} == {"full": 5, "<i>open": 3}
    together = sum(each["clip_change"]["n"] * each["clip_change"]["value"] for each in found.values()) / 8
    assert together == pytest.approx(change["value"])
    text = (folder / "plan" / "certificate.html").read_text()
    assert "By category of the prompts" in text and "&lt;i&gt;open" in text and "<i>" not in text


def test_the_report_stands_alone_and_texts_stay_texts(certified: tuple[Path, dict[str, Any]]) -> None:
    text = (certified[0] / "plan" / "certificate.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and "&lt;script&gt;" in text
    assert page.tags.count("img") >= 2 and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "8 pictures of 3 prompts by each run" in " ".join(text.split())
    assert not re.search(r"https?://", text) and certified[1]["claim"]["sentence"].split(":")[0] in text


def test_a_plan_without_a_name_is_titled_by_its_nickname(
    certified: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Its description stands beside that, once. What was measured for it counts whatever its name."""
    folder = tmp_path / "plan"
    shutil.copytree(certified[0] / "plan", folder)
    plan, metrics = read_export(folder)
    assert metrics is not None
    words = replace(plan, name=None).describe()
    replace(plan, name=None).save(folder / "inheritance.json")
    (folder / "metrics.json").write_text(json.dumps(metrics | {"plan": words}))
    assert run(["certify", str(folder), "--prompts", str(certified[0] / "mine.jsonl"), *SMALL]) == 0
    document = read_certificate(folder)
    assert document is not None and words == "up3.l1.attn= / P3+f2, 4 steps"
    assert (document["plan"]["nickname"], document["plan"]["words"]) == ("DC0/P3+f2@4", words)
    page, card = ((folder / name).read_text() for name in ("certificate.html", "README.md"))
    assert f'<h1>Certificate of DC0/P3+f2@4 on emoji</h1>\n<p class="note">{words}</p>' in page
    assert page.count(words) == 1 and "<td>DC0/P3+f2@4 (this plan), 4 steps</td>" in page
    assert "# DC0/P3+f2@4 on emoji" in card and f"It inherits {words}." in card and "| this plan | " in card


def test_a_plan_with_a_name_is_titled_by_it(certified: tuple[Path, dict[str, Any]]) -> None:
    folder, document = certified
    assert document["plan"]["nickname"] == document["plan"]["words"] == "DC0/P3+f2"
    page, card = ((folder / "plan" / name).read_text() for name in ("certificate.html", "README.md"))
    assert '<h1>Certificate of DC0/P3+f2 on emoji</h1>\n<p class="claim' in page
    assert "# DC0/P3+f2 on emoji" in card and "It inherits" not in card


def test_other_tries_are_told(certified: tuple[Path, dict[str, Any]]) -> None:
    folder, document = certified
    plan, metrics = read_export(folder / "plan")
    assert metrics is not None and document["also_certified"] == []
    tried = document | {"also_certified": ["DC0/P5", "<b>"]}
    page, card = page_html(tried, lambda *_: None), card_text(plan, metrics, tried, strip=False)
    for text in (page, card):
        assert "2 other plans were certified in the same search" in text and "3 x 2.5% = 7.5%" in text
    assert "certified in the same search" not in page_html(document, lambda *_: None)


def changes(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every way to spoil one place of a JSON document: nothing there, or something of another type."""
    wrong: list[Any] = [None, 3, -1.5, "x", [], {}, True, float("nan"), 10**400]
    for each in (wrong[len(place) % len(wrong)], wrong[(len(place) + 4) % len(wrong)]):
        yield f"{place} = {each!r:.20}", each
    if isinstance(value, dict):
        for name in value:
            yield f"without {place}.{name}", {key: each for key, each in value.items() if key != name}
            for what, changed in changes(value[name], f"{place}.{name}"):
                yield what, value | {name: changed}
    elif isinstance(value, list) and value:
        for what, changed in changes(value[0], f"{place}[0]"):
            yield what, [changed, *value[1:]]


def spoilt(path: Path) -> Iterator[str]:
    """Every change of a JSON file, and 20 places to cut it off; afterwards it is as it was."""
    whole = path.read_text(encoding="utf-8")
    for what, document in changes(json.loads(whole)):
        path.write_text(json.dumps(document), encoding="utf-8")
        yield what
    for end in range(0, len(whole) - 2, max(1, len(whole) // 20)):
        path.write_text(whole[:end], encoding="utf-8")
        yield f"cut off at {end}"
    path.write_text(whole, encoding="utf-8")


def test_spoilt_documents_are_read_or_refused_in_one_sentence(
    certified: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """What a certificate, an export's numbers and the kept files of a certificate may become: no other exception."""
    folder = tmp_path / "plan"
    shutil.copytree(certified[0] / "plan", folder)
    kept = folder / ".certificate"
    standing = StudySettings.from_json(
        {"batch": 1, "space": "", "sampler": {}} | json.loads((kept / "settings.json").read_text())
    )

    key = json.loads((kept / "settings.json").read_text())["plan"]

    def card() -> None:
        document = read_certificate(folder)
        assert document is not None and write_card(folder, document)

    def numbers() -> None:
        assert _of_export(folder, None, {}).plan and write_card(folder, certified[1])

    def latencies() -> None:
        assert CertificateData(folder).latencies()

    def resumed() -> None:
        CertificateData(folder).open(standing, key)

    reads: dict[Path, Callable[[], None]] = {
        folder / "certificate.json": card,
        folder / "metrics.json": numbers,
        kept / "latency.json": latencies,
        kept / "settings.json": resumed,
    }
    for path, read in reads.items():
        refused = 0
        read()
        for what in spoilt(path):
            try:
                read()
            except (StudyError, ScoreError, PlanError) as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 2000, what
            except Exception as error:
                raise AssertionError(f"{path.name}, {what}: {error!r}") from error
        assert refused > 30, path.name
        read()


@pytest.mark.parametrize("name", [".certificate/latency.json", ".certificate/settings.json", "metrics.json"])
@pytest.mark.parametrize("content", ["", "{}", '{"full": {}}', '{"kind": "inheritance-metrics", "settings": 3}'])
def test_the_command_says_what_is_spoilt(
    name: str, content: str, certified: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(certified[0] / "plan", tmp_path / "plan")
    (tmp_path / "plan" / name).write_text(content)
    capsys.readouterr()
    assert run(["certify", str(tmp_path / "plan"), "--prompts", str(certified[0] / "mine.jsonl"), *SMALL]) == 1
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("loading", "certifying", "note: "))
    ]
    assert len(lines) == 1 and lines[0].startswith("error:") and Path(name).name in lines[0]


def test_a_page_whose_pictures_are_gone(certified: tuple[Path, dict[str, Any]]) -> None:
    assert "was not stored" in page_html(certified[1], lambda number, run: None)


def test_the_same_command_measures_nothing_again_and_a_larger_count_adds(
    certified: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, first = certified
    arguments = ["certify", str(folder / "plan"), "--prompts", str(folder / "mine.jsonl"), *SMALL[:-2], "--json"]
    batches = sorted((folder / "plan" / ".certificate").glob("values-*"))
    before = [path.stat().st_mtime_ns for path in batches]
    capsys.readouterr()
    assert run([*arguments, "--count", "8", "--max-drift", "0.9"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["runs"], again["claim"]) == (first["runs"], first["claim"])
    assert run([*arguments, "--count", "12"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert more["count"] == 12 and more["runs"]["plan"]["speedup"] == first["runs"]["plan"]["speedup"]
    assert [path.stat().st_mtime_ns for path in batches] == before
    assert run([*arguments, "--count", "12", "--guidance", "2"]) == 1
    assert "guidance: it has 3.0, this run 2.0" in capsys.readouterr().err


def test_a_trial_s_certificate_goes_along_with_its_export(
    certified: tuple[Path, dict[str, Any]], store: Store, tmp_path: Path
) -> None:
    study = fill(store)
    row = find_trial(store, study, 2)
    place = tmp_path / "explorer-certificates" / study.folder / row.key
    place.mkdir(parents=True)
    for name in ("certificate.json", "certificate.html"):
        (place / name).write_bytes((certified[0] / "plan" / name).read_bytes())
    document = json.loads((place / "certificate.json").read_text())
    document["plan"]["document"] = exported_plan(study, row).to_json()
    document["settings"]["extra"]["weights"] = study.settings.extra.get("weights")
    (place / "certificate.json").write_text(json.dumps(document))
    files = write_export(store, study, row, tmp_path / "plan")
    assert {"certificate.json", "certificate.html"} <= {path.name for path in files}
    assert "## Certificate" in (tmp_path / "plan" / "README.md").read_text()
    (tmp_path / "plan" / "inheritance.json").unlink()
    write_export(store, study, find_trial(store, study, 1), tmp_path / "plan", force=True)
    assert not (tmp_path / "plan" / "certificate.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "inheritance.json"),
        (["nothing", "--trial", "1"], "there is no study 'nothing'"),
        (["small", "--trial", "9"], "has no trial 9"),
        (["small", "--trial", "2", "--count", "3"], "at least 8 pictures, got --count 3"),
        (["small", "--trial", "2", "--prompts", "emoji-search"], "were searched on"),
        (["small", "--trial", "2", "--max-clip-loss", "lots"], "--max-clip-loss must be a share"),
        (["small", "--trial", "2", "--max-drift", "7"], "at most 1, got 7"),
        (["small", "--trial", "2", "--model", "arch:sd15"], "random weights"),
        (["small", "--trial", "2", "--device", "abacus"], "'abacus' is not a device"),
        (["other", "--trial", "2"], "with weights 0123456789ab, and here it has"),
    ],
)
def test_bad_certificates_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store)
        fill(store, "other", weights="0123456789ab")
    assert run(["certify", *arguments]) == 1
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("loading", "certifying", "note: "))
    ]
    assert len(lines) == 1 and words in lines[0]


def test_a_killed_certificate_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL after the first batch: what was kept is not measured again."""
    with Store.open(tmp_path / "explorer.db") as store:
        study = fill(store)
        write_export(store, study, find_trial(store, study, 2), tmp_path / "plan")
    (tmp_path / "mine.txt").write_text("bee, flat style\nlion, 3d style\n")
    command = [sys.executable, "-m", "studies.cli", "certify", "plan", "--prompts", "mine.txt", *SMALL[:-2]]
    # A folder for temporary files of its own: the device's lock in it is not shared with what else runs here.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*command, "--count", "400"], stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert process.stderr is not None
    assert any(line.startswith("[8/400]") for line in process.stderr)
    process.kill()
    process.wait()
    kept = sorted((tmp_path / "plan" / ".certificate").glob("values-*"))
    before = {path.name: path.read_bytes() for path in kept}
    assert before and not (tmp_path / "plan" / "certificate.json").exists()
    count = 8 * (len(kept) + 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run([*command[3:], "--count", str(count)]) == 0
    document = read_certificate(tmp_path / "plan")
    assert document is not None and document["count"] == count
    assert {path.name: path.read_bytes() for path in kept} == before

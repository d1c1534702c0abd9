"""Files that anybody may have written: byte-order marks work, everything else is one sentence."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from explorer import InheritancePlan, strategy
from explorer.errors import ExplorerError
from explorer.models.prompts import load_prompts
from studies.cli import run
from studies.config import make_config
from studies.documents import read_document
from tests.studies.scored_study import STEPS, emoji_architecture

MARK = codecs.BOM_UTF8
TOML = 'study = "s"\nsteps = 4\nobjectives = ["latency", "clip"]\n'
OTHER_ENCODINGS = [codecs.BOM_UTF16_LE + TOML.encode("utf-16-le"), codecs.BOM_UTF32_LE + TOML.encode("utf-32-le")]
HOSTILE = [
    "steps = " + "9" * 400,
    "steps = " + "9" * 5000,
    "trials = 99999999999999999999",
    "timeout = " + "9" * 400,
    "max-cache-mib = " + "9" * 400,
    "replay = " + "9" * 400,
    "seed = " + "9" * 400,
    "guidance = " + "9" * 400,
    "timeout = nan",
    "timeout = -inf",
    "steps = 1e400",
    "steps = true",
    "steps = 1979-05-27",
    "steps = []",
    "study = 3",
    "study = " + '"' + "x" * 5000 + '"' + "\nsampler = 'no'",
    "model = " + '"\\u0000"',
    "prompts = " + '"a\\u0000b"',
    "batch = " + '"' + "9" * 5000 + '"',
    "batch = true",
    "sampler = " + '"' + "x" * 5000 + '"',
    "objectives = " + "[" * 5000 + "]" * 5000,
    "objectives = [[1]]",
    '"' + "x" * 5000 + '" = 1',
    "[search]\nsteps = 4",
    "steps = 4\nsteps = 5",
    "\ufeff\ufeffsteps = 4",
    "steps",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20])
def test_a_hostile_toml_file_is_one_short_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ExplorerError) as caught:
        make_config({}, tmp_path / "s.toml")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_a_toml_file_with_a_byte_order_mark_works(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(MARK + TOML.encode())
    config = make_config({}, tmp_path / "s.toml")
    assert (config.study, config.steps, config.objectives) == ("s", 4, ("latency", "clip"))


@pytest.mark.parametrize("content", OTHER_ENCODINGS)
def test_other_encodings_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(ExplorerError, match="not valid TOML in UTF-8"):
        make_config({}, tmp_path / "s.toml")
    for name in ("p.txt", "p.jsonl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExplorerError, match=r"not UTF-8 text|is binary"):
            load_prompts(tmp_path / name)
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ExplorerError, match="not a text file"):
        InheritancePlan.load(tmp_path / "plan.json")
    with pytest.raises(ExplorerError, match="cannot be read"):
        read_document(tmp_path / "plan.json", {}, "make it again")


def test_json_with_a_byte_order_mark_works(tmp_path: Path) -> None:
    plan = strategy("DC0", mode="P2", steps=STEPS, unet=emoji_architecture())
    plan.save(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_bytes(MARK + (tmp_path / "plan.json").read_bytes())
    assert InheritancePlan.load(tmp_path / "plan.json") == plan
    (tmp_path / "other.json").write_bytes(MARK + b'{"count": 3}')
    assert read_document(tmp_path / "other.json", {"count": int}, "make it again") == {"count": 3}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("p.txt", "a bee", "a lion"), ("p.jsonl", '{"prompt": "a bee"}', '{"prompt": "a lion", "category": "x"}')],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_prompts_with_byte_order_marks_work_joined_files_as_well(
    name: str, first: str, second: str, end: str, tmp_path: Path
) -> None:
    joined = MARK + (first + end).encode() + MARK + (second + end).encode()
    (tmp_path / name).write_bytes(joined)
    assert load_prompts(tmp_path / name).texts == ["a bee", "a lion"]


@pytest.mark.parametrize("prompt", ["\ud800", "a \0 b", "\udfff bee"])
def test_a_prompt_that_cannot_be_stored_is_refused_with_its_line(prompt: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a bee"}\n' + json.dumps({"prompt": prompt}) + "\n")
    with pytest.raises(ExplorerError, match=r"Line 2 of .*(null character|surrogate)"):
        load_prompts(tmp_path / "p.jsonl")


def test_prompts_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.csv").write_bytes(MARK + b"prompt\na bee\n")
    with pytest.raises(ExplorerError, match=r"neither \.txt .* nor \.jsonl"):
        load_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize("content", [MARK, MARK + b"\x89PNG\r\n\x1a\n", b"", MARK + b"text"])
@pytest.mark.parametrize("name", ["one.png", "statistics.safetensors"])
def test_references_with_a_byte_order_mark_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    from explorer.models.pictures import find_pictures, read_batches
    from explorer.quality.reference import Reference

    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExplorerError, match=name):
        if name.endswith("png"):
            list(read_batches(find_pictures(tmp_path)))
        else:
            Reference.load(tmp_path / name)


def test_the_command_line_reads_a_file_with_a_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.toml").write_bytes(MARK + b'sampler = "magic"\n')
    assert run(["search", str(tmp_path / "s.toml")]) == 1
    assert capsys.readouterr().err.startswith("error: unknown --sampler 'magic'")

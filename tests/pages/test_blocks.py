"""Every code block of README and docs runs: Python as it stands, commands on the embedded model, on a small budget."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.main import get_command

from explorer.quality import METRICS
from studies.cli import app, run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

# What a page says for a real model and an evening, run here on the embedded one in seconds. Nothing else is changed.
MODELS = {"stable-diffusion-v1-5/stable-diffusion-v1-5": "emoji"}
SMALLER: dict[str, dict[str, str]] = {
    "search": {"--trials": "5", "--steps": "4", "--prompt-count": "8", "--pairs": "3", "--baselines": "none"},
    "worker": {"--trials": "5"},
    "certify": {"--count": "8"},
    "calibrate": {"--pictures": "1"},
    "bench": {"--pairs": "3"},
    "distill": {"--steps": "2", "--batch": "2", "--runs": "2"},
}
LEFT_OUT = {"--workers"}
"""One process is enough here; tests/studies/cli/test_cli.py runs several."""
ELSEWHERE = {"dashboard", "autotune"}
"""Their options are read here. The first runs until it is stopped and the second takes minutes: tests/dashboard and
tests/studies/autotune/test_autotune.py run them."""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its fence."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[2], m[3], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text)]


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "python", "text", "json", "toml", "yaml", "sql"}
    unknown = [f"{page.name}:{b.line}" for page in PAGES for b in blocks(page) if b.language not in known]
    assert not unknown


RUNNABLE = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page))]


@pytest.fixture(autouse=True)
def metrics_stay() -> Iterator[None]:
    """A page adds a metric, which goes when the page ends."""
    with patch.dict(METRICS):
        yield


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        if block.language == "python":
            exec(compile(block.text, place, "exec"), names)
        elif block.language == "sh":
            for line in lines(block.text):
                run_line(line, place)


def lines(text: str) -> list[list[str]]:
    """The commands of a block, without comments, joined where a backslash breaks them."""
    found = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in found if words]


def run_line(words: list[str], place: str) -> None:
    if words[0] == "explorer":
        run_explorer([MODELS.get(word, word) for word in words[1:]], place)
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), place
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = {extra for word in words for found in re.findall(r"\[([\w,]+)\]", word) for extra in found.split(",")}
        assert asked <= set(project["optional-dependencies"]), place
    elif words[0] == "python":
        module = words[2].replace(".", "/") if words[1] == "-m" else ""
        scripts = [f"{module}/__main__.py", f"{module}.py"] if module else [words[1]]
        assert any((ROOT / script).is_file() for script in scripts), place
    else:
        assert words[0] in ("git", "cd", "sudo", "echo", "export"), f"{place}: cannot check {shlex.join(words)}"


def run_explorer(words: list[str], place: str) -> None:
    command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], list(words[1:]), resilient_parsing=False)  # the options are right as written
    if words[0] in ELSEWHERE:
        return
    words = smaller(words)
    assert run(words) == 0, f"{place}: explorer {shlex.join(words)}"


def smaller(words: list[str]) -> list[str]:
    """The command with the options of `SMALLER` in the place of its own."""
    kept = list(words)
    for option in LEFT_OUT & set(kept):
        del kept[kept.index(option) : kept.index(option) + 2]
    for option, value in SMALLER.get(words[0], {}).items():
        if option in kept:
            kept[kept.index(option) + 1] = value
        else:
            kept += [option, value]
    return kept

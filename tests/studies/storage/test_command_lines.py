"""Command lines that are printed to be pasted: what a shell reads of them is what was meant."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from studies import Store
from studies.certificates.export import find_trial, write_export
from studies.cli import run
from studies.cli.commands.output import out, print_command, table
from studies.config import STORAGE_VARIABLE
from studies.storage.command_lines import command_line
from studies.storage.database import parse_url
from tests.studies.scored_study import fill

ROOT = Path(__file__).parents[3]
NASTY = ["my study", "it's", "$HOME", "`id`", "a;b", "a&b", '"x"', "*", "~", "#x", "a\\b", "[red]", ":smile:", "é"]


@pytest.fixture(autouse=True)
def no_storage_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)


@pytest.mark.parametrize("word", NASTY)
def test_a_shell_reads_the_words_that_were_meant(word: str) -> None:
    line = command_line("show", word, "--out", word, storage=f"/x/{word}.db")
    assert shlex.split(line) == ["explorer", "show", word, "--out", word, "--storage", f"/x/{word}.db"]
    printed = subprocess.run(
        ["sh", "-c", f"explorer() {{ printf '%s\\n' \"$@\"; }}; {line}"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == shlex.split(line)[1:]


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (None, []),
        ("explorer.db", []),
        ("sqlite:///explorer.db", []),
        ("other.db", ["--storage", "other.db"]),
        ("postgresql://host/name", ["--storage", "postgresql://host/name"]),
        ("postgresql://me:secret@host/name", []),
        ("postgresql://host/name?password=secret", []),
        (parse_url("some folder/x.db"), ["--storage", "sqlite:///some folder/x.db"]),
    ],
)
def test_the_storage_is_named_where_it_must_be_and_never_a_password(storage: Any, words: list[str]) -> None:
    assert shlex.split(command_line("list", storage=storage)) == ["explorer", "list", *words]


def test_the_default_is_named_where_the_environment_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, "other.db")
    assert command_line("list", storage="explorer.db") == "explorer list --storage explorer.db"


def test_a_command_is_one_line_on_a_narrow_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=30, force_terminal=True, markup=False, emoji=False, highlight=False)
    line = command_line("show", "a study with a long name", "--html", "front.html", storage="a folder/[b]:smile:.db")
    print_command(console, "look at it", line)
    assert stream.getvalue() == f"look at it:  {line}\n"


def test_text_of_anybody_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    shown = table("name")
    shown.add_row("[/x] [red]a[/red] :smile:")
    out().print(shown)
    out().print("[/x] :smile:")
    assert capsys.readouterr().out.split("\n")[1:3] == ["[/x] [red]a[/red] :smile:", "[/x] :smile:"]


def test_what_a_search_prints_can_be_pasted(tmp_path: Path) -> None:
    """A study's name and a storage with blanks: every printed command runs."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "-m", "studies.cli", "search", "--study", "my study", "--steps", "4", "--prompt-count", "8",
        "--trials", "1", "--baselines", "none", "--no-calibrate", "--objectives", "latency", "--pairs", "3",
        "--storage", "my storage.db",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("look at it:")]
    shim = tmp_path / "explorer"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m studies.cli "$@"\n')
    shim.chmod(0o755)
    pasted = subprocess.run(
        ["sh", "-c", line.removeprefix("look at it:").strip()], cwd=tmp_path, capture_output=True, text=True,
        env=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False,
    )  # fmt: skip
    assert pasted.returncode == 0, pasted.stderr
    assert (tmp_path / "front.html").exists()
    assert "explorer dashboard --storage 'my storage.db'" in done.stderr


@pytest.mark.parametrize("model", ["owner/a model", "owner/it's", "owner/$(id)`id`", 'owner/"x"}', "owner/\\n"])
def test_reproduce_sh_passes_the_model_on_letter_by_letter(model: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = fill(store, model=model)
        write_export(store, study, find_trial(store, study, 2), tmp_path / "plan")
    shim = tmp_path / "explorer"
    shim.write_text('#!/bin/sh\nfor each; do printf "%s\\n" "$each"; done\n')
    shim.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("MODEL", None)
    for given in ({}, {"MODEL": "another 'one'"}):
        printed = subprocess.run(
            ["sh", str(tmp_path / "plan" / "reproduce.sh")], capture_output=True, text=True, env=environment | given,
            check=True,
        ).stdout.splitlines()  # fmt: skip
        models = [printed[i + 1] for i, word in enumerate(printed) if word == "--model"]
        assert models == [given.get("MODEL", model)] * 2


def test_no_module_writes_a_command_with_a_name_in_it_by_hand() -> None:
    """Such a line is not quoted: `command_line` writes all of them."""
    by_hand = []
    commands = ("search", "show", "export", "calibrate", "worker", "certify", "dashboard", "rename", "delete")
    rooms = [ROOT / "studies", ROOT / "dashboard", ROOT / "recipe", ROOT / "benchmarks"]
    template = (
        ROOT / "studies" / "certificates" / "templates.py"
    )  # of reproduce.sh, which a shell runs in the test above
    for path in (path for room in rooms for path in room.rglob("*.py") if path != template):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if any(f"explorer {command}" in line and "{" in line.partition(f"explorer {command}")[2].partition("`")[0]
                   for command in commands):  # fmt: skip
                by_hand.append(f"{path.name}:{number}")
            if "{" in line.partition("python -m recipe")[2].partition("`")[0]:
                by_hand.append(f"{path.name}:{number}")
    assert by_hand == []


def test_a_trial_that_is_not_there_is_told_with_a_command_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from explorer.errors import StudyError
    from studies.results.rows import trial

    with Store.open(tmp_path / "a b.db") as store:
        study = fill(store, name="my study")
        with pytest.raises(StudyError) as caught:
            trial(store, study, 99)
    line = str(caught.value).split("`")[1]
    assert run([*shlex.split(line)[1:], "--json"]) == 0 and capsys.readouterr().out

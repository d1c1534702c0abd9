"""Every public name, command and option is described, and the reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from studies.cli import app

ROOT = Path(__file__).parents[2]


def load_reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = load_reference()
PACKAGES = ("explorer", "explorer.quality", "search_spaces", "studies")
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_described(command: str) -> None:
    assert COMMANDS[command].help
    assert not [parameter.name for parameter in COMMANDS[command].params if not parameter.help]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_shows_what_is_described(command: str) -> None:
    """Also the defaults in brackets, which Typer could take for markup."""
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "600", "TERMINAL_WIDTH": "600"}).stdout
    told = [re.findall(r"\[.*?\]", parameter.help) for parameter in COMMANDS[command].params]
    assert not [each for brackets in told for each in brackets if each not in shown]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation. Strict: a broken link or a docstring that griffe cannot parse fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder


def described(page: Path) -> set[str]:
    """The ids of the headings of a page that have something below them."""
    parts = re.split(r"<h[1-6] id=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    return {name for name, below in zip(parts[1::2], parts[2::2], strict=True) if re.search(r"<p>\s*\S", below)}


def public_members(value: Any) -> list[str]:
    """The methods and properties that a public class defines."""
    kinds = (FunctionType, property, cached_property, classmethod, staticmethod)
    own = vars(value).items() if isinstance(value, type) else ()
    return [name for name, member in own if not name.startswith("_") and isinstance(member, kinds)]


def test_every_public_name_and_method_is_described_on_the_site(site: Path) -> None:
    wanted = set()
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            members = public_members(getattr(module, name))
            wanted |= {f"{package}.{name}", *(f"{package}.{name}.{member}" for member in members)}
    assert sorted(wanted - described(site / "python" / "index.html")) == []


def test_every_command_is_described_on_the_site(site: Path) -> None:
    assert {f"explorer-{name}" for name in COMMANDS} <= described(site / "commands" / "index.html")


def test_the_written_pages_are_current() -> None:
    for path, text in REFERENCE.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is behind: run python docs/reference.py"

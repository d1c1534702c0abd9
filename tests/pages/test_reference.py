"""Nothing public is undocumented, and the reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
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
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_described(command: str) -> None:
    assert COMMANDS[command].help
    assert not [parameter.name for parameter in COMMANDS[command].params if not parameter.help]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_shows_what_is_described(command: str) -> None:
    """Also what stands in brackets, the defaults, which could be taken for marks of a style."""
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "600", "TERMINAL_WIDTH": "600"}).stdout
    told = [re.findall(r"\[.*?\]", parameter.help) for parameter in COMMANDS[command].params]
    assert not [each for brackets in told for each in brackets if each not in shown]


@pytest.mark.parametrize("package", REFERENCE.PACKAGES)
def test_every_public_name_has_a_docstring(package: str) -> None:
    module = import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    missing = [name for name, value in values.items() if callable(value) and not inspect.getdoc(value)]
    assert not missing


def test_the_reference_pages_are_current() -> None:
    for path, text in REFERENCE.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is behind: run python docs/reference.py"


def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "site" / "commands" / "index.html").exists()

"""The compile mode of a search: by name, from a file of earlier versions, and in studies that stored a bool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from explorer.errors import StudyError
from studies.config import make_config
from studies.settings import StudySettings, check_same
from tests.studies.toy_study import toy_settings


@pytest.mark.parametrize(
    ("words", "mode"),
    [("true", "default"), ("false", "off"), ('"cudagraphs"', "cudagraphs"), ('"default"', "default"), ('"off"', "off")],
)
def test_a_file_names_a_mode_or_says_yes(tmp_path: Path, words: str, mode: str) -> None:
    file = tmp_path / "search.toml"
    file.write_text(f"compile = {words}\n")
    assert make_config({}, file).compile == mode
    assert make_config({"compile": "cudagraphs-eager"}, file).compile == "cudagraphs-eager"


@pytest.mark.parametrize("wrong", ["fast", "", "True"])
def test_an_unknown_mode_is_one_sentence(wrong: str) -> None:
    with pytest.raises(StudyError, match="--compile: unknown compile mode"):
        make_config({"compile": wrong})


@pytest.mark.parametrize(("stored", "mode"), [(False, "off"), (True, "default"), ("cudagraphs", "cudagraphs")])
def test_studies_with_a_bool_still_load(stored: Any, mode: str) -> None:
    settings = toy_settings()
    data = settings.to_json()
    data["compile"] = stored
    found = StudySettings.from_json(data)
    assert found.compile == mode
    assert StudySettings.from_json(found.to_json()) == found
    if mode == "off":
        check_same("older", found, settings)
    else:
        with pytest.raises(StudyError, match="compile"):
            check_same("older", found, settings)

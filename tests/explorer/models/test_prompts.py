"""Prompt files, good and bad, and the shipped sets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import PromptError
from explorer.models.prompts import SHIPPED, Prompt, load_prompts, texts


@pytest.mark.parametrize("name", ["hub-search", "hub-certificate"])
def test_the_shipped_sets_vary_as_partiprompts_does(name: str) -> None:
    chosen = load_prompts(name)
    assert len(chosen) == 128
    assert len({prompt.text.lower() for prompt in chosen.prompts}) == 128
    pairs = Counter((prompt.category, prompt.challenge) for prompt in chosen.prompts)
    assert len(pairs) == 128
    assert len({category for category, _ in pairs}) == 16
    first = load_prompts(name, 16).prompts
    assert len({prompt.category for prompt in first}) == 16
    assert len({prompt.challenge for prompt in first}) == 8
    long = [prompt.text for prompt in chosen.prompts if prompt.challenge == "long"]
    assert all(len(text.split()) > 18 for text in long)


def test_the_held_out_prompts_are_other_prompts() -> None:
    search, held_out = (set(load_prompts(name).texts) for name in ("hub-search", "hub-certificate"))
    assert not search & held_out


@pytest.mark.parametrize("name", ["emoji-search", "emoji-certificate"])
def test_the_embedded_sets(name: str) -> None:
    if not SHIPPED[name].exists():
        pytest.skip("the embedded model's prompts are made by its recipe")
    chosen = load_prompts(name)
    assert len(chosen) >= 64
    assert len(set(chosen.texts)) == len(chosen)


@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), min_size=1, max_size=8))
def test_every_text_survives_both_formats(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("prompts")
    plain, structured = folder / "p.txt", folder / "p.jsonl"
    plain.write_text("\n".join(lines), encoding="utf-8")
    structured.write_text("\n".join(json.dumps({"prompt": line}) for line in lines if line.strip()), encoding="utf-8")
    expected = [line.strip() for line in lines if line.strip()]
    for path in (plain, structured):
        if expected:
            assert load_prompts(path).texts == expected
        else:
            with pytest.raises(PromptError, match="empty"):
                load_prompts(path)


def test_a_text_file_with_windows_line_ends_and_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffa red car\r\n\r\n  a dog \r\n".encode())
    assert load_prompts(str(path)).texts == ["a red car", "a dog"]


def test_json_lines_keep_category_and_challenge(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "a", "category": "animals"}\n\n{"prompt": "b", "challenge": "long", "other": 1}\n')
    assert load_prompts(path).prompts == (Prompt("a", "animals"), Prompt("b", "", "long"))


def test_a_limit_takes_the_first(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a\nb\nc\n")
    assert load_prompts(path, 2).texts == ["a", "b"]
    assert len(load_prompts(path, 9)) == 3
    assert texts(["x", Prompt("y")]) == ["x", "y"]


BAD = {
    "empty.txt": (b"", "empty"),
    "blank.txt": (b" \n\n\t\n", "empty"),
    "binary.txt": (b"a\0b", "binary"),
    "picture.txt": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not UTF-8"),
    "prompts.csv": (b"a,b", "neither .txt"),
    "broken.jsonl": (b'{"prompt": "a"}\n{"prompt": ', "Line 2 of .* is not JSON"),
    "deep.jsonl": (b"[" * 100_000, "Line 1 of .* is not JSON"),
    "list.jsonl": (b'{"prompt": "a"}\n\n["b"]\n', "Line 3 of .* is not an object"),
    "nothing.jsonl": (b'{"caption": "a"}', "Line 1 of .* has no prompt"),
    "number.jsonl": (b'{"prompt": 3}', "Line 1 of .* has no prompt"),
    "blank.jsonl": (b'{"prompt": "  "}', "Line 1 of .* has no prompt"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=message) as raised:
        load_prompts(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_what_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"no prompt set or file 'emojis'.*hub-search"):
        load_prompts("emojis")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts(tmp_path / "folder.txt")


@pytest.mark.parametrize("limit", [0, -3])
def test_no_prompts_cannot_be_asked_for(limit: int) -> None:
    with pytest.raises(PromptError, match=f"{limit} prompts"):
        load_prompts("hub-search", limit)

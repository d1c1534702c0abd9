"""Prompt sets: shipped with the package, or a file of the user's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from explorer.errors import PromptError, is_text

_HERE = Path(__file__).parents[1]

SHIPPED = {
    "emoji-search": _HERE / "embedded" / "prompts" / "search.jsonl",
    "emoji-certificate": _HERE / "embedded" / "prompts" / "certificate.jsonl",
    "hub-search": _HERE / "prompts_data" / "hub-search.jsonl",
    "hub-certificate": _HERE / "prompts_data" / "hub-certificate.jsonl",
}
"""The search sets are what candidates are scored on; the certificate sets are held out."""
HELD_OUT = {"emoji-search": "emoji-certificate", "hub-search": "hub-certificate"}
"""The set that is held out from each search set."""


def search_prompts(model: str) -> str:
    """The search set of a model."""
    return "emoji-search" if model == "emoji" else "hub-search"


@dataclass(frozen=True)
class Prompt:
    """A prompt, with the category and challenge it was written for where the set says (as in PartiPrompts, arXiv
    2206.10789).

    Attributes:
        text: What the picture shows.
        category: Of the set.
        challenge: Of the set.
        negative: What guidance leads away from; empty as a pipeline's own.
    """

    text: str
    category: str = ""
    challenge: str = ""
    negative: str = ""


@dataclass(frozen=True)
class PromptSet:
    """Prompts in order, under the name of the shipped set or the file's path."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    def __len__(self) -> int:
        return len(self.prompts)


def with_negative(prompts: PromptSet, negative: str | None) -> PromptSet:
    """The same prompts, each with the negative prompt."""
    if not negative:
        return prompts
    return replace(prompts, prompts=tuple(replace(prompt, negative=negative) for prompt in prompts.prompts))


def negatives(prompts: Sequence[str | Prompt]) -> list[str] | None:
    """The negative prompts for a pipeline or a text encoder; None where there are none."""
    found = [prompt.negative if isinstance(prompt, Prompt) else "" for prompt in prompts]
    return found if any(found) else None


def texts(prompts: Sequence[str | Prompt] | PromptSet) -> list[str]:
    """The words alone, for a pipeline or a text encoder."""
    chosen = prompts.prompts if isinstance(prompts, PromptSet) else prompts
    return [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in chosen]


def load_prompts(spec: str | Path, limit: int | None = None) -> PromptSet:
    """The set called `spec`, or the .txt (a prompt a line) or .jsonl file (an object with `prompt` a line) at that
    path; at most the first `limit`.

    Empty lines are skipped. Raises PromptError for a name or file that is not there, cannot be read, is empty, is not
    text, or has a broken line.
    """
    if limit is not None and limit < 1:
        raise PromptError(f"{limit} prompts were asked for; ask for at least 1.")
    shipped = SHIPPED.get(str(spec))
    path = shipped or Path(spec)
    if not path.exists():
        raise PromptError(
            f"There is no prompt set or file {str(spec)!r}; use one of {', '.join(SHIPPED)}, or a .txt or .jsonl file."
        )
    if path.suffix.lower() not in (".txt", ".jsonl"):
        raise PromptError(
            f"The prompt file {path} is neither .txt (a prompt a line) nor .jsonl; convert it to one of them."
        )
    lines = _read_lines(path)
    parse = _parse_json if path.suffix.lower() == ".jsonl" else _parse_text
    prompts = [parse(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise PromptError(f"The prompt file {path} is empty; write at least one prompt into it.")
    return PromptSet(str(spec), tuple(prompts[:limit]))


def _read_lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise PromptError(f"The prompt file {path} cannot be read: {problem.strerror}; check the path.") from problem
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise PromptError(f"The prompt file {path} is not UTF-8 text; save it as UTF-8.") from problem
    if "\0" in text:
        raise PromptError(f"The prompt file {path} is binary; give a text file.")
    # Not splitlines(): it also breaks at characters that JSON allows inside a string. Files that were joined have a
    # byte-order mark where each one began.
    return [line.removeprefix("\ufeff") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def _parse_text(path: Path, number: int, line: str) -> Prompt:
    return Prompt(line.strip())


def _parse_json(path: Path, number: int, line: str) -> Prompt:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise PromptError(
            f"Line {number} of {path} is not JSON; write an object with a prompt on each line."
        ) from problem
    if not isinstance(document, dict):
        raise PromptError(f'Line {number} of {path} is not an object; write {{"prompt": "..."}} on each line.')
    words = document.get("prompt", document.get("text"))
    if not isinstance(words, str) or not words.strip():
        raise PromptError(f'Line {number} of {path} has no prompt; write {{"prompt": "..."}} on each line.')
    if not is_text(words):
        raise PromptError(
            f"Line {number} of {path} has a null character or half of a surrogate pair in its prompt; take it out."
        )
    category, challenge = document.get("category") or "", document.get("challenge") or ""
    return Prompt(words.strip(), str(category), str(challenge))

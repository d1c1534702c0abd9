"""The one exception family. A message names what was given, what was expected, and what to do."""

from __future__ import annotations


class ExplorerError(Exception):
    """Base of every error that a user can cause and fix. The command line prints it and exits with status 1."""


def brief(message: object, most: int = 500) -> str:
    """A message on one line of about `most` characters or fewer. What it quotes may come from an untrusted file."""
    text = " ".join(str(message).split())
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def is_text(text: str) -> bool:
    """Whether a string can be a path and can be stored. JSON and TOML can hold a null character, and JSON half of a
    surrogate pair; files and databases refuse both.
    """
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


class PlanError(ExplorerError):
    """A plan, mask, schedule or rule that cannot be made, loaded or applied."""


class ModelError(ExplorerError):
    """A model that cannot be found, loaded or read into a program."""


class ScoreError(ExplorerError):
    """A metric, reference or measurement that is not possible."""


class PromptError(ExplorerError):
    """A prompt file that cannot be used."""


class StudyError(ExplorerError):
    """A study or storage that cannot be opened, resumed or written."""


class DeviceError(ExplorerError):
    """A device or dtype that this machine does not have."""


class TrainingError(ExplorerError):
    """A training, or a stage of a recipe, that cannot run on its inputs or in its folder."""


class CompileError(ExplorerError):
    """A step that cannot be compiled or captured as a CUDA graph."""


class CaptureError(CompileError):
    """A capture that failed where torch may not have ended it. No fallback follows: start a new process."""

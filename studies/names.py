"""The names that a study can have."""

from __future__ import annotations

import re

from explorer.errors import StudyError, brief

LONGEST_NAME = 100
_NAME = re.compile(r"\w[\w .+-]{0,118}\w|\w")


def is_name(text: str) -> bool:
    """Whether a text can name a study or its folder: a database may come from anybody."""
    return _NAME.fullmatch(text) is not None


def check_study_name(name: str) -> str:
    """`name`. Raises StudyError for a text that cannot name a study."""
    if len(name) > LONGEST_NAME or not is_name(name):
        raise StudyError(
            f"{brief(repr(name), 200)} cannot name a study; use up to {LONGEST_NAME} letters, digits, spaces and . _ + "
            "- that begin and end with a letter or digit."
        )
    return name

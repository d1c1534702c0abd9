"""Command lines that people paste into a shell: every word is quoted, and the storage is named where it must be."""

from __future__ import annotations

import os
import shlex

from sqlalchemy.engine import URL

from studies.config import STORAGE_VARIABLE
from studies.storage.database import parse_url
from studies.storage.sqlite import DEFAULT_URL
from studies.storage.troubles import has_secret


def command_line(*words: object, storage: str | os.PathLike[str] | URL | None = None) -> str:
    """`explorer` with `words`, such as `command_line("show", study.name, storage=store.url)`.

    storage: the one that the command is to open. It is left out where it is the default; and where it has a password,
    which belongs on no page and in no log: EXPLORER_STORAGE holds such a URL.
    """
    return shlex.join(["explorer", *map(str, words), *_storage_words(storage)])


def _storage_words(storage: str | os.PathLike[str] | URL | None) -> list[str]:
    if storage is None:
        return []
    url = storage if isinstance(storage, URL) else parse_url(storage)
    default = parse_url(DEFAULT_URL)
    if has_secret(url) or (url == default and parse_url(os.environ.get(STORAGE_VARIABLE, DEFAULT_URL)) == default):
        return []
    return ["--storage", url.render_as_string() if isinstance(storage, URL) else os.fspath(storage)]

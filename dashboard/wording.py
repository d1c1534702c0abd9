"""How the dashboard writes text and numbers: a database's text stays text, a score shows its interval."""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from explorer.estimate import Estimate
from studies.metrics import metric_of

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# Streamlit looks for `:shortcodes:`, addresses and mail addresses in what is left when the escapes are resolved.
_FOUND_LATER = re.compile(r":(?=\S)|@(?=[-\w]+\.)|www(?=\.)", re.IGNORECASE)


def plain(text: Any) -> str:
    """`text` for a place that reads Markdown, so that it is shown letter by letter: no link, tag, formula or emoji.

    Punctuation is escaped; what escapes do not keep from becoming a link or an emoji is broken by a word joiner, which
    has no width.
    """
    words = " ".join(str(text).split())
    return _PUNCTUATION.sub(r"\\\1", _FOUND_LATER.sub("\\g<0>\u2060", words))


def headed(title: str, question: str) -> None:
    """The head of a page: its name, and the question that it answers."""
    st.title(title)
    st.markdown(question)


def say(text: Any) -> None:
    """One sentence about something that is missing or went wrong."""
    st.info(plain(text), icon=":material/info:")


def number(value: float) -> str:
    """Four digits are more than any score of a few pictures deserves, and tell latencies apart."""
    return f"{value:.4g}"


def interval(score: Estimate) -> str:
    return f"{number(score.low)} to {number(score.high)}"


def score_words(score: Estimate) -> str:
    """A value that was counted or predicted, and not estimated, has no interval."""
    return number(score.value) if score.low == score.high else f"{number(score.value)} ({interval(score)})"


def metric_words(metric: str) -> str:
    """A metric's name with its unit, where it has one."""
    known = metric_of(metric)
    if known is None:
        return metric
    return (known.title or metric) + (f" ({known.unit})" if known.unit else "")


def axis_words(metric: str) -> str:
    """A metric's name for an axis, with its unit."""
    known = metric_of(metric)
    return (known.axis if known else "") or metric_words(metric)


def file_name(*parts: Any) -> str:
    """A name for a download, of letters, digits and `.-_` alone."""
    return "-".join(re.sub(r"[^\w.-]+", "-", str(part), flags=re.ASCII).strip("-") or "x" for part in parts)

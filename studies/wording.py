"""Numbers in the sentences of certificates, cards and `autotune`: written in one way, so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.errors import brief
from explorer.estimate import Estimate


def figures(value: float) -> str:
    """Three significant digits: a limit of 0.125 is not shown as 0.1."""
    return f"{value:.3g}"


def percent(share: float) -> str:
    """`1%`, `0.125%`."""
    return f"{figures(100 * share)}%"


def times(ratio: float) -> str:
    """`2.10x`."""
    return f"{ratio:.2f}x"


def interval(score: Estimate | Mapping[str, Any], *, sign: bool = False) -> str:
    """`30.12 [29.80, 30.41]`; small numbers keep two significant digits."""
    value, low, high = _ends(score)
    size = max(abs(value), abs(low), abs(high))
    digits = 2 if size == 0 else min(9, max(2, 1 - math.floor(math.log10(size))))
    plus = "+" if sign else ""
    return f"{value:{plus}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def ratio(speed: Estimate | Mapping[str, Any]) -> str:
    """`2.10x [2.00, 2.20]`."""
    value, low, high = _ends(speed)
    return f"{times(value)} [{low:.2f}, {high:.2f}]"


def speed_of(run: Mapping[str, Any]) -> str:
    """The speed-up of a certificate's run; `unsteady` where its timings were disturbed."""
    return "unsteady" if run.get("unsteady") else ratio(run["speedup"])


def speed_words(speed: Estimate | Mapping[str, Any], than: str) -> str:
    """A speed-up over `than` in words that never call a slower run faster: `2.10x [2.00, 2.20] as fast as` it, `about
    as fast as` it where the interval holds 1, `slower than` it."""
    _, low, high = _ends(speed)
    if low > 1:
        return f"{ratio(speed)} as fast as {than}"
    return f"{'about as fast as' if high >= 1 else 'slower than'} {than} ({ratio(speed)})"


def pictures(count: int, prompts: int) -> str:
    """`1,000 pictures of 256 prompts`."""
    return f"{count:,} pictures of {prompts:,} prompt{'' if prompts == 1 else 's'}"


def others_words(also_certified: Sequence[str]) -> str:
    """That other plans were certified in the same search, and what it means; empty where there were none."""
    if not also_certified:
        return ""
    tries = len(also_certified) + 1
    others = f"{also_certified[0]} was" if tries == 2 else f"{tries - 1} other plans were"
    return (
        f"{others} certified in the same search, each with seeds of its own. Of {tries} tries one holds by chance more "
        f"easily than a single one: count on up to {tries} x 2.5% = {percent(tries * 0.025)} of such searches, not "
        "2.5%, that certify what breaks a limit."
    )


def _ends(score: Estimate | Mapping[str, Any]) -> tuple[float, float, float]:
    if isinstance(score, Estimate):
        return score.value, score.low, score.high
    return score["value"], score["low"], score["high"]


def cut_words(pipe: Any, prompts: Sequence[str]) -> str | None:
    """In one sentence, which prompts the text encoder of a pipeline does not read to their end; None where it reads
    them all."""
    from explorer.models.workload import cut_prompts, text_tokens

    cut = cut_prompts(pipe, prompts)
    if not cut:
        return None
    return (
        f"note: {len(cut)} of {len(prompts)} prompts are longer than the {text_tokens(pipe)} tokens that the model's "
        f"text encoder reads, and it ignores the rest of them (the first: {brief(cut[0], 60)!r})"
    )

"""The limit on memory: by what the loop that is timed holds, which differs by compile mode."""

from __future__ import annotations

import pytest

from explorer import strategy
from explorer.compile_modes import CompileMode
from explorer.runtime.cache_size import peak_cache_bytes
from studies.scoring.limits import PlanLimits
from tests.architectures import SD15

SIZES = dict.fromkeys((node.name for node in SD15.nodes), 2**20)


@pytest.mark.parametrize("compile", ["default", "cudagraphs", "cudagraphs-eager"])
def test_the_limit_is_of_the_mode_that_is_timed(compile: CompileMode) -> None:
    plan = strategy("RI", mode="P3", steps=50, unet=SD15, rule="forecast1")
    eager, other = (peak_cache_bytes(plan, 51, SIZES, compile=mode) / 2**20 for mode in ("off", compile))
    assert eager < other
    assert PlanLimits(cache_mib=eager, feature_bytes=SIZES).reason(plan, 51) is None
    assert PlanLimits(cache_mib=other, feature_bytes=SIZES, compile=compile).reason(plan, 51) is None
    assert "MiB" in str(PlanLimits(cache_mib=eager, feature_bytes=SIZES, compile=compile).reason(plan, 51))


def test_a_session_has_the_limit_of_its_mode() -> None:
    from studies.config import SearchConfig
    from studies.searching.session import open_session

    session = open_session(
        SearchConfig(steps=3, prompt_count=8, batch=8, objectives=("latency",), compile="default", max_cache_mib=1.0)
    )
    limits = session.evaluator.limits
    assert limits is not None and limits.compile == "default" and limits.feature_bytes

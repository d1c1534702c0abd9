"""Every scheduler in a pipeline: evaluations counted, plans refitted or refused, the page that says so current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.plans.schedule import Segments
from explorer.plans.strategies import STRATEGIES
from explorer.unet.architecture import Architecture
from tests.explorer.runtime.counted_runs import counted, extracts
from tests.explorer.tiny_pipelines import Case, sd

SPEC = importlib.util.spec_from_file_location("scheduler_page", Path(__file__).parents[3] / "docs" / "schedulers.py")
assert SPEC and SPEC.loader
PAGE: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PAGE)
TEXT = Case(sd)


def run(pipe: Any, name: str, seed: int = 3, steps: int = 4) -> torch.Tensor:
    """The latents of one start, whatever the generator; a fresh scheduler, as some keep their noise for a next run."""
    pipe.scheduler = PAGE.scheduler(name)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(seed)  # torchsde's Brownian tree draws its seed from here
    return TEXT.run(pipe, latents=start, generator=torch.Generator().manual_seed(seed), num_inference_steps=steps)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.mark.parametrize("name", PAGE.SCHEDULERS)
def test_a_scheduler_is_counted_and_plans_are_refitted_or_refused(name: str, pipe: Any) -> None:
    evaluations, noise = PAGE.evaluations(name, 4), PAGE.SCHEDULERS[name][2]
    architecture = Architecture.of(pipe.unet)
    with counted(pipe) as counts:
        plain = run(pipe, name)
    assert len(counts) == evaluations and torch.isfinite(plain).all()
    assert torch.equal(run(pipe, name, seed=4), plain) != noise
    with inherit(pipe, InheritancePlan(architecture, 4)):
        assert torch.equal(run(pipe, name), plain)
    with inherit(pipe, strategy("DC1", mode="P3", steps=50, unet=pipe.unet)), counted(pipe) as counts:
        first = run(pipe, name)
        assert torch.equal(run(pipe, name), first) and not torch.equal(first, plain)
    assert extracts(counts[:evaluations]) == list(range(0, evaluations, 3))
    written = InheritancePlan(architecture, 4, (STRATEGIES["DC1"].mask(architecture),), Segments.of([0, 1, 0, 1]))
    with inherit(pipe, written):
        if evaluations == 4:
            assert torch.isfinite(run(pipe, name)).all()
        else:
            with pytest.raises(PlanError, match=f"writes out 4 UNet evaluations and the run has {evaluations}"):
                run(pipe, name)
    assert torch.equal(run(pipe, name), plain)


def test_the_scheduler_page_is_current() -> None:
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(), "docs/schedulers.md: run python docs/schedulers.py"

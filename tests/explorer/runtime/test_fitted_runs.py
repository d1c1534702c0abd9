"""Fitted plans at several step counts, whole runs of a tiny pipeline against the rule's definition."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, inherit, strategy
from explorer.calibration.fitting import Fitter, solve
from explorer.calibration.moments import Moments, collect_moments
from explorer.calibration.probe import Probe, all_features, storing
from explorer.models.pictures import run
from explorer.plans.rules import Rule
from explorer.unet.variant import Variant
from tests.explorer.tiny_pipelines import BETAS, sd

COUNTS = (8, 6, 4)
GUIDANCE = 3.0


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd(scheduler=diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1))


@pytest.fixture(scope="module")
def fitter(pipe: Any) -> Fitter:
    words = ["a cat face", "a red heart"]
    return Fitter({n: collect_moments(pipe, words, steps=n, guidance=GUIDANCE, seed=50) for n in COUNTS})


def latents(pipe: Any, steps: int) -> torch.Tensor:
    return run(pipe, ["a green apple"], seed=3, steps=steps, guidance=GUIDANCE, output_type="latent")


def by_definition(pipe: Any, plan: InheritancePlan, moments: Moments) -> torch.Tensor:
    """Every feature is stored at every extract step; an inherit step takes the least squares' combination of the last
    two of what its mask reads."""
    choices = plan.resolve(moments.evaluations)
    held: dict[int, Any] = {}

    def watch(evaluation: int, sample: torch.Tensor, at: Any) -> torch.Tensor:
        if not choices[evaluation]:
            noise, held[evaluation] = storing(probe.program, all_features(plan.architecture))(sample, at, {})
            return noise
        variant, sources = Variant(probe.program, plan.mask(choices[evaluation])), tuple(held)[-2:]
        inherited = {
            feature: sum(
                weight * held[source][feature]
                for weight, source in zip(solve(moments.gram[feature], sources, evaluation), sources, strict=True)
            )
            for feature in variant.reads
        }
        return variant(sample, at, inherited)[0]

    probe = Probe(pipe, watch)
    with probe:
        return latents(pipe, plan.steps)


@pytest.mark.parametrize("name", ["DC0/P3", "CO6/P2", "RI/P4†"])
@pytest.mark.parametrize("steps", COUNTS)
def test_a_fitted_plan_of_any_step_count_runs_as_the_rule_says(
    pipe: Any, fitter: Fitter, steps: int, name: str
) -> None:
    copied = strategy(name, steps=steps, unet=pipe.unet)
    plan = fitter(copied)
    assert plan.rule.name == "fitted" and plan.rule.weights is not None
    assert plan.rule.weights.evaluations == steps + 1  # PNDM
    loaded = InheritancePlan.from_json(plan.to_json())
    with inherit(pipe, loaded):
        found = latents(pipe, steps)
    torch.testing.assert_close(found, by_definition(pipe, plan, fitter.moments[steps]), rtol=1e-3, atol=1e-3)
    with inherit(pipe, copied):
        assert (latents(pipe, steps) - found).abs().max() > 3e-3  # so that the comparison tells the rules apart


def test_a_step_count_without_moments_copies(pipe: Any, fitter: Fitter) -> None:
    copied = strategy("DC0/P3", steps=5, unet=pipe.unet)
    assert fitter(copied) == copied and fitter(copied).rule == Rule()

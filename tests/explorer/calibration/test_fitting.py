"""Fitted rules: the least squares, the moments they come from, their plans and what the engine does with them."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, PlanError, ScoreError, inherit, load_pipeline, strategy
from explorer.calibration.fitting import Fitter, fit, fitted, solve
from explorer.calibration.moments import Moments, collect_moments
from explorer.calibration.probe import all_features
from explorer.models.pictures import generate
from explorer.plans.coefficients import MAX_WEIGHT, Coefficients
from explorer.plans.plan import resolve_run
from explorer.plans.rules import Rule, extrapolation
from explorer.plans.schedule import Periodic, Segments
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.architectures import SD15, SDXL
from tests.conftest import make_unet
from tests.explorer.unet.test_program import call

CAT, RED = "a cat face", "a red heart"


def random_gram(seed: int, evaluations: int = 12, elements: int = 30) -> Any:
    """Moments of features that wander smoothly."""
    walk = np.random.default_rng(seed).normal(size=(evaluations, elements)).cumsum(axis=0).cumsum(axis=0)
    return walk @ walk.T / elements


def moments_of(architecture: Architecture, steps: int, evaluations: int, seed: int = 0) -> Moments:
    gram = {feature: random_gram(seed + k, evaluations) for k, feature in enumerate(all_features(architecture))}
    return Moments(architecture.signature, "DDIMScheduler", steps, evaluations, 7.5, 8, gram)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load_pipeline("emoji")


@pytest.fixture(scope="module")
def calibrated(pipe: Any) -> Moments:
    return collect_moments(pipe, [CAT, RED, "a green apple"], steps=8, guidance=3.0, seed=100, batch_size=2)


# The least squares ---------------------------------------------------------------------------------------------------

sources_and_step = st.sets(st.integers(0, 11), min_size=2, max_size=4).map(lambda s: (tuple(sorted(s)[:-1]), max(s)))


@given(where=sources_and_step, seed=st.integers(0, 99))
def test_fitted_weights_are_never_worse_than_the_straight_line(where: tuple[tuple[int, ...], int], seed: int) -> None:
    sources, at = where
    gram = random_gram(seed)
    moments = replace(moments_of(SD15, 12, 1), gram={("dn0.l0.res", "output"): gram})
    feature = ("dn0.l0.res", "output")
    line = extrapolation(at, sources[-2:])
    found = solve(gram, sources, at)
    assert len(found) == len(sources)
    error = moments.error(feature, at, sources, found)
    assert error <= moments.error(feature, at, sources[-2:], line) * (1 + 1e-9) + 1e-9


def test_a_feature_that_is_a_combination_of_its_sources_is_found() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 500))
    rows = np.stack([one, two, 0.3 * one - 1.7 * two])
    assert solve(rows @ rows.T / 500, (0, 1), 2, ridge=1e-9) == pytest.approx((0.3, -1.7), abs=1e-6)


def test_features_that_cannot_be_told_apart_fall_to_the_straight_line() -> None:
    """With equal sources any weights of one sum do the same: damping chooses, and nothing becomes large."""
    gram = np.ones((3, 3))
    assert solve(gram, (0, 1), 2) == pytest.approx((-1.0, 2.0), abs=1e-6)
    assert max(map(abs, solve(np.zeros((3, 3)), (0, 1), 2))) <= 2.0


# The moments ---------------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_models_own_features(pipe: Any) -> None:
    """Read a second time through hooks on diffusers' modules, guided, over every element."""
    moments = collect_moments(pipe, [CAT], steps=2, guidance=3.0, seed=7, elements=10**7)
    seen: dict[str, list[torch.Tensor]] = {"dn0.down": [], "up3.l2.attn": []}
    block = pipe.unet.up_blocks[3].attentions[2]
    hooks = [
        pipe.unet.down_blocks[0].downsamplers[0].register_forward_hook(lambda _, __, out: seen["dn0.down"].append(out)),
        block.register_forward_hook(lambda _, args, out: seen["up3.l2.attn"].append(out[0] - args[0])),
    ]
    generate(pipe, [CAT], seed=7, steps=2, guidance=3.0, batch_size=1)
    for hook in hooks:
        hook.remove()
    assert moments.evaluations == 3 and moments.pictures == 1  # PNDM
    for name, form in (("dn0.down", "output"), ("up3.l2.attn", "residual")):
        guided = torch.stack([value[0] + 3.0 * (value[1] - value[0]) for value in seen[name]]).flatten(1).double()
        expected = guided @ guided.T / guided.shape[1]
        np.testing.assert_allclose(moments.gram[name, form], expected.numpy(), rtol=1e-3, atol=1e-5)


def test_moments_join_and_do_not_depend_on_the_batch(pipe: Any, calibrated: Moments) -> None:
    words = [CAT, RED, "a green apple"]
    first = collect_moments(pipe, words[:1], steps=8, guidance=3.0, seed=100)
    rest = collect_moments(pipe, words[1:], steps=8, guidance=3.0, seed=101)
    joined = first.joined(rest)
    assert joined.pictures == 3
    for feature, gram in calibrated.gram.items():
        np.testing.assert_allclose(joined.gram[feature], gram, rtol=1e-3, atol=1e-4)
    with pytest.raises(PlanError, match="differ in steps, evaluations"):
        first.joined(replace(rest, steps=9, evaluations=10))


def test_calibration_leaves_the_pipeline_as_it_was(pipe: Any, calibrated: Moments) -> None:
    assert "forward" not in pipe.unet.__dict__ and "set_timesteps" not in pipe.scheduler.__dict__
    with pytest.raises(ScoreError, match="at least one"):
        collect_moments(pipe, [], steps=4, guidance=3.0)
    assert "forward" not in pipe.unet.__dict__


# Plans ---------------------------------------------------------------------------------------------------------------


def test_fitted_beats_copying_and_the_line_on_other_prompts() -> None:
    """Mean squared error of the final pictures, DC0/P3 in 8 steps of DDIM, of captions that the model knows: of others,
    and under PNDM in so few steps, the un-accelerated picture is a failure itself and a distance to it is chance."""
    pipe = load_pipeline("emoji")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    how: dict[str, Any] = {"steps": 8, "guidance": 3.0, "batch_size": 2}
    known = collect_moments(
        pipe, ["cat face, flat style", "red heart, 3d style", "red apple, noto style"], seed=100, **how
    )
    base = strategy("DC0", mode="P3", steps=8, unet=pipe.unet)
    plans = {"copy": base, "line": strategy("DC0/P3+f1", steps=8, unet=pipe.unet), "fitted": fitted(base, known)}
    words = ["dog face, flat style", "taxi, flat style", "pizza, noto style", "koala, 3d style"]
    errors = dict.fromkeys(plans, 0.0)
    for seed in (900, 500):
        target = generate(pipe, words, seed=seed, **how).float()
        for name, plan in plans.items():
            with inherit(pipe, plan):
                errors[name] += float(((generate(pipe, words, seed=seed, **how).float() - target) ** 2).mean())
    assert errors["fitted"] < errors["copy"] < errors["line"]


def test_fit_makes_the_plan_in_one_call(pipe: Any) -> None:
    plan = fit(pipe, strategy("DC0/P2+f2", steps=4, unet=pipe.unet), [CAT], guidance=3.0)
    assert plan.name == "DC0/P2+fit" and plan.rule.name == "fitted" and plan.rule.history == 2
    weights = plan.rule.weights
    assert weights is not None and weights.evaluations == 5 and weights.steps == ((1, (0,)), (3, (0, 2)))
    with pytest.raises(PlanError, match="another UNet"):
        fit(pipe, strategy("DC0", steps=4, unet=SDXL), [CAT], guidance=3.0)


@pytest.mark.parametrize("rule", ["fitted", "fitted3"])
@pytest.mark.parametrize("name", ["CO6/P5†", "DC0/N", "EP/P2"])
def test_a_fitted_plan_survives_its_file(tmp_path: Path, name: str, rule: str) -> None:
    moments = moments_of(SD15, 50, 51)
    plan = strategy(name, unet=SD15, rule=rule, fit=Fitter({50: moments}))
    plan.save(tmp_path / "plan.json")
    loaded = InheritancePlan.load(tmp_path / "plan.json")
    assert loaded == plan and loaded.key(51) == plan.key(51) and loaded.describe() == plan.describe()
    assert plan.key(51) != strategy(name, unet=SD15, rule="forecast1").key(51)
    assert (tmp_path / "plan.json").stat().st_size < 200_000


def test_a_mask_that_no_evaluation_takes_does_not_tell_plans_apart() -> None:
    fitter = Fitter({20: moments_of(SD15, 20, 21)})
    plan = replace(strategy("DC0/P3", steps=20, unet=SD15), name=None)
    choices = plan.resolve(21)
    spare = replace(plan, masks=(Mask.of(["mid.attn"]), *plan.masks), schedule=Segments.of(2 * c for c in choices))
    weights = fitter(spare).rule.weights
    assert weights is not None and len(weights.weights) == 2 and len(weights.used().weights) == 1
    assert fitter(spare).key(21) == fitter(plan).key(21) != fitter(replace(plan, masks=spare.masks[:1])).key(21)


def test_names_and_spellings() -> None:
    fitter = Fitter({50: moments_of(SD15, 50, 51)})
    assert strategy("DC0/P5+fit", unet=SD15, fit=fitter) == strategy(
        "DC0", mode="P5", unet=SD15, rule="fitted", fit=fitter
    )
    assert strategy("DC0/P5+fit3", unet=SD15, fit=fitter).name == "DC0/P5+fit3"
    unnamed = fitter(replace(strategy("DC0/P5", unet=SD15), name=None))
    assert unnamed.describe() == "up3.l1.attn= / P5+fit, 50 steps"
    assert fitter(strategy("DC0/P5+f1", unet=SD15, steps=25)).name == "DC0/P5"  # no moments at 25 steps: a copy
    assert fitter(strategy("plain@50", unet=SD15)).rule == Rule()
    for words in ("DC0/P5+fit", "DC0/P5+fit3"):
        with pytest.raises(PlanError, match=r"explorer\.calibration\.fitting\.fit"):
            strategy(words, unet=SD15)
    with pytest.raises(PlanError, match="no fitted rule"):
        fitted(strategy("DC0", unet=SD15), moments_of(SD15, 50, 51), "copy")
    with pytest.raises(PlanError, match="at 20 steps and the plan is for"):
        fitted(strategy("DC0", unet=SD15), moments_of(SD15, 20, 21))


def test_two_masks_have_weights_where_each_is_read() -> None:
    masks = (Mask.of(["up3.l1.attn"], "output"), Mask.of(["dn0.l0.res"]))
    plan = InheritancePlan(SD15, 10, masks, Segments.of([0, 1, 2, 0, 1, 0, 0, 0, 2, 2]))
    weights = fitted(plan, moments_of(SD15, 10, 10)).rule.weights
    assert weights is not None
    assert weights.at(1, (0,), ("up3.l1.attn", "output")) is not None
    assert weights.at(2, (0,), ("up3.l1.attn", "output")) is None
    assert weights.at(9, (6, 7), ("dn0.l0.res", "residual")) is not None
    assert weights.at(9, (5, 7), ("dn0.l0.res", "residual")) is None


def changed(where: list[Any], value: Any) -> dict[str, Any]:
    document = json.loads(
        json.dumps(fitted(strategy("DC0", mode="P5", steps=10, unet=SD15), moments_of(SD15, 10, 11)).to_json())
    )
    part = document["rule"]
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    return document


ROWS = ["weights", "output", "up3.l1.attn"]


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (["order"], 3, "order 1 or 2"),
        (["order"], "1", "order 1 or 2"),
        (["evaluations"], 0, "1 to 10000 evaluations"),
        (["evaluations"], True, "cannot be read"),
        (["evaluations"], 9, "ascend within the run"),
        (["steps"], [], "weights for 8 of 0 steps"),
        (["steps", 0], [1, [1]], "must ascend"),
        (["steps", 1], [1, [0]], "must ascend"),
        (["steps", 7], [9, [0, 5, 6]], "has 2 weights at evaluation 9 for 3 extract"),
        (["steps", 7], [9, []], "combine 1 to 3"),
        (["steps", 7], [9, [-1, 5]], "must ascend"),
        (["weights"], {}, "no weights for up3.l1.attn"),
        (["weights"], [], "cannot be read"),
        (["weights", "output", "mid.attn"], [None] * 8, "mid.attn .*no mask reads"),
        (ROWS, [None] * 7, "weights for 7 of 8 steps"),
        ([*ROWS, 0], [1.0, 1.0], "has 2 weights at evaluation 1 for 1 extract"),
        ([*ROWS, 0], [float("nan")], "beyond 100"),
        ([*ROWS, 0], [float("inf")], "beyond 100"),
        ([*ROWS, 0], [MAX_WEIGHT * 1.01], "beyond 100"),
        ([*ROWS, 0], [10**400], "cannot be read"),
        ([*ROWS, 0], ["1"], "cannot be read"),
        ([*ROWS, 0], 1.0, "cannot be read"),
    ],
)
def test_weights_of_a_file_are_checked(where: list[Any], value: Any, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        InheritancePlan.from_json(changed(where, value))


def test_a_rule_is_whole() -> None:
    weights = Coefficients(3, ((1, (0,)),), ((("mid.attn", "residual"), ((0.5,),)),))
    for make in (lambda: Rule("fitted", 1), lambda: Rule("copy", 0, weights), lambda: Rule("fitted", 0, weights)):
        with pytest.raises(PlanError):
            make()


# The engine ----------------------------------------------------------------------------------------------------------


def by_hand(
    rows: dict[int, tuple[float, ...]], steps: dict[int, tuple[int, ...]], choices: list[int], **changes: Any
) -> InheritancePlan:
    architecture = Architecture.of(make_unet(**changes))
    unit = architecture.units[-1]
    rule = Rule("fitted", 1, Coefficients.of(len(choices), steps, {(unit, "residual"): rows}))
    return InheritancePlan(architecture, 5, (Mask.of([unit]),), Segments.of(choices), rule)


def test_the_engine_combines_with_the_plans_weights() -> None:
    """One source scaled, then two sources: both made by hand from the stock UNet's own residuals."""
    unet = make_unet()
    plan = by_hand({1: (0.9,), 3: (-0.25, 1.5)}, {1: (0,), 3: (0, 2)}, [0, 1, 0, 1])
    module, seen = unet.up_blocks[3].attentions[2], []
    hook = module.register_forward_hook(lambda _, inputs, output: seen.append(output[0] - inputs[0]))
    for seed in (0, 2):
        call(unet, seed)
    hook.remove()
    expected = []
    for seed, branch in ((1, 0.9 * seen[0]), (3, 1.5 * seen[1] - 0.25 * seen[0])):
        hook = module.register_forward_hook(lambda _, inputs, __, branch=branch: (branch + inputs[0],))
        expected.append(call(unet, seed))
        hook.remove()
    with inherit(unet, plan) as handle:
        handle.begin(4)
        found = [call(unet, seed) for seed in range(4)]
        assert handle.cache_bytes == 0
    torch.testing.assert_close(found[1], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[3], expected[1], rtol=1e-4, atol=1e-5)


def test_a_run_of_another_length_is_refused_and_a_tail_extrapolates(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = by_hand({1: (0.9,), 3: (-0.25, 1.5)}, {1: (0,), 3: (0, 2)}, [0, 1, 0, 1])
    with pytest.raises(PlanError, match="fitted for 4 UNet evaluations and the run has 6"):
        replace(plan, schedule=Periodic(2)).resolve(6)
    feature = ("up3.l2.attn", "residual")
    assert plan.rule.coefficients(3, (0, 2), feature) == (-0.25, 1.5)
    assert plan.rule.coefficients(3, (1, 2), feature) == extrapolation(3, (1, 2))
    unet = make_unet()
    with inherit(unet, plan) as handle:
        handle.begin(4, start=1)
        assert all(torch.isfinite(call(unet, seed)).all() for seed in range(3))
        asked: list[Any] = []
        own = Rule.coefficients
        monkeypatch.setattr(Rule, "coefficients", lambda *args: asked.append(args[1:3]) or own(*args))
        handle.begin(4, start=1)
        for seed in range(3):
            call(unet, seed)
    assert asked == [(3, (1, 2))], "steps are counted from the run's first, not from the tail's"


def test_three_terms_fall_back_to_the_line_through_the_last_two() -> None:
    base = strategy("CO6", mode="P5", unet=SD15)
    rule = fitted(base, moments_of(SD15, 50, 51), "fitted3").rule
    feature = next(iter(rule.weights.features)) if rule.weights is not None else None
    assert rule.coefficients(13, (2, 4, 9), feature) == (0.0, *extrapolation(13, (4, 9)))
    assert rule.coefficients(13, (4, 9), feature) == extrapolation(13, (4, 9))


def test_two_generations_of_features_are_counted() -> None:
    """A fitted rule of two terms keeps what a forecast of order 1 keeps."""
    base = strategy("CO6", mode="P5", unet=SD15)
    moments = moments_of(SD15, 50, 51)
    for rule, forecast in (("fitted", "forecast1"), ("fitted3", "forecast2")):
        assert resolve_run(fitted(base, moments, rule), 51) == resolve_run(base.with_rule(Rule.parse(forecast)), 51)


def test_no_step_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights change from step to step outside of the compiled variants."""
    compiled = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    small = {
        "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    unet = make_unet(**small)
    steps = {1: (0,), 3: (0, 2), 5: (2, 4), 7: (4, 6)}
    rows = {1: (0.9,), 3: (-0.2, 1.2), 5: (-0.3, 1.3), 7: (-0.4, 1.3)}
    plan = by_hand(rows, steps, [0, 1, 0, 1, 0, 1, 0, 1], **small)
    with torch.no_grad(), inherit(unet, plan) as eager:
        eager.begin(8)
        expected = [call(unet, seed) for seed in range(8)]
    with torch.no_grad(), inherit(unet, plan, compile=True) as handle:
        handle.begin(8)
        found = [call(unet, seed) for seed in range(8)]
    assert len(compiled) == 2  # the extract step and the inherit step
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), period=st.integers(2, 9), steps=st.integers(3, 20))
def test_any_fit_is_a_plan_that_survives(seed: int, period: int, steps: int) -> None:
    base = InheritancePlan(SD15, steps, (Mask.of(["mid.attn", "dn1.l0.res"]),), Periodic(period))
    plan = fitted(base, moments_of(SD15, steps, steps, seed), "fitted3")
    assert InheritancePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan

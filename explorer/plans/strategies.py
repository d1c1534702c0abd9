"""The registry of named strategies and controls: the baselines of every study.

The 23 structures are those of A-SDM (arXiv 2406.00210), Sec. V and Table V. Its Figure 10 is a picture: the masks here
are read from the text of Sec. V and fitted to the pattern of Table V. Units not listed are computed; the mid block is
inherited only where it is listed. All of them inherit residuals (Eq. 4) by copying.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from explorer.errors import PlanError
from explorer.plans.cast import Cast
from explorer.plans.plan import InheritancePlan, plain_name
from explorer.plans.rules import FITTED_RULES, RULES, Rule, rule_of_suffix
from explorer.plans.schedule import Curve, Periodic, Schedule, parse_mode
from explorer.plans.schedulers import check_name, check_spacing
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask

Fit = Callable[[InheritancePlan, str], InheritancePlan]
"""A plan and the name of a fitted rule to the plan with the weights of that rule."""


@dataclass(frozen=True)
class Strategy:
    """A named structure: `mask(architecture)` gives what an inherit step inherits; `source` cites it."""

    name: str
    family: str
    source: str
    mask: Callable[[Architecture], Mask]


def _blocks(architecture: Architecture, names: Iterable[str]) -> Mask:
    """The units of the blocks; a UNet without a mid block has none there."""
    return Mask.of([unit for name in names for unit in architecture.blocks.get(name, ())])


def _down(architecture: Architecture) -> list[str]:
    """dn blocks, outermost first."""
    return [f"dn{b}" for b in range(len(architecture.down))]


def _up(architecture: Architecture) -> list[str]:
    """up blocks, outermost first."""
    return [f"up{b}" for b in reversed(range(len(architecture.up)))]


def _layers(outermost: int | None) -> Callable[[Architecture], Mask]:
    """Layer l1 of the outermost `outermost` blocks on both sides (None: of all)."""

    def mask(a: Architecture) -> Mask:
        blocks = [*_down(a)[:outermost], *_up(a)[:outermost]]
        return Mask.of([unit for block in blocks for unit in a.layers.get(f"{block}.l1", ())])

    return mask


def _kind(kind: str) -> Callable[[Architecture], Mask]:
    """Every unit of one kind in dn and up blocks."""
    return lambda a: Mask.of([n.name for n in a.nodes if n.kind == kind and n.block != "mid"])


def _outer(k: int) -> Callable[[Architecture], Mask]:
    return lambda a: _blocks(a, [*_down(a)[:k], *_up(a)[:k]])


def _inner(k: int) -> Callable[[Architecture], Mask]:
    return lambda a: _blocks(a, ["mid", *_down(a)[-k:], *_up(a)[-k:]])


def _decoder(k: int) -> Callable[[Architecture], Mask]:
    return lambda a: _blocks(a, _up(a)[:k])


def _encoder(k: int) -> Callable[[Architecture], Mask]:
    return lambda a: _blocks(a, _down(a)[:k])


def _concurrent(k: int) -> Callable[[Architecture], Mask]:
    """EXk and all dn blocks."""
    return lambda a: _blocks(a, ["mid", *_down(a), *_up(a)[-k:]])


def _all_but(kind: str, blocks: Callable[[Architecture], list[str]]) -> Callable[[Architecture], Mask]:
    """All units but those of one kind in the named blocks."""

    def mask(a: Architecture) -> Mask:
        kept = blocks(a)
        return Mask.of([n.name for n in a.nodes if n.is_unit and not (n.kind == kind and n.block in kept)])

    return mask


def _outermost_pair(a: Architecture) -> list[str]:
    return [_down(a)[0], _up(a)[0]]


def _branch(n: int) -> Callable[[Architecture], Mask]:
    """DeepCache's branch n: the input of up layer n, counted from the output, is inherited by output; in a UNet of
    less up layers that of the innermost."""

    def mask(a: Architecture) -> Mask:
        cats = [node for node in a.nodes if node.kind == "cat"]
        return Mask.of([cats[-1 - min(n, len(cats) - 1)].inputs[0]], "output")

    return mask


def _encoder_propagation(a: Architecture) -> Mask:
    """All skips and what the up path begins with. conv_in stays live, so that a step still sees its sample."""
    return Mask.of({*a.skips, a.bottom} - {"conv_in"}, "output")


_PAPER = "A-SDM (arXiv 2406.00210), Sec. V-"
_LAYER, _UNIT, _BLOCK, _CONCURRENT = (_PAPER + section for section in "ABCD")
_ALL = [
    Strategy("LI1", "layer", _LAYER, _layers(None)),
    Strategy("LI2", "layer", _LAYER, _layers(2)),
    Strategy("LI3", "layer", _LAYER, _layers(1)),
    Strategy("AI", "attention units", _UNIT, _kind("attn")),
    Strategy("RI", "residual units", _UNIT, _kind("res")),
    *(Strategy(f"IN{k}", "inner loop", _BLOCK, _outer(k)) for k in (1, 2, 3)),
    *(Strategy(f"EX{k}", "external loop", _BLOCK, _inner(k)) for k in (1, 2, 3)),
    *(Strategy(f"EN{k}", "encoder loop", _BLOCK, _decoder(k)) for k in (1, 2, 3)),
    *(Strategy(f"DE{k}", "decoder loop", _BLOCK, _encoder(k)) for k in (1, 2, 3)),
    *(Strategy(f"CO{k}", "concurrent", _CONCURRENT, _concurrent(k)) for k in (1, 2, 3)),
    Strategy("CO4", "concurrent", _CONCURRENT, _all_but("res", _outermost_pair)),
    Strategy("CO5", "concurrent", _CONCURRENT, _all_but("attn", _outermost_pair)),
    Strategy("CO6", "concurrent", _CONCURRENT, _all_but("attn", lambda a: _up(a)[:1])),
    *(Strategy(f"DC{n}", "DeepCache", "DeepCache (arXiv 2312.00858), Sec. 3.2, branch " + str(n), _branch(n))
      for n in (0, 1, 2)),
    Strategy("EP", "encoder propagation", "Faster Diffusion (arXiv 2312.09608), Sec. 3.2", _encoder_propagation),
]  # fmt: skip
STRATEGIES: dict[str, Strategy] = {s.name: s for s in _ALL}
BASE = "base"
"""The student of `CASTS`."""
CASTS = {
    # Table III, A-SDM Sec. IV-C: of 25 evaluations Base or the teacher runs the first 10 or 15.
    "S1": Cast.parse(f"{BASE}@0.4, teacher"),
    "S2": Cast.parse(f"teacher@0.6, {BASE}"),
    "S3": Cast.parse(f"teacher@0.4, {BASE}"),
}
"""The strategies of which the network alone changes in the run, for a model that has the student `BASE`."""
PAPER_STRATEGIES = tuple(s.name for s in _ALL if s.source.startswith(_PAPER))
LAST_OF_FAMILIES = tuple({s.family: s.name for s in _ALL if s.source.startswith(_PAPER)}.values())
"""One strategy of each family of the paper: LI3, AI, RI, IN3, EX3, EN3, DE3, CO6."""
PAPER_MODES = ("P5†", "P2†", "P5")
DEEPCACHE_MODES = ("P2", "P3", "P5", "P8", "N")
PLAIN_STEPS = (50, 25, 20, 15, 10)


def deepcache_curve(steps: int) -> Curve:
    """DeepCache's non-uniform schedule at its released setting for SD1.5 (50 steps: 10 extract steps that crowd around
    step 15 with power 1.4)."""
    return Curve(extracts=max(2, round(steps / 5)), centre=0.3, power=1.4)


def strategy(
    name: str, *, mode: str = "P5†", steps: int = 50, unet: Any, rule: str = "copy", fit: Fit | None = None,
    students: Collection[str] | None = None,
) -> InheritancePlan:  # fmt: skip
    """The plan of a named strategy (A-SDM, arXiv 2406.00210, Sec. IV-C and V; DeepCache, arXiv 2312.00858).

    Args:
        name: Such as `CO6` or `DC0`. `DC0/P3+f2` names mode and rule too. `plain@20` is the un-accelerated pipeline
            with 20 steps, and `plain@20/DPMSolverMultistep+karras~trailing` the same under that scheduler and spacing.
            `S1`, `S2` and `S3` (Table III) switch between the teacher and its student `base`. These ignore mode and
            rule. A cast may come first: `m2+DC0/P3` (see `InheritancePlan.with_cast`).
        mode: `Pn`, `Pn†` (or `Pnd`), or `N` for DeepCache's non-uniform schedule.
        steps: The pipeline's `num_inference_steps`.
        unet: The UNet, or its `Architecture`.
        rule: `copy`, `forecast1`, `forecast2`, `fitted` or `fitted3`.
        fit: Gives a plan the weights of a fitted rule, such as `explorer.calibration.fitting.Fitter`.
        students: Names of the students that the run will have; None does not check them.

    Raises:
        PlanError: For an unknown strategy, mode or rule, for a fitted rule without `fit`, and for a student that is not
            among `students`.
    """
    architecture = unet if isinstance(unet, Architecture) else Architecture.of(unet)
    cast, plus, played = name.partition("+")
    plan: InheritancePlan | None = None
    if name in CASTS:
        plan = InheritancePlan(architecture, steps, name=name, cast=CASTS[name])
    elif plus and "/" not in cast:
        plan = strategy(played, mode=mode, steps=steps, unet=architecture, rule=rule, fit=fit)
        plan = plan.with_cast(CASTS.get(cast, cast))
    if plan is not None:
        if students is not None:
            plan.check_runnable(students)
        return plan
    plain = re.fullmatch(r"plain@([1-9]\d{0,3})(?:/([\w+]{1,80}))?(?:~(\w{1,40}))?", name)
    if plain:
        steps, scheduler = int(plain[1]), None if plain[2] is None else check_name(plain[2])
        spacing = None if plain[3] is None else check_spacing(plain[3])
        made = plain_name(steps, scheduler, spacing)
        return InheritancePlan(architecture, steps, name=made, scheduler=scheduler, spacing=spacing)
    spelled = re.fullmatch(r"([A-Z]+\d?)/([^+]+)(\+.+)?", name)
    if spelled:
        name, mode, rule = spelled[1], spelled[2], rule_of_suffix(spelled[3]) if spelled[3] else rule
    if name not in STRATEGIES:
        raise PlanError(f"unknown strategy {name!r}; expected one of {', '.join((*STRATEGIES, *CASTS))} or plain@n.")
    schedule: Schedule = deepcache_curve(steps) if mode == "N" else parse_mode(mode)
    to_fit = rule in FITTED_RULES and fit is not None
    chosen = Rule() if to_fit else Rule.parse(rule)
    if isinstance(schedule, Periodic) and schedule.period == 1:
        return InheritancePlan(architecture, steps, name=f"{name}/P1")
    mask = STRATEGIES[name].mask(architecture)
    label = "N" if mode == "N" else schedule.name
    plan = InheritancePlan(architecture, steps, (mask,), schedule, chosen, f"{name}/{label}{chosen.suffix}")
    return fit(plan, rule) if to_fit and fit is not None else plan


def plain_controls(architecture: Architecture, steps: int) -> Iterator[InheritancePlan]:
    """plain@n for a study of `steps`, most steps first."""
    counts = [steps, *(round(steps * n / 50) for n in PLAIN_STEPS)]
    for count in dict.fromkeys(count for count in counts if count >= 1):
        yield strategy(plain_name(count), unet=architecture)


def baselines(
    architecture: Architecture, steps: int, *, modes: Iterable[str] = PAPER_MODES, complete: bool = True,
    controls: Iterable[InheritancePlan] | None = None, strategies: Iterable[str] = PAPER_STRATEGIES,
) -> Iterator[InheritancePlan]:  # fmt: skip
    """Yield every baseline of a study, controls first: plain@n, DeepCache by copy and forecast, EP, the strategies.

    Args:
        architecture: The model's.
        steps: Of the study.
        modes: Sampling modes of the strategies; the three of Table V give its 69 rows.
        complete: Every DeepCache branch, mode and rule; otherwise a few of them.
        controls: Those of a study with further axes; by default plain@n.
        strategies: Names of the paper's strategies.
    """
    yield from plain_controls(architecture, steps) if controls is None else controls
    if complete:
        deepcache = [(f"DC{b}", mode, rule) for b in range(3) for mode in DEEPCACHE_MODES for rule in RULES]
    else:
        deepcache = [(f"DC{b}", "P3", "copy") for b in (1, 2)]
        deepcache += [("DC0", mode, rule) for mode in ("P3", "P5") for rule in ("copy", "forecast2")]
    propagation = [("EP", mode, "copy") for mode in (("P2", "P3") if complete else ("P2",))]
    for name, mode, rule in [*deepcache, *propagation]:
        yield strategy(name, mode=mode, steps=steps, unet=architecture, rule=rule)
    for mode in modes:
        for name in strategies:
            yield strategy(name, mode=mode, steps=steps, unet=architecture)

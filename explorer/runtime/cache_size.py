"""How much memory a plan's features take, computed from shapes, as the runtime stores, combines and drops them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from explorer.compile_modes import CompileMode, uses_compiler, uses_graphs
from explorer.plans.plan import InheritancePlan, Run, features_read, resolve_run
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, Mask, inputs_read, last_uses, liveness


def peak_cache_bytes(
    plan: InheritancePlan,
    evaluations: int,
    feature_bytes: Mapping[str, int],
    start: int = 0,
    compile: CompileMode = "off",
) -> int:
    """The most bytes of features that a run of `evaluations` (without the first `start`) holds at once.

    feature_bytes: of each node's feature (`Anatomy.feature_bytes`). A feature is held from the extract step that
    stores it to the last step that reads it. A rule that reads several extract steps holds the features of all of them,
    and their combination from its node to that node's last reader. Compiled steps get all combinations at once, and
    their extract steps store what any step reads. Static buffers (the modes of CUDA graphs) are held all the time: one
    for each extract step that the rule reads, and one for the combination.

    Raises:
        PlanError: when the plan's schedule does not fit the run.
    """
    run = resolve_run(plan, evaluations, start)
    everything = features_read(plan)
    if uses_graphs(compile):
        history = plan.rule.history
        return (history + (history > 1)) * sum(feature_bytes[name] for name, _ in everything)
    change = [0] * (len(run.choices) + 1)
    for (source, (name, _)), last in run.last_read.items():
        change[source] += feature_bytes[name]
        change[last + 1] -= feature_bytes[name]
    beside: dict[tuple[int, frozenset[Feature]], int] = {}
    peak, extracts = 0, list[int]()
    for i, held in enumerate(accumulate(change[:-1])):
        choice = run.choices[i]
        if choice:
            made = _combined(plan, run, i, tuple(extracts), start)
            if (choice, made) not in beside:
                mask = None if uses_compiler(compile) else plan.mask(choice)
                beside[choice, made] = _together(plan.architecture, mask, made, feature_bytes)
            held += beside[choice, made]
        else:
            extracts.append(i)
            if uses_compiler(compile):
                held += sum(feature_bytes[name] for name, _ in everything - run.stores[i])
        peak = max(peak, held)
    return peak


def _combined(plan: InheritancePlan, run: Run, step: int, extracts: tuple[int, ...], start: int) -> frozenset[Feature]:
    """The features that the inherit step combines into new tensors; others are inherited unchanged."""
    sources = tuple(source + start for source in extracts[-plan.rule.history :])
    reads = liveness(plan.architecture, plan.mask(run.choices[step])).reads
    several = len(sources) > 1
    return frozenset(f for f in reads if several or plan.rule.coefficients(step + start, sources, f) != (1.0,))


def _together(
    architecture: Architecture, mask: Mask | None, made: frozenset[Feature], feature_bytes: Mapping[str, int]
) -> int:
    """The most bytes of the combined features `made` that a step under `mask` holds at once. Each is made at its node.
    A residual branch is released when it is joined, an output after its last reader, also through removed nodes. mask
    None: all are made before the step."""
    if mask is None:
        return sum(feature_bytes[name] for name, _ in made)
    nodes, last_use = last_uses(architecture, mask)
    taken, forms, held, peak = dict(made), mask.forms, 0, 0
    passed: dict[str, str] = {}  # a value that is an inherited output, by the name of that
    for i, node in enumerate(nodes):
        form = forms.get(node.name)
        if node.name in taken:
            held += feature_bytes[node.name]
            peak = max(peak, held)
        if taken.get(node.name) == "residual":
            held -= feature_bytes[node.name]
        elif node.name in taken:
            passed[node.name] = node.name
        elif (form == "bypass" or (form == "zero" and node.kind == "attn")) and node.inputs[0] in passed:
            passed[node.name] = passed[node.inputs[0]]
        for name in [name for name in inputs_read(node, form) if last_use[name] == i and name in passed]:
            output = passed.pop(name)
            held -= feature_bytes[output] * (output not in passed.values())
    return peak

"""Masks as a trial's suggestions, at one of five granularities.

    block   every block: computed or inherited
    layer   every block: nothing, all of its layers, or (`some`) a choice among them
    unit    every block: nothing, its res units, its attn units, all, or (`some`) a choice among its units
    branch  DeepCache's cut: the input of one up layer is inherited by output
    node    every block: nothing, its units in one form, its outputs to other blocks, or (`some`) a form for each node

The first three have one form for the whole mask, the last mixes them; together they reach every mask that is one, but
for bypassed samplers. A choice for a whole block comes before one for its parts, so that few dimensions already spread
over all costs.

Repair. Inheriting by output may leave nothing that depends on the sample. Then the output entries on the nodes of the
last up layer are dropped, and nothing else: that layer reads conv_in's skip, so the step sees its sample again. Where
that layer was bypassed, its units lose their branches (`zero`).
Bypassing units may give a node another shape than it takes. Then a ResUnit of the decoder goes with its cat, where what
is not the skip has the shape of its output, and any other ResUnit whose channels change loses its branch (`zero`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, Form, Mask, liveness
from explorer.unet.shapes import shapes

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

LEVELS = ("block", "layer", "unit", "branch", "node")


class MaskGenome:
    """Masks of `architecture` at the given granularities, in which units have one of `forms`; `level` is a dimension
    when there are several."""

    def __init__(
        self, architecture: Architecture, levels: Sequence[str] = LEVELS, forms: tuple[Form, ...] = FORMS
    ) -> None:
        self.architecture = architecture
        usable = [level for level in levels if level != "branch" or "output" in forms]
        self.levels = {level: _LEVELS[level](architecture, level, forms) for level in usable}

    def suggest(self, trial: BaseTrial, prefix: str) -> Mask:
        """The mask of parameters that begin with `prefix`, repaired, without unread entries."""
        names = tuple(self.levels)
        level = names[0] if len(names) == 1 else trial.suggest_categorical(f"{prefix}.level", names)
        return repair(self.architecture, self.levels[level].suggest(trial, prefix)).effective(self.architecture)

    def encode(self, mask: Mask, prefix: str) -> dict[str, Any] | None:
        """Parameters that give a mask that computes the same: a branch if it is one, otherwise of the coarsest
        granularity; None when there are none."""
        from optuna.trial import FixedTrial

        wanted = mask.effective(self.architecture)
        for name, level in sorted(self.levels.items(), key=lambda item: item[0] != "branch"):
            guess = level.encode(wanted, prefix)
            if guess is None:
                continue
            if len(self.levels) > 1:
                guess = {f"{prefix}.level": name, **guess}
            if self.suggest(FixedTrial(guess), prefix) == wanted:
                return guess
        return None


def repair(architecture: Architecture, mask: Mask) -> Mask:
    """The mask itself, or what the module's docstring says in place of it."""
    mask = _fitting(architecture, mask)
    if liveness(architecture, mask).depends_on_sample:
        return mask
    last = {node.name for node in architecture.nodes if node.layer == architecture.nodes[-2].layer}
    forms: dict[str, Form] = {name: form for name, form in mask.entries if form != "output" or name not in last}
    for name in last & forms.keys():
        if forms[name] == "bypass" and name in architecture.units:
            forms[name] = "zero"
        elif forms[name] == "bypass":
            del forms[name]
    return _fitting(architecture, Mask.of(forms))  # nodes that were not read may be read now


def _fitting(architecture: Architecture, mask: Mask) -> Mask:
    if mask.misfit(architecture) is None:
        return mask
    forms, usual = mask.forms, shapes(architecture)
    cats: dict[str, Form] = {}
    for unit in architecture.units:
        source = architecture.by_name[architecture.by_name[unit].inputs[0]]
        if forms.get(unit) != "bypass" or usual[source.name] == usual[unit]:
            continue
        if source.kind == "cat" and usual[source.inputs[0]] == usual[unit]:
            cats[source.name] = "bypass"
        else:
            forms[unit] = "zero"
    kept = {name: form for name, form in forms.items() if form != "bypass" or name in architecture.units}
    return Mask.of(kept | cats)


@dataclass(frozen=True)
class _Block:
    """options: named choices of units. parts: the finest that the level tells apart, by name."""

    options: dict[str, tuple[str, ...]]
    parts: dict[str, tuple[str, ...]]

    @property
    def choices(self) -> tuple[str, ...]:
        """`some` asks part by part; it is left out where the options are all that there is."""
        return (*self.options, "some") if 2 ** len(self.parts) > len(self.options) else tuple(self.options)


class _Units:
    """Whole blocks, layers or units, all in one form."""

    def __init__(self, architecture: Architecture, level: str, forms: tuple[Form, ...]) -> None:
        self.level, self.forms = level, forms
        self.blocks = {block: _block(architecture, level, block) for block in architecture.blocks}

    def suggest(self, trial: BaseTrial, prefix: str) -> Mask:
        form = cast(Form, trial.suggest_categorical(f"{prefix}.form", self.forms))
        chosen: list[str] = []
        for name, block in self.blocks.items():
            choice = trial.suggest_categorical(f"{prefix}.{self.level}.{name}", block.choices)
            if choice != "some":
                chosen += block.options[choice]
                continue
            for part, units in block.parts.items():
                if trial.suggest_categorical(f"{prefix}.{self.level}.{part}", (False, True)):
                    chosen += units
        return Mask.of(chosen, form)

    def encode(self, wanted: Mask, prefix: str) -> dict[str, Any] | None:
        forms = set(wanted.forms.values())
        if "zero" in forms and ("bypass" in forms or "zero" not in self.forms):
            forms = forms - {"zero"} | {"bypass"}  # the repair made zeros of some bypasses
        if len(forms) > 1 or not forms <= set(self.forms):
            return None
        guess: dict[str, Any] = {f"{prefix}.form": forms.pop() if forms else self.forms[0]}
        for name, block in self.blocks.items():
            # A part with any entry is taken completely: its other units must be unread, or the caller's proof fails.
            taken = {part: any(unit in wanted.forms for unit in units) for part, units in block.parts.items()}
            chosen = {unit for part, units in block.parts.items() if taken[part] for unit in units}
            choice = next((c for c, option in block.options.items() if set(option) == chosen), "some")
            guess[f"{prefix}.{self.level}.{name}"] = choice
            if choice == "some":
                guess |= {f"{prefix}.{self.level}.{part}": take for part, take in taken.items()}
        return guess


def _block(architecture: Architecture, level: str, name: str) -> _Block:
    units = architecture.blocks[name]
    options: dict[str, tuple[str, ...]] = {"none": (), "all": units}
    if level == "block":
        return _Block(options, {name: units})
    if level == "layer":
        layers = architecture.layers.items()
        return _Block(options, {layer: members for layer, members in layers if members[0] in units})
    kinds = {unit: architecture.by_name[unit].kind for unit in units}
    if len(set(kinds.values())) > 1:
        options |= {kind: tuple(unit for unit in units if kinds[unit] == kind) for kind in ("res", "attn")}
    return _Block(options, {unit: (unit,) for unit in units})


class _Branch:
    """DeepCache (Sec. 3.2): the branch's number counts up layers from the output."""

    def __init__(self, architecture: Architecture, level: str, forms: tuple[Form, ...]) -> None:
        self.inputs = [node.inputs[0] for node in reversed(architecture.nodes) if node.kind == "cat"]

    def suggest(self, trial: BaseTrial, prefix: str) -> Mask:
        return Mask.of([self.inputs[trial.suggest_int(f"{prefix}.branch", 0, len(self.inputs) - 1)]], "output")

    def encode(self, wanted: Mask, prefix: str) -> dict[str, Any] | None:
        if len(wanted) != 1 or wanted.entries[0][0] not in self.inputs or wanted.entries[0][1] != "output":
            return None
        return {f"{prefix}.branch": self.inputs.index(wanted.entries[0][0])}


class _Nodes:
    """Every node with a form of its own. conv_in and out are no dimensions: without them no step sees its sample."""

    def __init__(self, architecture: Architecture, level: str, forms: tuple[Form, ...]) -> None:
        self.forms = {True: ("none", *forms), False: ("none", "output") if "output" in forms else ("none",)}
        """Of a unit, and of any other node."""
        self.blocks = {
            block: {node.name: node.is_unit for node in architecture.nodes if node.block == block}
            for block in architecture.blocks
        }
        readers = {(name, node.block) for node in architecture.nodes if node.kind != "out" for name in node.inputs}
        self.outputs = {
            block: tuple(name for name in nodes if any(name == read and by != block for read, by in readers))
            for block, nodes in self.blocks.items()
        }

    def _options(self, block: str) -> Iterator[tuple[str, Mask]]:
        yield "none", Mask()
        for form in self.forms[True][1:]:
            if form != "output":
                yield form, Mask.of([name for name, is_unit in self.blocks[block].items() if is_unit], cast(Form, form))
        if self.outputs[block] and "output" in self.forms[True]:
            yield "output", Mask.of(self.outputs[block], "output")

    def suggest(self, trial: BaseTrial, prefix: str) -> Mask:
        forms: dict[str, Form] = {}
        for block, nodes in self.blocks.items():
            options = dict(self._options(block))
            choice = trial.suggest_categorical(f"{prefix}.node.{block}", (*options, "some"))
            if choice != "some":
                forms |= options[choice].forms
                continue
            for name, is_unit in nodes.items():
                form = trial.suggest_categorical(f"{prefix}.node.{name}", self.forms[is_unit])
                if form != "none":
                    forms[name] = cast(Form, form)
        return Mask.of(forms)

    def encode(self, wanted: Mask, prefix: str) -> dict[str, Any] | None:
        guess: dict[str, Any] = {}
        for block, nodes in self.blocks.items():
            # The repair brings a bypassed cat back with its ResUnit, and made a zero of a bypass that did not fit.
            made: dict[Form, Form] = {} if "zero" in self.forms[True] else {"zero": "bypass"}
            here = Mask.of({n: made.get(f, f) for n, f in wanted.entries if n in nodes and (nodes[n] or f != "bypass")})
            if not all(form in self.forms[nodes[name]] for name, form in here.entries):
                return None
            choice = next((c for c, option in self._options(block) if option == here), "some")
            guess[f"{prefix}.node.{block}"] = choice
            if choice == "some":
                guess |= {f"{prefix}.node.{name}": here.forms.get(name, "none") for name in nodes}
        return guess


_LEVELS: dict[str, Any] = {"block": _Units, "layer": _Units, "unit": _Units, "branch": _Branch, "node": _Nodes}

"""Masks and schedules as short texts, for plan files that people read.

A mask is a list of names: a unit, or a layer or block for all of its units, inherits its residual; a name that ends in
`=` its output: `mid dn0.l1 up3.l2.attn dn2.down=`. A name that ends in `-` loses its residual branch (`zero`), one that
ends in `--` is bypassed: `mid- up3.l1--`; a bypassed layer or block of the decoder goes with its `cat` nodes.
A schedule is a period `P5@2`, a curve `N10 centre=0.3 power=1.4`, both with `tail=0.2` and `switch=0.3,0.7` where they
have them, `every` (a mask at every evaluation) with `switch=` or without, or written out as `choice*length`:
`0 1*4 0 1*4`.
"""

from __future__ import annotations

import re
from typing import Any

from explorer.errors import PlanError
from explorer.plans.schedule import Curve, Every, Periodic, Schedule, Segments
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask

_HEAD = re.compile(r"P(?P<period>[0-9]{1,6})(?:@(?P<offset>[0-9]{1,6}))?|N(?P<extracts>[0-9]{1,6})")
_RUN = re.compile(r"([0-9]{1,6})(?:\*([0-9]{1,6}))?")
_ENDINGS: dict[Form, str] = {"bypass": "--", "zero": "-", "output": "=", "residual": ""}
"""By form, longer ones first."""
_OPTION = re.compile(r"(centre|power|tail|switch)=([0-9.,e+-]{1,400})")


def mask_to_text(architecture: Architecture, mask: Mask) -> str:
    """The mask in the fewest names; `mask_from_text` gives it back."""
    words, left = _grouped(architecture, mask)
    order = {node.name: i for i, node in enumerate(architecture.nodes)}
    return " ".join(words + [_word(name, left[name]) for name in sorted(left, key=order.__getitem__)])


def describe_mask(architecture: Architecture, mask: Mask) -> str:
    """A mask for people: blocks and layers by name, three further nodes, and a count for the rest."""
    words, left = _grouped(architecture, mask)
    singles = sorted(left)
    words += [_word(name, left[name]) for name in singles[:3]]
    if len(singles) > 3:
        words.append(f"{len(singles) - 3} more")
    return " ".join(words) or "nothing"


def _grouped(architecture: Architecture, mask: Mask) -> tuple[list[str], dict[str, Form]]:
    """The names of the blocks and layers that the mask takes in one form, and the nodes that are left."""
    left = mask.forms
    words: list[str] = []
    for group in (architecture.blocks, architecture.layers):
        for name, units in group.items():
            form = left.get(units[0])
            members = () if form is None else _members(architecture, name, form)
            if form is not None and all(left.get(member) == form for member in members):
                words.append(_word(name, form))
                for member in members:
                    del left[member]
    return words, left


def mask_from_text(architecture: Architecture, text: str) -> Mask:
    """Inverse of `mask_to_text`, for untrusted input. A name that the architecture lacks stays one, for `Mask.check`.

    Raises PlanError when a unit is named twice.
    """
    forms: dict[str, Form] = {}
    for word in text.split():
        name, form = split_word(word)
        for unit in _members(architecture, name, form):
            if unit in forms:
                raise PlanError(f"a mask of the plan names {unit[:80]!r} twice; name each unit once.")
            forms[unit] = form
    return Mask.of(forms)


def _members(architecture: Architecture, name: str, form: Form) -> tuple[str, ...]:
    """The nodes of a name: the units of a block or layer (bypassed, with their `cat` nodes), or the node itself."""
    units = architecture.blocks.get(name) or architecture.layers.get(name)
    if units is None:
        return (name,)
    if form != "bypass":
        return units
    cats = (node.name for node in architecture.nodes if node.kind == "cat" and name in (node.block, node.layer))
    return (*units, *cats)


def split_word(word: str) -> tuple[str, Form]:
    """A word of a mask's text as the name and the form that its ending shows."""
    for form, ending in _ENDINGS.items():
        if ending and word.endswith(ending):
            return word.removesuffix(ending), form
    return word, "residual"


def _word(name: str, form: Form) -> str:
    return name + _ENDINGS[form]


def schedule_to_text(schedule: Schedule) -> str:
    """The schedule as a text; `schedule_from_text` gives it back."""
    if isinstance(schedule, Segments):
        return " ".join(f"{choice}*{length}" if length > 1 else f"{choice}" for choice, length in schedule.runs)
    if isinstance(schedule, Every):
        return " ".join(["every", *_switches(schedule)])
    if isinstance(schedule, Curve):
        words = [f"N{schedule.extracts}", f"centre={schedule.centre!r}", f"power={schedule.power!r}"]
    else:
        words = [f"P{schedule.period}" + (f"@{schedule.offset}" if schedule.offset else "")]
    if schedule.tail:
        words.append(f"tail={schedule.tail!r}")
    return " ".join([*words, *_switches(schedule)])


def _switches(schedule: Periodic | Curve | Every) -> list[str]:
    return ["switch=" + ",".join(map(repr, schedule.switches))] if schedule.switches else []


def schedule_from_text(text: str) -> Schedule:
    """Inverse of `schedule_to_text`, for untrusted input. Raises PlanError."""
    head, *rest = text.split() or [""]
    match = _HEAD.fullmatch(head)
    if match is None and head != "every":
        return Segments(tuple(_run(word) for word in text.split()))
    options: dict[str, Any] = {}
    for word in rest:
        found = _OPTION.fullmatch(word)
        if found is None or found[1] in options:
            raise PlanError(f"the plan's schedule cannot be read at {word[:80]!r}; export the plan again.")
        try:
            values = tuple(float(part) for part in found[2].split(","))
        except ValueError as error:
            raise PlanError(f"the plan's schedule cannot be read at {word[:80]!r}; export the plan again.") from error
        if found[1] != "switch" and len(values) != 1:
            raise PlanError(f"the plan's schedule has {len(values)} numbers at {found[1]}=; export the plan again.")
        options[found[1]] = values if found[1] == "switch" else values[0]
    if match is None:
        if set(options) - {"switch"}:
            raise PlanError("the plan's schedule 'every' only takes switch=; export the plan again.")
        return Every(options.get("switch", ()))
    common = {"tail": options.pop("tail", 0.0), "switches": options.pop("switch", ())}
    wanted = {"centre", "power"} if match["extracts"] else set()
    if set(options) != wanted:
        raise PlanError(
            f"the plan's schedule {head} needs {' and '.join(sorted(wanted)) or 'no centre or power'}; "
            "export the plan again."
        )
    if match["extracts"]:
        return Curve(int(match["extracts"]), **options, **common)
    return Periodic(int(match["period"]), int(match["offset"] or 0), **common)


def _run(word: str) -> tuple[int, int]:
    match = _RUN.fullmatch(word)
    if match is None:
        raise PlanError(
            f"the plan's schedule cannot be read at {word[:80]!r}; expected P5, N10 ..., every or runs as 0 1*4."
        )
    return int(match[1]), int(match[2] or 1)

"""A student as an ordinary diffusers pipeline: a smaller configuration, and the tensors under its own numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import ModelError
from explorer.networks.network_files import writing
from explorer.unet.architecture import Architecture
from explorer.unet.counterparts import counterparts

if TYPE_CHECKING:
    from explorer.networks.student import Student

_BY_LEVEL = (
    "down_block_types", "block_out_channels", "attention_head_dim", "num_attention_heads", "cross_attention_dim",
    "transformer_layers_per_block", "only_cross_attention",
)  # fmt: skip


def export(student: Student, folder: Path, pipe: Any) -> Path:
    """See `Student.export`."""
    unet = pipe.unet
    config = student_config(student)
    teacher = student.network(unet)
    made = type(unet).from_config(config).eval()
    state = teacher.state_dict()
    names = tensor_names(made, teacher)
    made.load_state_dict({own: state[name] for own, name in names.items()}, assign=True)  # in the teacher's precision
    other = copy.copy(pipe)
    other.unet = made
    with writing(folder):
        other.save_pretrained(folder)
    return folder


def student_config(student: Student) -> dict[str, Any]:
    """The diffusers configuration that computes what the student does.

    Raises:
        ModelError: When there is none, saying why.
    """
    convs = student.conditional(student.trained)
    if convs:
        raise _unsaid(student, f"{len(convs)} of its convolutions are mixed from experts")
    architecture = student.architecture
    gone = _bypassed(student)
    levels = len(architecture.down)
    kept_down = [_kept(architecture, gone, f"dn{level}") for level in range(levels)]
    kept_up = [_kept(architecture, gone, f"up{levels - 1 - level}") for level in range(levels)]
    while levels > 1 and not kept_down[levels - 1] and not kept_up[levels - 1]:
        levels -= 1
    for level in range(levels):
        if kept_up[level] != kept_down[level] + 1:
            raise _unsaid(
                student,
                f"level {level} would have {kept_down[level]} layers on the way down and {kept_up[level]} on the way "
                "up, where an up block has one layer more",
            )
    config = dict(student.config)
    for key in _BY_LEVEL:
        if isinstance(config.get(key), list | tuple):
            config[key] = list(config[key])[:levels]
    config["up_block_types"] = list(config["up_block_types"])[len(architecture.down) - levels :]
    if isinstance(config.get("reverse_transformer_layers_per_block"), list | tuple):
        config["reverse_transformer_layers_per_block"] = list(config["reverse_transformer_layers_per_block"])[-levels:]
    config["layers_per_block"] = kept_down[:levels]
    if all(node.name in gone for node in architecture.nodes if node.block == "mid"):
        config["mid_block_type"] = None
    _check_same(student, Architecture.of_config(config), gone)
    return config


def tensor_names(made: Any, teacher: Any) -> dict[str, str]:
    """Each tensor of the exported UNet by the name that it has in the teacher."""
    from explorer.unet.program import Program

    own, theirs = Program(made), Program(teacher)
    pairs = counterparts(own.architecture, theirs.architecture)
    paths = {id(module): path for path, module in teacher.named_modules()}
    prefixes = {
        path: paths[id(theirs.modules[pairs[node]])]
        for path, module in made.named_modules()
        for node, each in own.modules.items()
        if each is module and not node.endswith(".cat")
    }
    return {name: _renamed(name, prefixes) for name in made.state_dict()}


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in prefixes:
            return ".".join([prefixes[prefix], *parts[end:]])
    return name


def _bypassed(student: Student) -> set[str]:
    for node, form in student.removed.entries:
        if form != "bypass":
            raise _unsaid(student, f"{node} keeps its identity path (form {form!r})")
    return set(student.removed.forms)


def _kept(architecture: Architecture, gone: set[str], block: str) -> int:
    """Layers of a block of which some node is kept."""
    layers = {
        node.layer
        for node in architecture.nodes
        if node.block == block and node.kind not in ("down", "up") and node.name not in gone
    }
    return len(layers)


def _check_same(student: Student, made: Architecture, gone: set[str]) -> None:
    """Every node of the exported UNet must read what its counterpart in the teacher reads under the removal."""
    teacher = student.architecture
    pairs = counterparts(made, teacher)

    def given(name: str) -> str:
        """The node whose output is what `name` gives."""
        while name in gone:
            name = teacher.by_name[name].inputs[0]
        return name

    for node in made.nodes:
        other = pairs.get(node.name)
        if other is None or other in gone:
            raise _unsaid(student, f"its {node.name} has no counterpart in the teacher")
        reads = [given(name) for name in teacher.by_name[other].inputs]
        if reads != [pairs.get(name, name) for name in node.inputs]:
            raise _unsaid(student, f"its {other} reads {' and '.join(reads)}, which a smaller UNet would not")


def _unsaid(student: Student, why: str) -> ModelError:
    return ModelError(
        f"no diffusers configuration describes the student {student.name!r}: {why}. Save it with Student.save and run "
        "it by a plan."
    )

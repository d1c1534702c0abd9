"""A student: a UNet without some of its teacher's nodes, and the weights in which it differs from its teacher.

It keeps the names of the teacher's nodes and tensors, so that masks, profiles, LoRA and ControlNet residuals stay right
by name, and so that only what was trained need be stored.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import ModelError, PlanError, brief
from explorer.models.empty_unets import empty_inputs, empty_unet
from explorer.networks.experts import Experts, conditional_convs, place_experts
from explorer.networks.removals import NAMED, named_removal
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask, liveness

if TYPE_CHECKING:
    from torch import Tensor, nn

WHOLE_RUN = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Student:
    """A network that a teacher's UNet becomes.

    Attributes:
        name: What plans call it.
        config: The teacher UNet's configuration.
        removed: What it lacks: nodes with `zero` or `bypass`.
        teacher: Fingerprint of the teacher UNet's weights; None where it has none (tensors without data).
        trained: Blocks that were trained (`dn0`, `mid`, `up3`, `conv_in`, `out`, `time`); the others are the teacher's.
        tensors: The weights of the trained blocks, by the names of the teacher's state dict.
        timesteps: The part of the run that it was trained for, as fractions; 0 is the beginning.
        experts: How the convolutions of the trained blocks are mixed; None where they are the teacher's kind.

    Raises:
        ModelError: For a removal that this UNet does not take, tensors outside of the trained blocks, and experts
            without tensors.
    """

    name: str
    config: Mapping[str, Any]
    removed: Mask
    teacher: str | None
    trained: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    timesteps: tuple[float, float] = WHOLE_RUN
    experts: Experts | None = None

    def __post_init__(self) -> None:
        forms = {form for _, form in self.removed.entries}
        if not forms <= {"zero", "bypass"}:
            raise ModelError("a student lacks nodes by 'zero' or 'bypass'; inheritance is a plan's.")
        try:
            self.removed.check(self.architecture)
        except PlanError as error:
            raise ModelError(f"this is no student: {error}") from error
        start, end = self.timesteps
        if not 0 <= start < end <= 1:
            raise ModelError(f"a student is for a part of the run from 0 to 1, got {start} to {end}.")
        for name in self.tensors:
            if block_of(name) not in self.trained:
                raise ModelError(
                    f"the student has {name}, which is in none of the blocks that were trained "
                    f"({', '.join(self.trained) or 'none'}); its files were changed, save it again."
                )
        missing = [name for name in self.expert_tensors(self.trained) if name not in self.tensors]
        if missing:
            raise ModelError(
                f"the student has experts in the blocks that were trained, and {missing[0]} is missing; its files were "
                "changed, save it again."
            )

    @classmethod
    def named(cls, name: str, unet: Any) -> Student:
        """The student Base, Small, Tiny, M1, M2 or M3 of a UNet, with the teacher's weights. Raises ModelError."""
        removed = named_removal(name, Architecture.of(unet))
        return cls._of(next(each for each in NAMED if each.lower() == name.lower()), unet, removed)

    @classmethod
    def removing(cls, unet: Any, nodes: Mapping[str, Form], *, name: str = "student") -> Student:
        """The student of a UNet that lacks `nodes` (node -> `zero` | `bypass`), with the teacher's weights. Raises
        ModelError."""
        return cls._of(name, unet, Mask.of(nodes))

    @classmethod
    def _of(cls, name: str, unet: Any, removed: Mask) -> Student:
        config = {key: value for key, value in dict(unet.config).items() if not key.startswith("_")}
        return cls(name, config, removed, unet_fingerprint(unet))

    @cached_property
    def architecture(self) -> Architecture:
        """The teacher's."""
        return Architecture.of_config(self.config)

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """Names of the nodes that it does not compute: those removed, and those that only they read."""
        run = set(liveness(self.architecture, self.removed).run)
        return tuple(node.name for node in self.architecture.nodes if node.name not in run)

    # Experts ---------------------------------------------------------------------------------------------------------

    def conditional(self, blocks: Collection[str]) -> tuple[str, ...]:
        """Paths of its convolutions that are mixed from experts where `blocks` are trained."""
        if self.experts is None:
            return ()
        return conditional_convs(self.architecture, self.config, self.removed, blocks)

    def expert_tensors(self, blocks: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that its teacher has not, by name, where `blocks` are trained: those of the further
        experts and of the routers."""
        convs = self.conditional(blocks)
        if not convs:
            return {}
        own = {name for name, _ in self.empty().named_parameters()}
        made = _placed(_json(self.config), convs, self.experts)
        return {name: tuple(p.shape) for name, p in made.named_parameters() if name not in own}

    # What it costs ---------------------------------------------------------------------------------------------------

    def computed(self, unet: nn.Module) -> tuple[str, ...]:
        """Names of the parameters of a UNet of this configuration that the student computes with."""
        from explorer.unet.program import Program

        modules = Program(unet).modules
        paths = {id(module): path for path, module in unet.named_modules()}
        unread = tuple(f"{paths[id(modules[name])]}." for name in self.unread if id(modules[name]) in paths)
        identities = liveness(self.architecture, self.removed).identities
        shortcuts = tuple(f"{paths[id(modules[name])]}.conv_shortcut." for name in identities)
        return tuple(
            name for name, _ in unet.named_parameters() if not name.startswith(unread) or name.startswith(shortcuts)
        )

    @cached_property
    def parameters(self) -> int:
        """The number of its parameters."""
        unet = self.empty()
        computed = {*self.computed(unet)}
        own = sum(p.numel() for name, p in unet.named_parameters() if name in computed)
        return own + sum(math.prod(shape) for shape in self.expert_tensors(self.trained).values())

    def empty(self) -> Any:
        """Its teacher's UNet without data."""
        return _empty(_json(self.config))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of one evaluation of one sample, the mixing of experts included.

        Args:
            height: Of the latent.
            width: Of the latent.
        """
        return _macs(_json(self.config), self.removed, height, width, self.conditional(self.trained), self.experts)

    def macs_share(self, height: int, width: int) -> float:
        """Its MACs over its teacher's."""
        return self.macs(height, width) / _macs(_json(self.config), Mask(), height, width)

    # The network -----------------------------------------------------------------------------------------------------

    def check_teacher(self, unet: Any) -> None:
        """Refuse a UNet that is not its teacher. Raises ModelError naming both."""
        found = Architecture.of(unet)
        if found != self.architecture:
            raise ModelError(
                f"the student {self.name!r} was made from a UNet of {self.architecture.describe()}, and this one has "
                f"{found.describe()}; give its teacher."
            )
        fingerprint = unet_fingerprint(unet)
        if fingerprint != self.teacher:
            raise ModelError(
                f"the student {self.name!r} was made from the UNet with the fingerprint {self.teacher}, and this one "
                f"has {fingerprint} (another fine-tune?); give its teacher, or distil a student of this one."
            )

    def network(self, unet: nn.Module, *, check: bool = True) -> nn.Module:
        """A UNet with the student's weights. It shares the teacher's where they are the same, and keeps the modules of
        the removed nodes, which a run under `removed` does not call.

        Args:
            unet: The teacher. It is not changed.
            check: Whether to compare fingerprints.

        Raises:
            ModelError: For another teacher, and for weights of other names or shapes.
        """
        import torch

        if check:
            self.check_teacher(unet)
        made = _shared_copy(unet, self.tensors)
        convs = self.conditional(self.trained)
        if self.experts is not None:
            place_experts(made, convs, self.experts)
        own = dict(made.named_parameters()) | dict(made.named_buffers())
        for name, tensor in self.tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                raise ModelError(
                    f"the student {self.name!r} has {name} of shape {tuple(tensor.shape)}, which its teacher has not; "
                    "its files were changed, save it again."
                )
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor)
        return made

    def trained_as(self, tensors: Mapping[str, Tensor], blocks: tuple[str, ...]) -> Student:
        """This student after a training of `blocks`."""
        return replace(self, tensors=dict(tensors), trained=blocks)

    # Files -----------------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `student.json` and `student.safetensors` (half precision, the trained blocks alone) into a folder.
        Raises ModelError where it cannot be written."""
        from explorer.networks.student_files import save_student

        return save_student(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Student:
        """Read a folder that `save` wrote; it is validated, and no code is run. Raises ModelError."""
        from explorer.networks.student_files import DOCUMENT, read_student

        place = Path(folder)
        try:
            return cls(**read_student(place))
        except ModelError as error:
            raise error if str(place) in str(error) else ModelError(f"{place / DOCUMENT}: {error}") from error

    def export(self, folder: str | os.PathLike[str], pipe: Any) -> Path:
        """Write an ordinary diffusers pipeline with the student as its UNet, under renumbered names.

        Args:
            folder: Where; made where it is missing.
            pipe: The teacher's pipeline.

        Raises:
            ModelError: When no configuration of diffusers describes the student, saying why; for another teacher; and
                where the folder cannot be written.
        """
        from explorer.networks.student_export import export

        return export(self, Path(folder), pipe)


def block_of(tensor: str) -> str:
    """The block that a tensor of a UNet's state dict belongs to: `dn0`, `mid`, `up3`, `conv_in`, `out` or `time` (the
    time embedding and what is added to it)."""
    first, _, rest = tensor.partition(".")
    match first:
        case "down_blocks":
            return f"dn{rest.partition('.')[0]}"
        case "up_blocks":
            return f"up{rest.partition('.')[0]}"
        case "mid_block":
            return "mid"
        case "conv_in":
            return "conv_in"
        case "conv_norm_out" | "conv_out":
            return "out"
    return "time"


def unet_fingerprint(unet: Any) -> str | None:
    """Fingerprint of a UNet's weights; None where they are tensors without data."""
    from types import SimpleNamespace

    from explorer.models.loading import fingerprint

    if any(p.is_meta for p in unet.parameters()):
        return None
    return fingerprint(SimpleNamespace(unet=unet))


@lru_cache(maxsize=4)
def _empty(config: str) -> Any:
    """The UNet of a configuration, as JSON, without data. Raises ModelError for a configuration that is none."""
    try:
        return empty_unet(json.loads(config))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(
            f"no UNet can be made from this configuration ({brief(error)}); give a diffusers UNet's."
        ) from error


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), sort_keys=True)


def _shared_copy(unet: Any, own: Collection[str] = ()) -> Any:
    """A copy of a UNet with the same tensors, but for those of the names `own`, which are copied."""
    tensors = dict(unet.named_parameters()) | dict(unet.named_buffers())
    return copy.deepcopy(unet, {id(tensor): tensor for name, tensor in tensors.items() if name not in own})


@lru_cache(maxsize=4)
def _placed(config: str, convs: tuple[str, ...], experts: Experts | None) -> Any:
    """The UNet of a configuration without data, with experts in its convolutions `convs`."""
    unet = _empty(config)
    if experts is None or not convs:
        return unet
    unet = _shared_copy(unet)
    place_experts(unet, convs, experts)
    return unet


@lru_cache(maxsize=64)
def _macs(
    config: str, mask: Mask, height: int, width: int, convs: tuple[str, ...] = (), experts: Experts | None = None
) -> int:
    """Multiply-accumulates under a mask, counted by torch's flop counter on tensors without data."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from explorer.unet.conditions import read_conditions
    from explorer.unet.program import Program
    from explorer.unet.variant import Variant

    if min(height, width) < 1:
        raise ModelError(f"a latent size must be positive, got {height}x{width}.")
    unet = _placed(config, convs, experts)
    program = Program(unet)
    variant = Variant(program, mask)
    sample, context, added = empty_inputs(unet, height, width)
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        sample, at = read_conditions(unet, program.architecture, sample, torch.zeros(1), context, added=added)
        variant(sample, at, {})
    return math.ceil(counter.get_total_flops() / 2)

"""The modules of a UNet, walked once.

What a plan looks at before every run (hooks, replaced forwards, adapters, where the weights lie) hangs on hundreds of
modules, and a walk over them takes milliseconds in which a GPU has nothing to do. The tree itself rarely changes: that
it is the same is seen from each module's own children, without names or recursion.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn


class ModuleWalk:
    """All modules of `unet` as they are now. Make a new walk when this one is no longer current.

    modules: every one, in order. bypassed: (name, module) of those whose forward a plan does not call, as it calls the
    parts. attentions: those that have a processor. loras: those that carry a LoRA.

    Modules alone are kept: what may come and go on one (hooks, processors, weights, a scale) is read at each look.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.unet: Any = unet
        named = list(unet.named_modules())
        self.modules = [module for _, module in named]
        self.bypassed = [(name, module) for name, module in named if module is not unet and _is_bypassed(module)]
        self.attentions: list[Any] = [module for module in self.modules if hasattr(type(module), "get_processor")]
        self.loras = [module for module in self.modules if hasattr(module, "lora_A")]
        self._children = [(module._modules, tuple(module._modules.values())) for module in self.modules]

    def is_current(self) -> bool:
        """Whether no module was put in, taken out or exchanged since, at any depth."""
        return all(tuple(children.values()) == known for children, known in self._children)

    def identity(self) -> object:
        """Where the weights lie and who computes attention: what a captured graph has built in. Equal to an earlier
        one where neither changed; it holds the processors, so that none of them is taken for a later one in its
        place."""
        places = tuple(
            tensor.data_ptr()
            for module in self.modules
            for tensors in (module._parameters, module._buffers)
            for tensor in tensors.values()
            if tensor is not None
        )
        processors = [attention.get_processor() for attention in self.attentions]
        return places, tuple((each, repr(getattr(each, "scale", None))) for each in processors)


def _is_bypassed(module: nn.Module) -> bool:
    return hasattr(module, "resnets") or isinstance(module, ResnetBlock2D | Transformer2DModel)

"""Put a speed-up adapter on a pipeline, and take it off again.

A pipeline at guidance 1 gives its UNet no negative prompt. While an adapter is on, the pipeline's `encode_prompt` gives
the text states of both prompts one after the other, (B, 2 T, D), and the processor of each cross-attention reads the
halves apart. Nothing is kept between calls, so threads may share a pipeline as they may without an adapter.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from explorer.errors import ModelError, PlanError
from explorer.networks.speedup import SpeedUp
from explorer.networks.speedup_branch import NegativeBranch
from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import scheduler_for

SpeedUps = Mapping[str, "SpeedUp | str | os.PathLike[str]"]
"""Adapters, or their folders, by the names that plans give them."""
_MARK = "_speed_up"


def speed_up(pipe: Any, adapter: SpeedUp | str | os.PathLike[str], *, guidance: float | None = None) -> SpeedUpHandle:
    """Run a pipeline with a speed-up adapter: guidance in one UNet evaluation a step, and few steps.

    The scheduler and the spacing of timesteps that the adapter was trained for are put on the pipeline as well. Call
    the pipeline with `guidance_scale=1.0`, a negative prompt where one is wanted, and the adapter's number of steps.

    Args:
        pipe: A Stable Diffusion pipeline.
        adapter: The adapter, or its folder; `emoji` for that of the embedded model.
        guidance: The guidance scale, from 1 to the largest that it was trained for; None for its own.

    Returns:
        A context manager with `.remove()`, which gives the pipeline its own scheduler and attention back.

    Raises:
        ModelError: For a UNet of another layout, a pipeline without prompts or with a ControlNet, an adapter that is
            on already, and a guidance scale that it was not trained for.
        PlanError: Where the pipeline's scheduler cannot be exchanged for the adapter's.
    """
    return SpeedUpHandle(pipe, adapter if isinstance(adapter, SpeedUp) else SpeedUp.load(adapter), guidance)


class SpeedUpHandle:
    """An adapter at work on one pipeline, see `speed_up`.

    Attributes:
        adapter: The adapter.
        guidance: The guidance scale of the runs.
    """

    def __init__(self, pipe: Any, adapter: SpeedUp, guidance: float | None) -> None:
        unet = getattr(pipe, "unet", None)
        if unet is None or not callable(getattr(pipe, "encode_prompt", None)):
            raise ModelError(f"{type(pipe).__name__} takes no prompt for a UNet; give a Stable Diffusion pipeline.")
        if has_speed_up(unet):
            raise ModelError("a speed-up adapter is on this UNet already; call .remove() on its handle first.")
        if getattr(getattr(getattr(unet, "_inheritance", None), "plan", None), "cast", None) is not None:
            raise ModelError(
                "the plan on this UNet has students, whose attention an adapter is not on; take the plan off, or take "
                "one without students."
            )
        if getattr(pipe, "controlnet", None) is not None:
            raise ModelError("a ControlNet reads the prompt's text states too; use the adapter without a ControlNet.")
        use = adapter.use
        self.guidance: Any = use.guidance if guidance is None else float(guidance)
        if not 1 <= self.guidance <= use.most:
            raise ModelError(
                f"the adapter was trained for guidance scales from 1 to {use.most:g}, got {self.guidance:g}."
            )
        self.adapter, self._pipe, self._unet = adapter, pipe, unet
        spaced = scheduler_for(pipe.scheduler, use.scheduler, use.spacing)
        self._take_off = put_on(unet, adapter, self)
        self._own = (pipe.scheduler, "encode_prompt" in vars(pipe), vars(pipe).get("encode_prompt"))
        self._hook = unet.register_forward_pre_hook(self._before, with_kwargs=True)
        pipe.scheduler = self._scheduler = spaced
        pipe.encode_prompt = self._encode = both_prompts(pipe.encode_prompt)
        setattr(unet, _MARK, self)

    def __enter__(self) -> SpeedUpHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Give the pipeline its own back. A second call does nothing; what was exchanged since stays."""
        if getattr(self._unet, _MARK, None) is not self:
            return
        delattr(self._unet, _MARK)
        self._hook.remove()
        self._take_off()
        scheduler, had, encode = self._own
        if self._pipe.scheduler is self._scheduler:
            self._pipe.scheduler = scheduler
        if vars(self._pipe).get("encode_prompt") is self._encode:
            if had:
                self._pipe.encode_prompt = encode
            else:
                del self._pipe.encode_prompt

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Move the adapter to where the UNet computes."""
        sample: Tensor = arguments[0] if arguments else given["sample"]
        own = next(self.adapter.parameters())
        if own.device != sample.device or own.dtype != sample.dtype:
            self.adapter.to(sample.device, sample.dtype)


class Guides(Protocol):
    """What knows the guidance scale of a run, or of each sample of a batch, (B, 1, 1)."""

    guidance: Any


class Guided:
    """The processor of a cross-attention with an adapter: the one that it had, then the adapter's branch.

    Args:
        inner: The processor that it had (an IP-Adapter's, say).
        branch: The adapter's part at this cross-attention.
        handle: Has the guidance scale.
    """

    def __init__(self, inner: Callable[..., Tensor], branch: NegativeBranch, handle: Guides) -> None:
        self.inner, self.branch, self.handle = inner, branch, handle

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """As diffusers calls a processor; `encoder_hidden_states` holds the text states of both prompts, (B, 2 T, D),
        or with them what an IP-Adapter's processor reads besides."""
        states, rest = encoder_hidden_states, []
        if isinstance(states, tuple):
            states, *rest = states
        if states is None or states.shape[1] % 2:
            raise ModelError(
                "the UNet has a speed-up adapter and was called without the text states of a negative prompt; call the "
                "pipeline with guidance_scale=1.0, or give torch.cat([prompt, negative], dim=1)."
            )
        if attention_mask is not None:
            raise ModelError("a speed-up adapter reads text states without a mask; call the UNet without one.")
        prompt, negative = states.chunk(2, dim=1)
        read = (prompt, *rest) if rest else prompt
        out = self.inner(attn, hidden_states, read, attention_mask, temb, *args, **kwargs)
        return self.branch(attn, hidden_states, negative, out, self.handle.guidance)


def has_speed_up(unet: Any) -> bool:
    """Whether an adapter is on a UNet."""
    return getattr(unet, _MARK, None) is not None


@contextmanager
def speed_up_of_plan(target: Any, plan: InheritancePlan, speedups: SpeedUps) -> Iterator[SpeedUpHandle | None]:
    """Put on the adapter that a plan names, None where it names none. An error within the context takes it off.

    Args:
        target: The pipeline.
        plan: The plan.
        speedups: Those given by the user.

    Raises:
        PlanError: For an adapter that is not given, and for a bare UNet.
        ModelError: See `speed_up`.
    """
    if plan.speedup is None:
        yield None
        return
    plan.check_runnable(cast_students(plan.cast), speedups)
    if not hasattr(target, "unet"):
        raise PlanError(
            f"the plan's speed-up adapter {plan.speedup!r} reads the negative prompt from a pipeline; give the "
            "pipeline, not its UNet."
        )
    handle = speed_up(target, speedups[plan.speedup])
    try:
        yield handle
    except BaseException:
        handle.remove()
        raise


def check_alone(adapter: SpeedUpHandle | None) -> None:
    """Refuse a second pipeline for a plan with an adapter. Raises PlanError."""
    if adapter is not None:
        raise PlanError("a plan with a speed-up adapter runs the pipeline alone that it was put on.")


def put_on(unet: nn.Module, adapter: SpeedUp, handle: Guides) -> Callable[[], None]:
    """Put an adapter's branches on a UNet's cross-attentions.

    Args:
        unet: Of the adapter's layout.
        adapter: The adapter.
        handle: Has the guidance scale.

    Returns:
        What takes them off again, but where a processor was exchanged since.

    Raises:
        ModelError: For a UNet of another layout.
    """
    before = [(attention, attention.processor) for attention in adapter.check_unet(unet).values()]
    for (attention, inner), branch in zip(before, adapter.parts, strict=True):
        attention.set_processor(Guided(inner, branch, handle))

    def take_off() -> None:
        for attention, inner in before:
            if isinstance(attention.processor, Guided) and attention.processor.handle is handle:
                attention.set_processor(inner)

    return take_off


def both_prompts(encode: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's `encode_prompt` that gives the states of the prompt and of the negative prompt as one tensor.

    Args:
        encode: The pipeline's own, bound.
    """
    signature = inspect.signature(encode)

    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.arguments["do_classifier_free_guidance"]:
            raise ModelError(
                "a speed-up adapter guides by itself, in one evaluation; call the pipeline with guidance_scale=1.0, "
                "and give the scale to speed_up(..., guidance=...)."
            )
        bound.arguments["do_classifier_free_guidance"] = True
        prompts, unwanted = (bound.arguments.get(name) for name in ("prompt", "negative_prompt"))
        if isinstance(prompts, list) and isinstance(unwanted, str):
            bound.arguments["negative_prompt"] = [unwanted] * len(prompts)
        prompt, negative, *pooled = encode(*bound.args, **bound.kwargs)
        if prompt.shape != negative.shape:
            raise ModelError(
                f"the text states of the prompt and of the negative prompt have the shapes {tuple(prompt.shape)} and "
                f"{tuple(negative.shape)}; a speed-up adapter needs them alike."
            )
        # without guidance a pipeline reads no negative states, pooled ones neither
        return (torch.cat([prompt, negative], dim=1), None, *([pooled[0], None] if pooled else []))

    return encode_prompt

"""What a profile times: guided pictures of a size and batch, on a device, in a dtype, eager or compiled."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from explorer.compile_modes import CompileMode, compile_mode
from explorer.errors import ModelError
from explorer.models.library_messages import quiet_libraries
from explorer.models.sizes import LARGEST

if TYPE_CHECKING:
    import torch

TEXT_TOKENS = 77


@dataclass(frozen=True)
class Workload:
    """`batch` pictures of `resolution` (height, width in pixels) with guidance: the UNet sees 2 `batch` latents.

    device, dtype: as resolved (`cuda:0`, `float16`). compile: a mode of `explorer.compile_modes`.
    """

    batch: int
    resolution: tuple[int, int]
    device: str
    dtype: str
    compile: CompileMode = "off"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ModelError(f"--batch must be at least 1, got {self.batch}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"resolution": list(self.resolution)}

    @classmethod
    def from_json(cls, data: Any) -> Workload:
        fixed = {"resolution": tuple(data["resolution"]), "compile": compile_mode(data["compile"])}
        return cls(**{**data, **fixed})


def is_guided(guidance: float) -> bool:
    """Whether a pipeline runs classifier-free guidance at this scale: the UNet then sees two samples a picture."""
    return guidance > 1


def vae_factor(pipe: Any) -> int:
    """Pixels per side of a latent: 8 for Stable Diffusion and the embedded model."""
    return int(2 ** (len(pipe.vae.config.block_out_channels) - 1))


def latent_size(resolution: tuple[int, int], factor: int) -> tuple[int, int]:
    """Height and width of the latents. Raises ModelError for a resolution that is no multiple of the factor, or of more
    than LARGEST pixels."""
    if min(resolution) < factor or max(resolution) > LARGEST or any(side % factor for side in resolution):
        raise ModelError(
            f"--resolution must be a positive multiple of {factor} pixels with this model, {LARGEST} at most, got "
            f"{'x'.join(str(side) for side in resolution)}."
        )
    return resolution[0] // factor, resolution[1] // factor


def text_tokens(pipe: Any) -> int:
    """Tokens of a prompt: the tokenizer's length, 77 for a true architecture without one."""
    tokenizer = getattr(pipe, "tokenizer", None)
    return int(tokenizer.model_max_length) if tokenizer is not None else TEXT_TOKENS


def cut_prompts(pipe: Any, prompts: Sequence[str]) -> list[str]:
    """The prompts that are longer than a text encoder of the pipeline reads: it ignores the rest of them."""
    tokenizers = [each for name in ("tokenizer", "tokenizer_2") if (each := getattr(pipe, name, None)) is not None]
    with quiet_libraries():
        return [
            prompt
            for prompt in prompts
            if any(len(each(prompt).input_ids) > each.model_max_length for each in tokenizers)
        ]


def random_embeds(pipe: Any, batch: int, device: torch.device) -> dict[str, Any]:
    """Embeddings of the right shapes, as a pipeline takes them: latency does not read them."""
    import torch

    config = pipe.unet.config
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator).to(device, pipe.unet.dtype)

    width, tokens = config.cross_attention_dim, text_tokens(pipe)
    made = {name: draw(tokens, width) for name in ("prompt_embeds", "negative_prompt_embeds")}
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        made |= {name: draw(pooled) for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")}
    return made


def unet_inputs(pipe: Any, workload: Workload, device: torch.device) -> dict[str, Any]:
    """Keyword arguments of one UNet evaluation of the workload, as its pipeline would give them: both halves of
    guidance in one batch."""
    import torch

    config = pipe.unet.config
    height, width = latent_size(workload.resolution, vae_factor(pipe))
    embeds = random_embeds(pipe, workload.batch, device)
    generator = torch.Generator("cpu").manual_seed(1)
    sample = torch.randn(2 * workload.batch, config.in_channels, height, width, generator=generator)
    inputs: dict[str, Any] = {
        "sample": sample.to(device, pipe.unet.dtype),
        "timestep": torch.tensor(500, device=device),
        "encoder_hidden_states": torch.cat([embeds["negative_prompt_embeds"], embeds["prompt_embeds"]]),
        "return_dict": False,
    }
    if "pooled_prompt_embeds" in embeds:
        pooled = torch.cat([embeds["negative_pooled_prompt_embeds"], embeds["pooled_prompt_embeds"]])
        sizes = torch.tensor([[*workload.resolution, 0, 0, *workload.resolution]], dtype=pooled.dtype, device=device)
        inputs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes.repeat(2 * workload.batch, 1)}
    return inputs


def twin(pipe: Any) -> Any:
    """A pipeline that shares every weight with `pipe` but has a UNet object and a scheduler of its own, so that a plan
    can be applied to one while the other stays stock, and the two be timed in turn."""
    other = copy.copy(pipe)
    other.unet = copy.copy(pipe.unet)
    other.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return other

"""Whole pipelines of tiny random parts, as people assemble them: text encoders, adapters, control networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import torch

from explorer.models.loading import EMBEDDED
from tests.conftest import SHAPES, make_unet

SIDE = 64  # pixels; the autoencoder halves three times, so that control networks' pictures fit
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def picture(channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def hole() -> torch.Tensor:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    return mask


@cache
def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(EMBEDDED / "emoji" / "tokenizer")


def text_encoder(width: int = 16, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer()), hidden_size=width, intermediate_size=16, projection_dim=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=tokenizer().bos_token_id,
        eos_token_id=tokenizer().eos_token_id, pad_token_id=tokenizer().pad_token_id,
    )  # fmt: skip
    torch.manual_seed(11)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def autoencoder() -> Any:
    torch.manual_seed(12)
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=SIDE, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip


def ddim() -> Any:
    return diffusers.DDIMScheduler(**BETAS, clip_sample=False, steps_offset=1, set_alpha_to_one=False)


def sd(kind: str = "StableDiffusionPipeline", scheduler: Any = None, more: Any = None, **unet_changes: Any) -> Any:
    """A Stable Diffusion 1.x pipeline of class `kind`. more: unet -> further components."""
    unet = make_unet("sd1", sample_size=8, **unet_changes)
    parts = {
        "vae": autoencoder(), "text_encoder": text_encoder(), "tokenizer": tokenizer(), "unet": unet,
        "scheduler": scheduler or ddim(), "safety_checker": None, "feature_extractor": None,
        **(more(unet) if more else {}),
    }  # fmt: skip
    if kind != "StableDiffusionUpscalePipeline":
        parts["requires_safety_checker"] = False
    pipe = getattr(diffusers, kind)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl(kind: str = "StableDiffusionXLPipeline", more: Any = None, refiner: bool = False, **unet_changes: Any) -> Any:
    """An SDXL pipeline of class `kind`; the refiner has one text encoder and an aesthetic score."""
    sizes = {"projection_class_embeddings_input_dim": 5 * 8 + 16} if refiner else {}
    assert SHAPES["sdxl"]["cross_attention_dim"] == 16
    unet = make_unet("sdxl", sample_size=8, **sizes, **unet_changes)
    parts = {
        "vae": autoencoder(), "unet": unet, "scheduler": diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1),
        "text_encoder": None if refiner else text_encoder(8), "tokenizer": None if refiner else tokenizer(),
        "text_encoder_2": text_encoder(16 if refiner else 8, projection=True), "tokenizer_2": tokenizer(),
        "add_watermarker": False, **({"requires_aesthetics_score": True} if refiner else {}),
        **(more(unet) if more else {}),
    }  # fmt: skip
    if "Adapter" in kind:
        del parts["add_watermarker"]
    pipe = getattr(diffusers, kind)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def controlnet(unet: Any, seed: int = 5, scale: float = 0.1) -> Any:
    """A control network from the UNet's own encoder, whose outputs are not zero."""
    net = diffusers.ControlNetModel.from_unet(unet).eval()
    torch.manual_seed(seed)
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        torch.nn.init.normal_(block.weight, std=scale)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=scale)
    return net


def t2i_adapter(kind: str, factor: int) -> Any:
    torch.manual_seed(6)
    return diffusers.T2IAdapter(3, [16, 32, 32, 32], 1, factor, kind).eval()


def ip_adapter(pipe: Any) -> Any:
    """The pipeline with a random IP-Adapter; give it `ip_adapter_image_embeds`."""
    unet = pipe.unet
    width = unet.config.cross_attention_dim
    torch.manual_seed(8)
    keys: dict[str, torch.Tensor] = {}
    index = 1
    for name in unet.attn_processors:
        if "attn2" in name:
            block = unet.get_submodule(name.removesuffix(".processor"))
            keys[f"{index}.to_k_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            keys[f"{index}.to_v_ip.weight"] = torch.randn(block.inner_dim, width) * 0.2
            index += 2
    projection = {"proj.weight": torch.randn(4 * width, 10), "proj.bias": torch.zeros(4 * width),
                  "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}  # fmt: skip
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys}], low_cpu_mem_usage=False)
    return pipe


IP_EMBEDS = [torch.randn(2, 1, 10, generator=torch.Generator().manual_seed(9))]


def with_textual_inversion(pipe: Any) -> Any:
    """A new token of its own tokenizer: the shared one is left alone."""
    from copy import deepcopy

    pipe.tokenizer = deepcopy(pipe.tokenizer)
    pipe.load_textual_inversion(torch.randn(16, generator=torch.Generator().manual_seed(4)), token="<thing>")
    return pipe


@dataclass(frozen=True)
class Case:
    """build: the pipeline. arguments: of its call. evaluations: of 6 steps."""

    build: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]] = dict
    evaluations: int = 6

    def run(self, pipe: Any, **changes: Any) -> torch.Tensor:
        """The latents of one call: prompt, seed and steps are fixed."""
        fixed = {"prompt": "a red car", "num_inference_steps": 6, "output_type": "latent"}
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            return pipe(**{"generator": generator, **fixed, **self.arguments(), **changes}).images


def _size() -> dict[str, Any]:
    return {"height": SIDE, "width": SIDE}


def _image() -> dict[str, Any]:
    return {"image": picture()}


def _repaint() -> dict[str, Any]:
    return {"image": picture(), "mask_image": hole(), **_size()}


def _with(**more: Any) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    return lambda base: lambda: {**base(), **more}


HALF = _with(strength=0.5)
FULL = _with(strength=1.0)


CASES: dict[str, Case] = {
    "text2img": Case(sd),
    "img2img": Case(lambda: sd("StableDiffusionImg2ImgPipeline"), HALF(_image), 3),
    "inpaint, 4 channels": Case(lambda: sd("StableDiffusionInpaintPipeline"), HALF(_repaint), 3),
    "inpaint, 9 channels": Case(lambda: sd("StableDiffusionInpaintPipeline", in_channels=9), FULL(_repaint)),
    "ControlNet": Case(lambda: sd("StableDiffusionControlNetPipeline", more=lambda u: {"controlnet": controlnet(u)}),
                       _image),
    "ControlNet, two": Case(
        lambda: sd("StableDiffusionControlNetPipeline",
                   more=lambda u: {"controlnet": [controlnet(u), controlnet(u, 6)]}),
        lambda: {"image": [picture(), picture(seed=1)], "controlnet_conditioning_scale": [0.5, 1.0]}),
    "ControlNet, part of the run": Case(
        lambda: sd("StableDiffusionControlNetPipeline", more=lambda u: {"controlnet": controlnet(u)}),
        lambda: {"image": picture(), "control_guidance_start": 0.2, "control_guidance_end": 0.7, "guess_mode": True}),
    "ControlNet img2img": Case(
        lambda: sd("StableDiffusionControlNetImg2ImgPipeline", more=lambda u: {"controlnet": controlnet(u)}),
        lambda: {"image": picture(), "control_image": picture(seed=1), "strength": 0.5}, 3),
    "ControlNet inpaint": Case(
        lambda: sd("StableDiffusionControlNetInpaintPipeline", more=lambda u: {"controlnet": controlnet(u)}),
        lambda: {**_repaint(), "control_image": picture(seed=1), "strength": 0.5}, 3),
    "T2I-Adapter": Case(
        lambda: sd("StableDiffusionAdapterPipeline", more=lambda _: {"adapter": t2i_adapter("full_adapter", 8)}),
        lambda: {**_image(), **_size()}),
    "IP-Adapter": Case(lambda: ip_adapter(sd()), lambda: {"ip_adapter_image_embeds": IP_EMBEDS}),
    "textual inversion": Case(lambda: with_textual_inversion(sd()), lambda: {"prompt": "a <thing> car"}),
    "PAG": Case(lambda: sd("StableDiffusionPAGPipeline", more=lambda _: {"pag_applied_layers": ["mid"]}),
                lambda: {"pag_scale": 3.0, "pag_adaptive_scale": 0.01}),
    "LCM": Case(
        lambda: sd("LatentConsistencyModelPipeline", diffusers.LCMScheduler(**BETAS), time_cond_proj_dim=32), _size),
    "LCM img2img": Case(
        lambda: sd("LatentConsistencyModelImg2ImgPipeline", diffusers.LCMScheduler(**BETAS), time_cond_proj_dim=32),
        HALF(_image), 6),
    "low steps without guidance": Case(lambda: sd(scheduler=diffusers.TCDScheduler(**BETAS)),
                                       lambda: {"guidance_scale": 1.0, "num_inference_steps": 4}, 4),
    "InstructPix2Pix": Case(lambda: sd("StableDiffusionInstructPix2PixPipeline", in_channels=8), _image),
    "upscale": Case(
        lambda: sd("StableDiffusionUpscalePipeline", in_channels=7, num_class_embeds=1000,
                   more=lambda _: {"low_res_scheduler": diffusers.DDPMScheduler(), "max_noise_level": 350}),
        lambda: {"image": torch.nn.functional.interpolate(picture(), size=8) * 2 - 1}),
    "SDXL": Case(sdxl, _size),
    "SDXL base, head of the run": Case(sdxl, lambda: {**_size(), "denoising_end": 0.5}, 3),
    "SDXL refiner, tail of the run": Case(
        lambda: sdxl("StableDiffusionXLImg2ImgPipeline", refiner=True),
        lambda: {"image": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
                 "denoising_start": 0.5}, 3),
    "SDXL img2img": Case(lambda: sdxl("StableDiffusionXLImg2ImgPipeline"), HALF(_image), 3),
    "SDXL inpaint": Case(lambda: sdxl("StableDiffusionXLInpaintPipeline"), HALF(_repaint), 3),
    "SDXL ControlNet": Case(
        lambda: sdxl("StableDiffusionXLControlNetPipeline", more=lambda u: {"controlnet": controlnet(u)}), _image),
    "SDXL T2I-Adapter": Case(
        lambda: sdxl("StableDiffusionXLAdapterPipeline",
                     more=lambda _: {"adapter": t2i_adapter("full_adapter_xl", 16)}),
        lambda: {**_image(), **_size()}),
    "SDXL PAG": Case(lambda: sdxl("StableDiffusionXLPAGPipeline", more=lambda _: {"pag_applied_layers": ["mid"]}),
                     lambda: {**_size(), "pag_scale": 3.0}),
}  # fmt: skip

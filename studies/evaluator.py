"""Scores one plan on the real pipeline: latency against the un-accelerated loop, then pictures and their quality."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from explorer.architecture import Architecture
from explorer.devices import DeviceInfo
from explorer.errors import ExplorerError, ScoreError, StudyError
from explorer.latency import PAIRS, compare
from explorer.pictures import THUMBNAIL, generate
from explorer.plan import InheritancePlan
from explorer.prompts import Prompt
from explorer.quality.scorer import Scorer
from explorer.runtime import inherit
from studies.scored import LATENCY, QUALITY, Part, Picture, Scored

KEPT_PICTURES = 16
"""Pictures kept of a candidate: so many of the first prompts and half as many of those that drifted most. Of the
un-accelerated run all are kept."""


class CandidateEvaluator:
    """Measures plans on `pipe`, which stays as it is: a plan is applied to a shallow copy that shares its weights.

    scorer: None measures latency alone (a model with random weights has no quality). embeds: prompt embeddings for a
    pipeline without a text encoder. size: height and width of a picture in pixels, the pipeline's own by default.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        steps: int,
        guidance: float,
        prompts: tuple[Prompt, ...],
        scorer: Scorer | None,
        device: torch.device,
        info: DeviceInfo,
        seed: int = 0,
        batch: int = 16,
        latency_batch: int = 1,
        pairs: int = PAIRS,
        size: tuple[int, int] | None = None,
        compile: bool = False,
        embeds: dict[str, Any] | None = None,
    ) -> None:
        self.pipe = pipe
        self.steps, self.guidance, self.prompts, self.scorer = steps, guidance, prompts, scorer
        self.device, self.info, self.seed = device, info, seed
        self.batch, self.latency_batch, self.pairs = batch, latency_batch, pairs
        self.size, self.compile = size, compile
        self._twin, self._stock = twin(pipe), pipe
        if compile:
            # Compiled against eager would mix the compiler's gain with the plan's: both sides are compiled.
            self._stock = twin(pipe)
            inherit(self._stock, InheritancePlan(Architecture.of(pipe.unet), steps), compile=True)
        self._conditions = embeds
        self._counts: dict[int, int] = {}
        self._baseline: torch.Tensor | None = None
        self._warm = False

    def evaluations(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan under the pipeline's scheduler (PNDM: one more than its steps)."""
        if plan.steps not in self._counts:
            self._counts[plan.steps] = evaluations_of(self.pipe.scheduler, plan.steps)
        return self._counts[plan.steps]

    def score(self, plan: InheritancePlan, part: Part | None = None) -> Scored:
        """Latency, speed-up and every metric of the scorer, with what each took; one part of it where that is asked.
        The un-accelerated pictures are this device's own: those of two devices differ by rounding.

        Raises:
            ExplorerError or RuntimeError: when the plan cannot run or be scored; the pipeline is left as it was.
        """
        try:
            with inherit(self._twin, plan, compile=self.compile):
                return self._score(plan, part)
        except (ExplorerError, RuntimeError):
            raise
        except Exception as error:  # diffusers and the compiler raise many types for a run that cannot be
            first = (str(error).strip() or "no message").splitlines()[0]
            raise ScoreError(f"the plan cannot run ({type(error).__name__}: {first})") from error

    def _score(self, plan: InheritancePlan, part: Part | None) -> Scored:
        """With the plan applied to the twin."""
        if part == QUALITY:
            return self._quality(plan)
        latency = self._latency(plan)
        if part == LATENCY or self.scorer is None:
            return latency
        quality = self._quality(plan)
        return Scored(
            {**latency.estimates, **quality.estimates},
            {**latency.seconds, **quality.seconds},
            quality.extractors,
            {**latency.samples, **quality.samples},
            quality.pictures,
        )

    def _latency(self, plan: InheritancePlan) -> Scored:
        with on_device(self.info):
            start = time.perf_counter()
            latency = compare(
                lambda: self._loop(self._stock, self.steps),
                lambda: self._loop(self._twin, plan.steps),
                device=self.device,
                images=self.latency_batch,
                pairs=self.pairs,
                baseline_warm=self._warm,
            )
            self._warm = True
        estimates = {"latency": latency.seconds, "speedup": latency.speedup}
        spent = {"latency": time.perf_counter() - start}
        return Scored(estimates, spent, {}, {"latency": [list(pair) for pair in latency.samples]})

    def _quality(self, plan: InheritancePlan) -> Scored:
        if self.scorer is None:
            raise ScoreError("a model with random weights has no quality to score; measure its latency alone.")
        with on_device(self.info, shared=True):
            baseline = self.baseline_pictures()
            pictures = self._pictures(self._twin, plan.steps)
            scores = self.scorer.score(pictures, self.prompts, baseline)
        extractors = {name: self.scorer.extractor for name in scores if name not in scores.each}
        extractors.update({name: self.scorer.clip_model for name in scores if name.startswith("clip")})
        if plan.extracts_always and plan.steps == self.steps:
            kept = list(range(len(pictures)))  # what every other plan's pictures stand beside
        else:
            kept = _first_and_worst(len(pictures), scores.each.get("psnr", []))
        return Scored(
            dict(scores), scores.seconds, extractors, dict(scores.each), [self._picture(i, pictures[i]) for i in kept]
        )

    def baseline_pictures(self) -> torch.Tensor:
        """The un-accelerated pictures of the same prompts and seeds, made once; uint8 (N, 3, H, W)."""
        if self._baseline is None:
            try:
                self._baseline = self._pictures(self._stock, self.steps)
            except RuntimeError as error:
                # No plan could be scored beside it: the study stops instead of recording failures.
                raise StudyError(f"the un-accelerated pipeline cannot make its pictures ({error}).") from error
        return self._baseline

    def _pictures(self, pipe: Any, steps: int) -> torch.Tensor:
        return generate(
            pipe, self.prompts, seed=self.seed, steps=steps, guidance=self.guidance, batch_size=self.batch,
            size=self.size,
        )  # fmt: skip

    def _loop(self, pipe: Any, steps: int) -> None:
        """The denoising loop alone: embeddings are made beforehand and latents are not decoded."""
        shape = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        pipe(
            num_inference_steps=steps,
            guidance_scale=self.guidance,
            output_type="latent",
            generator=torch.Generator("cpu").manual_seed(self.seed),
            **self._embeds(),
            **shape,
        )

    def _embeds(self) -> dict[str, Any]:
        if self._conditions is None:
            words = [self.prompts[i % len(self.prompts)].text for i in range(self.latency_batch)]
            self._conditions = encode(self.pipe, words, self.device)
        return self._conditions

    def _picture(self, number: int, picture: torch.Tensor) -> Picture:
        return Picture(number, *as_png(picture), prompt=self.prompts[number].text, seed=self.seed + number)


def _first_and_worst(count: int, psnr: list[float]) -> list[int]:
    """Which pictures to keep: those of the first prompts, and those that drifted most."""
    first = range(min(KEPT_PICTURES, count))
    worst = sorted(range(len(psnr)), key=psnr.__getitem__)[: KEPT_PICTURES // 2]
    return sorted({*first, *worst})


def twin(pipe: Any) -> Any:
    """A pipeline that shares every weight with `pipe` but has a UNet object and a scheduler of its own, so that a plan
    can be applied to one while the other stays stock, and the two be timed in turn."""
    other = copy.copy(pipe)
    other.unet = copy.copy(pipe.unet)
    other.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return other


def evaluations_of(scheduler: Any, steps: int) -> int:
    """UNet evaluations of a run of `steps` steps."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    return len(fresh.timesteps)


@torch.no_grad()
def encode(pipe: Any, words: list[str], device: torch.device) -> dict[str, Any]:
    """Prompt and negative-prompt embeddings as the pipeline itself makes them, SD and SDXL."""
    made = pipe.encode_prompt(
        words, device=device, num_images_per_prompt=1, do_classifier_free_guidance=True
    )  # fmt: skip
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return dict(zip(names, made, strict=False))


def random_embeds(pipe: Any, batch: int, device: torch.device) -> dict[str, Any]:
    """Embeddings of the right shapes for a true architecture without text encoders: latency does not read them."""
    config = pipe.unet.config
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator).to(device, pipe.unet.dtype)

    made = {name: draw(77, config.cross_attention_dim) for name in ("prompt_embeds", "negative_prompt_embeds")}
    if config.addition_embed_type == "text_time":
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        made |= {name: draw(width) for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")}
    return made


def as_png(picture: torch.Tensor) -> tuple[bytes, bytes]:
    """A picture uint8 (3, H, W) and its thumbnail, as PNG."""
    from PIL import Image

    image = Image.fromarray(picture.permute(1, 2, 0).cpu().numpy())
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    files = []
    for each in (image, small):
        stream = io.BytesIO()
        each.save(stream, "PNG")
        files.append(stream.getvalue())
    return files[0], files[1]


@contextlib.contextmanager
def on_device(info: DeviceInfo, *, shared: bool = False) -> Iterator[None]:
    """Hold this machine's device against the other workers of the explorer: a latency is measured alone, pictures may
    be made side by side. Where the system has no file locks nothing is held."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        yield
        return
    name = "".join(c if c.isalnum() else "-" for c in f"{info.kind}-{info.name}")
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"inheritance-explorer-{name}-{user}.lock"
    with _opened(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = path.open("a")
    except OSError as error:
        raise StudyError(f"the device lock {path} cannot be opened ({error.strerror}); make it writable.") from error
    with file:
        yield file

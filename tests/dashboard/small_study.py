"""A small real study, written through the studies' own API: real plans on SD1.x's topology, real little pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image

from explorer.calibration.sensitivity import Sensitivity
from explorer.calibration.step_errors import Design
from explorer.errors import PlanError
from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import strategy
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from studies import Objective, Picture, Scored, Store, StudyRecord, StudySettings, enqueue
from studies.metrics import PREDICTED
from studies.predicting import calibration
from studies.queue import finishing, queue
from studies.queue.heartbeats import Worker
from studies.searching import findings

STEPS = 20
UNET = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (16, 32, 32, 32),
    "layers_per_block": 2,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 16,
}
ARCHITECTURE = Architecture.of_config(UNET)
HOSTILE = (
    "<img src=x onerror=alert(1)> **bold** [a link](http://example.org) :smile: $x$ www.example.org me@example.org"
)
PROMPTS = ["a red car", "a cat", HOSTILE, *(f"thing {i}" for i in range(9))]
# Name -> speed-up, noise in the pictures, origin.
PLANS = {
    "plain@20": (1.0, 0.0, "baseline"),
    "plain@10": (1.98, 30.0, "baseline"),
    "DC0/P3": (1.8, 12.0, "baseline"),
    "EP/P2": (1.25, 8.0, "baseline"),
    "CO6/P5†": (1.9, 25.0, "baseline"),
    "DC0/P2+f2": (1.5, 0.4, "search"),
    "AI/P2": (1.2, 14.0, "search"),
}

ALL_PARTS = ("moments/0", "errors/0", "errors/1", "plain/10")


class OutsideSpace:
    """A space that no plan lies in: plans are scored all the same."""

    name = "none"

    def suggest(self, trial: Any) -> InheritancePlan:
        raise PlanError("this space holds no plan.")

    def parameters(self, plan: InheritancePlan) -> dict[str, Any]:
        raise PlanError("this space holds no plan.")


def settings(**change: Any) -> StudySettings:
    values: dict[str, Any] = {
        "model": "emoji",
        "architecture": ARCHITECTURE.signature,
        "device": "cpu: a small machine",
        "dtype": "float32",
        "resolution": (64, 64),
        "steps": STEPS,
        "scheduler": "PNDMScheduler",
        "space": "none",
        "objectives": (
            Objective("latency", "minimize"),
            Objective("fd_toy", "minimize"),
            Objective("clip", "maximize"),
        ),
        "prompts": "emoji-search",
        "prompts_hash": "0" * 64,
    }
    return StudySettings(**(values | change))


def plan_of(name: str, origin: str) -> InheritancePlan:
    plan = strategy(name, steps=STEPS, unet=ARCHITECTURE)
    return replace(plan, name=None) if origin == "search" else plan


def evaluations(plan: InheritancePlan) -> int:
    """PNDM's."""
    return plan.steps + 1


def _png(pixels: NDArray[np.uint8], side: int | None = None) -> bytes:
    image = Image.fromarray(pixels)
    if side:
        image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def drawn(number: int, noise: float) -> NDArray[np.uint8]:
    """A disc on white, with noise that grows with the prompt's number: (64, 64, 3)."""
    rows, columns = np.mgrid[:64, :64]
    picture = np.full((64, 64, 3), 255.0)
    colour = np.random.default_rng(number).integers(0, 200, 3)
    picture[(rows - 32) ** 2 + (columns - 32) ** 2 < 400] = colour
    rough = np.random.default_rng(100 + number).normal(0, 1, picture.shape) * noise * (1 + number / 4)
    return np.clip(picture + rough, 0, 255).astype(np.uint8)


def psnr(number: int, noise: float) -> float:
    error = ((drawn(number, noise).astype(float) - drawn(number, 0.0)) ** 2).mean()
    return float(min(100.0, 10 * np.log10(255**2 / error))) if error else 100.0


def scored(speedup: float, noise: float) -> Scored:
    """What an evaluator gives: scores that fall with the noise, per-picture PSNR values, pictures."""
    each = [psnr(i, noise) for i in range(len(PROMPTS))]
    mean = float(np.mean(each))
    n = len(PROMPTS)
    estimates = {
        "latency": Estimate(1 / speedup, 0.99 / speedup, 1.01 / speedup, 7),
        "speedup": Estimate(speedup, speedup * 0.98, speedup * 1.02, 7),
        "fd_toy": Estimate(20 + noise, 19 + noise * 0.9, 21 + noise * 1.1, n),
        "clip": Estimate(30 - noise / 20, 29.8 - noise / 20, 30.2 - noise / 20, n),
        "psnr": Estimate(mean, min(each), max(each), n),
        PREDICTED: Estimate(noise / 50, noise / 50, noise / 50, 2),
    }
    pictures = [
        Picture(i, _png(drawn(i, noise)), _png(drawn(i, noise), 48), prompt, seed=i) for i, prompt in enumerate(PROMPTS)
    ]
    samples = {
        "psnr": each,
        "clip": [30 - noise / 20 + i for i in range(n)],  # what a prompt does is larger than what a plan does
        "latency": [[1.0, 1 / speedup / (1 + i / 500)] for i in range(-3, 4)],
    }
    return Scored(estimates, {"latency": 1.5}, {"fd_toy": "toy-extractor"}, samples, pictures)


def fill(store: Store, name: str, names: Iterable[str] = PLANS, *, broken: bool = False, **change: Any) -> StudyRecord:
    """A study of the plans `names`, each scored, or each failed when `broken`; change: of its settings."""
    study = store.create_study(name, settings(**change))
    chosen = {key: PLANS[key] for key in names}
    for origin in ("baseline", "search"):
        plans = [plan_of(key, made) for key, (_, _, made) in chosen.items() if made == origin]
        enqueue(store, study, plans, OutsideSpace(), evaluations, origin)
    worker = Worker.start(store, study, {"name": "a small machine"})
    keys = {plan_of(key, made).key(evaluations(plan_of(key, made))): key for key, (_, _, made) in chosen.items()}
    number = queue.counts(store, study).finished
    while (claim := queue.claim_waiting(store, study, worker.id, None)) is not None:
        finishing.set_number(store, claim, number)
        if broken:
            finishing.fail(store, claim, f"plan {number} ran out of memory")
        else:
            speedup, noise, _ = PLANS[keys[claim.key]]
            finishing.finish(store, study, claim, scored(speedup, noise), worker.device_id)
        number += 1
    worker.stop()
    return study


def found(store: Store, study: StudyRecord) -> None:
    """What a search finds once: the anatomy of the study's UNet, a sensitivity that rises with the unit, a floor."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET, norm_num_groups=8, sample_size=8)
    values = np.linspace(0.1, 0.5, len(ARCHITECTURE.units))[:, None] * np.ones((1, STEPS + 1))
    values[:, 0] = np.nan
    findings.keep(store, study, findings.ANATOMY, anatomy(unet).to_json())
    sensitivity = Sensitivity(ARCHITECTURE.units, values, 4, 1.5)
    findings.keep(store, study, findings.SENSITIVITY, sensitivity.to_json())
    findings.keep(store, study, findings.FLOOR, {"fd_toy": Estimate(5.0, 4.0, 6.0, 12).to_json()})


def calibrated(store: Store, study: StudyRecord, parts: Sequence[str] = ALL_PARTS) -> Design:
    """A calibration whose errors rise with the mask, the age and the rule; `parts`: those of it that stand."""
    design = Design.of(ARCHITECTURE, STEPS + 1, count=5)
    shape = len(design.masks), len(design.steps), len(design.ages), len(design.rules)
    squares = 1e-4 * (1 + np.arange(np.prod(shape), dtype=float)).reshape(shape)
    for s, step in enumerate(design.steps):
        for a, age in enumerate(design.ages):
            for r, rule in enumerate(design.rules):
                if not design.sources(step, age, rule):
                    squares[:, s, a, r] = np.nan
    count = len(design.steps)
    errors = {
        "masks": squares, "nodes": 1e-6 * np.ones((len(design.nodes), count)), "noise": np.full(count, 4.0),
        "wrong": np.full(count, 0.25), "moved": np.linspace(1.0, 0.01, count), "latents": np.array([1.0]),
        "seconds": np.linspace(0.01, 0.1, len(design.masks) + 1), "pictures": np.array([2.0]),
    }  # fmt: skip
    for name in parts:
        facts = {"parts": ["moments/0", "errors/0", "errors/1", "plain/10"]}
        if name.startswith("errors/"):
            calibration.save_part(store, study, name, facts | {"design": calibration.design_json(design)}, errors, 2.0)
        elif name.startswith("plain/"):
            calibration.save_part(store, study, name, facts | {"plain": 10}, {"distance": np.array([0.04])}, 1.0)
        else:
            calibration.save_part(store, study, name, facts, {"gram": np.zeros(1)}, 30.0)
    return design


def storage(folder: Path) -> Path:
    """A storage with one whole study."""
    path = folder / "explorer.db"
    with Store.open(path) as store:
        study = fill(store, "small")
        found(store, study)
        calibrated(store, study)
    return path

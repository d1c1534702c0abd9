"""A small scored study on the embedded model's architecture, without running it: for what reads studies."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from explorer.estimate import Estimate
from explorer.models.loading import EMBEDDED
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import strategy
from explorer.unet.architecture import Architecture
from search_spaces import make_space
from studies import Objective, Picture, Scored, Store, StudyRecord, StudySettings, enqueue
from studies.queue import finishing, queue
from studies.queue.heartbeats import Worker

STEPS = 4
NAMES = ("plain@4", "DC0/P2", "DC0/P3+f2", "CO6/P2")
PROMPTS = ["house, flat style", "<b>bee</b> & *lion*, 3d style", "anchor, noto style"]


@cache
def emoji_architecture() -> Architecture:
    return Architecture.of_config(json.loads((EMBEDDED / "emoji" / "unet" / "config.json").read_text()))


def settings(weights: str | None = None, **change: Any) -> StudySettings:
    values: dict[str, Any] = {
        "model": "emoji",
        "architecture": emoji_architecture().signature,
        "device": "cpu: a machine",
        "dtype": "float32",
        "resolution": (64, 64),
        "steps": STEPS,
        "scheduler": "PNDMScheduler",
        "space": "named",
        "objectives": (Objective("latency", "minimize"), Objective("clip_emojiclip", "maximize")),
        "prompts": "emoji-search",
        "prompts_hash": "0" * 64,
        "guidance": 3.0,
        "seed": 5,
        "extractor": "emojiclip",
        "reference": "embedded",
        "extra": {
            "latency batch": 1, "timed pairs": 3, "prompt count": 3, "CLIP model": "emojiclip",
            "weights": weights, "torch": "2",
        },
    }  # fmt: skip
    return StudySettings(**(values | change))


def _picture(number: int, shade: int) -> Picture:
    image = Image.fromarray(np.full((64, 64, 3), shade + 20 * number, dtype=np.uint8))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return Picture(number, stream.getvalue(), stream.getvalue(), PROMPTS[number], seed=5 + number)


def scored(plan: InheritancePlan, place: int) -> Scored:
    speed, clip = 1.0 + place / 2, 60.0 - place
    estimates = {
        "latency": Estimate(1 / speed, 0.9 / speed, 1.1 / speed, 3),
        "speedup": Estimate(speed, speed * 0.95, speed * 1.05, 3),
        "clip_emojiclip": Estimate(clip, clip - 2, clip + 2, 3),
        "psnr": Estimate(100.0 if not place else 40.0 - place, 20.0, 100.0, 3),
        "ssim": Estimate(1 - place / 10, 0.5, 1.0, 3),
    }
    each = {"clip_emojiclip": [clip - 1, clip, clip + 1], "psnr": [30.0, 31.0, 32.0]}
    pictures = [_picture(i, 10 + 40 * place) for i in range(3)]
    return Scored(estimates, {"latency": 0.1}, {"clip_emojiclip": "emojiclip"}, each, pictures)


def fill(
    store: Store, name: str = "small", *, fail: str | None = None, names: tuple[str, ...] = NAMES, **change: Any
) -> StudyRecord:
    """The study of the plans `names`, each scored but for the one that `fail` names; one more plan waits."""
    study = store.create_study(name, settings(**change))
    architecture = emoji_architecture()
    plans = [strategy(each, steps=STEPS, unet=architecture) for each in (*names, "CO6/P3")]
    space = make_space("named", architecture, STEPS, STEPS + 1)
    enqueue(store, study, plans, space, lambda plan: plan.steps + 1)
    worker = Worker.start(store, study, {"name": "a machine"})
    for place, plan in enumerate(plans[:-1]):
        claim = queue.claim_waiting(store, study, worker.id, None)
        assert claim is not None
        finishing.set_number(store, claim, place)
        if plan.name == fail:
            finishing.fail(store, claim, "it ran out of memory")
        else:
            finishing.finish(store, study, claim, scored(plan, place), worker.device_id)
    worker.stop()
    return study

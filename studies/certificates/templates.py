"""The texts that an export writes for others to run: a script that measures again, and a pipeline for diffusers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pprint import pformat
from typing import Any

from explorer.models.prompts import HELD_OUT
from explorer.plans.plan import InheritancePlan
from studies.config import BENCHED, CERTIFIED
from studies.option import arguments
from studies.searching.asking import measured_config
from studies.settings import StudySettings

LEFT_OUT = ("model", "prompts", "reference", "batch")
"""What a certificate elsewhere takes from the export or the machine, or knows by another name."""


def script_text(metrics: Mapping[str, Any]) -> str:
    """The commands that measure the plan again, with the study's settings."""
    settings = StudySettings.from_json(metrics["settings"])
    config = measured_config(settings, "export", device=settings.device.partition(":")[0])
    known = config.model == "emoji" or "/" in config.model
    given = (
        f"MODEL=${{MODEL:-{shlex.quote(config.model)}}}"  # no quotes around it, within which those of `quote` were text
        if known
        else ': "${MODEL:?set MODEL to the folder of the model that the plan was made for}"'
    )
    bench = shlex.join(arguments(config, [name for name in BENCHED if name != "model"]))
    certify = shlex.join(arguments(config, [name for name in CERTIFIED if name not in LEFT_OUT]))
    built_in = metrics["prompts"]["name"] in HELD_OUT
    prompts = "" if built_in else ' --prompts "${PROMPTS:?set PROMPTS to a file of held-out prompts}"'
    return f"""#!/bin/sh
# Measures this plan again: its speed against the un-accelerated pipeline, then its quality on held-out prompts.
# Needs the package inheritance-explorer; MODEL=... names another copy of the model, COUNT=... the pictures.
set -eu
cd "$(dirname "$0")"
{given}
explorer bench . --model "$MODEL" --batch {config.latency_batch} {bench}
explorer certify . --model "$MODEL" --count "${{COUNT:-256}}" --out reproduced {certify}{prompts}
"""


def pipeline_text(plan: InheritancePlan) -> str:
    """A module for `DiffusionPipeline.from_pretrained(MODEL, custom_pipeline=FOLDER, trust_remote_code=True)`.

    diffusers copies this file alone into its cache, so the plan is in it; and loads every such file under one module
    name whose globals the next one replaces, so the plan is an attribute of the class. The class has the name of the
    stock one: `AutoPipeline*.from_pipe` looks that up, and `save_pretrained` writes it for `from_pretrained` to load.
    """
    base = "StableDiffusionXLPipeline" if plan.architecture.context == 2048 else "StableDiffusionPipeline"
    data = pformat(json.loads(json.dumps(plan.to_json())), width=110, sort_dicts=False).replace("\n", "\n    ")
    return f'''"""{base} with an inheritance plan applied. Written by `explorer export`; needs inheritance-explorer.

DiffusionPipeline.from_pretrained(MODEL, custom_pipeline=THIS_FOLDER, trust_remote_code=True)
"""

import functools

import diffusers

from explorer import InheritancePlan, inherit


class {base}(diffusers.{base}):
    """The plan is at work from the start; `pipe.inheritance.remove()` takes it off.

    Pipelines made by `AutoPipeline*.from_pipe` share the UNet, and so the plan. `save_pretrained` saves no plan.
    """

    plan = {data}

    @functools.wraps(diffusers.{base}.__init__)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.inheritance = inherit(self, InheritancePlan.from_json(self.plan))
'''

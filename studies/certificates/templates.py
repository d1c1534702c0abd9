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

LEFT_OUT = ("model", "prompts", "reference", "batch", "students")
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
    bench = shlex.join(arguments(config, [name for name in BENCHED if name not in ("model", "students")]))
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

    diffusers copies this file alone into its cache, so the plan is in it, but for one with students, which is read with
    them; and loads every such file under one module name whose globals the next one replaces, so the plan, or the
    folder, is an attribute of the class. The class has the name of the
    stock one: `AutoPipeline*.from_pipe` looks that up, and `save_pretrained` writes it for `from_pretrained` to load.
    """
    text = _PIPELINE if plan.cast is None else _WITH_STUDENTS
    base = "StableDiffusionXLPipeline" if plan.architecture.context == 2048 else "StableDiffusionPipeline"
    data = pformat(json.loads(json.dumps(plan.to_json())), width=110, sort_dicts=False).replace("\n", "\n    ")
    return text.replace("BASE", base).replace("DATA", data)


_PIPELINE = '''"""BASE with an inheritance plan applied. Written by `explorer export`; needs inheritance-explorer.

DiffusionPipeline.from_pretrained(MODEL, custom_pipeline=THIS_FOLDER, trust_remote_code=True)
"""

import functools

import diffusers

from explorer import InheritancePlan, inherit


class BASE(diffusers.BASE):
    """The plan is at work from the start; `pipe.inheritance.remove()` takes it off.

    Pipelines made by `AutoPipeline*.from_pipe` share the UNet, and so the plan. `save_pretrained` saves no plan.
    """

    plan = DATA

    @functools.wraps(diffusers.BASE.__init__)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.inheritance = inherit(self, InheritancePlan.from_json(self.plan))
'''
"""The module of a plan without students."""

_WITH_STUDENTS = '''"""BASE with a plan and its students. Written by `explorer export`; needs inheritance-explorer.

DiffusionPipeline.from_pretrained(MODEL, custom_pipeline=THIS_FOLDER, trust_remote_code=True)
"""

import functools
import os
import sys

import diffusers

from explorer import PlanError, inherit


class BASE(diffusers.BASE):
    """The plan is at work from the start; `pipe.inheritance.remove()` takes it off.

    Pipelines made by `AutoPipeline*.from_pipe` share the UNet, and so the plan. `save_pretrained` saves no plan.
    """

    folder = None

    @functools.wraps(diffusers.BASE.__init__)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        kind = type(self)
        kind.folder = folder_asked() or kind.folder
        if kind.folder is None:
            raise PlanError(
                "the folder of this pipeline, which holds the plan's students, is not known; load the model as usual "
                "and call inherit(pipe, FOLDER)."
            )
        self.inheritance = inherit(self, kind.folder)


def folder_asked():
    """What `custom_pipeline` was: the folder or the hub id that this file came from. diffusers runs a copy of the file
    alone and does not say where the original is, and the students are too large to stand in it."""
    frame = sys._getframe()
    while frame is not None:
        given = frame.f_locals.get("custom_pipeline")
        if frame.f_globals.get("__name__", "").startswith("diffusers.") and isinstance(given, (str, os.PathLike)):
            place = os.fspath(given)
            place = (os.path.dirname(place) or ".") if place.endswith(".py") else place
            return os.path.abspath(place) if os.path.isdir(place) else place
        frame = frame.f_back
    return None
'''
"""The module of one with students."""

"""The model card of an exported plan: what it is, how fast and how good, and the two lines that use it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan, features_read
from explorer.plans.plan_files import is_hub_id
from search_spaces.nickname import nickname
from studies.certificates.carried import BESIDE, student_words
from studies.wording import interval, others_words, pictures, speed_of, speed_words

STRIP = "pictures.png"
CERTIFICATE_PAGE = "certificate.html"
REPOSITORY_TAGS = ("inheritance-explorer", "feature-inheritance", "stable-diffusion", "text-to-image")


def card_text(
    plan: InheritancePlan,
    metrics: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
    *,
    strip: bool,
) -> str:
    """The README.md of an export. metrics: its metrics.json; certificate: its certificate.json if there is one, which
    is then what the card quotes; strip: whether pictures.png lies beside it."""
    settings = metrics["settings"]
    title = escape(f"{nickname(plan)} on {settings['model']}")
    parts = [_front_matter(settings["model"]), f"# {title}\n"]
    parts.append(_summary(plan, metrics, certificate))
    if strip:
        parts.append(
            f"![Pictures of the un-accelerated pipeline above those of this plan, same prompts and seeds]({STRIP})\n"
        )
    parts.append(_use(plan, metrics))
    if students := students_of(plan, metrics):
        parts.append(_students(students))
    parts.append(_certified(certificate) if certificate else _searched(metrics))
    parts.append(_files(certificate is not None, students))
    return "\n".join(parts)


def escape(text: str) -> str:
    """Text of anybody's (a plan's or study's name) so that Markdown shows it as it is."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$!])", r"\\\1", flat)


def _front_matter(model: str) -> str:
    lines = ["---", "library_name: diffusers", "tags:"]
    lines += [f"- {tag}" for tag in REPOSITORY_TAGS]
    if is_hub_id(model):
        lines.append(f'base_model: "{model}"')
    return "\n".join([*lines, "---", ""])


def _summary(plan: InheritancePlan, metrics: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> str:
    settings = metrics["settings"]
    steps = settings["steps"]
    what = (
        "The un-accelerated pipeline with fewer steps"
        if plan.extracts_always
        else "A plan that removes parts of the UNet at denoising steps (no retraining, no change of weights)"
        if not features_read(plan)
        else "A plan for feature inheritance (parts of the UNet inherit features of an earlier denoising step; no "
        "retraining, no change of weights)"
    )
    if plan.cast is not None:
        inheriting = " with feature inheritance" if features_read(plan) else ""
        what = f"A plan that runs the networks {plan.cast} (students of the model's UNet beside it){inheriting}"
    if certificate is not None:
        claim = escape(certificate["claim"]["sentence"])
    else:
        speed = metrics["scores"].get("speedup")
        claim = (
            f"**{speed_words(speed, f'{steps} plain steps')}**, measured on {settings['device']}. "
            "Quality scores below are those of the search that found it, which are slightly optimistic: "
            "`explorer certify` re-scores it on held-out prompts."
            if speed
            else "Its speed has not been measured."
        )
    inherits = "" if nickname(plan) == metrics["plan"] else f" It inherits {escape(metrics['plan'])}."
    spaced = "" if plan.spacing is None else f", {plan.spacing} timesteps"
    return f"{what}: {plan.steps} steps of {plan.scheduler or settings['scheduler']}{spaced}.{inherits}\n\n{claim}\n"


def _use(plan: InheritancePlan, metrics: Mapping[str, Any]) -> str:
    guidance, extra = metrics["settings"]["guidance"], metrics["settings"]["extra"]
    unwanted = f", negative_prompt={extra['negative prompt']!r}" if "negative prompt" in extra else ""
    fused = f" with the LoRA {', '.join(Path(each).name for each in extra['LoRA'])}" if "LoRA" in extra else ""
    named = plan.scheduler or metrics["settings"]["scheduler"]
    spaced = "" if plan.spacing is None else f" with {plan.spacing} timesteps"
    put = f"; puts a {named}{spaced} on it" if plan.scheduler or plan.spacing else ""
    model = " ".join(metrics["settings"]["model"].split())
    names = () if students_of(plan, metrics) else cast_students(plan.cast)  # an earlier version's export carries none
    about = f"this folder (or its hub id); pipe: your diffusers pipeline of {model}{fused}{put}"
    students = f", students={{{', '.join(f'{name!r}: DIR' for name in names)}}}" if names else ""
    return f"""## Use

```python
from explorer import inherit

handle = inherit(pipe, "FOLDER"{students})  # {about}
image = pipe(prompt, num_inference_steps={plan.steps}, guidance_scale={guidance:g}{unwanted}).images[0]
handle.remove()  # the pipeline is as it was
```

The package is `inheritance-explorer`. Or let diffusers apply it (this runs `pipeline.py`, so read it first):

```python
pipe = DiffusionPipeline.from_pretrained(MODEL, custom_pipeline="FOLDER", trust_remote_code=True)
```
"""


def _searched(metrics: Mapping[str, Any]) -> str:
    plain = metrics["unaccelerated"] or {"name": "un-accelerated", "scores": {}}
    lines = ["## Scores of the search\n", f"| metric | this plan | {plain['name']} | N |", "|---|---|---|---|"]
    for name, score in metrics["scores"].items():
        other = plain["scores"].get(name)
        lines.append(f"| {name} | {interval(score)} | {interval(other) if other else ''} | {score['n']} |")
    return "\n".join([*lines, "", _basis(metrics), ""])


def _basis(metrics: Mapping[str, Any]) -> str:
    settings, seeds = metrics["settings"], metrics["seeds"]
    return (
        f"95% intervals in brackets. Prompts: {metrics['prompts']['count']} of {escape(metrics['prompts']['name'])}; "
        f"seeds from {seeds['first']}; {settings['dtype']}; {'x'.join(map(str, settings['resolution']))} pixels; "
        f"guidance {settings['guidance']:g}; study {escape(metrics['study'])}, trial {metrics['trial']}."
    )


def _certified(certificate: Mapping[str, Any]) -> str:
    runs = certificate["runs"]
    names = [name for name in runs["plan"]["scores"] if any(name in run["scores"] for run in runs.values())]
    lines = ["## Certificate\n", f"| run | speed-up |{''.join(f' {name} |' for name in names)}"]
    lines.append("|---|---|" + "---|" * len(names))
    for role, run in runs.items():
        scores = "".join(f" {interval(run['scores'][name]) if name in run['scores'] else ''} |" for name in names)
        name = "this plan" if role == "plan" else run["name"]
        lines.append(f"| {escape(name)} | {speed_of(run)} |{scores}")
    settings, words = certificate["settings"], others_words([str(each) for each in certificate["also_certified"]])
    tried = f"{escape(words)} " if words else ""
    return "\n".join(
        [
            *lines,
            "",
            f"{pictures(certificate['count'], certificate['prompts'])} each, held out from the search "
            f"({escape(settings['prompts'])}), with fresh seeds from {settings['seed']}; 95% intervals in brackets; "
            f"measured on {settings['device']}. {tried}[The complete certificate]({CERTIFICATE_PAGE}).",
            "",
        ]
    )


def students_of(plan: InheritancePlan, metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The `student_facts` of those that the export carries, by their names in the plan's cast."""
    said = metrics.get("students", {})
    return {name: said[name] for name in cast_students(plan.cast) if name in said}


def _students(students: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"- {escape(student_words(name, facts))}." for name, facts in students.items()]
    return "\n".join(
        [
            "## Students\n",
            "The plan also runs smaller networks, which were made from the model's UNet and run with its weights only. "
            "This folder holds what differs.\n",
            *lines,
            "",
        ]
    )


def _files(certified: bool, students: Collection[str]) -> str:
    lines = [
        "## Files\n",
        "- `inheritance.json`: the plan. It is data; loading it runs no code.",
        "- `metrics.json`: the scores with intervals, seeds, device and versions.",
        "- `reproduce.sh`: measures it again.",
        "- `pipeline.py`: for diffusers' `custom_pipeline`.",
    ]
    lines += [f"- `{BESIDE}/{name}/`: the student {name}, as data." for name in students]
    if certified:
        lines.append(f"- `certificate.json`, `{CERTIFICATE_PAGE}`: the certificate.")
    return "\n".join([*lines, ""])

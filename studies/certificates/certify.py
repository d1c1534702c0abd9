"""A plan re-scored on held-out prompts with fresh seeds, beside the un-accelerated pipeline at full and at fewer steps.

The scores of a search are the best of many noisy ones, so they are optimistic; nothing is chosen by the scores here.
Differences are paired: every run starts picture i from the same noise for the same prompt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.bootstrap import mean_estimate
from explorer.errors import ScoreError, StudyError
from explorer.estimate import Estimate
from explorer.files import write_whole
from explorer.models.pictures import as_png, check_informative
from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan, plain_name, resolve_run
from explorer.plans.strategies import strategy
from explorer.quality.registry import LEAST
from explorer.quality.scorer import Raw, Scorer
from explorer.timing.anatomy import anatomy
from explorer.unet.mask import Mask, without
from search_spaces.nickname import nickname
from studies.certificates.carried import student_facts
from studies.certificates.categories import by_category
from studies.certificates.data import CertificateData, CertifiedRun
from studies.certificates.document import (
    ABOVE,
    CERTIFICATE,
    FULL,
    KIND,
    PAGE,
    PLAN,
    SAME_COST,
    SCHEMA,
    plain_document,
)
from studies.certificates.export import shareable, versions
from studies.certificates.page import page_html
from studies.choosing.judgement import PlainRival, QualityLimits, judge
from studies.metrics import is_clip
from studies.searching.session import Session

WORST = 6
CertifyProgress = Callable[[int, int, float | None], None]


def clip_metric(scorer: Scorer) -> str:
    """The true name of the scorer's CLIP score. Raises ScoreError when it has none."""
    for objective in scorer.objectives:
        if is_clip(objective.name):
            return objective.name
    raise ScoreError("a certificate needs a CLIP score; add clip to the objectives.")


def certify(
    session: Session,
    plan: InheritancePlan,
    words: str,
    folder: Path,
    *,
    count: int,
    limits: QualityLimits = QualityLimits(),
    again: bool = False,
    seconds: float | None = None,
    also_certified: Sequence[str] = (),
    on_progress: CertifyProgress | None = None,
) -> dict[str, Any]:
    """Measure what is missing, write certificate.json and certificate.html into `folder`, return the document.

    session: opened with held-out prompts and fresh seeds (`held_out`). count: pictures of each run; if there are fewer
    prompts they are repeated with further seeds. seconds: time after which no batch is started, if LEAST pictures are
    made. also_certified: the other plans that were certified in the same search, each with its own seeds. The best of
    several tries is partly the luckiest, so the document lists them.
    Measurements are kept in `folder`/.certificate, so that the same command resumes and a larger count adds pictures.

    Raises:
        ScoreError: when a run cannot be scored. StudyError: when the folder cannot be used or holds another one's.
    """
    if count < LEAST:
        raise StudyError(f"a certificate needs at least {LEAST} pictures, got --count {count}.")
    evaluator, scorer = session.evaluator, session.evaluator.scorer
    if scorer is None:
        raise StudyError(f"{session.config.model} has random weights, so no quality can be certified.")
    if evaluator.pairs < 3:
        raise StudyError(f"a latency needs at least 3 --pairs, got {evaluator.pairs}.")
    clip = clip_metric(scorer)
    data = CertificateData(folder)
    data.open(session.settings, plan.key(evaluator.evaluations(plan)), again=again)
    runs = _latencies(session, plan, words, data)
    count = max(count, data.count())
    done = _measure(session, plan, runs, data, clip, count, seconds, on_progress)
    raws = data.runs(min(done, count), needed=(clip, "psnr", "ssim"))
    full = raws[FULL]
    prompts = prompt_of(session, full.count)
    scores = _scores(scorer, raws, prompts)
    differences = {
        run: {
            clip: mean_estimate(raw.each[clip] - full.each[clip], groups=prompts),
            "drift": mean_estimate(1 - raw.each["ssim"], groups=prompts),
        }
        for run, raw in raws.items()
        if run != FULL
    }
    different = len(set(prompts.tolist()))
    claim = judge(
        evaluator.steps,
        scores[FULL][clip].value,
        None if runs[PLAN].latency.unsteady is not None else runs[PLAN].latency.speedup,
        differences[PLAN][clip],
        differences[PLAN]["drift"],
        [
            _rival(runs[run].rival_name, raws[PLAN], raws[run], full, clip, prompts)
            for run in (SAME_COST, ABOVE)
            if run in raws
        ],
        limits,
        different,
    )
    document = {
        "kind": KIND,
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "claim": claim.to_json(),
        "plan": {
            "nickname": nickname(plan),
            "words": words,
            "key": plan.key(evaluator.evaluations(plan)),
            "document": plan.to_json(),
        },
        **_students(session, plan),
        "count": full.count,
        "prompts": different,
        "also_certified": list(also_certified),
        "clip": clip,
        "runs": {name: _run_document(session, plan, name, run, scores[name]) for name, run in runs.items()},
        "differences": {run: plain_document(each) for run, each in differences.items()},
        "categories": by_category(category_of(session, full.count), full, raws[PLAN], clip, prompts),
        "worst": _worst_documents(session, raws, clip),
        "settings": shareable(session.settings.to_json()),
        "device": session.info.to_json(),
        "versions": versions(),
    }
    _write(folder, document, data)
    return document


def _students(session: Session, plan: InheritancePlan) -> dict[str, Any]:
    """The document's part on the students that the plan runs; none where it runs the model's UNet alone."""
    found = session.space.setting.values.get("cast", {})
    facts = {name: student_facts(found[name]) for name in cast_students(plan.cast)}
    return {"students": facts} if facts else {}


def prompt_of(session: Session, count: int) -> NDArray[np.int64]:
    """(count,) the number of each picture's prompt: they are taken in turn, and a text that occurs twice is one."""
    texts = [prompt.text for prompt in session.evaluator.prompts]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return np.array([numbers[texts[i % len(texts)]] for i in range(count)])


def category_of(session: Session, count: int) -> NDArray[np.str_]:
    """(count,) the category of each picture's prompt."""
    texts = session.evaluator.prompts
    return np.array([texts[i % len(texts)].category for i in range(count)])


def _latencies(session: Session, plan: InheritancePlan, words: str, data: CertificateData) -> dict[str, CertifiedRun]:
    """The runs and their latencies, measured once, and once more where they were unsteady. The plan's rivals run under
    its own scheduler and spacing."""
    evaluator = session.evaluator

    def plain(steps: int, scheduler: str | None = None, spacing: str | None = None) -> CertifiedRun:
        control = strategy(plain_name(steps, scheduler, spacing), unet=session.architecture)
        return CertifiedRun(control.describe(), steps, evaluator.latency(control), scheduler, spacing)

    standing = data.latencies()
    if standing is not None:
        if all(run.latency.unsteady is None for run in standing.values()):
            return standing
        for role, run in standing.items():
            if run.latency.unsteady is not None:
                again = evaluator.latency(plan) if role == PLAN else plain(run.steps, *run.under).latency
                standing[role] = replace(run, latency=again)
        data.keep_latencies(standing)
        return standing
    own = evaluator.latency(plan)
    mine = CertifiedRun(words, plan.steps, own, plan.scheduler, plan.spacing)
    runs = {FULL: plain(evaluator.steps), PLAN: mine}
    if not plan.extracts_always:
        share = 1 / own.speedup.value if own.unsteady is None else macs_share(session, plan)
        rival = nearest_steps(session, share, plan.scheduler)
        runs |= {SAME_COST: plain(rival, *mine.under)}
        if rival + 1 < evaluator.steps:
            runs |= {ABOVE: plain(rival + 1, *mine.under)}
    data.keep_latencies(runs)
    return runs


def nearest_steps(session: Session, share: float, scheduler: str | None = None) -> int:
    """The number of plain steps under `scheduler`, fewer than the full one, whose UNet evaluations are nearest to
    `share` of the un-accelerated run's."""
    evaluator = session.evaluator

    def evaluations(steps: int) -> int:
        return evaluator.evaluations(InheritancePlan(session.architecture, steps, scheduler=scheduler))

    whole = evaluator.evaluations(InheritancePlan(session.architecture, evaluator.steps))
    fewer = range(1, max(2, evaluator.steps))
    return min(fewer, key=lambda steps: (abs(evaluations(steps) / whole - share), steps))


def _measure(
    session: Session,
    plan: InheritancePlan,
    runs: Mapping[str, CertifiedRun],
    data: CertificateData,
    clip: str,
    count: int,
    seconds: float | None,
    on_progress: CertifyProgress | None,
) -> int:
    """Make and score what is missing of `count` pictures, batch by batch; returns how many there are."""
    evaluator, scorer = session.evaluator, session.evaluator.scorer
    assert scorer is not None
    done, began, at_start = data.count(), time.monotonic(), data.count()
    report = on_progress or (lambda *_: None)
    report(min(done, count), count, None)
    if done >= count:
        return done
    prompts = evaluator.prompts
    with evaluator.painter(plan) as paint:
        while done < count:
            spent = time.monotonic() - began
            if seconds is not None and done >= LEAST and spent >= seconds:
                break
            numbers = range(done, min(done + max(evaluator.batch, LEAST), count))
            chosen = [prompts[number % len(prompts)] for number in numbers]
            pictures = {
                name: paint(chosen, evaluator.seed + done, None if name == PLAN else run.steps, *run.under)
                for name, run in runs.items()
            }
            for name in (FULL, PLAN):
                check_informative(pictures[name], evaluator.pipe.unet.dtype)
            raws = {name: scorer.measure(each, chosen, pictures[FULL]) for name, each in pictures.items()}
            data.add(done, raws)
            start, done = done, done + len(numbers)
            worst = _worst(data.runs(done, features=False, needed=(clip, "psnr")), clip)
            png = {
                (number, name): as_png(pictures[name][number - start])[0]
                for number in worst
                if number >= start
                for name in (FULL, PLAN)
            }
            data.keep_pictures(png, worst)
            spent = time.monotonic() - began
            report(done, count, (count - done) * spent / (done - at_start))
    return done


def _worst(raws: Mapping[str, Raw], clip: str) -> list[int]:
    """The pictures that lost most of their CLIP score, then those that drifted most, WORST of each at most."""
    loss = raws[FULL].each[clip] - raws[PLAN].each[clip]
    by_loss = [int(i) for i in np.argsort(-loss, kind="stable")[:WORST] if loss[i] > 0]
    by_drift = [int(i) for i in np.argsort(raws[PLAN].each["psnr"], kind="stable")[:WORST]]
    return list(dict.fromkeys([*by_loss, *by_drift]))


def _scores(scorer: Scorer, raws: Mapping[str, Raw], prompts: NDArray[np.int64]) -> dict[str, dict[str, Estimate]]:
    reference = scorer.reference_of(raws[FULL].features)
    return {name: dict(scorer.estimates(raw, reference, prompts)) for name, raw in raws.items()}


def _rival(name: str, ours: Raw, theirs: Raw, full: Raw, clip: str, prompts: NDArray[np.int64]) -> PlainRival:
    return PlainRival(
        name,
        mean_estimate(ours.each[clip] - theirs.each[clip], groups=prompts),
        mean_estimate(ours.each["psnr"] - theirs.each["psnr"], groups=prompts),
        mean_estimate(full.each[clip] - theirs.each[clip], groups=prompts),
    )


def _run_document(
    session: Session, plan: InheritancePlan, name: str, run: CertifiedRun, scores: Mapping[str, Estimate]
) -> dict[str, Any]:
    control = InheritancePlan(session.architecture, run.steps, scheduler=run.scheduler, spacing=run.spacing)
    chosen = plan if name == PLAN else control
    return {
        "name": run.name,
        "steps": run.steps,
        "scheduler": run.scheduler or session.settings.scheduler,
        "spacing": run.spacing,
        "evaluations": session.evaluator.evaluations(chosen),
        "macs_share": macs_share(session, chosen),
        "speedup": run.latency.speedup.to_json(),
        "unsteady": run.latency.unsteady,
        "latency": run.latency.to_json(),
        "scores": plain_document(scores),
    }


def macs_share(session: Session, plan: InheritancePlan) -> float:
    """MACs of the plan's UNet evaluations over those of the un-accelerated run."""
    evaluator = session.evaluator
    pipe = evaluator.pipe
    latent = (session.settings.resolution[0] // pipe.vae_scale_factor,
              session.settings.resolution[1] // pipe.vae_scale_factor)  # fmt: skip
    found = anatomy(pipe.unet, latent)
    run, lacks = resolve_run(plan, evaluator.evaluations(plan)), evaluator.predictions.students
    steps = [*zip(run.choices, run.networks, strict=True)]
    shares = {step: found.share(without(plan.mask(step[0]), lacks.get(step[1], Mask()))) for step in {*steps}}
    whole = evaluator.evaluations(InheritancePlan(session.architecture, evaluator.steps))
    return sum(shares[step] for step in steps) / whole


def _worst_documents(session: Session, raws: Mapping[str, Raw], clip: str) -> list[dict[str, Any]]:
    prompts, seed = session.evaluator.prompts, session.evaluator.seed
    return [
        {
            "number": number,
            "prompt": prompts[number % len(prompts)].text,
            "seed": seed + number,
            "clip": {run: float(raws[run].each[clip][number]) for run in (FULL, PLAN)},
            "psnr": float(raws[PLAN].each["psnr"][number]),
        }
        for number in _worst(raws, clip)
    ]


def _write(folder: Path, document: Mapping[str, Any], data: CertificateData) -> None:
    page = page_html(document, data.picture)
    try:
        write_whole(folder / PAGE, page.encode())
        write_whole(folder / CERTIFICATE, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())
    except OSError as error:
        raise StudyError(
            f"cannot write the certificate to {folder} ({error.strerror or error}); make room, then run the same "
            "command."
        ) from error

"""How fast this machine is with a session's model: what a probe of seconds or minutes predicts of hours."""

from __future__ import annotations

import time
from dataclasses import dataclass

from explorer.devices import clock_for
from explorer.models.pictures import run
from explorer.plans.plan import InheritancePlan
from explorer.timing.latency import WARMUPS
from studies.device_lock import on_device
from studies.searching.calibrate import BATCH, work
from studies.searching.session import Session

AVERAGE_COST = 0.6
"""Of a run, or an evaluation, that inherits over a full one: what is worth trying, or measuring, lies around it."""
PICTURES = 8
"""How many the probe makes."""
GLANCE = 2
"""Steps of a run that is long enough to tell an evaluation's time."""


def timing(one: float, plain: float, pairs: int) -> float:
    """Seconds that a plan's latency takes to measure: warm-ups, then pairs of its loop and the un-accelerated one. one,
    plain: seconds of each of the two."""
    return (WARMUPS + pairs) * one + pairs * plain


@dataclass(frozen=True)
class Speed:
    """What a probe of this machine found, in seconds: of one un-accelerated denoising loop, of a picture with
    everything, of scoring a picture, and of the study's calibration, 0 where there can be none."""

    loop: float
    picture: float
    scoring: float
    calibration: float

    def trial(self, prompts: int, pairs: int) -> float:
        """A candidate of the search."""
        return timing(AVERAGE_COST * self.loop, self.loop, pairs) + prompts * self._pictures(1)

    def first(self, prompts: int, pairs: int) -> float:
        """The un-accelerated trial, with the pictures that others are compared with."""
        return (10 + 2 * pairs) * self.loop + prompts * (2 * self.picture + self.scoring)

    def plans(self, seconds: float, prompts: int, pairs: int) -> int:
        """How many plans are scored in `seconds`, without the un-accelerated one."""
        return int((seconds - self.first(prompts, pairs)) / self.trial(prompts, pairs))

    def certificate(self, count: int, pairs: int) -> float:
        latencies = (15 + 2 * pairs) * self.loop + 3 * timing(AVERAGE_COST * self.loop, self.loop, pairs)
        return latencies + count * (self.picture + self.scoring + self._pictures(3))

    def _pictures(self, runs: int) -> float:
        return runs * (AVERAGE_COST * self.picture + self.scoring)


def probe(session: Session) -> Speed:
    """Time one loop and a few pictures of the un-accelerated pipeline."""
    evaluator, scorer = session.evaluator, session.evaluator.scorer
    assert scorer is not None
    plan = InheritancePlan(session.architecture, evaluator.steps)
    chosen = evaluator.prompts[:PICTURES]
    with evaluator.painter(plan) as paint:
        paint(chosen[:1], 0, evaluator.steps)  # what is allocated and compiled at the first call counts for no other
        start = time.perf_counter()
        paint(chosen[:1], 0, evaluator.steps)
        loop = time.perf_counter() - start
        start = time.perf_counter()
        pictures = paint(chosen, 0, evaluator.steps)
        picture = (time.perf_counter() - start) / len(chosen)
    start = time.perf_counter()
    scorer.score(pictures, chosen, pictures)
    scoring = (time.perf_counter() - start) / len(chosen)
    return Speed(loop, picture, scoring, _calibration(session, _evaluation(session)))


def glance(session: Session) -> Speed:
    """The same from one or two evaluations: quicker than `probe`, and an underestimate."""
    evaluation = _evaluation(session)
    loop = evaluation / BATCH * session.space.setting.evaluations
    return Speed(loop, loop, 0.0, _calibration(session, evaluation))


def _calibration(session: Session, evaluation: float) -> float:
    return work(session) * AVERAGE_COST * evaluation


def _evaluation(session: Session) -> float:
    """Seconds of a full UNet evaluation of as many pictures as a calibration's, from the second of two short runs."""
    evaluator = session.evaluator
    prompts = (evaluator.prompts * BATCH)[:BATCH]
    steps = min(GLANCE, evaluator.steps)

    def call() -> None:
        run(
            evaluator.pipe, prompts, seed=evaluator.seed, steps=steps, guidance=evaluator.guidance,
            size=evaluator.size, output_type="latent",
        )  # fmt: skip

    with on_device(session.info, shared=True):
        call()
        seconds = clock_for(evaluator.device).time(call)
    return seconds / session.space.setting.at(steps)

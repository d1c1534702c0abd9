"""Predicted against measured: of drift on the prompts that all plans share, and of cost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from explorer.estimate import Estimate
from studies import Store, enqueue, trials
from studies.cli import run
from studies.metrics import PREDICTED, PREDICTED_COST
from studies.queue import finishing, queue
from studies.results.shared import shared_drift
from studies.results.summary import agreement, agreements, cost_agreement
from studies.scored import Scored
from studies.settings import Objective
from tests.studies.queue.test_queue import worker_row
from tests.studies.test_parts import plans
from tests.studies.toy_study import ToyEvaluator, ToySpace, toy_settings

OBJECTIVES = (Objective("latency", "minimize"), Objective("clip", "maximize"))
SECOND_HALF = 30.0
"""dB that the later prompts give to plans scored whole in the wrong order: what a screened plan is never drawn for."""


def estimate(value: float, n: int = 16) -> Estimate:
    return Estimate(value, value, value, n)


def scored(rank: int, *, looks: int | None) -> Scored:
    """The plan whose drift is predicted to be the rank-th least; `looks`: prompts after which a race dropped it."""
    count = looks or 16
    each = np.where(np.arange(count) < 8, 40.0 - rank, SECOND_HALF + 5 * rank)
    estimates = {
        "psnr": estimate(float(each.mean()), count), PREDICTED: estimate(0.01 * rank),
        PREDICTED_COST: estimate(1.0 - 0.05 * rank), "fd_toy": estimate(float(rank)), "speedup": estimate(1.0 + rank),
        "clip": estimate(30.0 - rank),
    }  # fmt: skip
    if looks is None or rank % 2:  # some are dropped before they are timed
        estimates["latency"] = estimate(2.0 - 0.1 * rank, 7)
    return Scored(
        estimates, {}, {}, {"psnr": each.tolist()}, screened=None if looks is None else "another one is better"
    )


@pytest.fixture
def raced(store_file: Store) -> Store:
    """Four plans scored whole and three that were screened out, after 8 prompts, 12 and 8."""
    study = store_file.create_study("s", toy_settings())
    enqueue(store_file, study, plans(7), ToySpace(), ToyEvaluator().evaluations)
    me = worker_row(store_file, study)
    for rank, looks in enumerate([None, None, None, None, 8, 12, 8]):
        claim = queue.claim_waiting(store_file, study, me, None)
        assert claim is not None and finishing.finish(store_file, study, claim, scored(rank, looks=looks))
    return store_file


def test_screened_plans_count_on_the_prompts_that_all_share(raced: Store) -> None:
    study = raced.study("s")
    rows = trials(raced, study)
    shared = shared_drift(raced, study, rows, OBJECTIVES)
    assert shared is not None and shared.prompts == 8 and len(shared.means["psnr"]) == 7
    alone, found = agreement(rows, OBJECTIVES), agreement(rows, OBJECTIVES, shared)
    assert alone is not None and alone.n == 4 and alone.spearman == pytest.approx(-1)  # by their later prompts
    assert found is not None and (found.n, found.screened, found.prompts) == (7, 3, 8)
    assert found.spearman == pytest.approx(1)
    assert found.over == "7 plans (3 screened out) on the 8 prompts they share"
    clip = agreements(rows, OBJECTIVES, shared)[1]  # what has no pairs stays with the plans scored whole
    assert (clip.metric, clip.n, clip.screened, clip.prompts, clip.over) == ("clip", 4, 0, None, "4 plans")


def test_where_none_was_screened_out_all_prompts_count(raced: Store) -> None:
    study = raced.study("s")
    whole = [row for row in trials(raced, study) if row.state == "done"]
    assert shared_drift(raced, study, whole, OBJECTIVES) is None


def test_predicted_cost_is_ranked_against_latency(raced: Store) -> None:
    rows = trials(raced, raced.study("s"))
    found = cost_agreement(rows)
    assert found is not None and (found.metric, found.n, found.screened) == ("latency", 5, 1)
    assert found.spearman == pytest.approx(1)
    assert cost_agreement(rows[:2]) is None


def test_both_are_shown(raced: Store, capsys: pytest.CaptureFixture[str]) -> None:
    storage = str(raced.url.database)
    assert run(["show", "s", "--storage", storage]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "predicted drift against measured psnr: rank correlation 1.00 over 7 plans (3 screened out) on the 8" in said
    assert "predicted cost against measured latency: rank correlation 1.00 over 5 plans (1 screened out)" in said
    assert run(["show", "s", "--storage", storage, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["prediction"] == {
        "metric": "psnr", "spearman": pytest.approx(1), "n": 7, "screened": 3, "prompts": 8
    }  # fmt: skip
    assert shown["predicted_cost"]["n"] == 5 and shown["predicted_cost"]["prompts"] is None

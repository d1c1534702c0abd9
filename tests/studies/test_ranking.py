"""What ranks proposals: the plans that stand beside them."""

from __future__ import annotations

import sqlalchemy as sa

from explorer.plan import InheritancePlan
from explorer.strategies import strategy
from studies import Store, tables
from studies.proposers.record import Record
from studies.ranking import Ranking
from studies.scored import Prediction
from tests.studies.scored_study import NAMES, STEPS, emoji_architecture, fill


def test_what_failed_or_cannot_be_read_stands_for_nothing(store: Store) -> None:
    study = fill(store, fail="DC0/P2")
    with store.begin() as connection:
        damaged = sa.update(tables.plans).where(tables.plans.c.name == "DC0/P3+f2")
        connection.execute(damaged.values(plan={"architecture": 3}))
    asked: list[str | None] = []

    def screen(plan: InheritancePlan) -> Prediction:
        asked.append(plan.name)
        return Prediction(0.1 * len(asked), 1.0 - 0.1 * len(asked))

    record = Record(store, study)
    record.refresh()
    ranking = Ranking(screen, record, InheritancePlan.from_json)
    proposals = [strategy(name, steps=STEPS, unet=emoji_architecture()) for name in ("EP/P2", "EP/P3")]
    assert sorted(ranking(proposals)) == [0, 1]
    assert asked == [NAMES[0], NAMES[3], "CO6/P3", "EP/P2", "EP/P3"]
    ranking(proposals)
    assert asked[5:] == ["EP/P2", "EP/P3"]  # what stands is read and predicted once

"""What kinds have in common whose plans stand in a list of their own: the next one, or the best of the next many."""

from __future__ import annotations

from collections.abc import Iterator

from explorer.plan import InheritancePlan
from studies.proposers.base import POOL, Proposal, Tools


class Listed:
    """In the order of `plans`; where plans can be ranked, of the next POOL the one that ranks first."""

    name: str

    def __init__(self, tools: Tools[InheritancePlan], plans: Iterator[InheritancePlan]) -> None:
        self.tools = tools
        self._left = plans
        self._pool: list[InheritancePlan] = []

    def propose(self) -> Proposal[InheritancePlan] | None:
        rank = self.tools.rank
        while True:
            self._pool = [plan for plan in self._pool if self.tools.is_new(plan)]
            for plan in self._left:
                if self.tools.is_new(plan):
                    self._pool.append(plan)
                if len(self._pool) >= (1 if rank is None else POOL):
                    break
            if not self._pool:
                return None
            plan = self._pool.pop(0 if rank is None else [*rank(self._pool), 0][0])
            if (found := self.tools.proposal(plan, self.name)) is not None:
                return found

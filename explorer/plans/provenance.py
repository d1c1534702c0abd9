"""What a plan was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.errors import PlanError
from explorer.plans.schedule import MAX_EVALUATIONS


@dataclass(frozen=True)
class MadeFor:
    """What a plan was found on, as far as it is known: a model's id, the fingerprint of its weights
    (`explorer.models.loading.fingerprint`), the scheduler's class and the UNet evaluations of a run with it."""

    model: str | None = None
    fingerprint: str | None = None
    scheduler: str | None = None
    evaluations: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> MadeFor:
        """Read untrusted input; unknown fields are passed over. Raises PlanError."""
        if not isinstance(data, dict):
            raise PlanError("what the plan was made for cannot be read; expected an object.")
        values = {name: data[name] for name in ("model", "fingerprint", "scheduler") if data.get(name) is not None}
        for name, value in values.items():
            if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
                raise PlanError(f"the plan's {name} must be a text of at most 200 printable characters; correct it.")
        count = data.get("evaluations")
        if count is not None and (type(count) is not int or not 1 <= count <= MAX_EVALUATIONS):
            raise PlanError(f"the plan's evaluations must be a number from 1 to {MAX_EVALUATIONS}, got {count!r:.40}.")
        return cls(**values, evaluations=count)

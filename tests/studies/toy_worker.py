"""A worker process on the toy study: `python -m tests.studies.toy_worker URL STUDY TOTAL SECONDS LOG [quality]`."""

from __future__ import annotations

import sys
from pathlib import Path

from explorer.errors import ExplorerError
from studies import Store, interruptible, run_worker
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace


def main(url: str, study: str, total: str, seconds: str, log: str, part: str = "") -> int:
    evaluator = ToyEvaluator(seconds=float(seconds), log=Path(log))
    try:
        with interruptible(), Store.open(url) as store:
            run_worker(
                store, study, ToySpace(), evaluator, ToyPlan.from_json, int(total), quality_only=part == "quality"
            )
    except KeyboardInterrupt:
        return 130
    except ExplorerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

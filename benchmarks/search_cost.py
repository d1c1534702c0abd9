"""How much front a scored plan buys: hypervolume against plans and seconds, for every way of proposing.

    python -m benchmarks.search_cost --seeds 5 --plans 60

Each run is a search of its own: the real driver on a real study, with the space `joint`, in a temporary database. All
begin with the un-accelerated run and fewer plain steps alone, which do not count; baselines are scored apart, to be
compared with. A plan's quality is measured once (PSNR to the un-accelerated picture, the mean over the prompts, each
cut at 60 dB); its cost is predicted from node times that are measured once, as a comparison of proposals must not
depend on the clock's noise. Seconds are charged as if each method had made all its pictures itself; on a CPU they are
processor time. All is kept in --work: a killed benchmark goes on, and several processes with the same options share it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.shared.measure import run as explained
from benchmarks.shared.report import options, write_figure, write_result
from explorer.errors import StudyError
from explorer.plans.cast import TEACHER


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--methods", help="a comma list; every way of proposing by default")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each method")
    parser.add_argument("--plans", type=int, default=60, help="scored plans of a search, beside the plain runs")
    parser.add_argument("--steps", type=int, default=20, help="of the un-accelerated run")
    parser.add_argument("--prompts", help="a shipped set, a .txt or a .jsonl file; the search's own by default")
    parser.add_argument("--count", type=int, default=8, help="prompts, one picture each")
    parser.add_argument("--points", type=int, help="of the calibration; as in a search by default")
    parser.add_argument("--baselines", default="all", choices=("all", "short"), help="what fronts are compared with")
    parser.add_argument("--work", type=Path, default=Path("build/search-cost"), help="where all of it is kept")
    parser.add_argument("--report", action="store_true", help="make nothing: tell what stands")
    parser.add_argument("--again", action="store_true", help="forget the chosen methods' runs, but no plan's quality")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.plans, arguments.steps, arguments.count = 2, 5, 6, 2
        arguments.rounds, arguments.points, arguments.baselines = 3, 2, "short"
    explained(lambda: measure(arguments))


def measure(arguments: Any) -> None:
    from benchmarks.shared.hypervolume import chart, figures_of, table
    from benchmarks.shared.proposal_runs import (
        make_runs,
        methods,
        open_bench,
        run_name,
        score_baselines,
        standing_runs,
        usual_methods,
    )
    from studies.config import SearchConfig
    from studies.interrupts import interruptible

    for name in ("seeds", "plans", "count", "steps"):
        if getattr(arguments, name) < 1:
            raise StudyError(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    known = methods()
    names = arguments.methods.split(",") if arguments.methods else usual_methods()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StudyError(f"unknown --methods {', '.join(unknown)}; known: {', '.join(known)}.")
    chosen = [known[name] for name in names]
    config = SearchConfig(
        model=arguments.model, steps=arguments.steps, prompts=arguments.prompts, prompt_count=arguments.count,
        device=arguments.device, dtype=arguments.dtype, resolution=arguments.resolution, compile=arguments.compile,
        latency_batch=arguments.batch, batch=max(arguments.count, 1), reference="baseline",
        baselines=arguments.baselines, students=(TEACHER,),
    )  # fmt: skip
    bench = open_bench(config, arguments.work, arguments.rounds, arguments.points)
    with interruptible():
        if arguments.again:
            for method in chosen:
                for seed in range(arguments.seeds):
                    bench.work.drop(run_name(method, seed, arguments.plans))
        left = [] if arguments.report else make_runs(bench, chosen, arguments.seeds, arguments.plans)
        baselines = [entry.to_json() for entry in score_baselines(bench)]
    if left:
        print(f"other processes are making {', '.join(left)}; --report tells when they are done", file=sys.stderr)
    runs = list(standing_runs(bench.work, chosen, arguments.seeds, arguments.plans))
    figures = figures_of(runs, baselines, arguments.plans)
    print(table(figures))
    path = write_result("search-cost", figures, {"runs": runs, "baselines": baselines}, arguments)
    if runs:
        write_figure(chart(runs, figures), path)


if __name__ == "__main__":
    main()

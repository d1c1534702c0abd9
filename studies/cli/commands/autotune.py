"""`explorer autotune`: one command from a model and a limit to a certified export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from explorer.errors import StudyError
from explorer.models.loading import has_weights
from explorer.plans.cast import TEACHER
from studies.autotune.autotune import OBJECTIVES, STUDY, Tuning, begin, finish, search
from studies.autotune.words import outcome_words
from studies.budget import parse_budget
from studies.certificates.held_out import held_out
from studies.choosing.judgement import QualityLimits
from studies.cli.commands.output import duration, out, print_json, words
from studies.config import SearchConfig, make_config
from studies.interrupts import interruptible
from studies.storage.store import Store


def autotune_command(
    budget: str,
    limits: QualityLimits,
    folder: Path | None,
    certificate_prompts: str | None,
    given: dict[str, Any],
    as_json: bool,
    began: float,
) -> None:
    """given: options of SearchConfig that the user named. began: when the command did, by `time.monotonic()`."""
    seconds = parse_budget(budget)
    model = str(given.get("model", SearchConfig.model))
    if not has_weights(model):
        raise StudyError(f"{model} has random weights, so no quality can be kept; give a model with trained weights.")
    own = {"objectives": ",".join(OBJECTIVES), "reference": "baseline", "study": STUDY}
    config = make_config(given | own | {"students": TEACHER})  # its shares of the time were not tried with more
    folder = folder or Path("tuned-" + "".join(c if c.isalnum() else "-" for c in Path(model).name))
    console = words()

    def say(text: str) -> None:
        console.print(f"[{duration(max(0.0, tuning.left))} left] {text}", markup=False)

    certifying = replace(held_out(config, certificate_prompts), objectives=("latency", "clip"))
    tuning = Tuning(config, limits, seconds, folder, say, certifying, began=began)
    try:
        with interruptible():
            say(f"loading {model}")
            session = begin(tuning)
            with Store.open(tuning.work / "explorer.db") as store:
                session, study = search(tuning, session, store)
                result = finish(tuning, session, store, study)
    except KeyboardInterrupt:
        held = "; it holds the export of an earlier run" if tuning.standing else ""
        console.print(f"\ninterrupted; {folder} is complete{held}. Resume with the same command.", markup=False)
        raise
    said = outcome_words(result, limits, config.steps)
    used = tuning.spent
    if as_json:
        chosen = result.chosen
        print_json(
            {
                "model": config.model,
                "folder": str(folder),
                "budget_seconds": seconds,
                "spent_seconds": round(used, 1),
                "plans": result.plans,
                "failed": result.failed,
                "chosen": None
                if chosen is None
                else {
                    "trial": chosen.row.number,
                    "nickname": chosen.row.nickname,
                    "words": chosen.row.words,
                    "speedup_in_search": chosen.speedup,
                },
                "moved_aside": result.aside and str(result.aside),
                "given_up": [each.row.words for each in result.given_up],
                "certificate": result.certificate and result.certificate["claim"],
                "words": said,
            }
        )
        return
    console = out()
    for sentence in said:
        console.print(sentence, markup=False, soft_wrap=True)
    console.print(f"\nspent {duration(used)} of {duration(seconds)}", markup=False)
    if result.chosen is not None:
        console.print(f"\n  from explorer import inherit\n  inherit(pipe, {str(folder)!r})", markup=False)

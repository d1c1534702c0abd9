"""`explorer bench`: an exported plan on the user's own machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from explorer.errors import StudyError
from studies.certificates.bench import INSTALL, bench, compiler_words, contenders
from studies.certificates.carried import students_option
from studies.certificates.export import read_export, versions
from studies.cli.commands.certify import export_settings, model_of
from studies.cli.commands.output import counted, out, print_json, table, words
from studies.config import SearchConfig, make_config
from studies.interrupts import interruptible
from studies.searching.asking import measured_config
from studies.searching.session import open_session
from studies.wording import ratio


def bench_command(folder: Path, given: dict[str, Any], as_json: bool) -> None:
    if given["latency_batch"] < 1:
        raise StudyError(f"--batch must be at least 1, got {given['latency_batch']}.")
    plan, metrics = read_export(folder)
    given = given | {"students": students_option(folder, plan, given.get("students", ()))}
    searched = export_settings(folder, metrics)
    base = SearchConfig(
        model=model_of(folder, plan, given),
        steps=searched.steps if searched else plan.steps,
        guidance=searched.guidance if searched else None,
        lora=measured_config(searched, "export").lora if searched else (),
    )
    space = "named" if plan.cast is None else "joint"  # which alone may have students
    config = make_config(
        given | {"objectives": "latency", "reference": "baseline", "space": space, "baselines": "none"}, base=base
    )
    console = words()
    console.print(f"loading {config.model} ...", markup=False)
    session = open_session(config)
    with interruptible(), counted("contenders", console) as show:
        found = bench(session, plan, show)
    installed = find_spec("DeepCache") is not None
    if as_json:
        print_json(
            {
                "model": config.model,
                "device": session.info.to_json(),
                "settings": {
                    "dtype": session.settings.dtype,
                    "resolution": list(session.settings.resolution),
                    "batch": config.latency_batch,
                    "pairs": config.pairs,
                    "compile": config.compile,
                    "scheduler": session.settings.scheduler,
                },
                "versions": versions(),
                "contenders": [row.to_json() for row in contenders(found)],
            }
        )
    else:
        shown = table("run", ">steps", ">s a picture", ">speed-up")
        for row in contenders(found):
            if row.latency is None or row.latency.unsteady is not None:
                problem = row.problem if row.latency is None else f"unsteady: {row.latency.unsteady}"
                shown.add_row(row.name, str(row.steps), "", problem or "")
            else:
                seconds, speed = row.latency.seconds, row.latency.speedup
                shown.add_row(
                    row.name, str(row.steps), f"{seconds.value:.3g} [{seconds.low:.3g}, {seconds.high:.3g}]",
                    ratio(speed),
                )  # fmt: skip
        out().print(shown)
        compiled = "" if config.compile == "off" else f", compiled as the plan is (--compile {config.compile})"
        settings, side = session.settings, "x".join(map(str, session.settings.resolution))
        out().print(
            f"\n{config.model} on {settings.device}, {settings.dtype}, {side} pixels, batch {config.latency_batch}, "
            f"the denoising loop, {config.pairs} alternating pairs; 95% intervals. The first row is the stock pipeline "
            f"against itself{compiled}.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        if said := compiler_words(found):
            out().print(said, markup=False, soft_wrap=True)
    if not installed:
        console.print(INSTALL, markup=False)

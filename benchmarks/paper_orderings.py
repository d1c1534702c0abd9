"""Which orderings of A-SDM's Table V hold on another model: all 69 rows and the plain controls, scored on the same
prompts and seeds.

    python -m benchmarks.paper_orderings --count 128

The paper orders by FID of 30,000 pictures of Stable Diffusion 1.x. Here each of its sentences (Sec. VI-B) becomes a
difference of group means in three scores (paired PSNR, Frechet distance, CLIP score), with a bootstrap over the prompts
that is shared by both sides. A difference whose interval holds zero is undecided. Scores are kept row by row, so that a
killed run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.report import options, write_result
from explorer import inherit, load_pipeline, strategy
from explorer.devices import resolve_device, resolve_dtype
from explorer.models import default_guidance, fingerprint
from explorer.pictures import generate
from explorer.prompts import load_prompts
from explorer.quality import Reference, default_extractor, frechet, load_clip, load_extractor, load_reference, paired
from explorer.quality.bootstrap import interval, resample
from explorer.quality.clip_score import cosines
from explorer.quality.metrics import default_clip
from explorer.strategies import PAPER_MODES, PAPER_STRATEGIES

Array = NDArray[np.float64]
RESAMPLES = 100
BATCH = 16
PLAIN = (50, 25, 10)
SCORES = {"psnr": 1.0, "fd": -1.0, "clip": 1.0}
"""Scores with the sign that makes more better."""


@dataclass(frozen=True)
class Ordering:
    """A sentence of the paper: every row of `better` against every row of `worse`, by group means."""

    words: str
    better: tuple[str, ...]
    worse: tuple[str, ...]


def rows(names: Sequence[str], mode: str = "P5†") -> tuple[str, ...]:
    return tuple(f"{name}/{mode}" for name in names)


def loop(name: str) -> tuple[str, ...]:
    return rows([f"{name}{k}" for k in (1, 2, 3)])


ITERATED = ("CO3", "CO5", "CO6", "LI1", "RI")
ORDERINGS = (
    Ordering("external loops over internal loops", loop("EX"), loop("IN")),
    Ordering("decoder loops over encoder loops", loop("DE"), loop("EN")),
    Ordering("RI over AI: residual units may be skipped, attention units not", rows(["RI"]), rows(["AI"])),
    Ordering("LI1 over LI3: a smaller region of inheritance is worse", rows(["LI1"]), rows(["LI3"])),
    Ordering("CO3, CO5, CO6 over CO4: attention of dn0 and up3 matters", rows(["CO3", "CO5", "CO6"]), rows(["CO4"])),
    Ordering("P5† over P5", rows(PAPER_STRATEGIES), rows(PAPER_STRATEGIES, "P5")),
    Ordering("P5† over P2† for CO3, CO5, CO6, LI1, RI", rows(ITERATED), rows(ITERATED, "P2†")),
    Ordering("CO3, CO5, CO6 over 50 plain steps", rows(["CO3", "CO5", "CO6"]), ("plain@50",)),
    Ordering("CO3, CO5, CO6 over 25 plain steps", rows(["CO3", "CO5", "CO6"]), ("plain@25",)),
)


def measure(options: argparse.Namespace, work: Path) -> tuple[dict[str, dict[str, Array]], Reference]:
    """Per row: `psnr` (N,), `clip` (N,), `features` (N, d)."""
    device = resolve_device(options.device)
    dtype = str(resolve_dtype(options.dtype, device)).removeprefix("torch.")
    pipe = load_pipeline(options.model, device=str(device), dtype=dtype)
    name = default_extractor(options.model == "emoji")
    extract, clip = load_extractor(name, device), load_clip(options.clip_model or default_clip(name), device)
    prompts = load_prompts(options.prompts, options.count)
    words, guidance = list(prompts.texts), default_guidance(options.model)
    embedded = clip.encode_prompts(words)
    setting = f"{fingerprint(pipe)} {dtype} {prompts.name} {len(words)} {options.steps} {guidance} {name} {clip.name}"
    folder = work / hashlib.sha256(setting.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"plain@{n}" for n in PLAIN), *(f"{each}/{mode}" for mode in PAPER_MODES for each in PAPER_STRATEGIES)]
    found: dict[str, dict[str, Array]] = {}
    baseline: torch.Tensor | None = None
    start, made_here = time.monotonic(), 0
    for number, row in enumerate(names):
        path = folder / f"{row.replace('/', '-')}.safetensors"
        if not path.exists():
            fewer = [max(1, round(options.steps * n / 50)) for n in PLAIN if row == f"plain@{n}"]
            plan = strategy(f"plain@{fewer[0]}" if fewer else row, steps=options.steps, unet=pipe.unet)
            if baseline is None and number:
                baseline = torch.from_numpy(load_file(folder / "baseline.safetensors")["pictures"])
            with inherit(pipe, plan):
                made = generate(pipe, words, seed=0, steps=plan.steps, guidance=guidance, batch_size=BATCH)
            if baseline is None:
                baseline = made
                save_file({"pictures": made.numpy()}, folder / "baseline.safetensors")
            values = {
                "psnr": paired.psnr(made, baseline),
                "clip": cosines(clip.encode_pictures(made), embedded),
                "features": extract(made).values,
            }
            whole = path.with_suffix(".part")
            save_file({key: np.ascontiguousarray(value) for key, value in values.items()}, whole)
            whole.replace(path)
            made_here += 1
            left = (time.monotonic() - start) / made_here * (len(names) - number - 1) / 60
            print(
                f"[{number + 1}/{len(names)}] {row}: {values['psnr'].mean():.1f} dB, {left:.0f} min left",
                file=sys.stderr,
            )
        found[row] = {key: value.astype(np.float64) for key, value in load_file(path).items()}
    reference = (
        load_reference("embedded", extract) if options.model == "emoji" else load_reference(options.reference, extract)
    )
    return found, reference


def scores(found: dict[str, dict[str, Array]], reference: Reference, chosen: NDArray[np.int64]) -> dict[str, Array]:
    """Each score of every row on a choice of pictures: score -> (rows,)."""
    return {
        "psnr": np.array([row["psnr"][chosen].mean() for row in found.values()]),
        "clip": np.array([row["clip"][chosen].mean() for row in found.values()]),
        "fd": np.array(
            [
                frechet.distance(*frechet.statistics(row["features"][chosen]), reference.mean, reference.cov)
                for row in found.values()
            ]
        ),
    }


def judge(found: dict[str, dict[str, Array]], reference: Reference) -> dict[str, Any]:
    """Every row's scores, and every ordering's differences with a verdict."""
    names, count = list(found), len(next(iter(found.values()))["psnr"])
    value = scores(found, reference, np.arange(count))
    draws = [scores(found, reference, chosen) for chosen in resample(count, RESAMPLES)]
    verdicts = []
    for ordering in ORDERINGS:
        better = [names.index(name) for name in ordering.better]
        worse = [names.index(name) for name in ordering.worse]
        row: dict[str, Any] = {"ordering": ordering.words}
        for score, sign in SCORES.items():
            if score == "psnr" and "plain@50" in ordering.worse:
                continue  # drift is measured from it
            gap = sign * (value[score][better].mean() - value[score][worse].mean())
            gaps = np.array([sign * (draw[score][better].mean() - draw[score][worse].mean()) for draw in draws])
            # a resample repeats pictures, which biases a Frechet distance: the spread is kept, the shift taken out
            estimate = interval(float(gap), gaps - gaps.mean() + gap, count)
            verdict = "holds" if estimate.low > 0 else "reversed" if estimate.high < 0 else "undecided"
            row[score] = {**estimate.to_json(), "verdict": verdict}
        verdicts.append(row)
    table = [{"name": name, **{score: float(value[score][i]) for score in SCORES}} for i, name in enumerate(names)]
    return {"pictures": count, "orderings": verdicts, "rows": table}


def cell(row: dict[str, Any] | None) -> str:
    """A verdict with its difference."""
    return f"{row['verdict']} {row['value']:+.2f} [{row['low']:.2f}, {row['high']:.2f}]" if row else ""


def show(figures: dict[str, Any]) -> None:
    """The verdicts as a Markdown table; differences count from worse to better."""
    print("| ordering of the paper | PSNR, dB | Frechet distance | CLIP score |\n|---|---|---|---|")
    for row in figures["orderings"]:
        cells = [cell(row.get(score)) for score in SCORES]
        print(f"| {row['ordering']} | {' | '.join(cells)} |")


def main() -> None:
    """Measure, judge, print and keep."""
    assert __doc__ is not None
    parser = options(__doc__.split("\n\n")[0])
    parser.add_argument("--prompts", default="emoji-certificate", help="a shipped set, a .txt or a .jsonl file")
    parser.add_argument("--count", type=int, default=128, help="prompts, one picture each")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--clip-model", help="open_clip model of the CLIP score; the extractor's own by default")
    parser.add_argument("--reference", default="baseline", help="statistics file or folder of real pictures")
    parser.add_argument("--work", type=Path, default=Path("build/paper-orderings"), help="where finished rows are kept")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.count, arguments.steps = 8, 10
    found, reference = measure(arguments, arguments.work)
    figures = judge(found, reference)
    show(figures)
    each = {name: {score: row[score].round(4).tolist() for score in ("psnr", "clip")} for name, row in found.items()}
    write_result("paper-orderings", figures, each, arguments)


if __name__ == "__main__":
    main()

"""Stage `card`: the model card, written from the measurements and the logs; no number in it is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from explorer.errors import TrainingError
from explorer.networks.found import BESIDE
from recipe.data.items import Item
from recipe.data.prepare import load_dataset
from recipe.evaluation.card_text import CHOICES, DATA, DISTANCE, HEARTS, HISTORY, INTRODUCTION, LIMITS, PATHS, SOLVERS
from recipe.evaluation.evaluate import RESULTS
from recipe.evaluation.grids import read_losses, save_curves
from recipe.evaluation.machine import folder_size
from recipe.evaluation.markdown import table
from recipe.evaluation.students import students_section
from recipe.evaluation.tradeoff import FEW
from recipe.packing.export import EMBEDDED, TRAININGS
from training.folders import digest

CURVES = dict(
    zip(
        TRAININGS,
        (
            ("Autoencoder, first leg", ("loss", "l2")),
            ("Autoencoder, second leg", ("loss", "l2")),
            ("UNet and text encoder", ("loss", "mse")),
            ("CLIP model", ("loss", "top1")),
        ),
        strict=True,
    )
)


def percent(row: dict[str, Any]) -> str:
    """A share with its interval: `71% +- 3`."""
    return f"{100 * row['value']:.0f}% ± {100 * row['half_interval']:.0f}"


def number(row: dict[str, Any], digits: int) -> str:
    """An estimate with its interval."""
    return f"{row['value']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def trainings(folder: Path) -> str:
    """A table of steps and minutes, and the curves, of the logs that `export` kept in the card's folder."""
    rows, pictures = [], []
    for name, (title, columns) in CURVES.items():
        log = folder / f"losses-{name}.csv"
        if not log.exists():
            continue
        last = log.read_text(encoding="utf-8").splitlines()[-1].split(",")
        rows.append([title, last[0], f"{float(last[1]) / 60:.0f}"])
        save_curves({column: read_losses(log, column) for column in columns}, folder / f"{name}.svg", title)
        pictures.append(f"![{title}](card/{name}.svg)")
    if not rows:
        return "The logs of the training of these weights were not kept."
    return "\n\n".join([table(["training", "steps", "minutes"], rows), *pictures])


def alignment(found: dict[str, Any]) -> str:
    """Rows: pictures; columns: top 1 and top 5 among a hundred captions."""
    rows = [
        [f"training captions, {name}", percent(r["top1"]), percent(r["top5"])] for name, r in found["alignment"].items()
    ]
    held = found.get("alignment_held_out", {})
    rows += [[f"held-out captions, {name}", percent(r["top1"]), percent(r["top5"])] for name, r in held.items()]
    return table(["pictures", "top 1", "top 5"], rows)


def distances(found: dict[str, Any]) -> str:
    """Frechet distance, what n pictures stand from n real ones, its floor, and KID, by extractor."""
    rows = []
    distance = found["distance"]
    for key in distance:
        if key.startswith("kid_"):
            name = key.removeprefix("kid_")
            floor, many = distance[f"fd_{name}_real_halves"], distance.get(f"fd_{name}_as_many")
            shown = [number(distance[f"fd_{name}"], 2), number(many, 2) if many else "", number(floor, 2)]
            rows.append([name, str(floor["n"]), *shown, number(distance[key], 4)])
    whole = f"Frechet distance @ {distance['n']}"
    return table(["extractor", "n", whole, "n generated, n real", "n real, n other real", "KID"], rows)


def tradeoff(found: dict[str, Any]) -> str:
    """One row per candidate; drift and CLIP score also by the captions' kind."""
    names = [key.removeprefix("fd_") for key in found["tradeoff"][0] if key.startswith("fd_")]
    kinds = [key.removeprefix("psnr_") for key in found["tradeoff"][0] if key.startswith("psnr_")]
    rows = []
    for r in found["tradeoff"]:
        same = r["psnr"]["value"] >= 100
        rows.append(
            [r["name"], "same" if same else number(r["psnr"], 1), number(r["clip_score"], 1)]
            + ["" if same else number(r["clip_gain"], 2)]
            + ["" if same else " / ".join(f"{r[f'psnr_{kind}']['value']:.1f}" for kind in kinds)]
            + [" / ".join(f"{r[f'clip_score_{kind}']['value']:.1f}" for kind in kinds)]
            + [number(r[f"fd_{name}"], 2) for name in names]
            + ["" if same else number(r[f"change_of_fd_{name}"], 2) for name in names]
        )
    count, by_kind = found["tradeoff"][0]["psnr"]["n"], " / ".join(kinds)
    columns = [
        f"solver, spacing, steps (N = {count})",
        "PSNR, dB",
        "CLIP score",
        "its paired gain",
        f"PSNR: {by_kind}",
        f"CLIP score: {by_kind}",
        *(f"fd_{name}" for name in names),
        *(f"its paired growth, {name}" for name in names),
    ]
    return table(columns, rows)


def guidances(found: dict[str, Any]) -> str:
    """One row a guidance scale."""
    rows = [
        [f"{r['guidance']:g}", number(r["clip_score"], 1), number(r["psnr_few"], 1), number(r["clip_score_few"], 1)]
        for r in found["guidances"]
    ]
    head = ["guidance", "CLIP score", f"PSNR at {FEW} steps, dB", f"CLIP score at {FEW} steps"]
    count = found["guidances"][0]["psnr_few"]["n"]
    return f"By guidance, PNDM, N = {count}, drift from the same guidance's most steps:\n\n" + table(head, rows)


def learnt_on(folder: Path) -> str:
    """What the weights were trained on, as `export` noted it."""
    about = json.loads((folder / "device.json").read_text(encoding="utf-8"))
    return f"{about.get('name', 'an unknown device')}; its trainings took {about['minutes']:.0f} minutes together"


def retrieval(found: dict[str, Any]) -> str:
    """The judge on what it never saw."""
    titles = {"held-style": "a held-out style of known concepts", "held": "held-out concepts"}
    rows = [
        [titles[name], str(r["top1"]["n"]), percent(r["top1"]), percent(r["top5"])]
        for name, r in found["retrieval"].items()
    ]
    return table(["real pictures of", "pictures", "top 1", "top 5"], rows)


def grid(found: dict[str, Any], name: str) -> str:
    """A picture and its captions in reading order."""
    return f"![{name} prompts](card/samples-{name}.png)\n\n" + "; ".join(dict.fromkeys(found["grids"][name])) + "."


def counted(items: list[Item]) -> dict[str, int]:
    """Concepts by what the generator saw of them, pictures by what the CLIP model did."""
    concepts = {split: len({i.concept for i in items if i.split == split}) for split in ("train", "held", "extra")}
    untrained = len({i.concept for i in items if i.split == "extra" and i.judge == "held"})
    judged = {f"judge_{s}".replace("-", "_"): sum(i.judge == s for i in items) for s in ("train", "held-style", "held")}
    drawn = sum(i.split == "train" for i in items)
    unread = sum(i.split == "train" and i.judge != "train" for i in items)
    return concepts | judged | {
        "untrained": untrained, "helping": concepts["extra"] - untrained, "drawn": drawn, "unread": unread,
    }  # fmt: skip


def measured(embedded: Path, results: Path) -> dict[str, Any]:
    """What `evaluate` kept of what ships. Raises TrainingError when that is another thing, or not all."""
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    # the judge is always the package's own, see `evaluate`
    shipped = {"weights": embedded / "emoji", "judge": EMBEDDED / "emojiclip", "statistics": embedded / "statistics"}
    other = [folder.name for name, folder in shipped.items() if found.get(name) != digest(folder, BESIDE)]
    missing = [part for part in ("machine", "grids", "distance", "guidances") if part not in found]
    if other or missing:
        what = f"not of what ships in {', '.join(other)}" if other else f"without {', '.join(missing)}"
        raise TrainingError(f"the measurements in {results} are {what}; run `python -m recipe evaluate` first.")
    return found


def write_card(work: Path, embedded: Path = EMBEDDED, results: Path = RESULTS) -> Path:
    """`embedded/MODEL_CARD.md` and its curves.

    Raises:
        TrainingError: when the measurements are missing, not whole, or not of what ships.
    """
    found = measured(embedded, results)
    items = load_dataset(work).items
    machine = found["machine"]
    parameters, loading, size = machine["parameters"], machine["loading"], folder_size(embedded) / 1e6
    speed = ", ".join(f"{ms:.1f} ms at {batch}" for batch, ms in machine["unet_ms_per_sample"].items())
    facts = [
        f"- Parameters: UNet {parameters['unet'] / 1e6:.1f} M, text encoder {parameters['text_encoder'] / 1e6:.1f} M, "
        f"autoencoder {parameters['vae'] / 1e6:.1f} M. Everything under `embedded`: {size:.1f} MB.",
        f"- Guidance scale to use: {found['guidance']:g}; all figures here are at it.",
        f"- Steps: PNDM, {found['steps']}, `linspace` spacing, unless a table says otherwise.",
        f"- One UNet evaluation on two threads of {machine['processor']}: {speed} samples a batch (per sample).",
        f"- Loading: {loading['seconds']:.1f} s, after {loading['seconds_of_imports']:.1f} s of importing diffusers; "
        f"the process takes {loading['peak_mib']:.0f} MiB at most, {loading['library_mib']:.0f} of them pages of the "
        "libraries' files.",
        f"- The same seed twice gives the same bytes: {'yes' if machine['same_picture_twice'] else 'no'}.",
    ]
    kind = "placed" if found["placed"] else "as they are"
    unet = json.loads((embedded / "emoji" / "unet" / "config.json").read_text(encoding="utf-8"))
    shape = f"{unet['sample_size']}x{unet['sample_size']} latents of {unet['in_channels']} channels"
    counts = counted(items)
    data = DATA.format(choice=CHOICES[kind].format(**counts), **counts)
    parts = [
        INTRODUCTION.format(latents=shape),
        "\n".join(facts),
        "## Data\n\n" + data.strip(),
        "## Training\n\n" + trainings(embedded / "card"),
        f"The autoencoder gives held-out pictures back at {found['autoencoder_psnr_held_out']:.1f} dB.",
        HISTORY,
        students_section(embedded),
        "## Samples\n\nPrompts that it was trained on:\n\n" + grid(found, "training"),
        "Concepts that it never saw, which it cannot draw:\n\n" + grid(found, "held-out"),
        "## Alignment\n\nThe share of pictures whose caption the CLIP model ranks among the first of a hundred.\n\n"
        + alignment(found)
        + "\n\nOf what is drawn for an open caption, the nearest of all training captions fits it in "
        + f"{percent(found['alignment_open'])} of {found['alignment_open']['n']} pictures.",
        "## Distance from the real pictures\n\n" + DISTANCE.strip() + "\n\n" + distances(found),
        "Open captions, which have many pictures:\n\n" + grid(found, "open"),
        "One caption in each row, eight seeds:\n\n" + grid(found, "placings"),
        "## The trade-off\n\nThe certificate prompts; the same seeds in every row. PSNR and the gain are against the "
        "same solver's most steps.\n\n" + tradeoff(found),
        guidances(found),
        SOLVERS + PATHS[kind],
        "## The CLIP model\n\nRetrieval among a hundred captions.\n\n" + retrieval(found),
        LIMITS.format(heart=HEARTS[kind], device=learnt_on(embedded / "card")),
    ]
    path = embedded / "MODEL_CARD.md"
    path.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")
    return path

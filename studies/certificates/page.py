"""The certificate as one page that opens without a network: the claim, the runs, the worst prompts, how it was made."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from studies.certificates.carried import student_words
from studies.certificates.document import FULL, PLAN
from studies.choosing.judgement import HOLDS, OPEN
from studies.wording import interval, others_words, pictures, speed_of

ReadPicture = Callable[[int, str], bytes | None]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
.claim{border-left:.5rem solid;padding:.6rem 1rem;background:#f4f4f4;font-size:1.1rem}
.holds{border-color:#009e73}.open{border-color:#e69f00}.fails{border-color:#d55e00}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1rem}
figure{margin:0;border:1px solid #ddd;padding:.5rem}
figure img{width:48%;image-rendering:auto}figcaption{font-size:.85rem;overflow-wrap:anywhere}
small,.note{color:#555}@media print{body{margin:0}}
"""


def page_html(document: Mapping[str, Any], picture: ReadPicture) -> str:
    """The page of a certificate. picture: the PNG of a prompt's number and a run, None where it was not kept. Texts
    come from anybody and are escaped; pictures stand in the page."""
    claim, plan = document["claim"], document["plan"]
    settings = document["settings"]
    colour = {HOLDS: "holds", OPEN: "open"}.get(claim["verdict"], "fails")
    title = f"Certificate of {plan['nickname']} on {settings['model']}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{_in_full(plan)}{_students(document)}<p class="claim {colour}">{escape(claim["sentence"])}</p>
<h2>Runs</h2>
{_runs(document)}
<p class="note">{pictures(document["count"], document["prompts"])} by each run. 95% bootstrap intervals in brackets,
over the prompts: pictures of one prompt stay together. CLIP change and drift are paired with the un-accelerated picture
of the same prompt and seed; drift is 1 - SSIM. Cost is the UNet's multiply-accumulates over the full run's.</p>
{_categories(document)}{_tries(document)}<h2>Worst prompts</h2>
<p class="note">Left: un-accelerated. Right: this plan. First the largest losses of CLIP score, then the largest
changes by PSNR.</p>
<div class="pairs">
{_worst(document, picture)}
</div>
<h2>How it was measured</h2>
{_facts(document)}
</body>
</html>
"""


def _runs(document: Mapping[str, Any]) -> str:
    runs, differences = document["runs"], document["differences"]
    metrics = list(runs[PLAN]["scores"])
    head = ["run", "speed-up", "cost", "CLIP change", "drift", *metrics]
    rows = []
    for name, run in runs.items():
        change = differences.get(name, {})
        cells = [
            _run_name(name, run, document["plan"]),
            speed_of(run),
            f"{run['macs_share']:.1%}",
            interval(change[document["clip"]], sign=True) if change else "",
            interval(change["drift"]) if change else "",
            *(interval(run["scores"][metric]) for metric in metrics),
        ]
        rows.append(cells)
    return _table(head, rows)


def _categories(document: Mapping[str, Any]) -> str:
    """What the plan changes by the prompts' category; nothing where they have none."""
    found = document.get("categories") or {}
    columns = {"clip": "CLIP score, un-accelerated", "clip_change": "CLIP change", "psnr": "psnr", "drift": "drift"}
    rows = [
        [name, str(each["clip"]["n"]), *(interval(each[key], sign=key == "clip_change") for key in columns)]
        for name, each in found.items()
    ]
    return (
        f"<h2>By category of the prompts</h2>\n{_table(['category', 'pictures', *columns.values()], rows)}\n"
        if rows
        else ""
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    heads = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _in_full(plan: Mapping[str, Any]) -> str:
    """The plan's description below the title, where that has its nickname."""
    return "" if plan["words"] == plan["nickname"] else f'<p class="note">{escape(plan["words"])}</p>\n'


def _students(document: Mapping[str, Any]) -> str:
    """The students that the plan runs, with their sizes."""
    words = "; ".join(student_words(name, facts) for name, facts in document.get("students", {}).items())
    return f'<p class="note">{escape(words)}.</p>\n' if words else ""


def _run_name(name: str, run: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    role = {FULL: " (un-accelerated)", PLAN: " (this plan)"}.get(name, f" ({name})")
    return f"{plan['nickname'] if name == PLAN else run['name']}{role}, {run['steps']} steps"


def _worst(document: Mapping[str, Any], picture: ReadPicture) -> str:
    figures = []
    for each in document["worst"]:
        images = "".join(_image(picture(each["number"], run), f"{run} of {each['prompt']}") for run in (FULL, PLAN))
        change = each["clip"][PLAN] - each["clip"][FULL]
        figures.append(
            f"<figure>{images}<figcaption>{escape(each['prompt'])}<br><small>CLIP {change:+.1f}, PSNR "
            f"{each['psnr']:.1f} dB, seed {each['seed']}</small></figcaption></figure>"
        )
    return "\n".join(figures)


def _image(png: bytes | None, words: str) -> str:
    if png is None:
        return "<small>(the picture was not stored)</small>"
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _facts(document: Mapping[str, Any]) -> str:
    settings, device = document["settings"], document["device"]
    extra = settings["extra"]
    facts = {
        "made": document["created"],
        "model": f"{settings['model']} (weights {extra.get('weights')})",
        "plan": f"{document['plan']['nickname']} (key {document['plan']['key']})",
        "pictures": f"{pictures(document['count'], document['prompts'])} by each run ({settings['prompts']}), "
        f"seeds from {settings['seed']}",
        "pipeline": f"{settings['scheduler']}{_of_plan(document)}, {settings['steps']} steps, "
        f"guidance {settings['guidance']:g}, "
        f"{'x'.join(map(str, settings['resolution']))} pixels, {settings['dtype']}",
        "CLIP model": extra.get("CLIP model"),
        "features": f"{settings['extractor']}, compared with {settings['reference']}",
        "latency": f"the denoising loop, {extra.get('timed pairs')} alternating pairs, batch "
        f"{extra.get('latency batch')}, compile {settings['compile']}",
        "device": f"{device['kind']}: {device['name']}, driver {device['driver']}, {device['threads']} thread"
        f"{'' if device['threads'] == 1 else 's'}",
        "versions": ", ".join(f"{name} {value}" for name, value in document["versions"].items()),
    }
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>"


def _tries(document: Mapping[str, Any]) -> str:
    words = others_words(document["also_certified"])
    return f'<p class="note">{escape(words)}</p>\n' if words else ""


def _of_plan(document: Mapping[str, Any]) -> str:
    """The plan's own scheduler and spacing of timesteps, where it names them."""
    plan = document["plan"]["document"]
    spaced = f"{plan['spacing']} timesteps" if plan.get("spacing") else None
    named = ", ".join(each for each in (plan.get("scheduler"), spaced) if each)
    return f" (the plan: {named})" if named else ""

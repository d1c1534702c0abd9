"""`explorer models`, `anatomy` and `strategies`: what can be known of a model without running it."""

from __future__ import annotations

from typing import Any

from explorer.errors import ModelError
from studies.commands.output import out, print_json, table


def models_command(as_json: bool) -> None:
    from explorer.models import EMBEDDED, EMOJI, MODELS

    rows = [
        {
            "name": model.name,
            "description": model.description,
            "weights": model.weights,
            "guidance": model.guidance,
            "available": model.name != EMOJI or (EMBEDDED / "emoji" / "model_index.json").is_file(),
        }
        for model in MODELS
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("model", "quality", "what it is")
    for row in rows:
        shown.add_row(str(row["name"]), "yes" if row["weights"] else "no", str(row["description"]))
    out().print(shown)
    out().print(
        "\nAny diffusers folder, or a hub id (owner/name), of a Stable Diffusion 1.x, 2.x or XL pipeline works too."
    )


def _anatomy_of(model: str, resolution: int | None = None) -> Any:
    from explorer.costs import anatomy
    from explorer.models import load_empty_unet

    unet = load_empty_unet(model)
    if resolution is None:
        return anatomy(unet)
    if resolution <= 0 or resolution % 8:
        raise ModelError(f"--resolution must be a positive multiple of 8 pixels, got {resolution}.")
    return anatomy(unet, resolution // 8)


def anatomy_command(model: str, resolution: int | None, as_json: bool) -> None:
    from explorer.costs import TEXT_TOKENS

    found = _anatomy_of(model, resolution)
    if as_json:
        print_json(
            {
                "model": model,
                "architecture": found.architecture.signature,
                "latent": list(found.latent),
                "text_tokens": TEXT_TOKENS,
                "parameters": found.parameters,
                "macs": found.macs,
                "units": [unit.to_json() for unit in found.units],
                "nodes": [node.to_json() for node in found.nodes],
            }
        )
        return
    shown = table("unit", "kind", ">parameters", ">MMACs", ">share")
    for node in found.nodes:
        if node.kind != "cat":
            shown.add_row(node.name, node.kind, f"{node.parameters:,}", f"{node.macs / 1e6:,.1f}", f"{node.share:.1%}")
    out().print(shown)
    height, width = found.latent
    out().print(
        f"\n{model}: {found.architecture.describe()}; {found.parameters / 1e6:.2f} M parameters, "
        f"{found.macs / 1e9:.2f} GMACs a sample and evaluation at {height}x{width} latents."
    )


def strategy_rows(model: str, steps: int) -> list[dict[str, Any]]:
    """Every named strategy in every mode: what it inherits and what its MACs predict (the contract of `strategies`).

    predicted_speedup is the MACs' limit, of the UNet alone; a measured speed-up is smaller.
    """
    from explorer.errors import PlanError
    from explorer.strategies import DEEPCACHE_MODES, PAPER_MODES, PAPER_STRATEGIES, STRATEGIES, strategy

    if steps <= 0:
        raise PlanError(f"--steps must be more than zero, got {steps}.")
    found = _anatomy_of(model)
    rows = []
    for name, each in STRATEGIES.items():
        mask = each.mask(found.architecture)
        share = found.share(mask)
        for mode in PAPER_MODES if name in PAPER_STRATEGIES else DEEPCACHE_MODES:
            plan = strategy(name, mode=mode, steps=steps, unet=found.architecture)
            choices = plan.resolve(steps)
            cost = sum(share if choice else 1.0 for choice in choices)
            rows.append(
                {
                    "name": name,
                    "mode": mode,
                    "inherited_units": sum(
                        1 for unit in found.architecture.units if unit not in _computed(found, mask)
                    ),
                    "inherit_step_macs_share": share,
                    "predicted_speedup": steps / cost,
                    "extract_steps": choices.count(0),
                    "family": each.family,
                    "source": each.source,
                }
            )
    return rows


def _computed(found: Any, mask: Any) -> set[str]:
    from explorer.mask import liveness

    return set(liveness(found.architecture, mask).run)


def strategies_command(model: str, steps: int, as_json: bool) -> None:
    rows = strategy_rows(model, steps)
    if as_json:
        print_json(rows)
        return
    shown = table("strategy", "mode", ">units inherited", ">inherit step", ">speed-up by MACs", "source")
    for row in rows:
        shown.add_row(
            row["name"], row["mode"], str(row["inherited_units"]), f"{row['inherit_step_macs_share']:.1%}",
            f"{row['predicted_speedup']:.2f}x", row["source"],
        )  # fmt: skip
    out().print(shown)
    out().print(
        "\nThe masks of LI1 ... CO6 are read from the text of A-SDM, Sec. V, and fitted to the pattern of Table V (its "
        "Figure 10 is a picture). The speed-up by MACs is a limit of the UNet alone: `explorer search` measures."
    )

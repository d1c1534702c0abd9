"""`explorer models`, `anatomy` and `strategies`: what can be known of a model without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from studies.cli.commands.output import out, print_json, table


def models_command(as_json: bool) -> None:
    from explorer.models.loading import EMBEDDED, EMOJI, MODELS

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
        "\nAny diffusers folder, .safetensors checkpoint or hub id (owner/name) of Stable Diffusion 1.x, 2.x or XL "
        "works too."
    )


def _anatomy_of(model: str, resolution: tuple[int, int] | None = None) -> Any:
    from explorer.models.loading import load_empty_unet, pixel_factor
    from explorer.models.workload import latent_size
    from explorer.timing.anatomy import anatomy

    unet = load_empty_unet(model)
    return anatomy(unet, latent_size(resolution, pixel_factor(model)) if resolution is not None else None)


def _standing_profile(model: str, found: Any, storage: str) -> Any:
    """The newest profile of the model at the anatomy's latent size; None where the storage holds none, or is not."""
    from explorer.models.loading import pixel_factor
    from studies.searching.profiles import newest_profile
    from studies.storage.database import parse_url
    from studies.storage.sqlite import is_sqlite
    from studies.storage.store import Store

    url = parse_url(storage)
    if is_sqlite(url) and not Path(str(url.database)).exists():
        return None
    height, width = (side * pixel_factor(model) for side in found.latent)
    with Store.open(storage, read_only=True) as store:
        return newest_profile(store, model, found.architecture.signature, (height, width))


def anatomy_command(model: str, resolution: tuple[int, int] | None, storage: str, as_json: bool) -> None:
    from explorer.models.workload import TEXT_TOKENS

    found = _anatomy_of(model, resolution)
    profile = _standing_profile(model, found, storage)
    seconds = profile.cost_model.nodes if profile else {}
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
                "nodes": [node.to_json() | {"seconds": seconds.get(node.name)} for node in found.nodes],
                "profile": _profile_facts(profile),
            }
        )
        return
    timed = (">ms", ">time") if profile else ()
    shown = table("unit", "kind", ">parameters", ">MMACs", ">share", *timed)
    for node in found.nodes:
        if node.kind != "cat":
            spent = (
                [f"{seconds[node.name] * 1e3:.3f}", f"{seconds[node.name] / profile.extract_seconds:.1%}"]
                if profile
                else []
            )
            shown.add_row(
                node.name, node.kind, f"{node.parameters:,}", f"{node.macs / 1e6:,.1f}", f"{node.share:.1%}", *spent
            )
    out().print(shown)
    height, width = found.latent
    out().print(
        f"\n{model}: {found.architecture.describe()}; {found.parameters / 1e6:.2f} M parameters, "
        f"{found.macs / 1e9:.2f} GMACs per sample and evaluation at {height}x{width} latents."
    )
    if profile:
        out().print(f"Times are from {_profile_words(profile)}.")


def _profile_facts(profile: Any) -> dict[str, Any] | None:
    if profile is None:
        return None
    return {
        "device": profile.device.to_json(),
        "workload": profile.workload.to_json(),
        "extract_seconds": profile.extract_seconds,
    }


def _profile_words(profile: Any) -> str:
    workload = profile.workload
    mode = "" if workload.compile == "off" else f", compiled ({workload.compile})"
    return f"the profile on {profile.device.name}: {workload.dtype}, batch {workload.batch} with guidance{mode}"


def strategy_rows(found: Any, steps: int, sample_bytes: int, profile: Any = None) -> list[dict[str, Any]]:
    """Every named strategy in every mode: what it inherits and what its MACs predict (the contract of `strategies`).

    found: the model's anatomy. sample_bytes: UNet samples x bytes of a number. predicted_speedup is the MACs' limit, of
    the UNet alone; a measured speed-up is smaller. With a profile timed_speedup is that of the whole loop by measured
    times, otherwise None. cache_mib: the most memory that the features of a run take, by prediction;
    measured_cache_mib: what they were seen to take, where the profile is of as many samples and bytes, otherwise None.
    """
    from explorer.errors import PlanError
    from explorer.plans.strategies import DEEPCACHE_MODES, PAPER_MODES, PAPER_STRATEGIES, STRATEGIES, strategy
    from explorer.runtime.cache_size import peak_cache_bytes
    from studies.cli.commands.profile import mib

    if steps <= 0:
        raise PlanError(f"--steps must be more than zero, got {steps}.")
    feature_bytes = found.feature_bytes(sample_bytes, 1)
    whole = (
        profile.cost_model.loop_seconds(strategy(f"plain@{steps}", unet=found.architecture), steps) if profile else 0
    )
    held = profile.held_bytes if profile and _sample_bytes(profile) == sample_bytes else {}
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
                    "timed_speedup": whole / profile.cost_model.loop_seconds(plan, steps) if profile else None,
                    "cache_mib": peak_cache_bytes(plan, steps, feature_bytes) / 2**20,
                    "measured_cache_mib": mib(held.get(name)),
                    "extract_steps": choices.count(0),
                    "family": each.family,
                    "source": each.source,
                }
            )
    return rows


def _sample_bytes(profile: Any) -> int:
    """UNet samples x bytes of a number of a profile's workload."""
    import torch

    return int(2 * profile.workload.batch * getattr(torch, profile.workload.dtype).itemsize)


def _computed(found: Any, mask: Any) -> set[str]:
    from explorer.unet.mask import liveness

    return set(liveness(found.architecture, mask).run)


def strategies_command(
    model: str, steps: int, resolution: tuple[int, int] | None, batch: int, dtype: str, storage: str, as_json: bool
) -> None:
    from explorer.devices import resolve_device, resolve_dtype

    if batch < 1:
        raise ModelError(f"--batch must be at least 1, got {batch}.")
    kind = resolve_dtype(dtype, resolve_device("auto"))
    found = _anatomy_of(model, resolution)
    profile = _standing_profile(model, found, storage)
    rows = strategy_rows(found, steps, 2 * batch * kind.itemsize, profile)
    if as_json:
        print_json(rows)
        return
    from studies.cli.commands.profile import mib_words

    timed = (">by time",) if profile else ()
    measured = (">measured",) if any(row["measured_cache_mib"] is not None for row in rows) else ()
    columns = (
        "strategy",
        "mode",
        ">units inherited",
        ">inherit step",
        ">speed-up by MACs",
        *timed,
        ">cache MiB",
        *measured,
        "source",
    )
    shown = table(*columns)
    for row in rows:
        spent = [f"{row['timed_speedup']:.2f}x"] if profile else []
        held = [mib_words(row["measured_cache_mib"])] if measured else []
        shown.add_row(
            row["name"], row["mode"], str(row["inherited_units"]), f"{row['inherit_step_macs_share']:.1%}",
            f"{row['predicted_speedup']:.2f}x", *spent, f"{row['cache_mib']:.1f}", *held, row["source"],
        )  # fmt: skip
    out().print(shown)
    out().print(
        "\nThe masks of LI1 ... CO6 are read from the text of A-SDM, Sec. V, and fitted to the pattern of Table V (its "
        "Figure 10 is a picture). The speed-up by MACs is a limit of the UNet alone: `explorer search` measures. "
        f"Cache: the features of {batch} guided picture(s) in {str(kind).removeprefix('torch.')}."
    )
    if profile:
        out().print(f"By time: predicted for the complete loop from {_profile_words(profile)}.")
    if measured:
        out().print("Measured: the memory of the features in this profile's extract and inherit step of each strategy.")

"""`explorer profile`: what a model's nodes, steps and loops take on this device, and how well that is predicted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from explorer.errors import PlanError, ScoreError
from studies.cli.commands.output import duration, out, print_json, table, words

if TYPE_CHECKING:
    from explorer.timing.profile import Profile
    from explorer.timing.profiling import ProfileProgress

MODE = "P5"
"""The sampling mode whose peak cache is shown beside each strategy."""


def profile_command(
    model: str,
    *,
    device: str,
    dtype: str,
    variant: str | None = None,
    batch: int,
    resolution: tuple[int, int] | None,
    steps: int,
    compile: str,
    rounds: int | None,
    storage: str,
    again: bool,
    as_json: bool,
) -> None:
    """Measure or look up the profile and print it. On Ctrl-C what was measured stays and the same command goes on."""
    from explorer.compile_modes import check_mode, compile_mode
    from explorer.devices import describe, resolve_device, resolve_dtype
    from explorer.models.loading import load_pipeline
    from explorer.timing.profiling import workload_of
    from studies.interrupts import interruptible
    from studies.searching.profiles import measured_profile
    from studies.storage.store import Store

    if steps < 1 or batch < 1:
        raise PlanError(f"--steps and --batch must be at least 1, got {steps} and {batch}.")
    if rounds is not None and rounds < 3:
        raise ScoreError(f"--rounds must be at least 3, got {rounds}.")
    where = resolve_device(device)
    kind = str(resolve_dtype(dtype, where)).removeprefix("torch.")
    mode = compile_mode(compile)
    check_mode(mode, where)
    console = words()
    with Store.open(storage) as store, interruptible():
        console.print(f"loading {model} ...", markup=False)
        pipe = load_pipeline(model, device=str(where), dtype=kind, variant=variant)
        workload = workload_of(pipe, device=str(where), dtype=kind, batch=batch, resolution=resolution, compile=mode)
        try:
            with profiling_progress(describe(where).name) as show:
                profile = measured_profile(
                    store, pipe, model, workload, steps=steps, rounds=rounds, again=again, on_progress=show
                )
        except KeyboardInterrupt:
            kept = "interrupted; what was measured is kept. Resume with the same command (without --again)."
            console.print(f"\n{kept}", markup=False)
            raise
    costs = _costs(pipe, profile)
    if as_json:
        print_json(profile_document(profile, costs, steps))
    else:
        _print_profile(profile, costs, steps)


def _costs(pipe: Any, profile: Profile) -> Any:
    from explorer.models.workload import latent_size, vae_factor
    from explorer.timing.anatomy import anatomy

    return anatomy(pipe.unet, latent_size(profile.workload.resolution, vae_factor(pipe)))


@contextmanager
def profiling_progress(device: str) -> Iterator[Callable[[ProfileProgress], None]]:
    """A line that is redrawn on a terminal, otherwise one at each tenth."""
    console = words()
    columns = (TextColumn("profiling {task.description}"), BarColumn(bar_width=24), TaskProgressColumn(),
               TextColumn("{task.fields[left]}"))  # fmt: skip
    tenth = -1
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(device, total=None, left="")

        def show(standing: ProfileProgress) -> None:
            nonlocal tenth
            left = "" if standing.seconds_left is None else f"{duration(standing.seconds_left)} left"
            bar.update(task, completed=standing.done, total=standing.total, left=left)
            if not console.is_terminal and standing.done * 10 // standing.total > tenth:
                tenth = standing.done * 10 // standing.total
                console.print(f"{standing.stage}: {standing.done / standing.total:.0%}, {left}", markup=False)

        yield show


def strategy_documents(profile: Profile, costs: Any, steps: int) -> list[dict[str, Any]]:
    """Each named strategy's inherit step: measured, predicted, by MACs, over its nodes (by the cost model, and as they
    were measured one by one), and the cache of a P5 plan, predicted and as it was measured (None: it was not)."""
    from explorer.plans.strategies import strategy

    found = []
    for timed in profile.strategies:
        mask = profile.tested[timed.name]
        plan = strategy(timed.name, mode=MODE, steps=steps, unet=profile.architecture)
        found.append(
            {
                "name": timed.name,
                "seconds": timed.measured,
                "predicted_seconds": timed.predicted,
                "error": timed.error,
                "share": timed.relative,
                "macs_share": costs.share(mask),
                "over_nodes": profile.over_nodes(timed.name),
                "over_sampled_nodes": profile.over_sampled_nodes(timed.name),
                "cache_mib": profile.cache_bytes(plan, steps) / 2**20,
                "measured_cache_mib": mib(profile.held_bytes.get(timed.name)),
            }
        )
    return found


def loop_documents(profile: Profile) -> list[dict[str, Any]]:
    """Each timed loop: seconds and the peak cache, predicted and measured."""
    return [
        timed.to_json() | {"cache_mib": predicted / 2**20, "measured_cache_mib": mib(measured)}
        for timed, (predicted, measured) in zip(profile.timed_loops, profile.loop_caches, strict=True)
    ]


def mib(size: int | None) -> float | None:
    return None if size is None else size / 2**20


def mib_words(size: float | None) -> str:
    """A measured size for a table."""
    return "" if size is None else f"{size:.1f}"


def node_documents(profile: Profile, costs: Any) -> list[dict[str, Any]]:
    """Every node: seconds by the cost model, and those of its samples in passing; its identity path where it has
    one."""
    model = profile.cost_model
    return [
        {
            "name": node.name,
            "kind": node.kind,
            "seconds": model.nodes[node.name],
            "sampled_seconds": profile.sampled_nodes[node.name],
            "identity_seconds": model.identities.get(node.name),
            "share": model.nodes[node.name] / profile.extract_seconds,
            "macs_share": node.share,
        }
        for node in costs.nodes
    ]


def profile_document(profile: Profile, costs: Any, steps: int) -> dict[str, Any]:
    """The contract of `explorer profile --json`; seconds throughout."""
    errors = {"steps": profile.step_errors, "loops": profile.loop_errors}
    return {
        "model": profile.model,
        "fingerprint": profile.fingerprint,
        "device": profile.device.to_json(),
        "workload": profile.workload.to_json(),
        "effort": dict(profile.effort.__dict__),
        "extract_seconds": profile.extract_seconds,
        "nodes": node_documents(profile, costs),
        "strategies": strategy_documents(profile, costs, steps),
        "loops": loop_documents(profile),
        "errors": {name: dict(error.__dict__) for name, error in errors.items()},
        "noise": profile.noise,
        "over_nodes": over_nodes(profile),
        "over_sampled_nodes": over_sampled_nodes(profile),
        "cost_model": profile.cost_model.to_json(),
    }


def over_nodes(profile: Profile) -> float:
    """The median over the strategies of an inherit step's time over that of the nodes it runs."""
    return statistics.median(profile.over_nodes(name) for name in profile.tested)


def over_sampled_nodes(profile: Profile) -> float:
    """The same over the nodes' samples in passing."""
    return statistics.median(profile.over_sampled_nodes(name) for name in profile.tested)


def _print_profile(profile: Profile, costs: Any, steps: int) -> None:
    console = out()
    nodes = table("node", ">ms", ">time", ">MACs")
    for node in node_documents(profile, costs):
        if node["kind"] != "cat":
            nodes.add_row(
                node["name"], f"{node['seconds'] * 1e3:.3f}", f"{node['share']:.1%}", f"{node['macs_share']:.1%}"
            )
    console.print(nodes)
    shown = table(
        "strategy", ">inherit step, ms", ">predicted", ">error", ">of an extract step", ">by MACs", ">cache MiB",
        ">measured",
    )  # fmt: skip
    for row in strategy_documents(profile, costs, steps):
        shown.add_row(
            row["name"], f"{row['seconds'] * 1e3:.2f}", f"{row['predicted_seconds'] * 1e3:.2f}", f"{row['error']:+.1%}",
            f"{row['share']:.1%}", f"{row['macs_share']:.1%}", f"{row['cache_mib']:.1f}",
            mib_words(row["measured_cache_mib"]),
        )  # fmt: skip
    console.print()
    console.print(shown)
    loops = table("loop", ">s", ">predicted", ">error", ">speed-up", ">cache MiB", ">measured")
    for row in loop_documents(profile):
        loops.add_row(
            row["name"], f"{row['measured']:.3f}", f"{row['predicted']:.3f}", f"{row['error']:+.1%}",
            f"{1 / row['relative']:.2f}x", f"{row['cache_mib']:.1f}", mib_words(row["measured_cache_mib"]),
        )  # fmt: skip
    console.print()
    console.print(loops)
    console.print(f"\n{summary(profile)}")


def summary(profile: Profile) -> str:
    """What the profile says in a few sentences."""
    workload, device = profile.workload, profile.device
    height, width = workload.resolution
    mode = "eager" if workload.compile == "off" else f"compiled ({workload.compile})"
    steps, loops = profile.step_errors, profile.loop_errors
    return (
        f"{profile.model} on {device.kind}: {device.name}, {workload.dtype}, batch {workload.batch} with guidance, "
        f"{height}x{width} px, {mode}: an extract step takes {profile.extract_seconds * 1e3:.2f} ms. Predictions err "
        f"by {steps.median:.1%} in the median and {steps.worst:.1%} at worst over {steps.count} strategies, none of "
        f"which they were fitted to, and by {loops.median:.1%} and {loops.worst:.1%} over {loops.count} complete "
        f"loops; the measurements themselves repeat within {profile.noise:.1%}. An inherit step takes "
        f"{over_nodes(profile):.2f} times as long as the nodes it runs by the cost model, and "
        f"{over_sampled_nodes(profile):.2f} times as long as those were measured one by one."
    )

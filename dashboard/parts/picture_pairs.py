"""A plan's stored pictures beside the un-accelerated ones of the same prompt and seed, the worst first."""

from __future__ import annotations

from dataclasses import dataclass

from studies.results.rows import PictureRow, TrialRow, sample_pictures, samples
from studies.storage.store import Store, StudyRecord


@dataclass(frozen=True)
class Pair:
    """A picture of the plan, its un-accelerated partner (None: not kept), and how close they are in dB (None: not
    measured)."""

    ours: PictureRow
    plain: PictureRow | None
    psnr: float | None


def pairs(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> list[Pair]:
    """The plan's pictures, the worst PSNR first; those without one last. No file is read.

    control: the un-accelerated row; of it a picture is a partner when number, prompt and seed are the same.
    """
    values = samples(store, study, row.key, "psnr")
    partners = {} if control is None else {p.number: p for p in sample_pictures(store, study, control.key)}
    found = []
    for ours in sample_pictures(store, study, row.key):
        plain = partners.get(ours.number)
        if plain is not None and (plain.prompt, plain.seed) != (ours.prompt, ours.seed):
            plain = None
        value = values[ours.number] if ours.number < len(values) else None
        found.append(Pair(ours, plain, float(value) if isinstance(value, int | float) else None))
    return sorted(found, key=lambda pair: (pair.psnr is None, pair.psnr or 0.0, pair.ours.number))

"""What a certificate is computed from: kept batch by batch, and told where it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explorer.errors import StudyError
from explorer.quality.features import Features
from explorer.quality.scorer import Raw
from studies.certificates.data import CertificateData
from studies.certificates.document import read_certificate
from tests.studies.scored_study import settings


def raws(count: int, start: int) -> dict[str, Raw]:
    numbers = np.arange(start, start + count, dtype=np.float64)
    return {
        run: Raw(count, {"clip": numbers + shift, "psnr": -numbers}, Features(np.outer(numbers, [1.0, 2.0])))
        for run, shift in (("full", 0.0), ("plan", -1.0))
    }


def test_kept_values_come_back_in_order_and_a_gap_ends_them(tmp_path: Path) -> None:
    data = CertificateData(tmp_path)
    data.open(settings(), "plan")
    for start in (0, 8):
        data.add(start, raws(8, start))
    data.add(24, raws(8, 24))  # what came after a lost batch is not counted
    again = CertificateData(tmp_path)
    again.open(settings(batch=4, space="joint"), "plan")  # what a certificate does not depend on
    assert again.count() == 16
    whole = again.runs(12)
    assert whole["plan"].each["clip"].tolist() == [i - 1.0 for i in range(12)] and whole["full"].count == 12
    features = whole["full"].features
    assert features is not None and features.values[:, 1].tolist() == [2.0 * i for i in range(12)]
    assert again.runs(12, features=False)["full"].features is None
    with pytest.raises(StudyError, match=r"steps: it has 4, this run 5; CLIP model: it has 'emojiclip', this run 'x'"):
        again.open(settings(steps=5, extra={**settings().extra, "CLIP model": "x"}), "plan")
    with pytest.raises(StudyError, match="plan: it has 'plan', this run 'other'"):
        again.open(settings(), "other")
    again.open(settings(steps=5), "plan", again=True)
    assert again.count() == 0


def test_pictures_of_the_worst_are_kept_and_others_dropped(tmp_path: Path) -> None:
    data = CertificateData(tmp_path)
    data.open(settings(), "plan")
    data.keep_pictures({(3, "full"): b"a", (3, "plan"): b"b", (4, "plan"): b"c"}, [3, 4])
    data.keep_pictures({(9, "plan"): b"d", (5, "plan"): b"e"}, [4, 9])
    assert data.picture(3, "full") is None and data.picture(5, "plan") is None
    assert (data.picture(4, "plan"), data.picture(9, "plan")) == (b"c", b"d")


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    data = CertificateData(tmp_path)
    data.open(settings(), "plan")
    data.add(0, raws(8, 0))
    with pytest.raises(StudyError, match="lacks ssim"):
        data.runs(8, needed=("clip", "ssim"))
    (data.folder / "values-000000.safetensors").write_bytes(b"broken")
    with pytest.raises(StudyError, match="--again"):
        data.count()
    kind = '{"kind": "inheritance-certificate"'
    for content in ("{", "[]", "[" * 100_000, '{"kind": "x"}', f'{kind}, "schema": 9}}', f'{kind}, "schema": 2}}'):
        (tmp_path / "certificate.json").write_text(content)
        with pytest.raises(StudyError, match=r"certificate\.json"):
            read_certificate(tmp_path)

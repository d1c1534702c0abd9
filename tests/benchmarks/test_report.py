from __future__ import annotations

import sys

import pytest

from benchmarks.shared.report import command


def test_the_command_is_kept_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "/x/benchmarks/certificate_tau.py",
        "--storage",
        "postgresql://me:s3c:r@t@host/name",
        "--study",
        "two words",
    ]
    monkeypatch.setattr(sys, "argv", given)
    wanted = "python -m benchmarks.certificate_tau --storage 'postgresql://me:***@host/name' --study 'two words'"
    assert command() == wanted

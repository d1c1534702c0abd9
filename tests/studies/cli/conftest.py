"""What tests of commands on a small model share."""

from __future__ import annotations

import pytest

from tests.explorer.tiny_pipelines import sd


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small pipeline with random weights of its own."""
    folder = tmp_path_factory.mktemp("model")
    sd().save_pretrained(folder)
    return str(folder)

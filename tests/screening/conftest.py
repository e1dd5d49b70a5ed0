"""A package whose weights are tiny, for screenings that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tiny_weights(several_heads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models with the heads `zero_point`, `band_gap`, `bulk_modulus` and a Debye head in place of the bundled ones."""
    monkeypatch.setattr("cloud_hf.checkpoints.bundled._WEIGHTS", several_heads)
    return several_heads

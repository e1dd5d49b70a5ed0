"""The picture of the Pareto front shows what it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cloud_hf.screening import pareto
from cloud_hf.screening.wants import Want

COLUMNS = ["band_gap (eV)", "energy_above_hull (eV/atom)"]


@pytest.mark.parametrize("n", [1, 30])
def test_every_candidate_and_the_front_are_inside_the_picture(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(pareto, "save_figure", lambda figure, path: drawn.append(figure))
    chance = np.random.default_rng(n)
    sample = pd.DataFrame({"formula": "NaCl", COLUMNS[0]: chance.uniform(2, 9, n), COLUMNS[1]: chance.normal(-3, 1, n)})
    wants = [Want("band_gap", 3.0, np.inf), Want("energy_above_hull", -np.inf, 0.1)]
    points = np.stack(
        [pareto.gains(sample[name].to_numpy(), want) for name, want in zip(COLUMNS, wants, strict=True)], axis=1
    )
    front = sample[pareto.front_of(points)]
    pareto.plot_front(front, sample, wants, COLUMNS, tmp_path / "front.png")
    (axes,) = drawn[0].axes
    for name, limits in zip(COLUMNS, (axes.get_xlim(), axes.get_ylim()), strict=True):
        assert limits[0] <= sample[name].min()
        assert sample[name].max() <= limits[1]
        assert limits[1] - limits[0] < 1.3 * max(np.ptp(sample[name]), 1.0)

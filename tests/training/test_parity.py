"""The picture of predictions over labels."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from cloud_hf.errors import CloudError
from cloud_hf.training.parity import DENSE, Parity, plot_parity


def parity(name: str = "gap", unit: str = "eV", **counts: int) -> Parity:
    chance = np.random.default_rng(0)
    labels = {part: chance.normal(2, 1, count) for part, count in counts.items()}
    return Parity(name, unit, {part: (values, values + 0.25) for part, values in labels.items()})


def text_of(tmp_path: Path, *targets: Parity) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_parity(targets, str(tmp_path / "p.svg"))
    return (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_what_is_written_on_it(tmp_path: Path) -> None:
    text = text_of(tmp_path, parity(train=1200, validation=30), parity("energy", "eV/atom", train=5, test=3))
    for words in (
        "train: MAE 0.25 eV, n = 1,200", "validation: MAE 0.25 eV, n = 30", "test: MAE 0.25 eV/atom, n = 3",
        "Label: gap, eV", "Prediction: energy, eV/atom",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("count", [1, 3, 4])
def test_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("cloud_hf.training.parity.save_figure", lambda figure, _: drawn.append(figure))
    plot_parity([parity("formation_energy", "eV/atom", train=9, validation=9, test=9)] * count, "unused.png")
    drawn[0].draw_without_rendering()
    page = drawn[0].get_size_inches() * drawn[0].dpi
    for axes in drawn[0].axes:
        box = axes.get_tightbbox()
        assert (box.min >= 0).all()
        assert (box.max <= page).all()


@pytest.mark.parametrize("count", [1, 2, DENSE, 4 * DENSE])
def test_any_number_of_rows(tmp_path: Path, count: int) -> None:
    plot_parity([parity(train=count, test=count)], str(tmp_path / "p.png"))
    assert imread(tmp_path / "p.png").shape[:2] == (990, 960)


def test_many_rows_are_a_map_of_their_density(tmp_path: Path) -> None:
    assert "rows per cell" not in text_of(tmp_path, parity(train=5 * DENSE, test=DENSE - 1))
    assert "test rows per cell" in text_of(tmp_path, parity(train=5, test=DENSE))


def test_equal_labels(tmp_path: Path) -> None:
    plot_parity([Parity("y", "K", {"train": (np.zeros(4), np.zeros(4))})], str(tmp_path / "p.png"))
    assert imread(tmp_path / "p.png").shape[:2] == (990, 960)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="nothing to plot"):
        plot_parity([parity(train=0)], str(tmp_path / "p.png"))

"""The picture of Cv(T): readable files of the kind asked for, whatever the crystals."""

from __future__ import annotations

import struct
from pathlib import Path

import matplotlib
import pytest

from cloud_hf.data.inputs import Item
from cloud_hf.errors import CloudError
from cloud_hf.inference.plotting import LABELLED_CURVES, crystal_names, plot_heat_capacity
from cloud_hf.inference.prediction import Prediction


def prediction(theta: float, name: str = "Cu") -> Prediction:
    return Prediction(
        Item(source=f"{name}.cif", formula=name), ({"name": "debye_temperature", "value": theta, "unit": "K"},)
    )


FAILED = Prediction(Item(source="bad.cif", error=CloudError("why")))


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


@pytest.mark.parametrize("count", [1, LABELLED_CURVES, LABELLED_CURVES + 1, 60])
def test_the_size_does_not_depend_on_the_number_of_curves(tmp_path: Path, count: int) -> None:
    plot_heat_capacity([prediction(100.0 + 10 * index) for index in range(count)], str(tmp_path / "p.png"))
    width, height = png_size(tmp_path / "p.png")
    assert (width, height) == (1425, 870)


def text_of(tmp_path: Path, predictions: list[Prediction]) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_heat_capacity(predictions, str(tmp_path / "p.svg"))
    return (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_what_is_written_on_it(tmp_path: Path) -> None:
    text = text_of(tmp_path, [prediction(315.0), prediction(1860.0, "C")])
    for words in ("Temperature", "J/(mol atom K)", "Dulong", "approximation at low T", "Cu, 315 K", "C, 1860 K"):
        assert words in text


def test_crystals_of_one_formula_are_told_apart() -> None:
    said = [("rutile.cif", "TiO2", "P4_2/mnm"), ("a/anatase.cif", "TiO2", "I4_1/amd"), ("b/x.cif", "Cu", "Fm-3m"),
            ("b/y.cif", "Cu", "Fm-3m"), ("c.cif", "W", "Im-3m")]  # fmt: skip
    predictions = [
        Prediction(Item(source, formula=formula, space_group_symbol=group)) for source, formula, group in said
    ]
    names = ["TiO2, P4_2/mnm", "TiO2, I4_1/amd", "Cu, Fm-3m, x.cif", "Cu, Fm-3m, y.cif", "W"]
    assert crystal_names(predictions) == names


def test_many_curves_have_no_names(tmp_path: Path) -> None:
    text = text_of(tmp_path, [prediction(100.0 + index, "Cu") for index in range(LABELLED_CURVES + 1)])
    assert "Cu, 100 K" not in text


def test_failed_predictions_are_left_out(tmp_path: Path) -> None:
    assert "bad.cif" not in text_of(tmp_path, [FAILED, prediction(315.0), FAILED])


def test_extreme_debye_temperatures(tmp_path: Path) -> None:
    plot_heat_capacity([prediction(1e-3), prediction(13_000.0)], str(tmp_path / "p.png"))
    assert png_size(tmp_path / "p.png")


def test_a_folder_is_made(tmp_path: Path) -> None:
    plot_heat_capacity([prediction(315.0)], str(tmp_path / "a" / "b" / "p.png"))
    assert png_size(tmp_path / "a" / "b" / "p.png")


@pytest.mark.parametrize("predictions", [[], [FAILED]])
def test_nothing_to_draw(tmp_path: Path, predictions: list[Prediction]) -> None:
    with pytest.raises(CloudError, match="nothing to plot"):
        plot_heat_capacity(predictions, str(tmp_path / "p.png"))
    assert not (tmp_path / "p.png").exists()


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"p\.xyz"):
        plot_heat_capacity([prediction(315.0)], str(tmp_path / "p.xyz"))


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CloudError, match=r"p\.png"):
        plot_heat_capacity([prediction(315.0)], str(tmp_path / "file" / "p.png"))


class TestBands:
    def test_intervals_are_drawn_and_named(self, tmp_path: Path) -> None:
        plain = prediction(315.0)
        banded = Prediction(plain.item, (dict(plain.quantities[0]) | {"low": 280.0, "high": 350.0, "level": 0.9},))
        text = text_of(tmp_path, [banded])
        assert "Cu, 315 [280, 350] K" in text
        assert "90% intervals" in text
        assert "intervals" not in text_of(tmp_path, [plain])
        assert text.count("<path") > text_of(tmp_path, [plain]).count("<path")

    def test_a_crowd_has_none(self, tmp_path: Path) -> None:
        ends = {"low": 280.0, "high": 350.0, "level": 0.9}
        crowd = [prediction(300.0 + row) for row in range(LABELLED_CURVES + 1)]
        crowd = [Prediction(one.item, (dict(one.quantities[0]) | ends,)) for one in crowd]
        assert "intervals" not in text_of(tmp_path, crowd)

"""What happens with what users give: answers, reasons, and nothing that stays."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

import cloud_hf
from cloud_hf.app.crystals import Answers
from cloud_hf.app.figures import crystal_figure, dos_figure, heat_capacity_figure
from cloud_hf.app.neighbours import NearestKnown, Neighbour
from cloud_hf.app.page import EXAMPLES, N_THERMAL, Handlers, Shown
from cloud_hf.app.reading import MAX_BYTES, FileReader, Readers
from cloud_hf.app.uploads import Uploads
from cloud_hf.crystals.sources import Raw
from cloud_hf.data.inputs import Item
from cloud_hf.inference.prediction import Predictors, load_predictors
from cloud_hf.scope import ScopeEncoder

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"


@pytest.fixture(scope="module")
def predictors(spectral: Path) -> Predictors:
    return load_predictors(str(spectral))


@pytest.fixture(scope="module")
def answers(predictors: Predictors) -> Iterator[Answers]:
    made = Answers(predictors, Readers(predictors.encoder, processes=1))
    yield made
    made.readers.close()


@pytest.fixture
def handlers(answers: Answers, tmp_path: Path) -> Handlers:
    return Handlers(answers, Uploads(tmp_path))


def upload(folder: Path, name: str, content: bytes) -> Path:
    """Put a file where Gradio puts uploads."""
    (folder / "a1b2c3").mkdir()
    path = folder / "a1b2c3" / name
    path.write_bytes(content)
    return path


def row_of(link: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(unquote(re.search(r'href="data:text/csv;charset=utf-8,([^"]*)"', link).group(1))))


class TestUpload:
    def test_an_answer_and_no_file(self, handlers: Handlers, root: Path, tmp_path: Path) -> None:
        path = upload(tmp_path, "salt.cif", (root / "examples" / "NaCl.cif").read_bytes())
        found = Shown(*handlers.upload(str(path), 300.0))
        assert found.file is None
        assert found.crystal.scope == SALT
        assert found.results["visible"]
        assert not found.failure["visible"]
        assert not found.neighbours["visible"]
        assert "NaCl" in found.summary
        assert "Band gap" in found.properties
        assert "Sodium on Wyckoff position 4a" in found.words
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"data_x\n_cell_length_a 4\n", "bad.cif: "),
            (b"", "the file is empty"),
            (b"<script>alert(1)</script>", "bad.cif: "),
            (b"x" * (MAX_BYTES + 1), "more than 2 MB"),
        ],
        ids=["cut", "empty", "html", "large"],
    )
    def test_a_reason_and_no_file(self, handlers: Handlers, tmp_path: Path, content: bytes, reason: str) -> None:
        found = Shown(*handlers.upload(str(upload(tmp_path, "bad.cif", content)), 300.0))
        text = found.failure["value"]
        assert found.failure["visible"]
        assert not found.results["visible"]
        assert reason in text
        assert "Traceback" not in text
        assert "<script>" not in text
        assert str(tmp_path) not in text
        assert found.crystal is None
        assert list(tmp_path.iterdir()) == []

    def test_other_files_of_the_machine_are_neither_read_nor_deleted(self, handlers: Handlers, tmp_path: Path) -> None:
        path = EXAMPLES["NaCl"]
        found = Shown(*handlers.upload(str(path), 300.0))
        assert "no upload" in found.failure["value"]
        assert path.is_file()
        stray = tmp_path / "stray.cif"
        stray.write_bytes(path.read_bytes())
        assert "no upload" in Shown(*handlers.upload(str(stray), 300.0)).failure["value"]
        assert stray.is_file()


def test_the_examples_are_those_of_the_repository(root: Path) -> None:
    assert len(EXAMPLES) >= 5
    for path in EXAMPLES.values():
        assert path.read_bytes() == (root / "examples" / path.name).read_bytes()


def test_an_example_that_is_none(handlers: Handlers) -> None:
    assert "choose one" in Shown(*handlers.example("../secret", 300.0)).failure["value"]


def test_a_string_has_no_picture(handlers: Handlers) -> None:
    found = Shown(*handlers.string(SALT, 300.0))
    assert (found.picture["visible"], found.no_picture["visible"]) == (False, True)


def test_the_row_to_download_is_that_of_predict(handlers: Handlers, spectral: Path) -> None:
    found = Shown(*handlers.string(SALT, 450.0))
    row, expected = row_of(found.download), cloud_hf.predict(SALT, 450.0, model=str(spectral))
    assert list(row) == list(expected)
    assert row["error"].isna().all()
    row, expected = (table.drop(columns=["source", "error"]) for table in (row, expected))
    pd.testing.assert_frame_equal(row, expected, check_dtype=False)


def test_another_temperature(handlers: Handlers) -> None:
    first = Shown(*handlers.string(SALT, 300.0))
    warm = Shown(*[None] * (len(Shown._fields) - N_THERMAL), *handlers.warm(first.crystal, 600))
    assert "600 K" in warm.properties
    column = "heat_capacity_per_atom (J/(mol atom K))"
    assert row_of(warm.download)[column].item() > row_of(first.download)[column].item()


def test_no_crystal_no_temperature(handlers: Handlers) -> None:
    assert len(handlers.warm(None, 600)) == N_THERMAL


class Few(list[Neighbour]):
    """Finds the same crystals for every query."""

    def __call__(self, item: Item) -> list[Neighbour]:
        return self


def test_neighbours_are_shown_where_there_are_any(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Few(
        [
            Neighbour("mp-1", "KCl", "Fm-3m", 0.987, True, {"Band gap (eV)": ("5.20", "2018")}),
            Neighbour("<b>", "LiF", "Fm-3m", 0.9, False, {}),
        ]
    )
    assert answers.neighbours(Item("x", scope=SALT)) == ""
    monkeypatch.setattr(answers, "known", known)
    page = answers.neighbours(Item("x", scope=SALT))
    for text in ("KCl", "0.987", "5.20", "Band gap (eV)", "2018", "materials/mp-1", "&lt;b&gt;"):
        assert text in page
    assert page.count("this crystal") == 1
    assert "Shear modulus" not in page


class TestBundled:
    @pytest.fixture(scope="class")
    def known(self) -> NearestKnown:
        found = NearestKnown.bundled(load_predictors())
        assert found is not None
        return found

    def test_a_known_crystal_comes_first_with_its_values(self, known: NearestKnown) -> None:
        first, *others = known(Item("salt", scope=SALT))
        assert (first.name, first.formula, first.space_group, first.same) == ("mp-22862", "NaCl", "Fm-3m", True)
        assert first.url == "https://materialsproject.org/materials/mp-22862"
        assert float(first.values["Band gap (eV)"][0]) == pytest.approx(5.0, abs=0.3)
        assert others
        assert not any(one.same for one in others)
        assert [one.similarity for one in others] == sorted((one.similarity for one in others), reverse=True)

    def test_a_crystal_that_nobody_knows(self, known: NearestKnown) -> None:
        assert not any(one.same for one in known(Item("x", scope=SALT.replace("Na 4a Cl 4b", "Xe 4a Ra 4b"))))


def test_other_models_have_no_known_crystals(predictors: Predictors) -> None:
    assert NearestKnown.bundled(predictors) is None


class TestFigures:
    def test_the_marked_point_is_the_predicted_heat_capacity(self, answers: Answers) -> None:
        prediction = answers.predict(Item("salt", scope=SALT, n_atoms=2.0), 250.0)
        (value,) = (one["value"] for one in prediction.quantities if one["name"] == "heat_capacity_per_atom")
        figure = heat_capacity_figure(prediction, 250.0)
        (point,) = (trace for trace in figure.data if trace.name == "now")
        assert point.x[0] == 250
        assert point.y[0] == pytest.approx(value)

    def test_the_density_of_states_has_three_modes_an_atom_of_which_heat_excites_more_and_more(
        self, answers: Answers
    ) -> None:
        prediction = answers.predict(Item("salt", scope=SALT, n_atoms=2.0), 300.0)
        excited = []
        for temperature in (0.0, 100.0, 1000.0):
            every, hot = dos_figure(prediction, temperature).data
            assert sum(every.y) * (every.x[1] - every.x[0]) == pytest.approx(3.0, abs=1e-6)
            assert (hot.y <= every.y + 1e-12).all()
            excited.append(sum(hot.y))
        assert excited[0] == 0 < excited[1] < excited[2]

    def test_debye_models_have_a_band_and_no_density_of_states(
        self, several_heads: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cloud_hf.checkpoints.bundled._WEIGHTS", several_heads)
        predictors = load_predictors()
        prediction = Answers(predictors, Readers(predictors.encoder)).predict(
            Item("salt", scope=SALT, n_atoms=2.0), 300.0
        )
        figure = heat_capacity_figure(prediction, 300.0)
        stiff, soft, curve = figure.data[:3]
        assert (stiff.y <= curve.y).all()
        assert (curve.y <= soft.y).all()
        assert (stiff.y < soft.y).any()
        assert dos_figure(prediction, 300.0) is None

    def test_a_crystal_is_drawn_with_every_atom(self, root: Path) -> None:
        path = root / "examples" / "NaCl.cif"
        read = FileReader(ScopeEncoder()).describe(Raw(path.name, "file", (path.name, path.read_bytes())))
        figure = crystal_figure(read.scene)
        atoms = {trace.name: len(trace.x) for trace in figure.data if trace.mode == "markers"}
        assert atoms == {"Na": 14, "Cl": 13} or atoms == {"Na": 13, "Cl": 14}

"""The scripts that study the heat-capacity model: one change at a time, fewer rows, other temperatures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.models.debye import heat_capacity
from cloud_hf.scope import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloud_hf import CloudConfig, ScopeTokenizer

NAMES = (
    "ablate", "ablation_cells", "ablation_report", "heat_capacity_study", "learning_curve", "transfer",
    "wyckoff_labellings",
)  # fmt: skip
LABEL = "cloud_cv_J_molcell_K"
COLUMN = f"{LABEL}{{}} (J/(mol cell K))"


@pytest.fixture(scope="module")
def scripts(root: Path) -> Any:
    """The scripts as attributes, imported as when one of them is run."""
    sys.path.insert(0, str(root / "scripts"))
    found = ModuleType("scripts")
    for name in NAMES:
        setattr(found, name, importlib.import_module(name))
    yield found
    sys.path.remove(str(root / "scripts"))


@pytest.fixture(autouse=True)
def _verbosity() -> Any:
    """The scripts quieten transformers; other tests listen to it."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    logging.set_verbosity(verbosity)
    if bars:
        logging.enable_progress_bar()


def debye_density(theta: float) -> tuple[np.ndarray, np.ndarray]:
    """The density of states whose heat capacity is the Debye model's: quadratic up to the Debye frequency."""
    wavenumber = np.linspace(0, theta / 1.438776877, 20_001)
    return wavenumber, wavenumber**2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 16 small crystals whose phonons are those of a Debye solid."""
    rows = []
    for metal in (3, 11, 19, 37, 12, 20, 38, 56):
        for anion, middle in ((9, 0.5), (17, 0.25)):
            theta = 200 + 1000 / metal + anion
            wavenumber, density = debye_density(theta)
            cell = np.array([[0, 2.5, 2.5], [2.5, 0, 2.5], [2.5, 2.5, 0]], dtype=float)
            row = {
                "id": f"mp-{metal}-{anion}", "formula": "AB", "nsites": 2, "lattice": cell.ravel(),
                "numbers": [metal, anion], "frac_coords": [0.0, 0, 0] + [middle] * 3, "cloud_scope": "",
                LABEL: 2 * float(heat_capacity(theta, 300.0)), "cloud_match_dcv_per_atom": 0.0,
                "phfreq": wavenumber[::100], "phdos": density[::100],
            }  # fmt: skip
            rows.append(row | {f"cv_{t}K_per_atom": float(heat_capacity(theta, t)) for t in (100, 300, 500, 1000)})
    folder = tmp_path_factory.mktemp("data")
    pd.DataFrame(rows).to_parquet(folder / "heat_capacity_structures_train.parquet")
    return folder


@pytest.fixture(scope="module")
def encoder(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder that reads `sites`."""
    folder = tmp_path_factory.mktemp("encoder")
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pooling": "cls_multiplicity"}
    return scripts.heat_capacity_study.random_encoder(folder, **tiny)


class TestLabellings:
    SCOPES = (
        "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Li 8c O 4a",
        "1 2 b D O D c O D O 0 | Ca 4c Ti 4a O 4c O 8d",
        "1 4 a D D D b O O O g O O O c O O O 0 | K 4d K 4e Ga 4e Ga 8i",
    )

    @pytest.mark.parametrize("scope", SCOPES)
    def test_all_of_them_are_the_same_crystal(self, scripts: Any, scope: str) -> None:
        found = scripts.wyckoff_labellings.equivalent_strings(scope)
        assert found[0] == scope
        assert len(set(found)) == len(found) > 1
        described = [scripts.wyckoff_labellings.random_description(scope, seed) for seed in range(20)]
        assert len(set(described)) > 1
        assert {str(parse(text).canonical()) for text in (*found, *described)} == {scope}

    def test_there_are_at_most_so_many(self, scripts: Any) -> None:
        scope = self.SCOPES[1]
        found = scripts.wyckoff_labellings.equivalent_strings(scope, most=2)
        assert len(found) == 2
        assert found == scripts.wyckoff_labellings.equivalent_strings(scope, most=2)


class TestShared:
    def test_the_rows_are_written_for_finetuning(self, scripts: Any, data: Path, tmp_path: Path) -> None:
        scripts.heat_capacity_study.main(["--data", str(data), "--output", str(tmp_path / "rows.parquet")])
        table = pd.read_parquet(tmp_path / "rows.parquet")
        assert table["n_atoms"].tolist() == [2] * 16  # per primitive cell of rock salt and zinc blende
        assert {parse(scope).grammar for scope in table["scope"]} == {"sites"}
        assert table["fold"].nunique() > 1
        assert table[LABEL].tolist() == pd.read_parquet(next(data.glob("*.parquet")))[LABEL].tolist()

    def test_a_result_is_computed_once_and_only_for_its_settings(self, scripts: Any, tmp_path: Path) -> None:
        cached, path = scripts.heat_capacity_study.cached, tmp_path / "deep" / "x.json"
        first = cached(path, {"epochs": 2, "rows": (1, 2)}, lambda: {"mae": 1.0})
        assert first["commit"]
        again = cached(path, {"epochs": 2, "rows": [1, 2]}, lambda: pytest.fail("computed again"))
        assert again["mae"] == 1.0
        with pytest.raises(SystemExit, match="epochs was 2, is 3"):
            cached(path, {"epochs": 3, "rows": [1, 2]}, lambda: {"mae": 2.0})


class TestAblation:
    def test_every_cell_changes_one_thing_of_its_reference(self, scripts: Any) -> None:
        cells = {cell.name: cell for cell in scripts.ablation_cells.CELLS}
        assert len(cells) == len(scripts.ablation_cells.CELLS)
        for cell in list(cells.values())[1:]:
            other = cells[cell.reference]
            parts = [(c.fit.encoder, c.fit.changes, c.fit.strings, c.fit.head, c.reads, c.seeds) for c in (cell, other)]
            assert sum(one != two for one, two in zip(*parts, strict=True)) == 1, cell.name

    def test_verdicts(self, scripts: Any) -> None:
        verdict = scripts.ablation_report.verdict
        better = {"difference": -1.5, "low": -2, "high": -1}
        worse = {"difference": 1.5, "low": 1, "high": 2}
        unclear = {"difference": 0.5, "low": -1, "high": 2}
        assert [verdict(gap, True) for gap in (better, worse, unclear)] == ["pays", "hurts", "no clear gain"]
        assert [verdict(gap, False) for gap in (better, worse, unclear)] == ["better so", "worse", "no clear loss"]
        assert verdict(better, True, seeds=1.0) == "within the spread of seeds"
        assert verdict(better, True, seeds=0.1) == "pays"

    def test_the_grid_goes_on_where_it_stopped(
        self, scripts: Any, data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = {"--work": tmp_path / "work", "--out": tmp_path / "out", "--document": tmp_path / "a.md"}
        words = [
            "--encoder",
            encoder,
            "--data",
            data,
            "--epochs",
            1,
            *(word for pair in folders.items() for word in pair),
        ]
        run = [*map(str, words), "--cells", "base", "labellings_averaged", "multitask"]
        fits = []
        fit = scripts.ablate.fit
        monkeypatch.setattr(scripts.ablate, "fit", lambda *given: fits.append(given) or fit(*given))
        scripts.ablate.main([*run, "--folds", "0"])
        assert len(fits) == 1  # both cells read the same training; multitask waits for its encoder
        document = (tmp_path / "a.md").read_text()
        found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
        assert set(found) == {"base", "labellings_averaged", "trees"}
        for cell in found.values():
            assert cell["mae"] == pytest.approx(np.mean(cell["absolute_error"]), abs=1e-4)
            assert f"{cell['mae']:.3f}" in document
        assert "`multitask`" in document.split("Not measured:")[1]

        scripts.ablate.main([*run, "--folds", "0"])
        (tmp_path / "out" / "base.json").unlink()
        scripts.ablate.main([*run, "--folds", "0"])
        assert len(fits) == 1
        with pytest.raises(SystemExit, match="folds was"):
            scripts.ablate.main([*run, "--folds", "0", "1"])

    def test_cells_on_other_rows_are_not_compared(self, scripts: Any) -> None:
        results = {name: {"rows": [row], "absolute_error": [1.0]} for row, name in enumerate(("a", "b"))}
        with pytest.raises(SystemExit, match="different rows"):
            scripts.ablation_report.compare(results, "a", "b")


class TestLearningCurve:
    def test_small_draws_have_enough_steps_and_large_ones_their_epochs(self, scripts: Any) -> None:
        for n in (50, 100, 200, 399, 400, 800, 982):
            batch, epochs = scripts.learning_curve.schedule(n, epochs=100, steps=1500)
            assert epochs * -(-n // batch) >= 1500
            assert epochs >= 100
        assert scripts.learning_curve.schedule(982, epochs=100, steps=1500) == (32, 100)

    def test_draws_are_parts_of_the_training_rows(self, scripts: Any) -> None:
        train = np.arange(7, 107)
        draws = [scripts.learning_curve.draw_rows(train, 30, draw) for draw in range(3)]
        for rows in draws:
            assert len(set(rows.tolist())) == 30
            assert set(rows.tolist()) <= set(train.tolist())
        assert draws[0].tolist() != draws[1].tolist()
        assert draws[0].tolist() == scripts.learning_curve.draw_rows(train, 30, 0).tolist()

    def test_the_summary_counts_draws_and_pairs_rows(self, scripts: Any) -> None:
        settings = {"batch": 16, "epochs": 1.0}
        model = [{"absolute_error": errors, "seconds": 1.0, "settings": settings} for errors in ([1, 3], [2, 6])]
        trees = [{"absolute_error": errors} for errors in ([2, 4], [1, 5])]
        (line,) = scripts.learning_curve.summary({50: {"model": model, "trees": trees}})
        assert line["arms"]["model"]["mae"] == [2, 4]
        assert line["arms"]["model"]["draws_better_than_trees"] == 1
        assert line["arms"]["model"]["to_trees"]["difference"] == 0
        assert line["arms"]["trees"]["mae_std"] == 0

    def test_it_runs_draw_by_draw(
        self, scripts: Any, data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ["--encoder", encoder, "--data", data, "--sizes", 6, "--epochs", 1, "--steps", 1]
        words += ["--work", tmp_path / "work", "--out", tmp_path / "r.json", "--picture", tmp_path / "p.png"]
        scripts.learning_curve.main([*map(str, words), "--draws", "1"])
        monkeypatch.setattr(scripts.learning_curve, "fit", lambda *given: pytest.fail("trained again"))
        scripts.learning_curve.main([*map(str, words), "--draws", "1"])
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["sizes"][0]["draws"] == 1
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


class TestTransfer:
    @pytest.fixture
    def run(self, data: Path, tmp_path: Path) -> Path:
        """Predictions that are right for the model, and 10 % too high for the trees."""
        label = pd.read_parquet(data / "heat_capacity_structures_train.parquet")[LABEL]
        frame = pd.DataFrame({"row": np.arange(len(label)), "part": "test", "fold": np.arange(len(label)) % 2})
        frame[COLUMN.format("")] = frame[COLUMN.format(" predicted")] = label
        frame[COLUMN.format(" trees")] = 0.9 * label
        frame.sample(frac=1, random_state=0).to_csv(tmp_path / "predictions.csv", index=False)
        return tmp_path

    def test_the_right_temperature_is_right_at_every_other(
        self, scripts: Any, data: Path, run: Path, tmp_path: Path, make_config: Callable[..., CloudConfig],
        tokenizer: ScopeTokenizer,
    ) -> None:  # fmt: skip
        from cloud_hf import CloudForDebye

        config = make_config(grammar="sites", canonical=True, target_names=["debye_temperature"], target_units=["K"])
        for fold in (0, 1):
            CloudForDebye(config).save_pretrained(run / f"fold_{fold}")
            tokenizer.save_pretrained(run / f"fold_{fold}")
        words = [
            "--data",
            data,
            "--work",
            tmp_path / "w",
            "--out",
            tmp_path / "t.json",
            "--picture",
            tmp_path / "t.png",
        ]
        scripts.transfer.main([str(run), *map(str, words)])
        result = json.loads((tmp_path / "t.json").read_text())
        assert result["models"] == 2
        assert result["rows"]["n"] == 16
        for kelvin in ("100", "300", "500", "1000"):
            for quantity, scale in (("heat_capacity", 25.0), ("internal_energy", 25.0 * float(kelvin))):
                scored = result["rows"][quantity][kelvin]
                assert scored["model"]["mae"] < 1e-3 * scale
                assert scored["trees"]["mae"] > scored["model"]["mae"]
                assert scored["model_to_trees"]["high"] < 0
        assert [entry["name"] for entry in result["compounds"]] == ["Al2O3", "Li2O", "CaTiO3", "GaN"]
        assert all(entry["model"] > 0 and entry["trees"] > 0 for entry in result["compounds"] + result["elements"])
        assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")

    def test_predictions_of_another_table_are_refused(self, scripts: Any, data: Path, run: Path) -> None:
        crystals = scripts.heat_capacity_study.read_heat_capacities(data, None, run)
        frame = pd.read_csv(run / "predictions.csv")
        frame[COLUMN.format("")] += 1
        frame.to_csv(run / "predictions.csv", index=False)
        with pytest.raises(SystemExit, match="labels are not those"):
            scripts.transfer.read_thetas(run, crystals)
        frame.drop(columns=COLUMN.format(" trees")).to_csv(run / "predictions.csv", index=False)
        with pytest.raises(SystemExit, match="trees"):
            scripts.transfer.read_thetas(run, crystals)

    def test_two_branches_have_no_one_temperature(self, scripts: Any, data: Path, run: Path) -> None:
        crystals = scripts.heat_capacity_study.read_heat_capacities(data, None, run)
        settings = {"debye": ["heat_capacity"], "second_branch": "einstein"}
        (run / "run.json").write_text(json.dumps({"settings": settings}))
        with pytest.raises(SystemExit, match="one branch"):
            scripts.transfer.read_thetas(run, crystals)

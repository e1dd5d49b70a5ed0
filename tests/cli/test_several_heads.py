"""`cloud-hf predict` and `evaluate` with every bundled head: one encoding, one row, the numbers of each head alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cloud_hf.checkpoints.bundled
from cloud_hf.checkpoints.bundled import bundled_heads, bundled_likelihood, bundled_model
from cloud_hf.data.inputs import collect_items
from cloud_hf.data.tables import read_table
from cloud_hf.errors import CheckpointError
from cloud_hf.inference.prediction import Predictors, load_predictor, load_predictors, predict_items

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
POLONIUM = "1 4 b O O O c O O O d O O O e O O O 0 | Po 1a"
GAP, LOW, HIGH = "band_gap (eV)", "band_gap_low (eV)", "band_gap_high (eV)"


@pytest.fixture(autouse=True)
def bundled(several_heads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the tiny models be those inside the package."""
    monkeypatch.setattr(cloud_hf.checkpoints.bundled, "_WEIGHTS", several_heads)
    return several_heads


@pytest.fixture
def predict(cloud, tmp_path: Path):
    """Run `predict` and return what it said and the table that it wrote."""

    def run(*argv: object):
        found = cloud("predict", *argv, "-o", tmp_path / "out.parquet")
        assert found.status in (0, 1), found.err
        return found, read_table(tmp_path / "out.parquet")

    return run


class TestBundled:
    def test_heads_of_all_folders(self, bundled: Path) -> None:
        assert bundled_heads() == ["heat_capacity", "band_gap", "bulk_modulus", "zero_point"]
        assert {Path(bundled_model(head)).name for head in bundled_heads()} == {"heat_capacity", "crystal_properties"}
        assert bundled_likelihood() == str(bundled / "likelihood")
        with pytest.raises(CheckpointError, match=r"melting_point.*band_gap"):
            bundled_model("melting_point")


class TestPredict:
    def test_every_head_says_what_it_says_alone(self, predict, examples: list[Path]) -> None:
        several = [*examples[::3], SALT]
        _, table = predict(*several)
        assert len(table) == len(several)
        for head in bundled_heads():
            _, alone = predict(*several, "--head", head)
            values = [name for name in alone if name not in ("error", "unknown_elements")]
            assert set(values) <= set(table.columns)
            for name in values:
                if alone[name].dtype == float:
                    np.testing.assert_allclose(alone[name], table[name], rtol=1e-5, err_msg=name)

    def test_one_head_shows_no_other(self, predict) -> None:
        _, table = predict(SALT, "--head", "band_gap")
        assert {GAP, LOW, HIGH} <= set(table.columns)
        assert not [name for name in table if name.startswith(("bulk", "zero", "debye", "heat"))]

    def test_crystals_are_encoded_once(self, predict, examples: list[Path], monkeypatch) -> None:
        from cloud_hf.scope import ScopeEncoder

        encoded = []
        describe = ScopeEncoder.describe
        monkeypatch.setattr(ScopeEncoder, "describe", lambda self, one: encoded.append(one) or describe(self, one))
        predict(*examples[:4])
        assert len(encoded) <= 4

    def test_columns_have_units_and_ends_hold_the_value(self, predict, examples: list[Path]) -> None:
        _, table = predict(*examples)
        assert (table[LOW] < table[GAP]).all()
        assert (table[GAP] < table[HIGH]).all()
        assert {"debye_temperature_low (K)", "heat_capacity_per_atom_high (J/(mol atom K))"} <= set(table.columns)
        assert "zero_point (eV)" in table
        assert not [name for name in table if name.startswith("zero_point_")]

    def test_without_intervals(self, predict) -> None:
        found, table = predict(SALT, "--no-intervals")
        assert not [name for name in table if "_low" in name or "_high" in name]
        assert "[" not in found.out
        assert GAP in table

    def test_unknown_elements_are_named_with_their_heads(self, predict) -> None:
        found, table = predict(SALT, POLONIUM)
        assert table["unknown_elements"].isna().tolist() == [True, False]
        note = table["unknown_elements"][1]
        assert note.startswith("Po: ")
        assert "band_gap" in note
        assert "bulk_modulus" not in note
        assert "elements" in found.out
        assert "Po: " not in found.out, "the terminal names the element, the file its heads"

    def test_the_likelihood_flags(self, predict, bundled: Path) -> None:
        from cloud_hf.inference.likelihood import StringLikelihood

        _, table = predict(SALT, POLONIUM)
        likelihood = StringLikelihood.load(str(bundled / "likelihood"))
        np.testing.assert_allclose(table["log_likelihood"], likelihood([SALT, POLONIUM]), rtol=1e-4)
        assert table["out_of_distribution"].tolist() == (table["log_likelihood"] < -6.0).tolist()
        _, without = predict(SALT, "--likelihood", "none")
        assert "log_likelihood" not in without
        _, other = predict(SALT, "--model", bundled / "heat_capacity")
        assert "log_likelihood" not in other

    def test_bad_rows_keep_their_place(self, predict, bad_files) -> None:
        found, table = predict(SALT, bad_files["empty"], "garbage | x", POLONIUM)
        assert found.status == 1
        assert table["error"].isna().tolist() == [True, False, False, True]
        assert table[GAP].notna().tolist() == [True, False, False, True]
        assert table["out_of_distribution"].notna().tolist() == [True, False, False, True]

    def test_the_best_by_any_head(self, predict, examples: list[Path]) -> None:
        _, everything = predict(*examples)
        for by in ("bulk_modulus", "bulk_modulus (GPa)"):
            _, top = predict(*examples, "--top", 3, "--by", by, "--lowest")
            expected = everything.sort_values("bulk_modulus (GPa)", kind="stable")["source"].tolist()[:3]
            assert top["source"].tolist() == expected

    def test_the_terminal_shows_intervals_and_stays_narrow(self, cloud, examples: list[Path]) -> None:
        found = cloud("predict", *examples)
        assert found.status == 0
        assert "90 % intervals" in found.out
        lines = found.out.splitlines()
        below = lines[next(number for number, line in enumerate(lines) if line.startswith("MgO")) + 1]
        assert below.count("[") == below.count("]") == 4
        assert max(map(len, lines)) < 130

    def test_the_terminal_tells_files_of_one_formula_apart(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        first, other = examples[0], tmp_path / "other.cif"
        other.write_bytes(first.read_bytes())
        said = [cloud("predict", *given).out for given in ([first, examples[1]], [first, other])]
        assert ["other.cif" in text for text in said] == [False, True]
        assert [first.name in text for text in said] == [False, True]

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
    def test_text_formats_hold_the_same(self, cloud, predict, tmp_path: Path, suffix: str) -> None:
        _, expected = predict(SALT, POLONIUM)
        cloud("predict", SALT, POLONIUM, "-o", tmp_path / f"t{suffix}")
        table = read_table(tmp_path / f"t{suffix}")
        assert list(table.columns) == list(expected.columns)
        assert table["out_of_distribution"].astype(bool).tolist() == expected["out_of_distribution"].tolist()
        np.testing.assert_allclose(table[LOW].astype(float), expected[LOW], rtol=1e-9)

    def test_a_picture_with_bands(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        assert cloud("predict", *examples[:3], "--plot", tmp_path / "cv.svg").status == 0
        assert (tmp_path / "cv.svg").stat().st_size > 1000


class TestPredictors:
    def test_checkpoints_of_other_strings_are_refused_together(self, bundled: Path) -> None:
        one, two = load_predictor(head="heat_capacity"), load_predictor(head="band_gap")
        two.model.config.symprec = 0.1
        with pytest.raises(CheckpointError, match="choose one with `head`"):
            Predictors([one, two])

    def test_one_pipeline_serves_as_well(self, examples: list[Path]) -> None:
        items = collect_items([str(path) for path in examples[:3]])
        both, single = load_predictors(likelihood=None), load_predictor(head="band_gap")
        for one, two in zip(predict_items(both, items), predict_items(single, items), strict=True):
            shown = {quantity["name"]: quantity["value"] for quantity in one.quantities}
            alone = {quantity["name"]: quantity["value"] for quantity in two.quantities}
            assert {name: shown[name] for name in alone} == pytest.approx(alone, rel=1e-5)
            assert one.log_likelihood is None


class TestEvaluate:
    @pytest.mark.parametrize("head", ["band_gap", "bulk_modulus", "zero_point"])
    def test_the_column_of_the_head_is_scored(self, cloud, predict, tmp_path: Path, head: str) -> None:
        _, table = predict(SALT, POLONIUM)
        column = next(name for name in table if name.startswith(f"{head} ("))
        pd.DataFrame({"scope": [SALT, POLONIUM], "y": table[column] + [0.0, 0.5]}).to_csv(tmp_path / "t.csv")
        found = cloud("evaluate", "--model", "default", "--head", head, "--data", tmp_path / "t.csv", "--target", "y")
        assert found.status == 0, found.err
        values = dict(line.split(maxsplit=1) for line in found.out.splitlines())
        assert float(values["mae"]) == pytest.approx(0.25, rel=1e-3)
        assert values["head"] == head
        assert ("coverage" in values) is (head != "zero_point")

    @pytest.mark.parametrize("kelvin", [100, 300])
    def test_coverage_of_heat_capacities(self, cloud, predict, tmp_path: Path, kelvin: int) -> None:
        _, table = predict(SALT, POLONIUM, "--temperature", kelvin)
        ends = table[[f"heat_capacity_per_atom_{end} (J/(mol atom K))" for end in ("low", "high")]]
        inside, outside = ends.mean(axis=1)[0], ends.iloc[1, 1] + 1.0
        pd.DataFrame({"scope": [SALT, POLONIUM], "y": [inside, outside]}).to_csv(tmp_path / "t.csv")
        found = cloud(
            "evaluate", "--head", "heat_capacity", "--data", tmp_path / "t.csv", "--label", "y", "--temperature", kelvin
        )
        values = dict(line.split(maxsplit=1) for line in found.out.splitlines())
        assert float(values["coverage"]) == 0.5
        assert float(values["mean_width"]) == pytest.approx((ends.iloc[:, 1] - ends.iloc[:, 0]).mean(), rel=1e-3)

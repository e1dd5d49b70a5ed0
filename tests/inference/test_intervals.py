"""Intervals through the pipeline: consistent with the model, the Debye physics and what is saved and loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from cloud_hf import CrystalPropertyPipeline
from cloud_hf.errors import CheckpointError
from cloud_hf.models.conformal import CALIBRATION_FILE, Calibration
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity, internal_energy

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
POLONIUM = "1 4 b O O O c O O O d O O O e O O O 0 | Po 1a"


def named(quantities: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {quantity["name"]: quantity for quantity in quantities}


@pytest.fixture(scope="module")
def debye(several_heads: Path) -> Any:
    return pipeline("crystal-property", model=str(several_heads / "heat_capacity"))


@pytest.fixture(scope="module")
def regression(several_heads: Path) -> Any:
    return pipeline("crystal-property", model=str(several_heads / "crystal_properties"))


class TestRegression:
    def test_calibrated_targets_have_ends_and_a_level_and_others_have_not(self, regression: Any) -> None:
        found = named(regression(SALT))
        assert set(found["zero_point"]) == {"name", "value", "unit"}
        for name in ("band_gap", "bulk_modulus"):
            assert found[name]["low"] < found[name]["value"] < found[name]["high"]
            assert found[name]["level"] == 0.9
        assert found["bulk_modulus"]["low"] > 0

    def test_levels_nest(self, regression: Any) -> None:
        ends = [named(regression(SALT, level=level))["band_gap"] for level in (0.5, 0.8, 0.95)]
        lows, highs = [one["low"] for one in ends], [one["high"] for one in ends]
        assert lows == sorted(lows, reverse=True)
        assert highs == sorted(highs)
        assert [one["level"] for one in ends] == [0.5, 0.8, 0.95]
        with pytest.raises(ValueError, match="level"):
            regression(SALT, level=0.123)

    def test_batches_change_nothing(self, regression: Any) -> None:
        together = regression([SALT, POLONIUM, SALT], batch_size=3)
        for one, scope in zip(together, (SALT, POLONIUM, SALT), strict=True):
            for quantity, alone in zip(one, regression(scope), strict=True):
                assert quantity.keys() == alone.keys()
                assert [quantity[key] for key in ("value", "low", "high") if key in quantity] == pytest.approx(
                    [alone[key] for key in ("value", "low", "high") if key in alone], rel=1e-5
                )

    def test_an_element_that_the_training_rows_lack_is_named(self, regression: Any) -> None:
        assert named(regression(POLONIUM))["band_gap"]["unknown_elements"] == ["Po"]
        assert "unknown_elements" not in named(regression(POLONIUM))["bulk_modulus"], "its elements are not recorded"
        assert "unknown_elements" not in named(regression(SALT))["band_gap"]


class TestDebye:
    @pytest.mark.parametrize("kelvin", [0.0, 2.0, 50.0, 300.0, 1000.0, 1e5])
    def test_the_band_is_that_of_the_debye_temperatures(self, debye: Any, kelvin: float) -> None:
        found = named(debye(SALT, temperature=kelvin, n_atoms=2))
        theta, cv = found["debye_temperature"], found["heat_capacity_per_atom"]
        assert theta["low"] < theta["value"] < theta["high"]
        assert theta["low"] * theta["high"] == pytest.approx(theta["value"] ** 2)
        assert cv["low"] == pytest.approx(float(heat_capacity(theta["high"], kelvin)), rel=1e-6, abs=1e-12)
        assert cv["high"] == pytest.approx(float(heat_capacity(theta["low"], kelvin)), rel=1e-6, abs=1e-12)
        assert 0 <= cv["low"] <= cv["value"] <= cv["high"] <= 3 * GAS_CONSTANT * (1 + 1e-6)
        cell = found["heat_capacity_per_cell"]
        assert [cell[key] for key in ("low", "high")] == pytest.approx([2 * cv[key] for key in ("low", "high")])

    def test_both_ends_grow_with_the_temperature(self, debye: Any) -> None:
        found = [named(debye(SALT, temperature=kelvin))["heat_capacity_per_atom"] for kelvin in range(1, 1500, 60)]
        for end in ("low", "high"):
            values = [one[end] for one in found]
            assert values == sorted(values)

    def test_a_second_branch_moves_with_the_first(self, make_config, debye: Any, tokenizer) -> None:
        from cloud_hf import CloudForDebye

        torch.manual_seed(0)
        config = make_config(
            grammar="sites",
            canonical=True,
            second_branch="einstein",
            debye_targets=["heat_capacity", "internal_energy"],
        )
        predict = CrystalPropertyPipeline(
            CloudForDebye(config), tokenizer=tokenizer, calibration=Calibration(debye.calibration.targets)
        )
        for kelvin in (0.0, 100.0, 2000.0):
            found = named(predict(SALT, temperature=kelvin))
            for name in ("heat_capacity_per_atom", "internal_energy_per_atom"):
                assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
            assert found["heat_capacity_per_atom"]["high"] <= 3 * GAS_CONSTANT * (1 + 1e-6)
            factor = found["debye_temperature"]["high"] / found["debye_temperature"]["value"]
            assert found["internal_energy_per_atom"]["high"] > found["internal_energy_per_atom"]["low"] or factor == 1

    def test_the_energy_of_a_single_branch(self, make_config, debye: Any, tokenizer) -> None:
        from cloud_hf import CloudForDebye

        config = make_config(grammar="sites", canonical=True, debye_targets=["internal_energy", "heat_capacity"])
        predict = CrystalPropertyPipeline(
            CloudForDebye(config), tokenizer=tokenizer, calibration=Calibration(debye.calibration.targets)
        )
        found = named(predict(SALT, temperature=77.0))
        for end in ("low", "high"):
            energy = float(internal_energy(found["debye_temperature"][end], 77.0))
            assert found["internal_energy_per_atom"][end] == pytest.approx(energy, rel=1e-6)


class TestFiles:
    def test_a_saved_pipeline_keeps_its_intervals(self, regression: Any, tmp_path: Path) -> None:
        regression.save_pretrained(tmp_path / "saved")
        assert (tmp_path / "saved" / "conformal.py").is_file(), "remote code needs it"
        again = pipeline("crystal-property", model=str(tmp_path / "saved"))
        assert again(SALT) == regression(SALT)

    SCRIPT = """
import json, sys, transformers
predict = transformers.pipeline(model=sys.argv[1], trust_remote_code=True)
print(json.dumps(predict(sys.argv[2])))
"""

    @pytest.mark.slow
    def test_it_does_so_without_the_package(self, regression: Any, tmp_path: Path, run_python) -> None:
        regression.save_pretrained(tmp_path / "saved")
        found = named(run_python(self.SCRIPT, tmp_path / "saved", SALT, package=False))
        for name, quantity in named(regression(SALT)).items():
            assert found[name].keys() == quantity.keys()
            for key in {"value", "low", "high"} & quantity.keys():
                assert found[name][key] == pytest.approx(quantity[key], rel=1e-5)

    def test_without_the_file_there_are_values_only(self, several_heads: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(several_heads / "crystal_properties", tmp_path / "bare")
        (folder / CALIBRATION_FILE).unlink()
        assert all(
            set(one) == {"name", "value", "unit"} for one in pipeline("crystal-property", model=str(folder))(SALT)
        )

    def test_intervals_can_be_switched_off(self, several_heads: Path) -> None:
        predict = pipeline("crystal-property", model=str(several_heads / "crystal_properties"), calibration=None)
        assert all("low" not in one for one in predict(SALT))

    def test_other_weights_get_no_intervals(self, several_heads: Path, tmp_path: Path) -> None:
        """As after fine-tuning in memory: the folder's calibration is not that of the weights."""
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(several_heads / "crystal_properties")
        with torch.no_grad():
            model.classifier.layers[-1].bias += 0.01
        from cloud_hf import ScopeTokenizer

        predict = CrystalPropertyPipeline(model, tokenizer=ScopeTokenizer())
        assert predict.calibration is None

    def test_a_damaged_file_is_an_error_that_names_it(self, several_heads: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(several_heads / "crystal_properties", tmp_path / "damaged")
        (folder / CALIBRATION_FILE).write_text(json.dumps({"targets": {"band_gap": {}}}))
        with pytest.raises(CheckpointError, match=CALIBRATION_FILE):
            pipeline("crystal-property", model=str(folder))

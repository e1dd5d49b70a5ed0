"""Calibrations: intervals that nest, hold the prediction, survive JSON, and name what the training rows lack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.calibration import (
    LabelledPredictions,
    coverage,
    cross_coverage,
    fit_target,
    halves,
    refit_coverage,
    refit_target,
)
from cloud_hf.models.conformal import (
    ELEMENTS,
    LEVELS,
    STRING_FEATURES,
    Calibration,
    TargetCalibration,
    count_elements,
    element_amounts,
    head_fingerprint,
    string_features,
    width_at,
)
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity

PAIRS = [(a, b) for a in ("Na", "K", "Mg", "Ca", "Al", "Ti", "Fe", "Cu") for b in ("O", "S", "F", "Cl", "N", "Se")]


def made_up(n: int, seed: int = 0) -> LabelledPredictions:
    """Strings with predictions whose errors are ten times larger for sulphides and selenides than for the others."""
    chance = np.random.default_rng(seed)
    scopes, sizes = [], []
    for row in range(n):
        a, b = PAIRS[chance.integers(len(PAIRS))]
        scopes.append(f"1 0 0 | {a} {'2i ' if row % 2 else '1a '}{b} " + f"2i {b} " * int(chance.integers(6)) + "2i")
        sizes.append(1.0 if b in ("S", "Se") else 0.1)
    predictions = chance.uniform(1.0, 5.0, n)
    return LabelledPredictions(scopes, predictions, predictions + np.array(sizes) * chance.standard_t(4, n))


@pytest.fixture(scope="module")
def rows() -> LabelledPredictions:
    return made_up(3000)


@pytest.fixture(scope="module")
def fitted(rows: LabelledPredictions) -> TargetCalibration:
    return fit_target(rows, "eV", elements={"Na": 3, "O": 3})


class TestStrings:
    def test_elements_are_those_of_pymatgen(self) -> None:
        from pymatgen.core import Element

        assert list(ELEMENTS) == [Element.from_Z(z).symbol for z in range(1, 119)]

    @pytest.mark.parametrize(
        ("scope", "amounts"),
        [
            ("1 0 0 | Mg 4a O 4b O 8c", {"Mg": 4, "O": 12}),
            ("1 0 0 | 4a 4b | Mg 0.25 O 0.75", {"Mg": 0.25, "O": 0.75}),
            ("1 0 0 | 1a 2i 2i | Mg O O", {"Mg": 1, "O": 2}),
        ],
    )
    def test_amounts_in_every_grammar(self, scope: str, amounts: dict[str, float]) -> None:
        assert element_amounts(scope) == amounts

    def test_features(self) -> None:
        (row,) = string_features(["1 6 a O D D | Mg 4a O 4b"])
        found = dict(zip(STRING_FEATURES, row, strict=True))
        assert {name: value for name, value in found.items() if value and "fraction" in name} == {
            "fraction_Mg": 0.5, "fraction_O": 0.5,
        }  # fmt: skip
        assert found["ln_multiplicity"] == pytest.approx(np.log(8))
        assert (found["n_elements"], found["centrosymmetric"], found["n_generators"]) == (2, 1, 6)

    def test_elements_are_counted_once_a_string(self) -> None:
        assert count_elements(["1 0 0 | O 1a O 1b", "1 0 0 | O 1a Na 1b"]) == {"O": 2, "Na": 1}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kelvin", "width"), [(0.0, 2.0), (50.0, 2.0), (100.0, 1.5), (200.0, 1.0), (1e6, 1.0), (np.inf, 1.0)]
)
def test_widths_between_temperatures(kelvin: float, width: float) -> None:
    assert width_at({"200": 1.0, "50": 2.0}, kelvin) == pytest.approx(width)
    assert width_at({"0": 3.0}, kelvin) == 3, "of a quantity without a temperature"
    assert width_at({}, [kelvin, kelvin]).tolist() == [1.0, 1.0]


class TestCoverage:
    def test_new_rows_are_held_as_often_as_promised_on_average(self) -> None:
        found = [
            coverage(fit_target(made_up(400, seed), "eV"), made_up(400, seed + 100))["coverage"] for seed in range(12)
        ]
        assert np.mean(found) == pytest.approx(0.9, abs=0.02)

    def test_hard_crystals_are_held_more_often_than_by_intervals_of_one_width(
        self, rows: LabelledPredictions, fitted: TargetCalibration
    ) -> None:
        new = made_up(4000, seed=1)
        hard = np.array([(" S " in scope or " Se " in scope) for scope in new.scopes])
        one_width = np.quantile(np.abs(rows.labels - rows.predictions), 0.9)
        plain = np.mean(np.abs(new.labels - new.predictions)[hard] < one_width)
        assert coverage(fitted, new.take(np.flatnonzero(hard)))["coverage"] > plain + 0.05

    def test_hard_crystals_have_wider_intervals_than_easy_ones(self, fitted: TargetCalibration) -> None:
        low, high = fitted.interval(string_features(["1 0 0 | Na 1a S 2i", "1 0 0 | Na 1a O 2i"]), np.array([3.0, 3.0]))
        assert (high - low)[0] > 4 * (high - low)[1]

    def test_they_are_narrower_than_intervals_of_one_width(
        self, rows: LabelledPredictions, fitted: TargetCalibration
    ) -> None:
        new = made_up(2000, seed=2)
        one_width = 2 * np.quantile(np.abs(rows.labels - rows.predictions), 0.9)
        assert coverage(fitted, new)["mean_width"] < 0.9 * one_width

    def test_weights_that_learned_further_get_intervals_of_their_own_errors(self, fitted: TargetCalibration) -> None:
        before, early = made_up(600, seed=5), made_up(3000, seed=6)
        after, new = (replace(one, predictions=(one.predictions + one.labels) / 2) for one in (before, early))
        held = coverage(fitted, early)["coverage"]
        assert coverage(fitted, new)["coverage"] > held + 0.05, "too wide for half the errors"
        target, ratio = refit_target(fitted, before, after)
        assert ratio == pytest.approx(0.5, abs=0.03)
        assert coverage(target, new)["coverage"] == pytest.approx(held, abs=0.01)
        assert refit_coverage(fitted, before, after)["coverage"] == pytest.approx(0.9, abs=0.04)
        assert refit_target(fitted, before, before) == (fitted, 1.0)

    @pytest.mark.parametrize("exact", [0, 1])
    def test_errors_that_are_all_zero_give_no_ratio(self, fitted: TargetCalibration, exact: int) -> None:
        pair = [made_up(200, seed=5), made_up(200, seed=5)]
        pair[exact] = replace(pair[exact], predictions=pair[exact].labels)
        with pytest.raises(CloudError, match="not all zero"):
            refit_target(fitted, *pair)

    @pytest.mark.parametrize("level", LEVELS)
    def test_every_level(self, fitted: TargetCalibration, level: float) -> None:
        new = made_up(3000, seed=3)
        found = coverage(fitted, new, level)
        assert found["coverage"] == pytest.approx(level, abs=0.03)

    def test_cross_coverage_scores_every_row(self, rows: LabelledPredictions) -> None:
        found = cross_coverage(rows.take(np.arange(1000)), "eV")
        assert found["n"] == 1000
        assert found["coverage"] == pytest.approx(0.9, abs=0.03)

    def test_equal_strings_stay_on_one_side(self) -> None:
        side = halves([f"1 0 0 | Na {n % 40}a" for n in range(400)], 0.5)
        assert (side.reshape(10, 40) == side[:40]).all()
        assert 0.2 < side.mean() < 0.8

    @pytest.mark.parametrize("n", [1, 5, 9])
    def test_few_rows_give_an_infinite_interval_rather_than_a_wrong_one(self, n: int) -> None:
        few = fit_target(made_up(n), "eV")
        assert few.quantiles["0.99"] is None
        low, high = few.interval(string_features(["1 0 0 | Na 1a"]), np.array([1.0]), 0.99)
        assert high[0] == np.inf
        assert low[0] in (-np.inf, 0.0)

    def test_the_rank_is_that_of_split_conformal_prediction(self) -> None:
        """9 scores: the 90 % quantile is the ninth, the 50 % one the fifth of them."""
        rows = LabelledPredictions([f"1 0 0 | Na {n}a" for n in range(9)], np.zeros(9), -np.arange(1.0, 10.0))
        found = fit_target(rows, "eV").quantiles
        assert (found["0.9"], found["0.5"], found["0.95"]) == (9.0, 5.0, None)


class TestIntervals:
    def test_they_hold_the_prediction_and_nest(self, fitted: TargetCalibration) -> None:
        new = made_up(300, seed=4)
        features = string_features(new.scopes)
        before = (new.predictions, new.predictions)
        for level in LEVELS:
            low, high = fitted.interval(features, new.predictions, level)
            assert (low <= before[0]).all()
            assert (high >= before[1]).all()
            before = (low, high)

    def test_quantities_that_are_never_negative_have_no_negative_ends(self) -> None:
        rows = made_up(600)
        rows = replace(rows, labels=np.maximum(rows.labels, 0.0))
        low, _ = fit_target(rows, "eV").interval(string_features(["1 0 0 | Na 1a S 2i"]), np.array([0.01]))
        assert low[0] == 0.0

    def test_the_logarithmic_scale_stays_positive(self) -> None:
        rows = made_up(600)
        rows = replace(rows, labels=rows.predictions * np.exp(0.3 * (rows.labels - rows.predictions)))
        found = fit_target(rows, "GPa", ("log",))
        low, high = found.interval(string_features(["1 0 0 | Na 1a S 2i"]), np.array([10.0]))
        assert 0 < low[0] < 10 < high[0]
        assert low[0] * high[0] == pytest.approx(100.0)
        assert coverage(found, rows)["coverage"] > 0.85

    def test_a_level_that_is_none(self, fitted: TargetCalibration) -> None:
        with pytest.raises(ValueError, match=r"0\.9"):
            fitted.interval(string_features(["1 0 0 | Na 1a"]), np.array([1.0]), 0.42)

    def test_unknown_elements_are_named(self, fitted: TargetCalibration) -> None:
        features = string_features(["1 0 0 | Na 1a O 1b", "1 0 0 | Na 1a Po 1b At 1c"])
        assert fitted.unknown_elements(features) == [[], ["Po", "At"]]
        assert replace(fitted, elements={}).unknown_elements(features) == [[], []]


class TestDebye:
    @pytest.fixture(scope="class")
    def heat(self) -> LabelledPredictions:
        chance = np.random.default_rng(5)
        rows = made_up(900)
        theta = chance.uniform(150, 900, 900)
        truth = theta * np.exp(0.1 * chance.standard_t(5, 900))
        values, labels = (heat_capacity(one, 300.0).numpy() for one in (theta, truth))
        return LabelledPredictions(rows.scopes, values, labels, np.full(900, 300.0))

    def test_coverage_is_measured_in_heat_capacities(self, heat: LabelledPredictions) -> None:
        found = cross_coverage(heat, "J/(mol atom K)", ("debye",))
        assert found["coverage"] == pytest.approx(0.9, abs=0.03)
        assert found["mean_width"] < 3 * GAS_CONSTANT

    def test_labels_beyond_dulong_petit_count_as_missed(self, heat: LabelledPredictions) -> None:
        spoilt = replace(heat, labels=np.where(np.arange(900) % 5 == 0, 3.1 * GAS_CONSTANT, heat.labels))
        found = cross_coverage(spoilt, "J/(mol atom K)", ("debye",))
        assert found["coverage"] <= 0.8
        assert fit_target(spoilt, "J/(mol atom K)", ("debye",)).quantiles["0.9"] is None


class TestFile:
    SCRIPT = """
import json, sys
from cloud_hf.models.conformal import Calibration, string_features
import numpy as np
target = Calibration.load(sys.argv[1]).targets["gap"]
low, high = target.interval(string_features(json.loads(sys.argv[2])), np.array(json.loads(sys.argv[3])))
print(json.dumps([low.tolist(), high.tolist()]))
"""

    def test_it_keeps_every_digit(self, fitted, rows, tmp_path: Path) -> None:
        path = Calibration({"gap": fitted}).save(tmp_path)
        again = Calibration.load(path)
        assert again == Calibration({"gap": fitted})
        features, values = string_features(rows.scopes[:20]), rows.predictions[:20]
        for mine, theirs in zip(
            fitted.interval(features, values), again.targets["gap"].interval(features, values), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)

    @pytest.mark.slow
    def test_a_fresh_process_gives_the_same_intervals_exactly(self, fitted, rows, tmp_path: Path, run_python) -> None:
        path = Calibration({"gap": fitted}).save(tmp_path)
        scopes, values = rows.scopes[:20], rows.predictions[:20]
        low, high = fitted.interval(string_features(scopes), values)
        found = run_python(self.SCRIPT, path, json.dumps(scopes), json.dumps(values.tolist()))
        assert found == [low.tolist(), high.tolist()]

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"targets": {"gap": {"unit": "eV"}}}'])
    def test_a_damaged_file_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"calibration\.json"):
            Calibration.load(tmp_path / "calibration.json")

    @pytest.mark.parametrize(
        "damage",
        [
            {"quantiles": {"0.9": "wide"}},
            {"quantiles": {"0.9": -1.0}},
            {"quantiles": {"most": 1.0}},
            {"quantity_widths": {"entropy": {"300": None}}},
            {"quantity_widths": {"entropy": {"room": 1.0}}},
            {"quantity_widths": {"entropy": 1.0}},
        ],
    )
    def test_a_number_that_is_none_is_found_when_it_is_read(self, fitted, tmp_path: Path, damage: dict) -> None:
        path = Calibration({"gap": fitted}).save(tmp_path)
        record = json.loads(path.read_text())
        record["targets"]["gap"] |= damage
        path.write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match=r"calibration\.json"):
            Calibration.load(path)

    def test_it_belongs_to_one_head_in_any_dtype(self, fitted: TargetCalibration) -> None:
        model = nn.Module()
        model.classifier = nn.Linear(4, 2)
        marks = {name: head_fingerprint(model, getattr(torch, name)) for name in ("float32", "bfloat16")}
        calibration = Calibration({"gap": fitted}, marks)
        assert calibration.fits(model)
        assert calibration.fits(model.to(torch.bfloat16))
        with torch.no_grad():
            model.classifier.bias += 0.1
        assert not calibration.fits(model)
        assert Calibration({"gap": fitted}).fits(model)


class TestRefusals:
    def test_no_rows(self) -> None:
        with pytest.raises(CloudError, match="no labelled rows"):
            fit_target(LabelledPredictions([], np.zeros(0), np.zeros(0)), "eV")

    def test_missing_labels(self) -> None:
        with pytest.raises(CloudError, match="labels"):
            fit_target(LabelledPredictions(["1 0 0 | Na 1a"], np.zeros(1), np.array([np.nan])), "eV")

    def test_negative_predictions_have_no_logarithm(self) -> None:
        with pytest.raises(CloudError, match="positive"):
            fit_target(LabelledPredictions(["1 0 0 | Na 1a"], -np.ones(1), np.ones(1)), "eV", ("log",))

    def test_heat_capacities_need_their_scale(self) -> None:
        with pytest.raises(CloudError, match="debye"):
            fit_target(LabelledPredictions(["1 0 0 | Na 1a"], np.ones(1), np.ones(1)), "eV", ("debye",))

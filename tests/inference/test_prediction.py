"""Items to predictions: places kept, batches without effect, predictions that are finite."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cloud_hf import CrystalPropertyPipeline, ScopeTokenizer, bundled_heads, bundled_model
from cloud_hf.checkpoints import bundled
from cloud_hf.data.inputs import Item, collect_items
from cloud_hf.errors import CheckpointError, TableError
from cloud_hf.inference.prediction import (
    Prediction,
    Predictors,
    heads_of,
    load_predictor,
    load_predictors,
    predict_items,
)
from example_files import learn_symmetry

COPPER = "1 0 0 | 2i | Cu 1.0"
LONGER = "1 0 0 | 1a 1b 1c 1d 2i | Na 0.2 Cl 0.2 O 0.6"


@pytest.fixture(scope="module")
def predictor() -> CrystalPropertyPipeline:
    learn_symmetry()
    return load_predictor()


def value(prediction: Prediction, name: str = "debye_temperature_of_heat_capacity") -> float:
    return next(quantity["value"] for quantity in prediction.quantities if quantity["name"] == name)


def test_items_keep_their_places(predictor: CrystalPropertyPipeline) -> None:
    items = [
        Item("a", scope=LONGER), Item("b", error=TableError("no")), Item("c", scope=COPPER), Item("d", scope="garbage"),
        Item("e", crystal=Path("absent.cif")), Item("f", scope=LONGER, n_atoms=5.0), Item("g", scope=COPPER, n_atoms=0),
    ]  # fmt: skip
    found = predict_items(predictor, items)
    assert [prediction.item.source for prediction in found] == list("abcdefg")
    assert [prediction.item.error is None for prediction in found] == [True, False, True, False, False, True, False]
    for prediction in found:
        assert bool(prediction.quantities) is (prediction.item.error is None)
    assert found[1].item.message == "no"
    assert value(found[0]) == pytest.approx(value(found[5]), rel=1e-6)


def test_quantities_are_finite_positive_and_have_units(predictor: CrystalPropertyPipeline, examples) -> None:
    for prediction in predict_items(predictor, collect_items([str(path) for path in examples])):
        units = {quantity["name"]: quantity["unit"] for quantity in prediction.quantities}
        assert units == {name: unit for name, unit in predictor.units.items() if name in units}
        assert units["heat_capacity_per_cell"] == "J/(mol primitive cell K)"
        assert all(abs(quantity["value"]) < float("inf") for quantity in prediction.quantities)
        positive = ("heat_capacity", "entropy", "zero_point_energy", "debye_temperature", "bulk_modulus")
        assert all(one["value"] > 0 for one in prediction.quantities if one["name"].startswith(positive))


def test_batches_do_not_change_values(predictor: CrystalPropertyPipeline, examples) -> None:
    items = collect_items([*map(str, examples[::3]), COPPER, LONGER])
    alone = [value(predict_items(predictor, [item])[0]) for item in items]
    for size in (1, 2, 64):
        together = [value(prediction) for prediction in predict_items(predictor, items, batch_size=size)]
        torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-5, atol=0)


def test_the_pipeline_called_directly_says_the_same(predictor: CrystalPropertyPipeline, examples) -> None:
    (prediction,) = predict_items(predictor, collect_items([str(examples[0])]), temperature=123.0)
    direct = predictor(str(examples[0]), temperature=123.0)
    assert [quantity["name"] for quantity in direct] == [quantity["name"] for quantity in prediction.quantities]
    for one, two in zip(direct, prediction.quantities, strict=True):
        assert one["value"] == pytest.approx(two["value"], rel=1e-5)


class TestSeveralModels:
    """All bundled heads and the likelihood, which read the same strings."""

    @pytest.fixture
    def every(self, several_heads: Path, monkeypatch: pytest.MonkeyPatch) -> Predictors:
        monkeypatch.setattr(bundled, "_WEIGHTS", several_heads)
        return load_predictors()

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The strings that tokenizers have been given."""
        seen: list[str] = []
        tokenize = ScopeTokenizer.__call__

        def counted(self: ScopeTokenizer, text: Any = None, *args: Any, **kwargs: Any) -> Any:
            seen.extend([text] if isinstance(text, str) else text)
            return tokenize(self, text, *args, **kwargs)

        monkeypatch.setattr(ScopeTokenizer, "__call__", counted)
        return seen

    def test_every_string_is_tokenised_once(self, every: Predictors, read: list[str]) -> None:
        assert len(every.pipelines) == 2
        assert every.likelihood is not None
        scopes = [f"1 0 0 | {element} 2i" for element in ("Cu", "Ag", "Au", "Na", "K")]
        found = predict_items(every, [Item(scope, scope=scope) for scope in scopes], batch_size=2)
        assert sorted(read) == sorted(scopes)
        assert all(prediction.log_likelihood is not None for prediction in found)

    def test_shared_tokens_change_no_number(self, every: Predictors, read: list[str]) -> None:
        items = [Item("a", scope="1 0 0 | Cu 2i"), Item("b", scope="1 0 0 | Na 1a Cl 1b O 2i"), Item("c", scope="x")]
        together = predict_items(every, items)
        alone: dict[str, list[Any]] = {"a": [], "b": []}
        for pipeline in every.pipelines:
            for prediction in predict_items(pipeline, items[:2]):
                alone[prediction.item.source] += prediction.quantities
        for prediction in together[:2]:
            values = {quantity["name"]: quantity for quantity in alone[prediction.item.source]}
            for quantity in prediction.quantities:
                assert quantity == values[quantity["name"]]
        assert together[2].item.error is not None
        likelihood = every.likelihood
        assert likelihood is not None
        scores = likelihood([str(item.scope) for item in items[:2]])
        assert [prediction.log_likelihood for prediction in together[:2]] == pytest.approx(scores.tolist(), rel=1e-5)

    def test_a_tokenizer_of_its_own_reads_the_strings_itself(
        self, every: Predictors, read: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(every.pipelines[1].tokenizer, "model_max_length", 4)
        (prediction,) = predict_items(Predictors(every.pipelines[:2]), [Item("a", scope="1 0 0 | Cu 2i")])
        assert "4 positions" in str(prediction.item.error), "the second model cannot read it, whatever the first says"


def test_no_items() -> None:
    assert predict_items(load_predictor(), []) == []


def test_a_prediction_that_is_not_finite_is_a_failed_row() -> None:
    predictor = load_predictor()
    with torch.no_grad():
        predictor.model.classifier.layers[-1].bias.fill_(float("nan"))
    (prediction,) = predict_items(predictor, [Item("a", scope=COPPER)])
    assert prediction.quantities == ()
    assert "not a finite number" in str(prediction.item.error)


def test_the_model_predicts_without_dropout(predictor: CrystalPropertyPipeline) -> None:
    assert not predictor.model.training
    item = Item("a", scope=LONGER)
    assert len({value(predict_items(predictor, [replace(item)])[0]) for _ in range(3)}) == 1


def test_heads_of_the_bundled_model(predictor: CrystalPropertyPipeline) -> None:
    assert heads_of(predictor.model.config)[0] == "heat_capacity"
    assert set(heads_of(load_predictor(bundled_model(), "heat_capacity").model.config)) > set(bundled_heads())


def test_unknown_heads_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"melting_point.*heat_capacity"):
        load_predictor(bundled_model(), "melting_point")
    with pytest.raises(CheckpointError, match="config"):
        load_predictor(str(tmp_path))


class TestSettings:
    """What made the strings of model and tokenizer, against what is installed."""

    @pytest.fixture
    def warnings(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
        """Load a checkpoint with these settings and return the warnings."""
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        monkeypatch.setattr(logging.getLogger("cloud_hf"), "propagate", True)

        def load(model: str | None, tokenizer: str | None) -> list[str]:
            folder = shutil.copytree(bundled_model(), tmp_path / "checkpoint", dirs_exist_ok=True)
            for name, settings in (("config.json", model), ("tokenizer_config.json", tokenizer)):
                values = json.loads((folder / name).read_text()) | {"encoder_settings": settings}
                (folder / name).write_text(json.dumps(values))
            caplog.clear()
            load_predictor(str(folder))
            return [record.getMessage() for record in caplog.records if "strings made with" in record.getMessage()]

        return load

    def test_a_mismatch_is_reported_on_load(self, warnings, predictor: CrystalPropertyPipeline) -> None:
        here = predictor.encoder.settings
        other = here.replace("spglib ", "spglib 1.")
        assert other != here
        assert warnings(None, None) == warnings(here, here) == warnings(here, None) == []
        for model, tokenizer in ((other, other), (other, None), (None, other)):
            (message,) = warnings(model, tokenizer)
            assert other in message
            assert here in message
        assert "tokenizer belongs to strings made with" in warnings(here, other)[0]

"""The `crystal-property` pipeline: every kind of input, batches, units, refusals; and the stock pipelines."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Structure
from transformers import pipeline

import cloud_hf
from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CrystalPropertyPipeline,
    ScopeEncoder,
    ScopeTokenizer,
    errors,
)
from cloud_hf.models.debye import heat_capacity

TARGETS = {
    "target_names": ["band_gap", "bulk_modulus"], "target_units": ["eV", "GPa"],
    "target_mean": [1.0, 100.0], "target_scale": [0.5, 40.0],
}  # fmt: skip
COPPER = "1 0 0 | 2i | Cu 1.0"
CLASSES: dict[str, tuple[type, dict[str, Any]]] = {
    "debye": (CloudForDebye, {}),
    "regression": (CloudForPropertyRegression, TARGETS),
    "one_target": (CloudForPropertyRegression, {"target_names": ["band_gap"], "target_units": ["eV"],
                                                "target_mean": [1.0], "target_scale": [0.5]}),
    "masked_lm": (CloudForMaskedLM, {}),
    "full": (CloudForPropertyRegression, TARGETS | {"grammar": "full"}),
    "extensive": (CloudForPropertyRegression, TARGETS | {"target_transforms": ["log", "log_per_atom"],
                                                         "target_mean": [0.0, 1.0], "target_scale": [1.0, 1.0]}),
    "two_branches": (CloudForDebye, {"debye_targets": ["internal_energy", "heat_capacity"],
                                     "second_branch": "einstein"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def make_model(make_config: Callable[..., CloudConfig]) -> Callable[[str], Any]:
    """Return a function that makes a tiny model of each kind, always with the same weights."""

    def make(kind: str) -> Any:
        model_class, fields = CLASSES[kind]
        torch.manual_seed(11)
        return model_class(make_config(initializer_range=0.2, **fields))

    return make


@pytest.fixture(scope="module")
def folder(make_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function that gives the folder of a saved tiny model with its tokenizer."""
    base = tmp_path_factory.mktemp("checkpoints")

    def save(kind: str) -> str:
        path = base / kind
        if not path.is_dir():
            make_model(kind).save_pretrained(path)
            ScopeTokenizer().save_pretrained(path)
        return str(path)

    return save


@pytest.fixture(scope="module")
def debye(folder: Callable[[str], str]) -> Any:
    """Pipeline with a Debye head."""
    return pipeline("crystal-property", model=folder("debye"))


@pytest.fixture(scope="module")
def regression(folder: Callable[[str], str]) -> Any:
    """Pipeline with two targets."""
    return pipeline("crystal-property", model=folder("regression"))


def values(quantities: list[dict[str, Any]]) -> dict[str, float]:
    """Name to value."""
    return {quantity["name"]: quantity["value"] for quantity in quantities}


def assert_same(one: list[Any], other: list[Any]) -> None:
    """Equal names, units and order; values equal up to rounding."""
    assert [[(q["name"], q["unit"]) for q in result] for result in one] == [
        [(q["name"], q["unit"]) for q in result] for result in other
    ]
    for mine, theirs in zip(one, other, strict=True):
        assert values(mine) == pytest.approx(values(theirs), rel=1e-5)


# ------------------------------------------------------------------------------------------------ inputs


def test_the_task_finds_the_pipeline(debye: Any) -> None:
    assert type(debye) is CrystalPropertyPipeline
    assert type(debye.tokenizer) is ScopeTokenizer
    assert not debye.model.training


@pytest.mark.parametrize("kind", ["debye", "regression"])
def test_path_structure_string_and_mapping_agree(folder: Callable[[str], str], examples: list[Path], kind: str) -> None:
    predict = pipeline("crystal-property", model=folder(kind))
    for path in examples[:4]:
        crystal = ScopeEncoder("composition", canonical=False).describe(path)
        from_path = predict(path)
        others = [
            predict(str(path)),
            predict(Structure.from_file(path)),
            predict({"scope": crystal.scope, "n_atoms": crystal.n_atoms}),
            predict(crystal.scope, n_atoms=crystal.n_atoms),
        ]
        for other in others:
            assert_same([from_path], [other])


@pytest.mark.parametrize("container", [list, tuple])
def test_many_inputs_of_different_kinds_keep_their_order(
    debye: Any, examples: list[Path], scopes: list[str], container: type
) -> None:
    inputs = [scopes[2], examples[0], Structure.from_file(examples[1]), str(examples[2])]
    inputs += [{"scope": scopes[3], "n_atoms": 10}]
    results = debye(container(inputs))
    assert isinstance(results, list)
    assert_same(results, [debye(one) for one in inputs])


def test_an_array_or_series_is_a_list(debye: Any, scopes: list[str]) -> None:
    for several in (np.array(scopes), pd.Series(scopes, index=[3] * len(scopes))):
        assert_same(debye(several), debye(scopes))
    assert debye(np.array([], dtype=object)) == []


def test_a_string_that_tells_its_atoms_is_believed() -> None:
    """As on every other way in: NaCl has two atoms in its primitive cell."""
    predict = pipeline("crystal-property", model=cloud_hf.bundled_model(), members=1)
    salt = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
    (alone, told, mapped) = predict([salt, {"scope": salt, "n_atoms": 8}, {"scope": salt, "n_atoms": 2}])
    assert_same([told, mapped, predict(salt, n_atoms=8)], [alone] * 3)


def test_a_list_of_one_gives_a_list_of_one(debye: Any) -> None:
    assert_same(debye([COPPER]), [debye(COPPER)])


@pytest.mark.parametrize("kind", ["debye", "regression"])
def test_batches_change_nothing(
    folder: Callable[[str], str], examples: list[Path], scopes: list[str], kind: str
) -> None:
    """Strings of unequal length, with and without the number of atoms, in one batch."""
    predict = pipeline("crystal-property", model=folder(kind))
    inputs = [*scopes, *examples[:3], {"scope": scopes[0], "n_atoms": 3}]
    assert_same(predict(inputs, batch_size=4), predict(inputs, batch_size=1))


# ------------------------------------------------------------------------------------------------ results


def test_regression_gives_names_values_and_units(regression: Any, make_model: Callable[[str], Any]) -> None:
    result = regression(COPPER)
    assert [(q["name"], q["unit"]) for q in result] == [("band_gap", "eV"), ("bulk_modulus", "GPa")]
    logits = make_model("regression").eval()(**ScopeTokenizer()(COPPER, return_tensors="pt")).logits[0].tolist()
    assert [q["value"] for q in result] == pytest.approx(logits, rel=1e-5)
    assert all(type(q["value"]) is float for q in result)


def test_debye_gives_the_cell_only_when_its_atoms_are_known(debye: Any) -> None:
    bare, known = debye(COPPER), debye(COPPER, n_atoms=4)
    assert [(q["name"], q["unit"]) for q in bare] == [
        ("debye_temperature", "K"),
        ("heat_capacity_per_atom", "J/(mol atom K)"),
    ]
    assert [(q["name"], q["unit"]) for q in known] == [
        *((q["name"], q["unit"]) for q in bare),
        ("heat_capacity_per_cell", "J/(mol primitive cell K)"),
    ]
    assert values(known)["heat_capacity_per_cell"] == pytest.approx(4 * values(bare)["heat_capacity_per_atom"])
    assert values(known)["heat_capacity_per_atom"] == pytest.approx(values(bare)["heat_capacity_per_atom"])


def test_a_debye_model_of_both_quantities_gives_both(folder: Callable[[str], str]) -> None:
    found = pipeline("crystal-property", model=folder("two_branches"))(COPPER, n_atoms=4)
    assert [(quantity["name"], quantity["unit"]) for quantity in found] == [
        ("debye_temperature", "K"),
        ("internal_energy_per_atom", "J/(mol atom)"),
        ("internal_energy_per_cell", "J/(mol primitive cell)"),
        ("heat_capacity_per_atom", "J/(mol atom K)"),
        ("heat_capacity_per_cell", "J/(mol primitive cell K)"),
    ]
    number = values(found)
    assert number["internal_energy_per_cell"] == pytest.approx(4 * number["internal_energy_per_atom"])


def test_a_target_of_the_whole_cell_needs_its_atoms(folder: Callable[[str], str], examples: list[Path]) -> None:
    predict = pipeline("crystal-property", model=folder("extensive"))
    one, four = (values(predict(COPPER, n_atoms=n)) for n in (1, 4))
    assert four["bulk_modulus"] == pytest.approx(4 * one["bulk_modulus"], rel=1e-5)
    assert four["band_gap"] == pytest.approx(one["band_gap"])
    assert len(predict(str(examples[0]))) == 2
    with pytest.raises(errors.CloudError, match="n_atoms"):
        predict(COPPER)


def test_atoms_of_a_mapping_win_and_those_of_the_call_fill_in(debye: Any) -> None:
    inputs = [{"scope": COPPER, "n_atoms": 2}, {"scope": COPPER}, COPPER]
    results = [values(result) for result in debye(inputs, n_atoms=6)]
    per_atom = results[0]["heat_capacity_per_atom"]
    assert [r["heat_capacity_per_cell"] / per_atom for r in results] == pytest.approx([2, 6, 6])


@pytest.mark.parametrize("kelvin", [0, 0.0, 5.0, 77, 300.0, 1e4])
def test_heat_capacity_is_that_of_the_temperature(debye: Any, kelvin: float) -> None:
    result = values(debye(COPPER, temperature=kelvin))
    expected = float(heat_capacity(result["debye_temperature"], float(kelvin)))
    assert result["heat_capacity_per_atom"] == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert result["debye_temperature"] == values(debye(COPPER))["debye_temperature"]


def test_the_default_temperature_is_room_temperature(folder: Callable[[str], str], debye: Any) -> None:
    assert_same([debye(COPPER)], [debye(COPPER, temperature=300.0)])
    cold = pipeline("crystal-property", model=folder("debye"), temperature=20.0)
    assert_same([cold(COPPER)], [debye(COPPER, temperature=20.0)])


@pytest.mark.parametrize("kind", ["regression", "debye"])
def test_a_model_object_in_training_predicts_like_its_checkpoint(
    folder: Callable[[str], str], make_model: Callable[[str], Any], tokenizer: ScopeTokenizer, kind: str
) -> None:
    """Dropout must be off, and the quantities must not depend on whether the model was saved before."""
    predict = pipeline("crystal-property", model=make_model(kind).train(), tokenizer=tokenizer)
    assert not predict.model.training
    first = predict(COPPER, n_atoms=2)
    assert first == predict(COPPER, n_atoms=2)
    assert_same([first], [pipeline("crystal-property", model=folder(kind))(COPPER, n_atoms=2)])


# ------------------------------------------------------------------------------------------------ refusals


def test_another_grammar_is_refused(regression: Any, folder: Callable[[str], str], examples: list[Path]) -> None:
    with pytest.raises(errors.GrammarError, match=r"'full'.*'composition'"):
        regression("1 0 0 | 2i 2i | Cu Cu")
    reads_full = pipeline("crystal-property", model=folder("full"))
    with pytest.raises(errors.GrammarError, match=r"'composition'.*'full'"):
        reads_full(COPPER)
    assert_same([reads_full(examples[0])], [reads_full(ScopeEncoder("full", canonical=False).encode(examples[0]))])


def test_the_encoder_has_the_settings_of_the_model(
    make_config: Callable[..., CloudConfig], tokenizer: ScopeTokenizer
) -> None:
    config = make_config(symprec=0.05, angle_tolerance=2.0, grammar="full", **TARGETS)
    predict = CrystalPropertyPipeline(CloudForPropertyRegression(config), tokenizer=tokenizer)
    encoder = predict.encoder
    assert (encoder.symprec, encoder.angle_tolerance, encoder.grammar) == (0.05, 2.0, "full")


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        ("1 0 0 | 2i", errors.GrammarError, "1 0 0 | 2i"),
        ("1 0 0 | 2i | Qq 1.0", errors.UnknownWordError, "Qq"),
        ("1 0 0 | 2i | " + "Cu 1.0 " * 200, errors.ScopeTooLongError, "256"),
        ("absent.cif", errors.CrystalReadError, "absent.cif"),
        (None, errors.CrystalReadError, "NoneType"),
        (3.0, errors.CrystalReadError, "float"),
    ],
    ids=str,
)
def test_an_input_that_cannot_be_read_is_named(debye: Any, given: Any, error: type[Exception], named: str) -> None:
    for inputs in (given, [COPPER, given]):
        with pytest.raises(error) as caught:
            debye(inputs)
        assert named in str(caught.value)


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_an_impossible_temperature_is_refused(debye: Any, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        debye(COPPER, temperature=temperature)


@pytest.mark.parametrize("n_atoms", [0, -2, math.inf])
def test_an_impossible_number_of_atoms_is_refused(debye: Any, n_atoms: float) -> None:
    for arguments in ((COPPER, {"n_atoms": n_atoms}), ({"scope": COPPER, "n_atoms": n_atoms}, {})):
        with pytest.raises(ValueError, match="n_atoms"):
            debye(arguments[0], **arguments[1])


def test_an_unknown_keyword_is_named(debye: Any, folder: Callable[[str], str]) -> None:
    with pytest.raises(TypeError, match="temperatur"):
        debye(COPPER, temperatur=300.0)
    with pytest.raises(TypeError, match="top_k"):
        pipeline("crystal-property", model=folder("debye"), top_k=1)


# ------------------------------------------------------------------------------------------------ stock pipelines


def test_text_classification_returns_the_raw_value(folder: Callable[[str], str]) -> None:
    ours = pipeline("crystal-property", model=folder("one_target"))
    stock = pipeline("text-classification", model=folder("one_target"))
    expected = values(ours(COPPER))["band_gap"]
    (result,) = stock(COPPER, function_to_apply="none")
    assert result["label"] == "band_gap"
    assert result["score"] == pytest.approx(expected, rel=1e-5)
    (default,) = stock(COPPER)
    assert default["score"] == pytest.approx(expected, rel=1e-5), "the configuration says that this is a regression"


def test_text_classification_returns_every_target(folder: Callable[[str], str], regression: Any) -> None:
    stock = pipeline("text-classification", model=folder("regression"))
    results = stock(COPPER, function_to_apply="none", top_k=None)
    results = results[0] if isinstance(results[0], list) else results
    assert {r["label"]: r["score"] for r in results} == pytest.approx(values(regression(COPPER)), rel=1e-5)


def test_fill_mask_names_words(folder: Callable[[str], str], make_model: Callable[[str], Any]) -> None:
    stock = pipeline("fill-mask", model=folder("masked_lm"))
    best = stock("1 0 0 | 2i | [MASK] 1.0", top_k=3)
    tokens = ScopeTokenizer()("1 0 0 | 2i | [MASK] 1.0", return_tensors="pt")
    logits = make_model("masked_lm").eval()(**tokens).logits[0, 7]
    assert [word["token"] for word in best] == logits.topk(3).indices.tolist()
    assert [word["token_str"] for word in best] == ScopeTokenizer().convert_ids_to_tokens(
        logits.topk(3).indices.tolist()
    )


def test_feature_extraction_gives_hidden_states(folder: Callable[[str], str]) -> None:
    features = pipeline("feature-extraction", model=folder("masked_lm"))(COPPER)
    assert torch.tensor(features).shape == (1, 10, 32)

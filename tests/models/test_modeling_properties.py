"""One model with every head: shapes, physics, what it learns from, ensembles, saving."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from cloud_hf import CloudForCrystalProperties, ScopeTokenizer
from cloud_hf.checkpoints.cards import model_card
from cloud_hf.checkpoints.members import join_members
from cloud_hf.inference.evaluation import evaluate_table
from cloud_hf.inference.prediction import heads_of, load_predictor
from cloud_hf.models.debye import GAS_CONSTANT
from cloud_hf.models.heads_phonon import (
    ACOUSTIC_BRANCHES,
    DEBYE_SPREAD,
    VIBRATION_SCALES,
    VibrationalLabels,
    area_between,
    vibrational_loss,
)
from cloud_hf.models.phonon_dos import DOS_EDGES, PhononDOS, phonon_dos
from cloud_hf.scope import parse
from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.generators import generator_words

TARGETS = {
    "target_names": ["band_gap", "bulk_modulus"], "target_units": ["eV", "GPa"],
    "target_transforms": ["standardise", "log"], "target_mean": [1.0, 4.0], "target_scale": [1.5, 0.8],
}  # fmt: skip
CHEMISTRY = {
    "element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity", "grammar": "sites",
    "canonical": True,
}  # fmt: skip


def string_of(number: int) -> str:
    """A `sites` string of a space group: one element on each of its first two positions."""
    table = wyckoff_table(number)
    words = [table.words[0], table.words[-1]]
    return " ".join([*generator_words(number), "|", "Si", words[0], "O", words[1]])


@pytest.fixture(scope="module")
def strings() -> list[str]:
    return [string_of(number) for number in (1, 62, 166, 221, 225, 227, 229)]


@pytest.fixture(scope="module")
def model(make_config) -> CloudForCrystalProperties:
    torch.manual_seed(0)
    return CloudForCrystalProperties(make_config(**TARGETS, **CHEMISTRY, initializer_range=0.1)).eval()


@pytest.fixture(scope="module")
def batch(strings) -> dict[str, torch.Tensor]:
    tokens = ScopeTokenizer()(strings, padding=True, return_tensors="pt")
    return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}


def test_one_forward_gives_everything(model, batch, strings):
    n_bins, size = len(DOS_EDGES) - 1, len(strings)
    outputs = model(**batch)
    assert outputs.loss is None
    assert outputs.logits.shape == (size, 2)
    assert outputs.optical_dos.shape == (size, n_bins)
    assert outputs.acoustic_cutoff.shape == (size, ACOUSTIC_BRANCHES)
    dos = model.phonon_dos(outputs)
    torch.testing.assert_close(dos.shares().sum(-1), torch.ones(size), atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.heat_capacity, dos.heat_capacity(300.0))
    torch.testing.assert_close(outputs.zero_point_energy, dos.internal_energy(0.0))
    torch.testing.assert_close(
        outputs.free_energy, outputs.internal_energy - 300 * outputs.entropy, rtol=1e-4, atol=1.0
    )
    assert (outputs.heat_capacity < 3 * GAS_CONSTANT).all()


def test_acoustic_share_is_read_off_the_string_for_every_space_group(model):
    strings = [string_of(number) for number in range(1, 231)]
    tokens = ScopeTokenizer()(strings, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    atoms = torch.tensor([parse(text).n_atoms_primitive for text in strings])
    torch.testing.assert_close(outputs.acoustic_share, 1 / atoms)


def test_thermal_properties_are_extensive_and_follow_the_temperature(model, batch, strings):
    size = len(strings)
    cold, warm = (model(**batch, temperature=kelvin) for kelvin in (20.0, torch.full((size,), 900.0)))
    assert (cold.heat_capacity < warm.heat_capacity).all()
    atoms = torch.arange(1.0, size + 1)
    cells = model(**batch, temperature=900.0, n_atoms=atoms)
    for name in ("heat_capacity", "internal_energy", "entropy", "free_energy", "zero_point_energy"):
        torch.testing.assert_close(cells[name], warm[name] * atoms)


def test_other_grammars_need_the_number_of_atoms(make_config, scopes):
    model = CloudForCrystalProperties(make_config(**TARGETS)).eval()
    tokens = ScopeTokenizer()(scopes, padding=True, return_tensors="pt")
    ids = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    with pytest.raises(ValueError, match="n_atoms_primitive"):
        model(**ids)
    atoms = torch.tensor([1.0, 2.0, 5.0, 8.0])
    torch.testing.assert_close(model(**ids, n_atoms_primitive=atoms).acoustic_share, 1 / atoms)


# --- learning


def labels_of(size: int, **given: Any) -> dict[str, torch.Tensor]:
    """Labels of a batch, all missing but those given."""
    nan = torch.full((size,), math.nan)
    empty = {
        "labels": nan[:, None].repeat(1, 2),
        "dos_labels": nan[:, None].repeat(1, len(DOS_EDGES) - 1),
        "heat_capacity_labels": nan[:, None].repeat(1, 2),
        "internal_energy_labels": nan[:, None].repeat(1, 2),
        "label_temperature": torch.tensor([100.0, 300.0]).repeat(size, 1),
        "debye_temperature_labels": nan,
    }
    return empty | given


def made_dos(size: int, atoms: torch.Tensor) -> Any:
    chance = torch.Generator().manual_seed(1)
    weights = torch.rand(size, len(DOS_EDGES) - 1, generator=chance) ** 4
    weights[:, 40:] = 0
    return phonon_dos(weights, 100 + 100 * torch.rand(size, 3, generator=chance), atoms)


def test_missing_labels_cost_nothing(model, batch, strings):
    outputs = model(**batch, **labels_of(len(strings)))
    assert outputs.loss.item() == 0
    outputs.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_truth_costs_nothing(model, batch, strings):
    with torch.no_grad():
        outputs = model(**batch)
        dos = model.phonon_dos(outputs)
        kelvin = torch.tensor([[100.0], [300.0]])
        loss = model(
            **batch,
            **labels_of(
                len(strings),
                labels=outputs.logits,
                dos_labels=dos.shares(),
                heat_capacity_labels=dos.heat_capacity(kelvin).T,
                internal_energy_labels=dos.internal_energy(kelvin).T,
                debye_temperature_labels=dos.low_temperature_debye_temperature(),
            ),
        ).loss
    assert loss.item() < 1e-3


def test_branches_far_from_a_debye_temperature_cost_where_no_spectrum_is_known():
    edges = torch.tensor([0.0, 1000.0, 2000.0])
    cutoffs = torch.tensor([[600.0, 700.0, 800.0], [926.0, 2542.0, 5250.0]])
    scales = VIBRATION_SCALES
    for atoms in (30, 2):
        dos = PhononDOS(edges, torch.full((2, 2), 0.5 - 0.5 / atoms), torch.full((2,), 1 / atoms), cutoffs)
        theta = dos.low_temperature_debye_temperature()
        near, far = vibrational_loss(dos, VibrationalLabels(debye_temperature=theta), scales)
        assert near.item() < 1e-5
        assert far.item() > 0.5
    known = vibrational_loss(dos, VibrationalLabels(debye_temperature=theta, dos=dos.shares()), scales)
    assert known.max().item() < 1e-3


def test_a_debye_temperature_is_known_to_a_few_percent():
    dos = PhononDOS(torch.tensor([0.0, 1000.0]), torch.zeros(4, 1), torch.ones(4), torch.full((4, 3), 250.0))
    label = dos.low_temperature_debye_temperature() * torch.tensor([1.0, 0.97, 1.03, 1.2])
    loss = vibrational_loss(dos, VibrationalLabels(debye_temperature=label), VIBRATION_SCALES)
    assert loss[:3].tolist() == [0, 0, 0]
    expected = (math.log(1.2) - math.log1p(DEBYE_SPREAD)) / VIBRATION_SCALES["debye_temperature"]
    assert loss[3].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        "dos",
        "heat_capacity",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("internal_energy", "debye_temperature")),
    ],
)
def test_spectrum_is_learned_from_each_kind_of_label(make_config, batch, strings, kind):
    torch.manual_seed(0)
    model = CloudForCrystalProperties(make_config(**TARGETS, **CHEMISTRY, head_dropout=0.0, hidden_dropout_prob=0.0))
    size = len(strings)
    atoms = 1 / model(**batch).acoustic_share.detach()
    truth = made_dos(size, atoms)
    kelvin = torch.tensor([[100.0], [300.0]])
    label = {
        "dos": {"dos_labels": truth.shares()},
        "heat_capacity": {"heat_capacity_labels": truth.heat_capacity(kelvin).T},
        "internal_energy": {"internal_energy_labels": truth.internal_energy(kelvin).T},
        "debye_temperature": {"debye_temperature_labels": truth.low_temperature_debye_temperature()},
    }[kind]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = model(**batch, **labels_of(size, **label)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.4 * losses[0]:
            break
    assert losses[-1] < 0.4 * losses[0]


def test_labels_stand_for_the_given_atoms(model, batch, strings):
    size, atoms = len(strings), torch.arange(2.0, len(strings) + 2)
    cv = torch.full((size, 2), 20.0)
    with torch.no_grad():
        one = model(**batch, **labels_of(size, heat_capacity_labels=cv)).loss
        cells = model(**batch, n_atoms=atoms, **labels_of(size, heat_capacity_labels=cv * atoms[:, None])).loss
    torch.testing.assert_close(one, cells)


def test_labels_without_their_temperature_are_refused(model, batch, strings):
    given = labels_of(len(strings)) | {"label_temperature": None}
    with pytest.raises(ValueError, match="label_temperature"):
        model(**batch, **given)


def test_area_between_two_boxes():
    edges = [0.0, 100.0, 200.0, 300.0]
    dos = phonon_dos(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1e-3]]), 1e9, edges=edges)
    shifted = torch.tensor([[0.0, 0.0, 1.0]])
    assert area_between(dos, shifted).item() == pytest.approx(200.0, rel=1e-5)
    scales = {"dos": 50.0}
    assert vibrational_loss(dos, VibrationalLabels(dos=shifted), scales).item() == pytest.approx(4.0, rel=1e-5)


# --- checkpoints


def test_saved_and_loaded_by_the_auto_class(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is CloudForCrystalProperties
    with torch.no_grad():
        one, two = model(**batch), loaded(**batch)
    for name in ("logits", "optical_dos", "acoustic_cutoff", "heat_capacity"):
        assert torch.equal(one[name], two[name])


def test_pipeline_gives_thermal_properties_with_units(model, batch, strings, tmp_path):
    model.save_pretrained(tmp_path)
    ScopeTokenizer().save_pretrained(tmp_path)
    predict = pipeline("crystal-property", model=str(tmp_path))
    rows = predict(strings, temperature=400.0, batch_size=3)
    with torch.no_grad():
        outputs = model(**batch)
    dos = model.phonon_dos(outputs)
    zero = dos.zero_point_energy()
    wanted = {
        "band_gap": outputs.logits[:, 0],
        "heat_capacity_per_atom": dos.heat_capacity(400.0),
        "entropy_per_atom": dos.entropy(400.0),
        "thermal_energy_per_atom": dos.internal_energy(400.0) - zero,
        "thermal_helmholtz_energy_per_atom": dos.helmholtz_energy(400.0) - zero,
        "zero_point_energy_per_atom": zero,
        "debye_temperature_of_heat_capacity": dos.debye_temperature_from_heat_capacity(),
        "debye_temperature_of_low_temperatures": dos.low_temperature_debye_temperature(),
    }
    for place, (row, text) in enumerate(zip(rows, strings, strict=True)):
        found = {quantity["name"]: quantity for quantity in row}
        assert [quantity["unit"] for quantity in row] == list(predict.units.values())
        for name, values in wanted.items():
            assert found[name]["value"] == pytest.approx(values[place].item(), rel=2e-4, abs=0.02)
        cell = found["heat_capacity_per_cell"]["value"] / found["heat_capacity_per_atom"]["value"]
        assert cell == pytest.approx(parse(text).n_atoms_primitive, rel=1e-5)
    assert found["heat_capacity_per_cell"]["unit"] == "J/(mol primitive cell K)"


def test_every_head_can_be_evaluated_and_has_a_card(model, strings, tmp_path):
    model.save_pretrained(tmp_path)
    ScopeTokenizer().save_pretrained(tmp_path)
    assert heads_of(model.config) == ["heat_capacity", "band_gap", "bulk_modulus"]
    table = tmp_path / "labels.csv"
    pd.DataFrame({"scope": strings, "cv": 20.0, "gap": 1.0}).to_csv(table, index=False)
    predictor = load_predictor(str(tmp_path), "heat_capacity")
    cv = evaluate_table(predictor, str(table), "cv", "heat_capacity", temperature=400.0)
    assert cv.metrics["unit"] == "J/(mol atom K)"
    assert cv.metrics["n"] == len(strings)
    assert evaluate_table(predictor, str(table), "gap", "band_gap").metrics["n"] == len(strings)
    card = model_card(tmp_path)
    assert "phonon density of states" in card
    assert "zero_point_energy_per_atom" in card


def test_ensemble_of_three_in_one_checkpoint(make_config, batch, tmp_path):
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(CloudForCrystalProperties(make_config(**TARGETS, **CHEMISTRY, initializer_range=0.1)).eval())
    join_members(members).save_pretrained(tmp_path)
    joined = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        found = joined(**batch)
        raw = torch.stack([member.raw_outputs(**batch)[0] for member in members]).mean(0)
        torch.testing.assert_close(joined.raw_outputs(**batch)[0], raw)
        gaps = torch.stack([member(**batch).logits[:, 0] for member in members]).mean(0)
    torch.testing.assert_close(found.logits[:, 0], gaps)
    torch.testing.assert_close(found.optical_dos.sum(-1) + found.acoustic_share, torch.ones(len(gaps)))


def test_targets_are_needed(make_config):
    with pytest.raises(ValueError, match="target_names"):
        CloudForCrystalProperties(make_config())


@pytest.mark.parametrize(
    "fields",
    [{"dos_edges": [0, 20, 10]}, {"dos_edges": [5]}, {"vibration_scales": {"dos": 0}}, {"vibration_scales": {"x": 1}}],
)
def test_settings_that_cannot_work_are_refused(make_config, fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        make_config(**fields)

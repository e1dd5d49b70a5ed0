"""The fast way to run a checkpoint gives what the model's own classes give, for every class and shape of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cloud_hf import CloudConfig, CloudForCrystalProperties, CloudForDebye, CloudForPropertyRegression, ScopeTokenizer
from cloud_hf.checkpoints.members import join_members
from cloud_hf.checkpoints.reading import read_config
from cloud_hf.data.inputs import Item
from cloud_hf.inference import fast_encoder
from cloud_hf.inference.fast_model import FastPredictor, load_fast
from cloud_hf.inference.prediction import load_predictor, load_predictors, predict_items

STRINGS = (
    "1 0 0 | Cu 2i",
    "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b",
    "1 0 0 | Na 1a Cl 1b O 2i O 2i O 2i Fe 2i",
    "1 4 b O O O c O O O d O O O e O O O 0 | Po 1a",
)
COMPOSITION = ("1 0 0 | 2i | Cu 1.0", "1 0 0 | 1a 2i | Na 0.33 Cl 0.67")
TARGETS: dict[str, Any] = {
    "target_names": ["band_gap", "volume"], "target_units": ["eV", "A^3"], "target_mean": [1.0, 2.0],
    "target_scale": [0.5, 0.3], "target_transforms": ["standardise", "log_per_atom"],
}  # fmt: skip
CHEMISTRY = {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"}
SITES = {"grammar": "sites", "canonical": True}


def saved(folder: Path, make_config: Callable[..., CloudConfig], kind: Any, members: int, **fields: Any) -> str:
    torch.manual_seed(1)
    models = [kind(make_config(initializer_range=0.3, **fields)).eval() for _ in range(members)]
    (join_members(models) if members > 1 else models[0]).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "members", "fields"),
    [
        (CloudForCrystalProperties, 3, {**SITES, **CHEMISTRY, **TARGETS}),
        (CloudForCrystalProperties, 1, {"pooling": "cls_multiplicity", **TARGETS}),
        (CloudForPropertyRegression, 2, {**SITES, **TARGETS, "head_layers": 2, "element_descriptors": True}),
        (CloudForPropertyRegression, 1, {**TARGETS, "head_layers": 0}),
        (CloudForDebye, 2, {**SITES, **CHEMISTRY, "second_branch": "einstein"}),
        (CloudForDebye, 1, {"debye_targets": ["internal_energy", "heat_capacity"], "theta_link": "linear"}),
    ],
)
def test_it_gives_what_the_pipeline_gives(
    make_config: Callable[..., CloudConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind, members, fields
) -> None:
    folder = saved(tmp_path, make_config, kind, members, **fields)
    scopes = STRINGS if fields.get("grammar") == "sites" else COMPOSITION
    items = [Item(scope, scope=scope, n_atoms=3.0) for scope in scopes]
    slow = predict_items(load_predictor(folder), items, temperature=150.0)
    assert isinstance(load_predictors(folder).pipelines[0], FastPredictor)
    for most, fewest in ((1, 256), (30, 256), (2048, 256), (2048, 1)):  # alone, some together, all, those of a length
        monkeypatch.setattr(fast_encoder, "MOST_TOKENS", most)
        monkeypatch.setattr(fast_encoder, "FEWEST_TOKENS", fewest)
        fast = predict_items(load_predictors(folder, likelihood=None), items, temperature=150.0)
        for one, two in zip(slow, fast, strict=True):
            assert one.item.error is None
            assert [q["name"] for q in one.quantities] == [q["name"] for q in two.quantities]
            for left, right in zip(one.quantities, two.quantities, strict=True):
                assert left | {"value": 0} == right | {"value": 0}
                assert left["value"] == pytest.approx(right["value"], rel=2e-5, abs=1e-5), left["name"]


def test_many_strings_of_one_length_are_not_padded(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    folder = saved(tmp_path, make_config, CloudForPropertyRegression, 1, **SITES, **TARGETS)
    predictor = load_fast(folder, read_config(folder))
    assert predictor is not None
    lengths = [7] * 60 + [9] * 60 + [12] * 3 + [13] * 400
    mask = (torch.arange(13) < torch.tensor(lengths)[:, None]).long()
    pieces = list(predictor._network._pieces(torch.ones_like(mask), mask))
    assert [row for piece in pieces for row in range(len(lengths))[piece.rows]] == list(range(len(lengths)))
    assert all(piece.ids.numel() <= fast_encoder.MOST_TOKENS for piece in pieces)
    assert [piece.rows.start for piece in pieces if piece.mask is not None] == [120]  # the three of 12 words


def test_what_is_not_written_down_here_goes_the_other_way(
    make_config: Callable[..., CloudConfig], tmp_path: Path
) -> None:
    folder = saved(tmp_path, make_config, CloudForPropertyRegression, 1, hidden_act="relu", **TARGETS)
    assert load_fast(folder, read_config(folder)) is None
    (row,) = predict_items(load_predictors(folder, likelihood=None), [Item("a", scope=COMPOSITION[0], n_atoms=1.0)])
    assert row.quantities


def test_missing_weights_are_told_of(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from cloud_hf.errors import CheckpointError

    folder = saved(tmp_path, make_config, CloudForDebye, 1)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.0\.output\.dense\.weight"):
        load_predictors(folder, likelihood=None)

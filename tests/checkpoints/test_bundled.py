"""What ships inside the package: small, safe, loadable, and known to the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import cloud_hf
from cloud_hf import CloudConfig, CloudModel, ScopeTokenizer
from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, HEADS, bundled_heads, bundled_likelihood, bundled_model
from cloud_hf.errors import CheckpointError
from cloud_hf.inference.prediction import heads_of, load_predictors
from cloud_hf.models.conformal import CALIBRATION_FILE, Calibration

WEIGHTS = Path(cloud_hf.__file__).with_name("weights")
LIMIT = 30_000_000
HEADS_IN: dict[str, list[str]] = {}
"""The heads of each folder."""
for _head in bundled_heads():
    HEADS_IN.setdefault(bundled_model(_head), []).append(_head)
FOLDERS = [Path(folder) for folder in HEADS_IN]


def test_the_default_head_ships() -> None:
    assert DEFAULT_HEAD == "heat_capacity"
    assert DEFAULT_HEAD in bundled_heads()
    assert bundled_heads()[0] == DEFAULT_HEAD


def test_the_order_of_the_heads() -> None:
    """First those of `HEADS`, then the others by name."""
    known = [head for head in HEADS if head in bundled_heads()]
    others = sorted(set(bundled_heads()) - set(HEADS))
    assert bundled_heads() == known + others


def test_every_bundled_checkpoint_reads_the_same_strings() -> None:
    """So that `predict` encodes a crystal once for all of them."""
    load_predictors()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_calibration_belongs_to_its_weights(folder: Path) -> None:
    if not (folder / CALIBRATION_FILE).is_file():
        pytest.skip(f"{folder.name} ships without a calibration")
    assert Calibration.load(folder / CALIBRATION_FILE).fits(AutoModelForSequenceClassification.from_pretrained(folder))


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= LIMIT


def test_only_harmless_kinds_of_files_ship() -> None:
    kinds = {path.suffix for path in WEIGHTS.rglob("*") if path.is_file()}
    assert kinds
    assert kinds <= {".safetensors", ".json", ".txt"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
class TestCheckpoint:
    def test_it_loads_completely(self, folder: Path) -> None:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert not loaded["missing_keys"]
        assert not loaded["unexpected_keys"]
        assert not loaded["mismatched_keys"]
        assert set(HEADS_IN[str(folder)]) <= set(heads_of(model.config))
        assert len(model.config.target_units) == len(model.config.target_names)

    def test_its_weights_are_finite(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())

    def test_its_tokenizer_is_the_package_s(self, folder: Path, scopes: list[str], tokenizer) -> None:
        shipped = AutoTokenizer.from_pretrained(folder)
        assert shipped.get_vocab() == tokenizer.get_vocab()
        assert shipped(scopes)["input_ids"] == tokenizer(scopes)["input_ids"]
        config = json.loads((folder / "config.json").read_text())
        assert config["vocab_size"] == len(shipped)
        assert shipped.model_max_length == config["max_position_embeddings"] >= 128
        assert config["pad_token_id"] == shipped.pad_token_id

    def test_its_errors_stand_beside_the_trees_and_beat_them_where_it_says_so(self, folder: Path) -> None:
        metrics = json.loads((folder / "metrics.json").read_text())
        (part,) = set(metrics) - {"train"}
        for name, row in metrics[part].items():
            assert row["mae"] < 0.5 * row["mad"]
            trees = row["baselines"]["trees"]["mae"]
            assert trees > 0
            if "energy" in name or "gap" in name or name == "heat_capacity":
                assert trees > row["mae"]
            assert row["mae_mad"] == pytest.approx(row["mae"] / row["mad"])
            assert row["unit"]

    def test_it_has_no_code_of_its_own(self, folder: Path) -> None:
        for name in ("config.json", "tokenizer_config.json"):
            assert "auto_map" not in json.loads((folder / name).read_text())


def test_the_pipeline_finds_it_by_default(examples: list[Path]) -> None:
    by_default = pipeline("crystal-property")(str(examples[0]))
    by_name = pipeline("crystal-property", model=bundled_model())(str(examples[0]))
    assert by_default == by_name
    names = {quantity["name"] for quantity in by_default}
    assert names >= {"debye_temperature_of_heat_capacity", "heat_capacity_per_atom"}


def test_hard_light_crystals_are_stiffer_than_heavy_soft_ones(root: Path) -> None:
    """No numbers, an order that any useful model finds: diamond above copper and rock salt."""
    predictor = pipeline("crystal-property", model=bundled_model())
    with torch.no_grad():
        theta = {}
        for name in ("C_diamond", "Cu", "NaCl"):
            found = {one["name"]: one["value"] for one in predictor(str(root / "examples" / f"{name}.cif"))}
            theta[name] = found["debye_temperature_of_heat_capacity"]
    assert theta["C_diamond"] > 1.5 * max(theta["Cu"], theta["NaCl"])


def test_a_head_that_does_not_ship() -> None:
    with pytest.raises(CheckpointError, match=r"melting_point.*heat_capacity.*finetune"):
        bundled_model("melting_point")


class TestStockPipelines:
    """transformers' own pipelines on what ships."""

    def test_text_classification_gives_every_target_in_its_unit(self) -> None:
        folder, scope = bundled_model("band_gap"), "1 0 0 | Cu 2i"
        ours = {found["name"]: found["value"] for found in pipeline("crystal-property", model=folder)(scope, n_atoms=2)}
        (stock,) = pipeline("text-classification", model=folder)([scope], top_k=None)
        scores = {found["label"]: found["score"] for found in stock}
        targets = CloudConfig.from_pretrained(folder).target_names
        assert set(scores) == set(targets)
        shared = set(targets) & set(ours)
        assert len(shared) >= 5
        # the stock pipeline does not know that gaps are never negative
        given = {name: max(scores[name], 0.0) if name == "band_gap" else scores[name] for name in shared}
        assert given == pytest.approx({name: ours[name] for name in shared}, rel=1e-4)

    def test_fill_mask_proposes_what_the_crystal_has(self) -> None:
        scope = "1 2 a E C C n O O O 0 | Ba 3a Ti 3b [MASK] 6c O 18f"
        proposed = pipeline("fill-mask", model=bundled_likelihood())(scope, top_k=5)
        vocabulary = ScopeTokenizer().get_vocab()
        assert all(vocabulary[word["token_str"]] == word["token"] for word in proposed)
        assert [word["score"] for word in proposed] == sorted((word["score"] for word in proposed), reverse=True)

    def test_feature_extraction_gives_the_hidden_states(self) -> None:
        folder = bundled_model("heat_capacity")
        (found,) = pipeline("feature-extraction", model=folder)("1 0 0 | Cu 2i")
        ids = ScopeTokenizer.from_pretrained(folder)("1 0 0 | Cu 2i", return_tensors="pt")
        expected = CloudModel.from_pretrained(folder).eval()(**ids).last_hidden_state[0]
        torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-5, atol=1e-5)

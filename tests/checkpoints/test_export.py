"""Exports give the model's own outputs in programs that have no CLOUD, or are refused by name."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from cloud_hf import (
    CloudForCrystalProperties,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
    bundled_model,
)
from cloud_hf.checkpoints.conversion import convert
from cloud_hf.checkpoints.export import export
from cloud_hf.errors import CheckpointError

KINDS: dict[str, Any] = {
    "encoder": CloudModel, "mlm": CloudForMaskedLM, "regression": CloudForPropertyRegression, "debye": CloudForDebye,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of an untrained checkpoint of one of `KINDS`."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(kind: str) -> Path:
        if not (folder / kind).exists():
            torch.manual_seed(0)
            targets = {"target_names": ["band_gap", "density"], "target_units": ["eV", "g/cm3"]}
            scale = {"target_mean": [2.0, 5.0], "target_scale": [1.5, 3.0]}
            model = KINDS[kind](make_config(**(targets | scale if kind == "regression" else {}), num_hidden_layers=1))
            with torch.no_grad():
                for weight in model.parameters():
                    weight += 0.1 * torch.randn_like(weight)
            model.save_pretrained(folder / kind)
            ScopeTokenizer(model_max_length=256).save_pretrained(folder / kind)
        return folder / kind

    return make


def outputs(kind: str, folder: Path, scopes: list[str]) -> list[Any]:
    """The model's own output of each string, one at a time."""
    model, tokenizer = KINDS[kind].from_pretrained(folder).eval(), ScopeTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(scope, return_tensors="pt"))[0][0].tolist() for scope in scopes]


def run(folder: str, auto: str, scopes: list[str]) -> dict[str, Any]:
    """What stock classes give; also the body of a script, so it imports what it needs."""
    import torch
    import transformers

    model, found = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(scopes, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**batch)[0]
    return {
        "rows": [row[mask.bool()].tolist() for row, mask in zip(output, batch["attention_mask"], strict=True)],
        "missing": [name for name in found["missing_keys"] if "pooler" not in name],
        "unexpected": list(found["unexpected_keys"]),
        "model": type(model).__module__ + "." + type(model).__name__,
        "tokenizer": type(tokenizer).__module__.split(".")[0],
        "pad": [model.config.pad_token_id, tokenizer.pad_token_id],
        "longest": tokenizer.model_max_length,
    }


class TestBert:
    SCRIPT = """
import json, sys
from typing import Any

{function}

print(json.dumps([run(folder, name, json.loads(sys.argv[-1])) for folder, name in zip(sys.argv[1:], {names})]))
"""

    @pytest.mark.parametrize("without_the_package", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_stock_transformers_gives_the_same(
        self, checkpoint: Any, scopes: list[str], run_python: Any, tmp_path: Path, without_the_package: bool
    ) -> None:
        kinds = {"encoder": "BertModel", "mlm": "BertForMaskedLM"}
        for kind in kinds:
            assert export(str(checkpoint(kind)), str(tmp_path / kind)).difference < 1e-5
        names, folders = ("AutoModel", "AutoModelForMaskedLM"), [tmp_path / kind for kind in kinds]
        if without_the_package:
            script = self.SCRIPT.format(function=inspect.getsource(run), names=names)
            done = run_python(script, *folders, json.dumps(scopes), package=False)
        else:
            done = [run(str(folder), name, scopes) for folder, name in zip(folders, names, strict=True)]
        for (kind, name), found in zip(kinds.items(), done, strict=True):
            assert found["model"] == f"transformers.models.bert.modeling_bert.{name}"
            assert found["tokenizer"] == "transformers"
            assert (found["missing"], found["unexpected"]) == ([], [])
            assert (found["pad"], found["longest"]) == ([1, 1], 256)
            for mine, theirs in zip(outputs(kind, checkpoint(kind), scopes), found["rows"], strict=True):
                np.testing.assert_allclose(theirs, mine, atol=1e-5, rtol=0)

    def test_the_folder_holds_no_code(self, checkpoint: Any, tmp_path: Path) -> None:
        export(str(checkpoint("mlm")), str(tmp_path / "bert"))
        names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        assert {path.name for path in (tmp_path / "bert").iterdir()} == names
        config = json.loads((tmp_path / "bert" / "config.json").read_text())
        assert config["model_type"] == "bert"
        assert "auto_map" not in config

    def test_the_way_back(self, checkpoint: Any, make_config: Any, tmp_path: Path) -> None:
        """What was exported is a source for `convert` and for the classes, with the strings that it reads."""
        CloudForMaskedLM(make_config(grammar="sites", canonical=True)).save_pretrained(tmp_path / "cloud")
        ScopeTokenizer().save_pretrained(tmp_path / "cloud")
        export(str(tmp_path / "cloud"), str(tmp_path / "bert"))
        again = convert(str(tmp_path / "bert"), str(tmp_path / "again")).model
        direct, original = (CloudForMaskedLM.from_pretrained(tmp_path / name) for name in ("bert", "cloud"))
        for model in (again, direct):
            assert (model.config.grammar, model.config.canonical) == ("sites", True)
            for name, weight in original.state_dict().items():
                assert torch.equal(model.state_dict()[name], weight)

    @pytest.mark.parametrize("kind", ["regression", "debye"])
    def test_a_property_head_is_refused_and_its_encoder_is_not(
        self, kind: str, checkpoint: Any, scopes: list[str], tmp_path: Path
    ) -> None:
        with pytest.raises(CheckpointError, match=f"{KINDS[kind].__name__} has a head of 1"):
            export(str(checkpoint(kind)), str(tmp_path / "bert"))
        assert not (tmp_path / "bert").exists()
        export(str(checkpoint(kind)), str(tmp_path / "bert"), encoder_only=True)
        exported = load_file(tmp_path / "bert" / "model.safetensors")
        stored = load_file(checkpoint(kind) / "model.safetensors")
        assert exported.keys() == {name[5:] for name in stored if name.startswith("bert.")}
        assert all(torch.equal(weight, stored[f"bert.{name}"]) for name, weight in exported.items())

    @pytest.mark.parametrize(("name", "value"), [
        ("element_descriptors", True), ("site_multiplicity", True), ("pooling", "cls_multiplicity"),
    ])  # fmt: skip
    def test_inputs_that_bert_does_not_have_are_refused_by_name(
        self, name: str, value: Any, checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cloud_hf.checkpoints import export as module

        network = CloudForMaskedLM.from_pretrained(checkpoint("mlm"))
        setattr(network.config, name, value)
        monkeypatch.setattr(module, "_load", lambda path: (network, ScopeTokenizer()))
        with pytest.raises(CheckpointError, match=f"has {name}.*as ONNX"):
            export("model", str(tmp_path / "bert"))


class TestOnnx:
    @pytest.fixture
    def session(self, tmp_path: Path) -> Callable[[Path], Any]:
        onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

        def open_session(model: Path) -> Any:
            done = export(str(model), str(tmp_path / "onnx"), "onnx")
            assert done.difference < 1e-4
            return onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")

        return open_session

    def batch(self, folder: Path, scopes: list[str]) -> dict[str, np.ndarray]:
        """Ids and mask from the exported tokenizer, without transformers."""
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_padding(pad_id=1, pad_token="[PAD]")
        rows = tokenizer.encode_batch(scopes)
        return {
            "input_ids": np.array([r.ids for r in rows]),
            "attention_mask": np.array([r.attention_mask for r in rows]),
        }

    def check(self, kind: str, session: Any, model: Path, folder: Path, scopes: list[str]) -> None:
        expected = outputs(kind, model, scopes)
        for part in (scopes, scopes[1:2], scopes[:3]):
            batch = self.batch(folder, part)
            (found,) = session.run(None, batch)
            for row, mask, mine in zip(found, batch["attention_mask"], expected[scopes.index(part[0]) :], strict=False):
                kept = row[mask.astype(bool)] if row.ndim == 2 else row
                np.testing.assert_allclose(kept, mine, atol=1e-4, rtol=1e-4)

    def test_mlm(self, session: Any, checkpoint: Any, scopes: list[str], tmp_path: Path) -> None:
        opened = session(checkpoint("mlm"))
        assert [output.name for output in opened.get_outputs()] == ["logits"]
        self.check("mlm", opened, checkpoint("mlm"), tmp_path / "onnx", scopes)
        about = opened.get_modelmeta().custom_metadata_map
        assert (about["grammar"], about["canonical"]) == ("composition", "False")
        names = {"config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"}
        assert {path.name for path in (tmp_path / "onnx").iterdir()} == names

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["encoder", "regression"])
    def test_other_heads(self, kind: str, session: Any, checkpoint: Any, scopes: list[str], tmp_path: Path) -> None:
        opened = session(checkpoint(kind))
        self.check(kind, opened, checkpoint(kind), tmp_path / "onnx", scopes)
        if kind == "regression":
            about = opened.get_modelmeta().custom_metadata_map
            assert (about["target_names"], about["unit_predictions"]) == ("band_gap; density", "eV; g/cm3")

    @pytest.mark.slow
    def test_all_properties_at_any_temperature(self, session: Any, scopes: list[str], tmp_path: Path) -> None:
        opened = session(Path(bundled_model()))
        model = CloudForCrystalProperties.from_pretrained(bundled_model()).eval()
        extra = {
            "temperature": np.array([0.0, 20.0, 300.0, 1500.0], np.float32),
            "n_atoms": np.array([2, 2, 30, 8], np.float32),
        }
        batch = self.batch(tmp_path / "onnx", scopes) | extra
        found = dict(zip([output.name for output in opened.get_outputs()], opened.run(None, batch), strict=True))
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in batch.items()})
        np.testing.assert_allclose(found["predictions"], expected.logits, rtol=1e-4, atol=1e-4)
        for name in ("heat_capacity", "internal_energy", "entropy", "free_energy", "zero_point_energy"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
        assert opened.get_modelmeta().custom_metadata_map["unit_heat_capacity"] == "J/(mol K)"

    def test_without_the_extra(self, checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(CheckpointError, match=r"pip install 'cloud-hf\[onnx\]'"):
            export(str(checkpoint("mlm")), str(tmp_path / "onnx"), "onnx")
        assert not (tmp_path / "onnx").exists()


class TestRefusals:
    def test_missing_weights(self, checkpoint: Any, tmp_path: Path) -> None:
        folder = shutil.copytree(checkpoint("mlm"), tmp_path / "mlm")
        weights = load_file(folder / "model.safetensors")
        weights.pop("cls.predictions.transform.dense.bias")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"1 weights are missing .*, e\.g\. cls\.predictions\.transform"):
            export(str(folder), str(tmp_path / "out"))

    def test_another_model_type(self, published_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"model type 'bert'.*cloud-hf convert"):
            export(str(published_folder), str(tmp_path / "out"))

    def test_an_unknown_format(self, checkpoint: Any, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="'tflite' is not one of bert, onnx"):
            export(str(checkpoint("mlm")), str(tmp_path / "out"), "tflite")

    def test_an_output_that_is_taken(self, checkpoint: Any, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("x")
        for overwrite in (False, True):
            with pytest.raises(CheckpointError, match="out: the folder"):
                export(str(checkpoint("mlm")), str(tmp_path / "out"), overwrite=overwrite)
        assert (tmp_path / "out" / "mine").read_text() == "x"

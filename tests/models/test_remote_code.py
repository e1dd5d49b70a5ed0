"""Checkpoints in a fresh process: with the package imported, and where it cannot be imported at all.

Every script below is run once; it collects what happened and the tests look at it one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from cloud_hf import (
    CloudConfig,
    CloudForCrystalProperties,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
)

ONE = {"target_names": ["band_gap"], "target_units": ["eV"], "target_mean": [1.5], "target_scale": [0.7]}
THREE = {
    "target_names": ["a", "b", "c"], "target_units": ["eV", "GPa", "K"],
    "target_mean": [1.5, 120.0, -4.0], "target_scale": [0.7, 55.0, 2.0],
}  # fmt: skip
CHEMISTRY = {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"}
TRANSFORMED = {"target_transforms": ["log", "standardise", "standardise"], "regression_loss": "huber"}
BRANCHES = {"debye_targets": ["heat_capacity", "internal_energy"], "second_branch": "einstein"}
MODELS: dict[str, tuple[type, str, dict[str, Any]]] = {
    "encoder": (CloudModel, "AutoModel", {}),
    "masked_lm": (CloudForMaskedLM, "AutoModelForMaskedLM", {}),
    "one_target": (CloudForPropertyRegression, "AutoModelForSequenceClassification", ONE),
    "three_targets": (CloudForPropertyRegression, "AutoModelForSequenceClassification", THREE),
    "debye": (CloudForDebye, "AutoModelForSequenceClassification", {}),
    "chemistry_encoder": (CloudModel, "AutoModel", CHEMISTRY),
    "chemistry_masked_lm": (CloudForMaskedLM, "AutoModelForMaskedLM", CHEMISTRY),
    "chemistry_targets": (
        CloudForPropertyRegression, "AutoModelForSequenceClassification", THREE | CHEMISTRY | TRANSFORMED,
    ),
    "chemistry_debye": (CloudForDebye, "AutoModelForSequenceClassification", CHEMISTRY | BRANCHES),
    "every_head": (
        CloudForCrystalProperties, "AutoModelForSequenceClassification", THREE | CHEMISTRY | {"grammar": "sites"},
    ),
}  # fmt: skip
PIPELINES = ("debye", "three_targets", "chemistry_targets", "chemistry_debye")

SCRIPT = """
import json
import sys
from pathlib import Path

base, root, example, flag = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "trust"
asked = json.loads((base / "asked.json").read_text())
if not flag:
    import cloud_hf

    cloud_hf.register()
options = {"trust_remote_code": True} if flag else {}
# without the package the saved pipeline has to bring its task and code; with it any checkpoint serves
task, prefix = (None, "pipeline_") if flag else ("crystal-property", "")

import torch
import transformers
from tokenizers import Tokenizer

found = {"models": {}, "tokenizers": {}, "pipelines": {}, "refusals": {}}


def attempt(group, name, function):
    try:
        found[group][name] = function()
    except Exception as error:
        found[group][name] = {"error": f"{type(error).__name__}: {error}"}


def outputs_of(name, auto_class):
    model = getattr(transformers, auto_class).from_pretrained(base / name, **options)
    model.eval()
    outputs = model(torch.tensor(asked["ids"]), attention_mask=torch.tensor(asked["mask"]))
    main = outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs.logits
    return {"class": type(model).__name__, "module": type(model).__module__, "outputs": main.tolist()}


def ids_of(folder, **more):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **more)
    kind = type(tokenizer)
    return {"class": kind.__name__, "module": kind.__module__, "ids": tokenizer(asked["texts"])["input_ids"]}


def error_of(folder, text, **more):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **more)
    try:
        return tokenizer(text)["input_ids"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def error_of_call(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


for name, auto_class in asked["models"].items():
    attempt("models", name, lambda: outputs_of(name, auto_class))
    attempt("tokenizers", name, lambda: ids_of(base / name, **options))
attempt("tokenizers", "folder", lambda: ids_of(root / "tokenizer", **options))
attempt("tokenizers", "fast", lambda: ids_of(root / "tokenizer" / "fast"))
stock = Tokenizer.from_file(str(root / "tokenizer" / "fast" / "tokenizer.json"))
attempt("tokenizers", "raw", lambda: {"ids": [encoding.ids for encoding in stock.encode_batch(asked["texts"])]})
attempt("refusals", "folder", lambda: error_of(root / "tokenizer", "1 0 0 | 2i | Qq 1.0", **options))
attempt("refusals", "too_long", lambda: error_of(root / "tokenizer", "0 " * 300, **options))
attempt("refusals", "fast", lambda: error_of(root / "tokenizer" / "fast", "1 0 0 | 2i | Qq 1.0"))
for name in asked["pipelines"]:
    attempt("pipelines", name, lambda: transformers.pipeline(
        task, model=str(base / f"{prefix}{name}"), **options
    )(asked["scopes"], batch_size=2, n_atoms=3))
for name, given in (("file", example), ("grammar", "1 0 0 | 2i 2i | Cu Cu")):
    predict = transformers.pipeline(task, model=str(base / f"{prefix}debye"), **options)
    found["refusals"][name] = error_of_call(lambda: predict(given))


def fine_tuned():  # a head on the encoder, after a step, saved and opened as a pipeline
    auto, folder = transformers.AutoModelForSequenceClassification, base / f"tuned_{sys.argv[4]}"
    fields = {"target_names": ["gap"], "target_units": ["eV"]}
    model = auto.from_pretrained(base / "encoder", **fields, **options)
    batch = {"input_ids": torch.tensor(asked["ids"]), "attention_mask": torch.tensor(asked["mask"])}
    model(**batch, labels=torch.ones(len(asked["ids"]), 1)).loss.backward()
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base / "encoder", **options).save_pretrained(folder)
    predict = transformers.pipeline(model=str(folder), trust_remote_code=True)
    return {"class": type(model).__name__, "names": [quantity["name"] for quantity in predict(asked["scopes"][0])]}


found["fine_tuned"] = error_of_call(fine_tuned)
try:
    import cloud_hf
    found["package"] = True
except ImportError:
    found["package"] = False
print()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def saved(
    make_config: Callable[..., CloudConfig],
    tokenizer: ScopeTokenizer,
    scopes: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any]]:
    """A folder with a checkpoint of each class and two pipelines, and what this process gets from them."""
    import json

    base = tmp_path_factory.mktemp("saved")
    batch = tokenizer(scopes, padding=True, return_tensors="pt")
    expected: dict[str, Any] = {"models": {}, "pipelines": {}}
    for name, (model_class, _, fields) in MODELS.items():
        torch.manual_seed(13)
        model = model_class(make_config(initializer_range=0.2, **fields)).eval()
        model.save_pretrained(base / name)
        ScopeTokenizer().save_pretrained(base / name)
        outputs = model(**batch)
        main = outputs.last_hidden_state if model_class is CloudModel else outputs.logits
        expected["models"][name] = main.detach()
    for name in PIPELINES:
        predict = pipeline("crystal-property", model=str(base / name))
        predict.save_pretrained(base / f"pipeline_{name}")
        expected["pipelines"][name] = predict(scopes, n_atoms=3)
    texts = [*scopes, *tokenizer.get_vocab()]
    expected["ids"] = tokenizer(texts)["input_ids"]
    asked = {
        "models": {name: auto_class for name, (_, auto_class, _) in MODELS.items()},
        "pipelines": PIPELINES,
        "ids": batch["input_ids"].tolist(),
        "mask": batch["attention_mask"].tolist(),
        "texts": texts,
        "scopes": scopes,
    }
    (base / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    return base, expected


@pytest.fixture(
    scope="module", params=[pytest.param("package imported", marks=pytest.mark.slow), "package not importable"]
)
def found(
    request: pytest.FixtureRequest,
    saved: tuple[Path, dict[str, Any]],
    root: Path,
    examples: list[Path],
    run_python: Callable[..., Any],
) -> dict[str, Any]:
    """What a fresh process gets from the same folder."""
    package = request.param == "package imported"
    result = run_python(SCRIPT, saved[0], root, examples[0], "registered" if package else "trust", package=package)
    assert result["package"] is package, "the process must be what its name says"
    return result


def test_every_model_gives_the_same_outputs(found: dict[str, Any], saved: tuple[Path, dict[str, Any]]) -> None:
    for name, (model_class, _, _) in MODELS.items():
        result = found["models"][name]
        assert "error" not in result, (name, result)
        assert result["class"] == model_class.__name__
        origin = "cloud_hf." if found["package"] else "transformers_modules."
        assert result["module"].startswith(origin)
        expected = saved[1]["models"][name]
        atol = 1e-6 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(torch.tensor(result["outputs"]), expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", [*MODELS, "folder", "fast", "raw"])
def test_every_tokenizer_gives_the_same_ids(
    found: dict[str, Any], saved: tuple[Path, dict[str, Any]], name: str
) -> None:
    result = found["tokenizers"][name]
    assert "error" not in result, result
    assert result["ids"] == saved[1]["ids"]
    if name == "fast":
        assert result["module"].startswith("transformers.")
    elif name != "raw":
        assert result["class"] == "ScopeTokenizer"


@pytest.mark.parametrize("name", ["folder", "fast"])
def test_an_unknown_word_stays_an_error(found: dict[str, Any], name: str) -> None:
    assert isinstance(found["refusals"][name], str), "an error was expected, not ids"
    if name == "folder":
        assert found["refusals"][name].startswith("UnknownWordError: ")
        assert "'Qq'" in found["refusals"][name]


def test_a_string_too_long_stays_an_error(found: dict[str, Any]) -> None:
    assert str(found["refusals"]["too_long"]).startswith("ScopeTooLongError: ")


@pytest.mark.parametrize("name", PIPELINES)
def test_a_saved_pipeline_gives_the_same_quantities(
    found: dict[str, Any], saved: tuple[Path, dict[str, Any]], name: str
) -> None:
    result, expected = found["pipelines"][name], saved[1]["pipelines"][name]
    assert "error" not in result, result
    for mine, theirs in zip(result, expected, strict=True):
        assert [(q["name"], q["unit"]) for q in mine] == [(q["name"], q["unit"]) for q in theirs]
        assert [q["value"] for q in mine] == pytest.approx([q["value"] for q in theirs], rel=1e-5)


def test_an_encoder_can_be_fine_tuned_and_its_head_opens_as_a_pipeline(found: dict[str, Any]) -> None:
    assert found["fine_tuned"] == {"class": "CloudForPropertyRegression", "names": ["gap"]}


def test_a_file_needs_the_package_and_the_error_says_so(found: dict[str, Any]) -> None:
    answer = found["refusals"]["file"]
    if found["package"]:
        assert {quantity["name"] for quantity in answer} >= {"debye_temperature", "heat_capacity_per_cell"}
    else:
        assert answer.startswith("CloudError: ")
        assert "pip install cloud-hf" in answer


def test_another_grammar_stays_an_error(found: dict[str, Any]) -> None:
    assert str(found["refusals"]["grammar"]).startswith("GrammarError: ")


def test_a_saved_folder_holds_no_pickle(saved: tuple[Path, dict[str, Any]]) -> None:
    suffixes = {path.suffix for path in saved[0].rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".py", ".txt", ".md"}


def test_shipped_code_imports_only_what_a_flat_folder_can_hold(saved: tuple[Path, dict[str, Any]], root: Path) -> None:
    """Each saved Python file is the package's own, and each of its relative imports lies beside it."""
    import re

    files = list(saved[0].rglob("*.py"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text == (root / "cloud_hf" / "models" / path.name).read_text(encoding="utf-8")
        for module in re.findall(r"^\s*from \.(\S+) import", text, re.MULTILINE):
            assert (path.parent / f"{module}.py").is_file(), f"{path} needs {module}"

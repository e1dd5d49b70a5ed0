"""The bundled checkpoints under stock tools, used as their own documentation uses them with BERT.

What the stock pipelines give is tested where the bundled checkpoints are (`tests/checkpoints/test_bundled.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from cloud_hf import bundled_model
from cloud_hf.checkpoints.bundled import bundled_likelihood

SITES = ["1 2 a E C C n O O O 0 | Ba 3a Ti 3b O 9d", "1 0 0 | Cu 2i O 1a C 1b", "1 0 0 | Cu 2i"]
BUNDLED = bundled_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture
def batch(tokenizer: Any) -> dict[str, torch.Tensor]:
    """Three padded strings."""
    return dict(tokenizer(SITES, padding=True, return_tensors="pt"))


def load(path: str = BUNDLED) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(path)


def labelled(tokenizer: Any, labels: torch.Tensor) -> list[dict[str, Any]]:
    return [
        {**tokenizer(text, padding="max_length", max_length=48), "labels": label.tolist()}
        for text, label in zip(SITES, labels, strict=True)
    ]


# ------------------------------------------------------------------------------------------------ pipelines


def test_text_classification_of_a_debye_model_has_one_label(
    batch: dict[str, torch.Tensor], several_heads: Path
) -> None:
    folder = str(several_heads / "heat_capacity")
    (one,) = pipeline("text-classification", model=folder)(SITES[-1])
    assert one["label"] == "debye_temperature"
    assert one["score"] == pytest.approx(float(load(folder)(**batch).logits[2]), rel=1e-4)


def test_fill_mask_does_not_mind_the_side_of_the_padding() -> None:
    for side in ("right", "left"):
        masked = [f"{SITES[0].replace('Ti', '[MASK]')}", "1 0 0 | [MASK] 2i"]
        fill = pipeline("fill-mask", model=bundled_likelihood())
        fill.tokenizer.padding_side = side
        best = [row[0] for row in fill(masked, batch_size=2)]
        alone = [fill(text)[0] for text in masked]
        assert [one["token_str"] for one in best] == [one["token_str"] for one in alone]
        assert [one["score"] for one in best] == pytest.approx([one["score"] for one in alone], rel=1e-4)


# ------------------------------------------------------------------------------------------------ training


def test_trainer_and_accelerate_train_on(tokenizer: Any, tmp_path: Path) -> None:
    from accelerate import Accelerator

    with torch.no_grad():
        labels = load()(**tokenizer(SITES, padding=True, return_tensors="pt")).logits * 2
    rows = labelled(tokenizer, labels)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=3, learning_rate=2e-4, use_cpu=True,
        logging_steps=1, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=load(), args=arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    trainer.save_model(str(tmp_path / "saved"))
    again = load(str(tmp_path / "saved"))
    assert again.config.target_names == trainer.model.config.target_names

    accelerator, model = Accelerator(cpu=True), load().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    model, optimiser = accelerator.prepare(model, optimiser)
    batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
    before = model(**batch).loss
    accelerator.backward(before)
    optimiser.step()
    assert model(**batch).loss != before


def test_peft_trains_and_saves_a_new_head(tokenizer: Any, batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def base() -> Any:
        torch.manual_seed(3)
        return AutoModelForSequenceClassification.from_pretrained(bundled_likelihood(), num_labels=1)

    settings = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=2, target_modules=["query", "value"])
    model = peft.get_peft_model(base(), settings)
    trainable = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("classifier" in name for name in trainable)
    assert all("lora" in name or "classifier" in name for name in trainable)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, learning_rate=1e-2, use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    Trainer(model=model, args=arguments, train_dataset=labelled(tokenizer, torch.tensor([1.0, 2.0, 3.0]))).train()
    model.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(99)
    other = AutoModelForSequenceClassification.from_pretrained(bundled_likelihood(), num_labels=1)
    again = peft.PeftModel.from_pretrained(other, tmp_path / "adapter").eval()
    trained = model.eval()(**batch).logits
    torch.testing.assert_close(again(**batch).logits, trained)
    assert (trained - base()(**batch).logits).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------ other forms


@pytest.fixture(params=["every head", "debye"])
def path(request: pytest.FixtureRequest, several_heads: Path) -> str:
    return BUNDLED if request.param == "every head" else str(several_heads / "heat_capacity")


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")  # what users still call
def test_dynamic_quantisation_stays_close(path: str, batch: dict[str, torch.Tensor]) -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this build of torch has no kernels for int8")
    model = load(path)
    expected = model(**batch).logits
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(type(layer) is nn.Linear for layer in small.modules())
    found = small(**batch).logits
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.3)


@pytest.mark.slow
def test_an_exported_program_takes_other_batches(path: str, batch: dict[str, torch.Tensor]) -> None:
    model = load(path)
    rows, length = torch.export.Dim("rows", min=2), torch.export.Dim("length", min=4, max=100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    program = torch.export.export(
        model, (), inputs, dynamic_shapes={name: {0: rows, 1: length} for name in inputs}, strict=False
    )
    fewer = {name: values[:2, :25] for name, values in inputs.items()}
    torch.testing.assert_close(program.module()(**fewer).logits, model(**fewer).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_onnx_takes_other_batches(batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = load()
    inputs = tuple(batch[name] for name in ("input_ids", "attention_mask"))
    axes = {0: "rows", 1: "length"}
    torch.onnx.export(
        model, inputs, tmp_path / "model.onnx", dynamo=True, dynamic_shapes=(axes, axes), output_names=["logits"],
        input_names=["input_ids", "attention_mask"], verbose=False,
    )  # fmt: skip
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    fewer = {name: batch[name][:2, :25].numpy() for name in ("input_ids", "attention_mask")}
    (found,) = session.run(["logits"], fewer)
    expected = model(**{name: torch.from_numpy(values) for name, values in fewer.items()}).logits
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_gives_the_same(batch: dict[str, torch.Tensor]) -> None:
    model = load()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-4)


def test_a_masked_language_model_keeps_the_shape_of_its_logits(batch: dict[str, torch.Tensor]) -> None:
    """A user's own loss reads `logits` as BERT gives them, in training too."""
    model = AutoModelForMaskedLM.from_pretrained(bundled_likelihood()).train()
    labels = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    assert model(**batch, labels=labels).logits.shape == (*labels.shape, 585)

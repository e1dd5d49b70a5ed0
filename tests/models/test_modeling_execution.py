"""Ways to run a model that must not change its numbers: masked positions only, packed rows, attention, compilation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Trainer, TrainingArguments

from cloud_hf import CloudConfig, CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, ScopeTokenizer

SITES = ["1 2 a E C C n O O O 0 | Ba 3a Ti 3b O 9d", "1 0 0 | Cu 2i O 1a C 1b", "1 0 0 | Cu 2i"]
FEATURES = {
    "plain": {},
    "chemistry": {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"},
}
DETERMINISTIC = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout": 0.0}
TWO = {"target_names": ["a", "b"], "target_transforms": ["log", "per_atom"], "target_scale": [0.5, 2.0],
       "target_mean": [0.1, 0.2]}  # fmt: skip
BOTH = {"debye_targets": ["heat_capacity", "internal_energy"], "target_scale": [3.0, 1000.0]}
HEADS: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "masked_lm": (CloudForMaskedLM, {}, {}),
    "regression": (
        CloudForPropertyRegression, TWO,
        {"labels": torch.tensor([[1.0, 2.0], [3.0, float("nan")], [0.5, 9.0]]), "n_atoms": torch.tensor([5, 4, 2])},
    ),
    "debye": (
        CloudForDebye, BOTH | {"second_branch": "einstein"},
        {"labels": torch.tensor([[1.0, 2e3], [20.0, float("nan")], [23.0, 9e3]]), "temperature": torch.tensor(200.0)},
    ),
}  # fmt: skip


@pytest.fixture(params=FEATURES)
def make(request: pytest.FixtureRequest, make_config: Callable[..., CloudConfig]) -> Callable[..., Any]:
    """Return a function that makes a tiny model in training mode without dropout, with and without chemistry."""

    def build(model_class: type, **fields: Any) -> Any:
        torch.manual_seed(7)
        config = make_config(
            grammar="sites", initializer_range=0.2, **DETERMINISTIC, **FEATURES[request.param], **fields
        )
        return model_class(config).train()

    return build


@pytest.fixture
def batch(tokenizer: ScopeTokenizer) -> dict[str, torch.Tensor]:
    """Three strings with labels at every third position of the real tokens."""
    rows = dict(tokenizer(SITES, padding=True, return_tensors="pt"))
    asked = (torch.arange(rows["input_ids"].shape[1]) % 3 == 1) & (rows["attention_mask"] == 1)
    rows["labels"] = torch.where(asked, rows["input_ids"], -100)
    rows["input_ids"] = torch.where(asked, tokenizer.mask_token_id, rows["input_ids"])
    return rows


def pack(rows: dict[str, torch.Tensor], padding: int = 4) -> dict[str, torch.Tensor]:
    """The rows of a batch one after another in one row, and some padding behind them."""
    lengths = rows["attention_mask"].sum(1).tolist()
    fill = {"input_ids": 1, "attention_mask": 0, "labels": -100}
    packed = {
        name: [*chain(*(rows[name][row, :n].tolist() for row, n in enumerate(lengths))), *[value] * padding]
        for name, value in fill.items()
    }
    packed["position_ids"] = [*chain(*map(range, lengths)), *[0] * padding]
    packed["sequence_ids"] = [*chain(*([row] * n for row, n in enumerate(lengths))), *[0] * padding]
    return {name: torch.tensor([values]) for name, values in packed.items()}


def step(model: Any, run: Callable[..., Any] | None = None, **inputs: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """Loss and gradients."""
    model.zero_grad()
    loss = (model if run is None else run)(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_step(found: tuple[Any, Any], expected: tuple[Any, Any], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=tolerance * largest, msg=name)


# ------------------------------------------------------------------------------------------------ masked positions


@pytest.mark.parametrize("num_items", [None, 11, torch.tensor(11)], ids=["mean", "number", "tensor"])
def test_masked_positions_alone_give_the_same_step(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], num_items: Any
) -> None:
    model = make(CloudForMaskedLM, sparse_prediction=True)
    sparse = step(model, **batch, num_items_in_batch=num_items)
    model.config.sparse_prediction = False
    assert_same_step(sparse, step(model, **batch, num_items_in_batch=num_items))


def test_training_gives_the_logits_of_masked_positions_and_evaluation_all(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model = make(CloudForMaskedLM)
    asked = batch["labels"] != -100
    assert model(**batch).logits.shape == (*asked.shape, 585), "a user's own loss reads all of them"
    model.config.sparse_prediction = True
    sparse = model(**batch).logits
    full = model.eval()(**batch).logits
    assert sparse.shape == (int(asked.sum()), 585)
    assert full.shape == (*asked.shape, 585)
    torch.testing.assert_close(sparse, full[asked], rtol=1e-5, atol=1e-5)
    del batch["labels"]
    assert model.train()(**batch).logits.shape == full.shape


@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_without_masked_words_teaches_nothing(
    make: Callable[..., Any], batch: dict[str, Any], sparse: bool
) -> None:
    model = make(CloudForMaskedLM, sparse_prediction=sparse)
    loss, gradients = step(model, **(batch | {"labels": torch.full_like(batch["labels"], -100)}))
    assert loss == 0
    assert all(gradient.eq(0).all() for gradient in gradients.values())


def test_parts_of_a_batch_add_up_to_the_batch(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    """What Trainer does when it accumulates, or averages over processes: the number of all labels divides each part."""
    model = make(CloudForMaskedLM)
    total = int((batch["labels"] != -100).sum())
    whole = step(model, **batch)
    parts = [
        step(model, **{name: value[row : row + 1] for name, value in batch.items()}, num_items_in_batch=total)
        for row in range(3)
    ]
    added = sum(part[0] for part in parts), {name: sum(part[1][name] for part in parts) for name in whole[1]}
    assert_same_step(added, whole, 2e-6)


@pytest.mark.parametrize("per_step", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_accumulation_in_trainer_gives_the_same_weights(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], tmp_path: Any, per_step: int
) -> None:
    """Rows have different numbers of labels, so that a mean of means would differ."""
    rows = [{name: value[row] for name, value in batch.items()} for row in (0, 1, 2, 1)]
    trained = []
    for size in (per_step, 4):
        model = make(CloudForMaskedLM)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=4 // size,
            max_steps=2, learning_rate=1e-2, optim="sgd", use_cpu=True, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        trained.append(model.state_dict())
    for name, weight in trained[0].items():
        torch.testing.assert_close(weight, trained[1][name], rtol=0, atol=2e-6)


# ------------------------------------------------------------------------------------------------ packed rows


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_strings_give_their_own_logits(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], attention: str
) -> None:
    model = make(CloudForMaskedLM).eval()
    model.set_attn_implementation(attention)
    alone, packed = model(**batch), model(**pack(batch))
    real = batch["attention_mask"] == 1
    torch.testing.assert_close(packed.logits[0, :-4], alone.logits[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed.loss, alone.loss)
    assert packed.logits.isfinite().all(), "padding must not become NaN, which would spread in the backward pass"


def test_packed_strings_give_the_same_step(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model = make(CloudForMaskedLM)
    assert_same_step(step(model, **pack(batch)), step(model, **batch), 1e-5)


def test_without_sequence_ids_a_packed_row_is_one_string(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    """The tests above would pass on a model that sees no neighbours at all."""
    model, packed = make(CloudForMaskedLM).eval(), pack(batch)
    kept = model(**packed).logits
    del packed["sequence_ids"]
    assert (model(**packed).logits - kept)[0, :-4].abs().max() > 1e-2


def test_packed_rows_without_padding_need_no_attention_mask(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model, packed = make(CloudForMaskedLM).eval(), pack(batch, padding=0)
    expected = model(**packed).logits
    del packed["attention_mask"]
    torch.testing.assert_close(model(**packed).logits, expected)


# ------------------------------------------------------------------------------------------------ every head


def inputs_of(head: str, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    return batch | HEADS[head][2]


@pytest.mark.parametrize("head", HEADS)
def test_eager_and_sdpa_agree(make: Callable[..., Any], batch: dict[str, torch.Tensor], head: str) -> None:
    model_class, fields, _ = HEADS[head]
    model = make(model_class, **fields)
    steps = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        steps.append(step(model, **inputs_of(head, batch)))
    assert_same_step(*steps, 1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_gradient_checkpointing_changes_nothing(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], head: str
) -> None:
    model_class, fields, _ = HEADS[head]
    model = make(model_class, **fields)
    inputs = inputs_of(head, batch)
    plain = step(model, **inputs)
    calls = []
    layer = model.bert.encoder.layer[0].attention
    layer.register_forward_hook(lambda *_: calls.append(1))
    model.gradient_checkpointing_enable()
    assert_same_step(step(model, **inputs), plain)
    assert len(calls) == 2, "the layer is computed again in the backward pass"


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_compilation_changes_nothing(make: Callable[..., Any], batch: dict[str, torch.Tensor], head: str) -> None:
    model_class, fields, _ = HEADS[head]
    model = make(model_class, **fields)
    inputs = inputs_of(head, batch)
    plain = step(model, **inputs)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=head != "masked_lm")  # the number of masked positions varies
    assert_same_step(step(model, compiled, **inputs), plain, 1e-5)


@pytest.mark.slow
def test_masked_language_model_is_captured(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model = make(CloudForMaskedLM)
    plain = step(model, **batch)
    torch._dynamo.reset()
    assert_same_step(step(model, torch.compile(model, backend="aot_eager"), **batch), plain, 1e-5)


CAPTURED = """
import json
import sys

import torch
from safetensors.torch import load_file

from cloud_hf import CloudForPropertyRegression

largest = []
for folder in sys.argv[1:]:
    model = CloudForPropertyRegression.from_pretrained(folder).train()
    inputs = load_file(f"{folder}/inputs.safetensors")
    steps = []
    for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        loss = run(**inputs).loss
        loss.backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        steps.append(torch.cat([loss.detach()[None], *gradients]))
    largest.append(float((steps[0] - steps[1]).abs().max() / steps[0].abs().max()))
print(json.dumps(largest))
"""


def test_a_model_is_captured_whole(
    make_config: Callable[..., CloudConfig],
    batch: dict[str, torch.Tensor],
    run_python: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """What `torch.compile` traces gives the same numbers; the code generation itself is left to the longer test.

    In a fresh process, where the code is not counted line by line: the counters would be traced too.
    """
    inputs = inputs_of("regression", batch)
    for name, features in FEATURES.items():
        config = make_config(grammar="sites", initializer_range=0.2, **DETERMINISTIC, **features, **TWO)
        torch.manual_seed(7)
        CloudForPropertyRegression(config).save_pretrained(tmp_path / name)
        save_file(inputs, tmp_path / name / "inputs.safetensors")
    assert max(run_python(CAPTURED, *(tmp_path / name for name in FEATURES))) < 1e-5

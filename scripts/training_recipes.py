"""The paper's pre-training recipe on today's transformers, and this package's, both through their Trainer."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from cloud_hf import CloudConfig, CloudForMaskedLM, ScopeTokenizer
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments
from cloud_hf.training.collators import MaskingCollator
from cloud_hf.training.pretrain import new_config, tokenize_strings, training_rows
from cloud_hf.training.samplers import LengthBucketSampler
from cloud_hf.training.trainer import CloudTrainer

__all__ = ["PAPER_LENGTH", "PAPER_VOCABULARY", "lean_trainer", "paired_losses", "paper_trainer"]

PAPER_VOCABULARY = 30_522
"""`vocab_size` of the published checkpoint, BERT's default; its vocabulary has 564 words."""
PAPER_LENGTH = 64
"""Tokens to which the paper pads every string."""
NO_CHANCE = -1e4
"""Bias of a word that is never to be predicted."""


def paper_trainer(strings: Sequence[str], hidden: int, layers: int, training: dict[str, Any]) -> Trainer:
    """Stock classes only: `BertForMaskedLM` with 30,522 words, padding to 64, the MLM head on every token."""
    tokenizer = ScopeTokenizer(model_max_length=PAPER_LENGTH)
    encoded = tokenizer(list(strings), padding="max_length", max_length=PAPER_LENGTH)
    return Trainer(
        model=_paper_model(hidden, layers),
        args=TrainingArguments(report_to="none", **training),
        train_dataset=Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask")}),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
    )


def lean_trainer(
    strings: Sequence[str], hidden: int, layers: int, training: dict[str, Any], packing: int = 0
) -> CloudTrainer:
    """What `cloud-hf pretrain` does: its rows, collator, model and `CloudTrainer`; `packing` is the length of a row."""
    arguments = PretrainArguments(
        data=[], hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=_heads(hidden),
        packing=bool(packing), packing_length=packing or 256,
    )  # fmt: skip
    tokenizer = ScopeTokenizer(model_max_length=arguments.max_position_embeddings)
    return CloudTrainer(
        model=CloudForMaskedLM(new_config(arguments, len(tokenizer), "composition")),
        args=CloudTrainingArguments(remove_unused_columns=False, **training),
        train_dataset=training_rows(tokenize_strings(strings, tokenizer), tokenizer, arguments),
        data_collator=MaskingCollator(tokenizer),
    )


def paired_losses(
    strings: Sequence[str], hidden: int, layers: int, batch: int, training: dict[str, Any]
) -> dict[str, list[float]]:
    """Loss of every step of one epoch, from the same weights on the same strings with the same masks, without dropout.

    Returns:
        Losses in nats per masked word: `lean`, this package's recipe; `paper`, the paper's with the words that do not
        exist kept from being predicted, which is the same function; `paper_as_released`, with those words.
    """
    torch.manual_seed(0)
    tokenizer = ScopeTokenizer(model_max_length=PAPER_LENGTH)
    lean = CloudForMaskedLM(
        CloudConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=_heads(hidden),
            intermediate_size=4 * hidden,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=PAPER_LENGTH,
        )
    )
    models: dict[str, Any] = {"lean": lean}
    for name, bias in (("paper", NO_CHANCE), ("paper_as_released", 0.0)):
        models[name] = _paper_model(hidden, layers, dropout=0.0)
        _copy_weights(lean, models[name], bias)
    rows = training_rows(tokenize_strings(strings, tokenizer), tokenizer)
    order = list(LengthBucketSampler(rows.lengths, batch))
    rows = training_rows(tokenize_strings([strings[row] for row in order], tokenizer), tokenizer)
    masks = MaskingCollator(tokenizer)
    losses: dict[str, list[float]] = {}
    for name, model in models.items():
        common = training | {
            "per_device_train_batch_size": batch, "num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no",
            "train_sampling_strategy": "sequential", "remove_unused_columns": False, "report_to": "none",
        }  # fmt: skip
        kind = CloudTrainer if name == "lean" else Trainer
        collator = masks if name == "lean" else partial(_pad_on, masks, width=PAPER_LENGTH)
        log = _Losses()
        trainer = kind(
            model=model, args=TrainingArguments(**common), train_dataset=rows, data_collator=collator, callbacks=[log]
        )
        trainer.train()
        losses[name] = log.losses
    return losses


class _Losses(TrainerCallback):
    """Collect the loss of every step with all its digits."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in (logs or {}):
            self.losses.append(float(logs["loss"]))


def _paper_model(hidden: int, layers: int, dropout: float = 0.1) -> BertForMaskedLM:
    return BertForMaskedLM(  # with SDPA, the default
        BertConfig(
            vocab_size=PAPER_VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=_heads(hidden),
            intermediate_size=4 * hidden,
            max_position_embeddings=PAPER_LENGTH,
            type_vocab_size=1,
            pad_token_id=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def _heads(hidden: int) -> int:
    """64 dimensions a head, as in BERT and the paper."""
    return max(1, hidden // 64)


def _copy_weights(source: CloudForMaskedLM, target: BertForMaskedLM, bias: float) -> None:
    """Copy all weights; words beyond the vocabulary of `source` keep their rows and get `bias`."""
    with torch.no_grad():
        target_weights = target.state_dict()
        for name, value in source.state_dict().items():
            target_weights[name][: len(value)].copy_(value)
        target.cls.predictions.bias[len(source.cls.predictions.bias) :] = bias


def _pad_on(collator: MaskingCollator, examples: list[dict[str, Any]], width: int) -> dict[str, Tensor]:
    """A batch padded further, to `width`."""
    fill = {"input_ids": collator.tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
    return {
        name: torch.nn.functional.pad(value, (0, width - value.shape[1]), value=fill[name])
        for name, value in collator(examples).items()
    }

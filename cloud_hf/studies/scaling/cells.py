"""One cell of the scaling study: a model of one size learns masked words from a corpus of one size."""

import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy

from cloud_hf import CloudForMaskedLM, ScopeTokenizer
from cloud_hf.data.token_classes import TOKEN_CLASSES, TokenClasses
from cloud_hf.errors import StudyError
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments
from cloud_hf.training.collators import MaskingCollator
from cloud_hf.training.metrics import mlm_metrics
from cloud_hf.training.pretrain import best_and_nats, new_config, tokenize_strings, training_rows
from cloud_hf.training.trainer import CloudTrainer

__all__ = ["BASE_WIDTH", "Recipe", "Size", "frequency_loss", "nested_corpora", "train_cell"]

BASE_WIDTH = 64
"""Width whose learning rate is given; others get it times 64 / width."""

EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings", "bert.chemistry", "predictions.bias")
"""Parts of the names of parameters that only look something up, which scaling laws leave out of N."""


@dataclass(frozen=True)
class Size:
    """Size of a model.

    Attributes:
        width: Hidden size.
        layers: Layers.
    """

    width: int
    layers: int

    def __str__(self) -> str:
        return f"{self.width}x{self.layers}"

    def heads(self, head_width: int) -> int:
        """Attention heads: as many as divide the width and are at least `head_width` wide, at least one."""
        return next(n for n in range(max(1, self.width // head_width), 0, -1) if self.width % n == 0)


@dataclass(frozen=True)
class Recipe:
    """How every model of the grid is trained.

    Attributes:
        epochs: Passes over the corpus.
        strings_per_step: Strings per step of one process.
        learning_rate: Peak learning rate at `BASE_WIDTH`.
        weight_decay: Weight decay of AdamW.
        dropout: Dropout of the model.
        head_width: See `Size.heads`.
        max_tokens: Longest string.
        chemistry: Whether element descriptors and multiplicities are read too.
        bf16: Compute in bfloat16.
        held_out_seed: Seed of the masks of the strings kept back, the same in every cell.
    """

    epochs: float
    strings_per_step: int
    learning_rate: float
    weight_decay: float
    dropout: float
    head_width: int
    max_tokens: int
    chemistry: bool
    bf16: bool
    held_out_seed: int

    def rate(self, size: Size) -> float:
        """Peak learning rate of a model, decided before any training: that of `BASE_WIDTH` times 64 / width.

        So the best rate of Adam moves with the width of hidden layers (Yang et al. 2022, "Tensor programs V", table 3).
        """
        return self.learning_rate * BASE_WIDTH / size.width

    def training(self, folder: str, size: Size, seed: int) -> CloudTrainingArguments:
        """Arguments of the Trainer."""
        return CloudTrainingArguments(
            output_dir=folder, num_train_epochs=self.epochs, per_device_train_batch_size=self.strings_per_step,
            learning_rate=self.rate(size), weight_decay=self.weight_decay, seed=seed, bf16=self.bf16,
            logging_strategy="no", eval_strategy=IntervalStrategy.NO, remove_unused_columns=False,
            include_for_metrics=["inputs"], ddp_find_unused_parameters=False, disable_tqdm=not sys.stderr.isatty(),
        )  # fmt: skip


def nested_corpora(
    strings: Sequence[str], sizes: Sequence[int], held_out: int, seed: int
) -> tuple[list[str], list[str]]:
    """Keep strings back and put the others in an order of which every corpus is the beginning.

    Args:
        strings: SCOPE strings; each counts once.
        sizes: Strings of each corpus.
        held_out: Strings kept back.
        seed: Seed of the order; the same strings in any order, with any repeats, give the same.

    Returns:
        The strings kept back, by length, and the strings of the largest corpus.

    Raises:
        StudyError: There are too few strings.
    """
    distinct = sorted(set(strings))
    if held_out + max(sizes) > len(distinct):
        raise StudyError(
            f"--corpus-sizes asks for {max(sizes):,} strings and --held-out for {held_out:,} others, but the tables "
            f"hold {len(distinct):,} distinct ones; lower one of them or add tables."
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    kept_back = sorted((distinct[row] for row in order[:held_out]), key=lambda text: (len(text.split()), text))
    return kept_back, [distinct[row] for row in order[held_out : held_out + max(sizes)]]


def train_cell(size: Size, corpus: Sequence[str], held_out: Sequence[str], recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a model from random weights and measure its loss on the strings kept back.

    Args:
        size: Size of the model.
        corpus: Strings to learn from.
        held_out: Strings kept back, masked alike in every cell.
        recipe: How to train.
        seed: Seed of weights, order and masks.

    Returns:
        Sizes, `loss` (nats per masked word, as are those by class of word), `masked_words`, `masked_accuracy`,
        `tokens_seen` (padding not counted) and `flops` (6 N D, an estimate).

    Raises:
        StudyError: The training diverged.
    """
    settings = PretrainArguments(
        hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=size.heads(recipe.head_width),
        dropout=recipe.dropout, max_position_embeddings=recipe.max_tokens, element_descriptors=recipe.chemistry,
        site_multiplicity=recipe.chemistry,
    )  # fmt: skip
    tokenizer = ScopeTokenizer(model_max_length=recipe.max_tokens)
    set_seed(seed)
    model = CloudForMaskedLM(new_config(settings, len(tokenizer), "sites"))
    rows = training_rows(tokenize_strings(corpus, tokenizer), tokenizer)
    kept_back = training_rows(tokenize_strings(held_out, tokenizer), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = CloudTrainer(
            model=model, args=recipe.training(folder, size, seed), train_dataset=rows, eval_dataset=kept_back,
            data_collator=MaskingCollator(tokenizer, seed=seed), processing_class=tokenizer,
            compute_metrics=partial(mlm_metrics, classes=TokenClasses(tokenizer)),
            preprocess_logits_for_metrics=best_and_nats,
        )  # fmt: skip
        steps = trainer.train().global_step
        trainer.data_collator = MaskingCollator(tokenizer, seed=recipe.held_out_seed)
        metrics = trainer.evaluate(metric_key_prefix="held_out")
    loss = math.log(metrics["held_out_perplexity"])
    if not math.isfinite(loss):
        raise StudyError(f"The model {size} diverged on {len(corpus):,} strings; lower --learning-rate.")
    n = sum(p.numel() for name, p in model.named_parameters() if not any(part in name for part in EMBEDDINGS))
    unique = int(rows.string_lengths.sum())
    by_class = {
        name: math.log(metrics[f"held_out_perplexity_{name}"])
        for name in TOKEN_CLASSES
        if f"held_out_perplexity_{name}" in metrics
    }
    return {
        "width": size.width, "layers": size.layers, "heads": settings.num_attention_heads, "parameters": n,
        "all_parameters": sum(p.numel() for p in model.parameters()), "strings": len(corpus), "seed": seed,
        "unique_tokens": unique, "tokens_seen": recipe.epochs * unique, "steps": steps,
        "learning_rate": recipe.rate(size), "flops": 6.0 * n * recipe.epochs * unique, "loss": loss,
        "masked_words": metrics["held_out_masked_words"], "masked_accuracy": metrics["held_out_masked_accuracy"],
        "loss_by_class": by_class,
    }  # fmt: skip


def frequency_loss(corpus: Sequence[str], held_out: Sequence[str], recipe: Recipe) -> dict[str, float]:
    """Score the guess that needs no model: how often each word is in the corpus (one added to every count).

    Returns:
        `loss` in nats per masked word, of the same masked words as the models, and `masked_words`.
    """
    tokenizer = ScopeTokenizer(model_max_length=recipe.max_tokens)
    rows = training_rows(tokenize_strings(corpus, tokenizer), tokenizer)
    counts: NDArray[np.float64] = np.bincount(rows.ids, minlength=len(tokenizer)).astype(float)
    counts[: max(tokenizer.all_special_ids) + 1] = 0
    counts[max(tokenizer.all_special_ids) + 1 :] += 1
    kept_back = training_rows(tokenize_strings(held_out, tokenizer), tokenizer)
    masked = MaskingCollator(tokenizer, seed=recipe.held_out_seed)([kept_back[row] for row in range(len(kept_back))])
    labels = masked["labels"].numpy()
    asked = labels[labels != -100]
    return {"loss": float(-np.log(counts[asked] / counts.sum()).mean()), "masked_words": int(asked.size)}

"""The precision of matrix products holds while a run trains, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from cloud_hf import CloudConfig, CloudForMaskedLM, ScopeTokenizer
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.collators import MaskingCollator
from cloud_hf.training.trainer import CloudTrainer


class Seen(TrainerCallback):
    """Notes the settings of a step; fails in the step that it is told."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.settings: list[tuple[str, bool]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.settings.append((torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled()))
        if self.fails:
            raise RuntimeError("stop")


@pytest.mark.parametrize(("precision", "fused_attention"), [("highest", True), ("medium", False)])
@pytest.mark.parametrize("fails", [False, True])
def test_it_holds_while_training(
    precision: str, fused_attention: bool, fails: bool, strings: list[str], tmp_path: Path
) -> None:
    tokenizer = ScopeTokenizer()
    rows = [{"input_ids": ids} for ids in tokenizer(strings[:8])["input_ids"]]
    config = CloudConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    arguments = CloudTrainingArguments(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, matmul_precision=precision, disable_tqdm=True,
        train_sampling_strategy="random",
    )  # fmt: skip
    seen = Seen(fails)
    trainer = CloudTrainer(
        model=CloudForMaskedLM(config), args=arguments, train_dataset=rows,
        data_collator=MaskingCollator(tokenizer), callbacks=[seen],
    )  # fmt: skip
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled()
    if fails:
        with pytest.raises(RuntimeError, match="stop"):
            trainer.train()
    else:
        trainer.train()
    assert seen.settings == [(precision, fused_attention)]
    assert (torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled()) == before

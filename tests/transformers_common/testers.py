"""What transformers' mixins ask of a model: a small configuration and a batch, for every CLOUD class and stock BERT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
)
from cloud_hf.models.modeling_properties import CloudForCrystalProperties

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
ONE = {"target_names": ["band_gap"], "target_units": ["eV"], "target_mean": [1.5], "target_scale": [0.7]}
CHEMISTRY = {
    "element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity",
    "vocab_size": 600,  # the mixin takes 15 words away again, and elements and sites are read off 585
}  # fmt: skip
SITES = CHEMISTRY | {"grammar": "sites", "canonical": True}
STRINGS = [
    "1 0 0 | Cu 2i Cu 1a Cu 1b",
    "1 0 0 | Na 1a Cl 1h Na 1b",
    "1 0 0 | O 2i Ti 1a O 1b",
    "1 0 0 | Si 1a",
]

MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "Encoder": (CloudModel, {}),
    "MaskedLM": (CloudForMaskedLM, {}),
    "Regression": (CloudForPropertyRegression, ONE),
    "Debye": (CloudForDebye, {}),
    "CrystalProperties": (CloudForCrystalProperties, ONE | SITES),  # it reads the atoms of the cell off the string
    "ChemistryMaskedLM": (CloudForMaskedLM, CHEMISTRY),
    "ChemistryRegression": (CloudForPropertyRegression, ONE | CHEMISTRY),
}
"""Name of the set-up → class and the fields of its configuration."""

BERT = {
    "Encoder": (BertModel, {}),
    "MaskedLM": (BertForMaskedLM, {}),
    "Regression": (BertForSequenceClassification, {}),
}
"""The stock classes beside which CLOUD's are judged."""

CONTROL = {name: name.removeprefix("Chemistry") for name in MODELS} | {
    "Debye": "Regression",
    "CrystalProperties": "Regression",
}
"""Which of them stands beside which set-up."""


def refused(test: Callable[[Any], None], error: type[Exception], match: str) -> Callable[[Any], None]:
    """Turn a test of the library into one that must end in a refusal, for what CLOUD's design demands."""

    def ends_in_the_refusal(case: Any) -> None:
        with pytest.raises(error, match=match):
            test(case)

    return ends_in_the_refusal


class ModelTester:
    """Configuration and batch of one class; `ModelTesterMixin` reads the attributes."""

    def __init__(self, model_class: type, fields: dict[str, Any]) -> None:
        self.model_class, self.fields = model_class, fields
        batch = ScopeTokenizer()(STRINGS, padding=True, return_tensors="pt")
        self.input_ids, self.attention_mask = batch["input_ids"], batch["attention_mask"]
        self.batch_size, self.seq_length = self.input_ids.shape
        self.is_training = model_class not in (CloudModel, BertModel)  # an encoder alone has no loss
        self.hidden_size, self.num_hidden_layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
        self.num_attention_heads = SHAPE["num_attention_heads"]

    def get_config(self) -> Any:
        """Return a small configuration."""
        if self.model_class.__name__.startswith("Bert"):
            return BertConfig(**SHAPE, vocab_size=585, pad_token_id=1, **self.fields)
        return CloudConfig(**SHAPE, **self.fields)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return a small configuration and a batch of ids, shape (batch, length), with their mask."""
        return self.get_config(), {"input_ids": self.input_ids.clone(), "attention_mask": self.attention_mask.clone()}

    def labels(self) -> torch.Tensor:
        """Return labels as the model's loss takes them."""
        if self.model_class.__name__.endswith("MaskedLM"):
            return torch.zeros(self.input_ids.shape, dtype=torch.long)
        return torch.ones(self.batch_size, 1)

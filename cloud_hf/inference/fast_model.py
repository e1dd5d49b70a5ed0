"""Checkpoints in folders, run by `FastEncoder`: the same numbers as the pipeline's, sooner and faster."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf.checkpoints.reading import loading
from cloud_hf.checkpoints.records import read_calibration
from cloud_hf.inference.fast_encoder import FastEncoder, FastMember, supports
from cloud_hf.inference.likelihood_head import LikelihoodHead
from cloud_hf.models.configuration_cloud import MODELS_WITH_HEADS
from cloud_hf.models.conformal import Calibration
from cloud_hf.models.heads_cloud import (
    OLDER_NAMES,
    check_members,
    debye_branches,
    scalar_targets,
    thermal_properties,
)
from cloud_hf.models.heads_phonon import dos_from_raw, primitive_atoms
from cloud_hf.models.quantities_cloud import QuantityReader
from cloud_hf.models.tokenization_scope import ScopeTokenizer
from cloud_hf.scope import ScopeEncoder

__all__ = ["FastPredictor", "load_fast"]


class FastPredictor(QuantityReader):
    """Serves where a `CrystalPropertyPipeline` collates, runs and reads a batch.

    Args:
        config: Of the model; `n_members` says how many members there are.
        kind: One of `MODELS_WITH_HEADS`.
        encoder: Its members.
        tokenizer: Of the checkpoint.
        calibration: Of the checkpoint, if it has one.

    Attributes:
        likelihood: Tells unusual strings by the state of the first encoder; None: the checkpoint has no such head.
    """

    def __init__(
        self, config: Any, kind: str, encoder: FastEncoder, tokenizer: Any, calibration: Calibration | None
    ) -> None:
        self._config, self._kind, self._network = config, kind, encoder
        self.tokenizer, self.calibration = tokenizer, calibration
        self.encoder = ScopeEncoder.from_config(config)
        self.likelihood: LikelihoodHead | None = None

    @property
    def settings(self) -> Any:
        """The model's configuration."""
        return self._config

    @property
    def is_debye(self) -> bool:
        """Whether the model is a `CloudForDebye`."""
        return self._kind == "CloudForDebye"

    @property
    def has_spectrum(self) -> bool:
        """Whether the model is a `CloudForCrystalProperties`."""
        return self._kind == "CloudForCrystalProperties"

    @property
    def first_member(self) -> FastMember:
        """The encoder and head whose states tell the likelihood of strings."""
        return self._network.members[0]

    def states(self, features: Mapping[str, Tensor]) -> Tensor:
        """What the head of the first member reads, shape (batch, width), of token ids and their mask."""
        return self._network.states(features["input_ids"], features["attention_mask"])

    @torch.inference_mode()
    def forward(self, features: Mapping[str, Tensor], temperature: float = 300.0) -> dict[str, Tensor]:
        """What the model gives for a batch that `collate` made, and the state that its first head reads, `pooled`."""
        config, ids, n_atoms = self._config, features["input_ids"], features["n_atoms"]
        raw, pooled = self._network(ids, features["attention_mask"])
        outputs = {name: features[name] for name in ("n_atoms", "string_features") if name in features}
        outputs |= {"temperature": torch.full_like(n_atoms, temperature), "pooled": pooled}
        if self.is_debye:
            theta, second, weight = debye_branches(raw, config)
            if second is not None and weight is not None:
                outputs |= {"second_temperature": second, "second_weight": weight}
            one, kelvin = torch.ones_like(theta), outputs["temperature"]
            thermal = thermal_properties(theta, kelvin, one, config.second_branch, second, weight)
            targets = {name: getattr(thermal, name) for name in config.debye_targets}
            return {"logits": theta[:, None], **outputs, **targets}
        n_targets = len(config.target_names)
        logits = scalar_targets(
            raw[:, :n_targets], config, n_atoms if self._needs_atoms() else torch.ones_like(n_atoms)
        )
        if self.has_spectrum:
            cells = n_atoms
            if config.grammar == "sites":
                cells = primitive_atoms(ids, self._network.multiplicities)
            dos = dos_from_raw(raw[:, n_targets:], cells, config)
            outputs |= {
                "optical_dos": dos.optical,
                "acoustic_share": dos.acoustic_share,
                "acoustic_cutoff": dos.acoustic_cutoff,
            }
        return {"logits": logits, **outputs}


def _is_of(config: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights have the layers and sizes that a config says; what else is wrong shows when they are used."""
    layers = {name.split(".")[3] for name in weights if name.startswith("bert.encoder.layer.")}
    if layers != {str(place) for place in range(config.num_hidden_layers)}:
        return False
    shapes = {
        "bert.embeddings.word_embeddings.weight": (config.vocab_size, config.hidden_size),
        "bert.embeddings.position_embeddings.weight": (config.max_position_embeddings, config.hidden_size),
        "bert.encoder.layer.0.intermediate.dense.weight": (config.intermediate_size, config.hidden_size),
    }
    return all(name in weights and tuple(weights[name].shape) == shape for name, shape in shapes.items())


def load_fast(
    path: str, config: Any, dtype: str = "float32", members: int | None = None, flagged: bool = True
) -> FastPredictor | None:
    """Load a checkpoint of this package from a folder, or return None where only transformers can.

    Args:
        path: Folder.
        config: Of the checkpoint.
        dtype: Of the weights.
        members: Run only the first ones; None: all.
        flagged: Read the checkpoint's `LikelihoodHead`, if it has one.

    Raises:
        CheckpointError: Files that cannot be read, or fewer members.
    """
    file = Path(path, SAFE_WEIGHTS_NAME)
    kinds = [kind for kind in MODELS_WITH_HEADS if kind in (config.architectures or [])]
    if not file.is_file() or len(kinds) != 1 or not supports(config) or not config.target_units:
        return None
    if kinds[0] == "CloudForCrystalProperties" and config.grammar == "sites" and not config.reads_chemistry:
        return None
    number = config.n_members if members is None else members
    check_members(number, config.n_members, path)
    with loading(path):
        stored = {name: value.to(getattr(torch, dtype)) for name, value in load_file(file).items()}
        tokenizer = ScopeTokenizer.from_pretrained(path)
        if tokenizer.padding_side != "right":
            return None
        weights = {_newer(name): value for name, value in stored.items()}
        parts = [{name: value for name, value in weights.items() if not name.startswith("members.")}]
        for place in range(number - 1):
            prefix = f"members.{place}."
            parts.append({name.removeprefix(prefix): value for name, value in weights.items() if prefix in name})
        if not all(_is_of(config, part) for part in parts):
            return None
        try:
            network = FastEncoder(config, parts)
        except (KeyError, RuntimeError):  # weights are missing or of another shape, which transformers tells better
            return None
    config.n_members = number
    intervals = read_calibration(path)
    if intervals is not None and not intervals.fits(network.members[0]):
        return None  # the pipeline says so
    predictor = FastPredictor(config, kinds[0], network, tokenizer, intervals)
    if flagged:
        predictor.likelihood = LikelihoodHead.load(path, predictor)
    return predictor


def _newer(name: str) -> str:
    for pattern, replacement in OLDER_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name

"""The published weights as CLOUD checkpoints: encoder, MLM and fine-tuned heads, without the dead vocabulary.

The published `BertForMaskedLM` has 30,522 word embeddings for 564 words, and [CLS] (id 0) as padding row, although
[PAD] is 1. The paper's fine-tuned `.pth` files hold such an encoder under `bert.` and the head under `Regressor.`.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pymatgen.core import Element
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel

from cloud_hf.checkpoints.reading import ForeignCheckpoint, check_output_folder, loading, new_folder, read_foreign
from cloud_hf.errors import CheckpointError
from cloud_hf.models.configuration_cloud import PUBLISHED_STRINGS, CloudConfig
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, CloudModel
from cloud_hf.models.tokenization_scope import ScopeTokenizer

__all__ = ["PUBLISHED_WORDS", "STRINGS", "TOLERANCE", "Conversion", "convert", "probe"]

PUBLISHED_WORDS = 564
"""Words of the published tokenizer; ids from here on are never used by the published weights."""

HEAD_WIDTH = 64
"""Hidden size per attention head in every published model, where no config tells."""

PAPER_THETA = {"mu": 1500.0, "scale": 1200.0}
"""theta / K = mu + scale * output of the paper's CLOUD-DEBYE (its `config_debye.yaml`)."""

PAPER_TASKS = {"cv": "heat_capacity", "internal_energy": "internal_energy"}

TOLERANCE = 1e-4
"""Largest difference of hidden states or logits to the original that is rounding (they are of order 1)."""

BERT_FIELDS = (
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
)
STRINGS = (*PUBLISHED_STRINGS, "encoder_settings")
"""What a config that `cloud-hf export` wrote says about the strings; the published one says nothing."""

WORDS = "bert.embeddings.word_embeddings.weight"
BIAS = "cls.predictions.bias"
DECODER = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        model: The CLOUD model.
        rows: What to print: name and value, before and after where it changed.
        difference: Largest absolute difference of hidden states (of logits for an MLM) to the original's.
    """

    model: Any
    rows: list[tuple[str, str]]
    difference: float


def convert(
    source: str,
    output: str,
    config: str | None = None,
    target: str | None = None,
    debye: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Convert published weights to a CLOUD checkpoint in `output`: config, safetensors, tokenizer.

    Args:
        source: Folder, `.safetensors`, `.bin`, `.pth` or `.pt` file, or Hub id `owner/name[/folder]`.
        output: Folder to write; it appears when it is complete.
        config: A `config.json`, or a YAML file of the paper's training code, instead of the one beside the weights.
        target: `name:unit` of what a fine-tuned head predicts, e.g. `band_gap:eV`; None: there is no such head, or
            `debye` tells.
        debye: The head gives a Debye temperature (the paper's CLOUD-DEBYE).
        overwrite: Replace a checkpoint in `output`.

    Raises:
        CheckpointError: Something is missing, misshapen or contradictory; nothing is written then.
    """
    check_output_folder(output, overwrite, source)
    foreign = read_foreign(source, config)
    if foreign.config.get("model_type", "bert") != "bert":
        raise CheckpointError(
            f"a checkpoint of model type {foreign.config['model_type']!r}, not 'bert'.", source=source
        )
    _check_words(foreign)
    weights = _normalise(foreign)
    shape = _shape(foreign, weights)
    kind, fields, head_rows = _head(foreign, weights, target, debye)
    tokenizer = ScopeTokenizer(model_max_length=shape["max_position_embeddings"])
    trimmed = _trim(foreign, weights, _words(tokenizer))
    known = {name: foreign.config[name] for name in BERT_FIELDS if name in foreign.config}
    strings = {name: foreign.config[name] for name in STRINGS if name in foreign.config}
    with loading(f"{source} ({foreign.config_source or 'no config'})"):
        cloud = CloudConfig(
            **(PUBLISHED_STRINGS | strings | known | shape | {"vocab_size": len(trimmed[WORDS])} | fields)
        )
        model = kind(cloud).eval()
    _load(model, trimmed, source)
    difference = _difference(weights, shape | known, model)
    if not difference < TOLERANCE:
        raise CheckpointError(
            f"the converted model's outputs differ from the original's by {difference:.2g}.", source=source
        )
    with new_folder(output, overwrite) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    before = sum(tensor.numel() for tensor in weights.values())
    rows = [
        ("source", source),
        ("config", str(foreign.config_source or f"none; from the shapes, {HEAD_WIDTH} wide attention heads")),
        ("class", kind.__name__),
        (
            "encoder",
            f"{cloud.num_hidden_layers} layers x {cloud.hidden_size}, {cloud.num_attention_heads} heads, "
            f"{cloud.max_position_embeddings} positions",
        ),
        ("words", f"{len(weights[WORDS]):,} -> {cloud.vocab_size} (ids 0 to {PUBLISHED_WORDS - 1} unchanged)"),
        ("parameters", f"{before:,} -> {sum(p.numel() for p in model.parameters()):,}"),
        ("strings", f"grammar {cloud.grammar}, {'canonical' if cloud.canonical else 'in the order of the input'}"),
        *head_rows,
        (
            "largest difference",
            f"{difference:.1e} to the original's {'logits' if BIAS in weights else 'hidden states'}",
        ),
    ]
    return Conversion(model, rows, difference)


def _words(tokenizer: ScopeTokenizer) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(range(tokenizer.vocab_size)))


def _check_words(foreign: ForeignCheckpoint) -> None:
    for index, (word, theirs) in enumerate(zip(_words(ScopeTokenizer()), foreign.words or [], strict=False)):
        if word != theirs:
            raise CheckpointError(
                f"its vocabulary is not CLOUD's: id {index} is {theirs!r}, not {word!r}.", source=foreign.source
            )


def _normalise(foreign: ForeignCheckpoint) -> dict[str, Tensor]:
    """Weights by the names of `BertForMaskedLM` and of the paper's head; without what no output depends on."""
    weights = {}
    for stored, tensor in foreign.weights.items():
        name = re.sub(r"^module\.", "", stored)
        name = re.sub(r"^(embeddings|encoder|pooler)\.", r"bert.\1.", name)
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        if not re.match(r"bert\.pooler\.|bert\.embeddings\.position_ids$|cls\.seq_relationship\.", name):
            weights[name] = tensor
    for name, tied in zip(DECODER, (WORDS, BIAS), strict=True):
        if name not in weights:
            continue
        tensor = weights.pop(name)
        if not torch.equal(tensor, weights.setdefault(tied, tensor)):
            raise CheckpointError(
                f"{name} is not tied to {tied}, as it is in the published weights.", source=foreign.source
            )
    not_finite = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise CheckpointError(f"{not_finite[0]} holds values that are not finite.", source=foreign.source)
    return weights


def _shape(foreign: ForeignCheckpoint, weights: dict[str, Tensor]) -> dict[str, int]:
    """The architecture, from the shapes; what the config says must agree."""

    def size(name: str, axis: int) -> int:
        tensor = weights.get(name)
        if tensor is None or tensor.ndim != 2:
            state = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise CheckpointError(f"the weight {name} is {state}, so this is no BERT encoder.", source=foreign.source)
        return tensor.shape[axis]

    layers = [int(match[1]) for name in weights if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))]
    shape = {
        "vocab_size": size(WORDS, 0),
        "hidden_size": size(WORDS, 1),
        "num_hidden_layers": max(layers, default=-1) + 1,
        "intermediate_size": size("bert.encoder.layer.0.intermediate.dense.weight", 0),
        "max_position_embeddings": size("bert.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": size("bert.embeddings.token_type_embeddings.weight", 0),
    }
    paper = foreign.config.get("model")
    said: dict[str, Any] = dict(paper) if isinstance(paper, dict) else foreign.config
    wrong = [f"{key} {said[key]}, not {value}" for key, value in shape.items() if said.get(key, value) != value]
    if wrong:
        raise CheckpointError(
            f"does not fit the weights, which have another {'; '.join(wrong)}.", source=str(foreign.config_source)
        )
    heads = said.get("num_attention_heads", shape["hidden_size"] / HEAD_WIDTH)
    if not isinstance(heads, int | float) or heads < 1 or int(heads) != heads or shape["hidden_size"] % heads:
        where = foreign.config_source or "no config tells the number of attention heads"
        raise CheckpointError(
            f"a hidden size of {shape['hidden_size']} does not divide into {heads} attention heads "
            f"({where}); give a file with num_attention_heads as `config`.",
            source=foreign.source,
            flag="config",
        )
    if shape["vocab_size"] < PUBLISHED_WORDS:
        raise CheckpointError(
            f"{shape['vocab_size']} words, fewer than CLOUD's {PUBLISHED_WORDS}.", source=foreign.source
        )
    return shape | {"num_attention_heads": int(heads)}


def _head(
    foreign: ForeignCheckpoint, weights: dict[str, Tensor], target: str | None, debye: bool
) -> tuple[Any, dict[str, Any], list[tuple[str, str]]]:
    """The class, the fields of its head, and what to print about them."""
    names = [name for name in weights if name.startswith("Regressor.")]
    if not names:
        if target is not None or debye:
            raise CheckpointError(
                "has no property head, so nothing can be said of what it predicts; fine-tune it after the "
                "conversion with `cloud-hf finetune`.",
                source=foreign.source,
            )
        return (CloudForMaskedLM if BIAS in weights else CloudModel), {}, []
    paper = foreign.config.get("model")
    paper = paper if isinstance(paper, dict) else {}
    fields: dict[str, Any] = {"head_layers": len(names) // 2 - 1, "head_dropout": paper.get("dropout", 0.1)}
    given = {key: _number(foreign, key) for key in ("mu", "std", "scale")}
    if debye == (target is not None):
        raise CheckpointError(
            "has a fine-tuned head; say what it predicts: `target` NAME:UNIT, e.g. band_gap:eV, or debye for a "
            "Debye temperature (one of them).",
            source=foreign.source,
            flag="target",
        )
    if target is None:
        if given["std"] is not None:
            raise CheckpointError(
                "has a normaliser (mu, std), which CLOUD-DEBYE has not; say what it predicts with `target`.",
                source=foreign.source,
                flag="target",
            )
        shift, scale = (PAPER_THETA[key] if given[key] is None else given[key] for key in ("mu", "scale"))
        learned = PAPER_TASKS.get(str(foreign.config.get("task", "cv")), "heat_capacity")
        fields |= {"theta_link": "linear", "theta_shift": shift, "theta_scale": scale, "debye_targets": [learned]}
        fields |= {"target_names": ["debye_temperature"], "target_units": ["K"]}
        return CloudForDebye, fields, [("Debye temperature", f"{shift:g} K + {scale:g} K x output")]
    name, colon, unit = target.partition(":")
    if not (name and colon and unit):
        reason = f"`target` {target!r} has no unit; write 'name:unit', e.g. 'band_gap:eV'."
        raise CheckpointError(reason, flag="target")
    if given["mu"] is None or given["std"] is None:
        raise CheckpointError(
            "has no normaliser (mu, std), without which its outputs have no unit; give a file with "
            "the fields mu and std as `config`, or say debye for CLOUD-DEBYE.",
            source=foreign.source,
            flag="config",
        )
    fields |= {"target_names": [name], "target_units": [unit]}
    fields |= {"target_mean": [given["mu"]], "target_scale": [given["std"]]}
    return (
        CloudForPropertyRegression,
        fields,
        [(name, f"{given['mu']:.6g} {unit} + {given['std']:.6g} {unit} x output")],
    )


def _number(foreign: ForeignCheckpoint, key: str) -> float | None:
    value = foreign.extras.get(key, foreign.config.get(key))
    if value is None:
        return None
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf") or (key != "mu" and number <= 0):
        raise CheckpointError(
            f"{key} must be a {'' if key == 'mu' else 'positive '}number, not {value}.", source=foreign.source
        )
    return number


def _trim(foreign: ForeignCheckpoint, weights: dict[str, Tensor], words: list[str]) -> dict[str, Tensor]:
    """Keep the published words and add rows for missing elements, each copied from the element above it in its group.

    That is the one 32 places before it (At from I, Fr from Cs, Es from Ho). As MLM outputs they get the lowest bias of
    all words. Weights that have rows for our words keep them.
    """
    trimmed = dict(weights)
    table = weights[WORDS]
    if len(table) == len(words):
        return trimmed
    rows = {word: table[index] for index, word in enumerate(words[:PUBLISHED_WORDS])}
    for word in words[PUBLISHED_WORDS:]:
        rows[word] = rows[Element.from_Z(Element(word).Z - 32).symbol]
    trimmed[WORDS] = torch.stack(list(rows.values()))
    if BIAS in weights:
        if len(weights[BIAS]) != len(table):
            raise CheckpointError(
                f"{BIAS} has {len(weights[BIAS])} entries for {len(table)} words.", source=foreign.source
            )
        bias = weights[BIAS][:PUBLISHED_WORDS]
        trimmed[BIAS] = torch.cat([bias, bias.min().expand(len(words) - PUBLISHED_WORDS)])
    return trimmed


def _load(model: Any, weights: dict[str, Tensor], source: str) -> None:
    """Load every weight, or refuse by name."""
    prefix = "" if isinstance(model, CloudModel) else "bert."
    renamed = {}
    for name, tensor in weights.items():
        head = re.match(r"Regressor\.(\d+)\.(\w+)$", name)
        new = f"classifier.layers.{int(head[1]) - 1}.{head[2]}" if head else re.sub(r"^bert\.", prefix, name)
        renamed[new] = tensor
    expected = model.state_dict()
    problems = [
        ("missing", [name for name in expected if name not in renamed and name not in DECODER]),
        ("unknown", [name for name in renamed if name not in expected]),
        (
            "of another shape",
            [
                f"{name} {tuple(tensor.shape)} for {tuple(expected[name].shape)}"
                for name, tensor in renamed.items()
                if name in expected and tensor.shape != expected[name].shape
            ],
        ),
    ]
    for problem, names in problems:
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise CheckpointError(f"{len(names)} weights are {problem}: {shown}. Nothing was converted.", source=source)
    model.load_state_dict(renamed, strict=False)
    model.tie_weights()


def probe(length: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask of 4 strings of random words, the longest of at most `length` tokens."""
    width = min(40, length)
    ids = torch.randint(5, PUBLISHED_WORDS, (4, width), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(width) < torch.tensor([[width], [width // 2], [width // 4], [2]]).clamp(min=1)).long()
    ids[:, 0] = 0
    ids[mask == 0] = 1
    return ids, mask


@torch.no_grad()
def _difference(weights: dict[str, Tensor], fields: dict[str, Any], model: Any) -> float:
    """Largest absolute difference of hidden states (of logits for an MLM) to the original's on padded random words."""
    config = BertConfig(**(fields | {"pad_token_id": 0}))
    original: Any
    if BIAS in weights:
        original = BertForMaskedLM(config)
        original.load_state_dict(weights, strict=False)
        original.tie_weights()
    else:
        original = BertModel(config, add_pooling_layer=False)
        encoder = {name[5:]: tensor for name, tensor in weights.items() if name.startswith("bert.")}
        original.load_state_dict(encoder, strict=True)
    ids, mask = probe(config.max_position_embeddings)
    encoder = model if isinstance(model, CloudModel) or BIAS in weights else model.bert
    outputs = [network(input_ids=ids, attention_mask=mask)[0] for network in (original.eval(), encoder)]
    theirs, ours = (output[mask.bool()] for output in outputs)
    if BIAS in weights:
        theirs, ours = theirs[:, :PUBLISHED_WORDS], ours[:, :PUBLISHED_WORDS]
    return float((theirs - ours).abs().max())

"""CLOUD checkpoints for programs that have no CLOUD: plain BERT for transformers, ONNX for inference."""

import contextlib
import inspect
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from cloud_hf.checkpoints.conversion import STRINGS, TOLERANCE, probe
from cloud_hf.checkpoints.reading import check_output_folder, loading, new_folder, read_config, refuse_missing_weights
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.errors import CheckpointError
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, CloudModel
from cloud_hf.models.modeling_properties import CloudForCrystalProperties
from cloud_hf.models.tokenization_scope import ScopeTokenizer

__all__ = ["FORMATS", "Export", "export", "stock_tokenizer"]

FORMATS = ("bert", "onnx")

ONNX_FILE = "model.onnx"

ONNX_LIMIT = 2_000_000_000
"""Bytes of weights above which an ONNX file cannot hold them itself."""

NOT_IN_BERT = {"element_descriptors": False, "site_multiplicity": False, "pooling": "cls", "n_members": 1}
"""Settings that stock BERT cannot follow, and their values in a model that does not use them."""

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (CloudModel, CloudForMaskedLM, CloudForPropertyRegression, CloudForDebye, CloudForCrystalProperties)
}

THERMAL = {
    "heat_capacity": "J/(mol K)",
    "internal_energy": "J/mol",
    "entropy": "J/(mol K)",
    "free_energy": "J/mol",
    "zero_point_energy": "J/mol",
}
"""Outputs of `CloudForCrystalProperties` beside its predictions, of `n_atoms` atoms at `temperature`."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        rows: What to print: name and value.
        difference: Largest difference of the outputs to the CLOUD model's: absolute for `bert`, relative to each
            output's largest value for `onnx`.
    """

    rows: list[tuple[str, str]]
    difference: float


def export(model: str, output: str, form: str = "bert", encoder_only: bool = False, overwrite: bool = False) -> Export:
    """Write a checkpoint in a form that needs no CLOUD code, with a `tokenizer.json`.

    Args:
        model: Checkpoint folder or Hub id.
        output: Folder to write; it appears when it is complete.
        form: `bert`: a plain `BertModel` or `BertForMaskedLM`. `onnx`: encoder, MLM or property head as `model.onnx`
            with dynamic batch and length (needs the extra `onnx`).
        encoder_only: Leave the head out.
        overwrite: Replace a checkpoint in `output`.

    Raises:
        CheckpointError: The checkpoint cannot be read, or has what the form cannot express; nothing is written.
    """
    if form not in FORMATS:
        raise CheckpointError(f"The format {form!r} is not one of {', '.join(FORMATS)}.")
    check_output_folder(output, overwrite, model)
    network, tokenizer = _load(model)
    if encoder_only:
        network = getattr(network, "bert", network)
    name = type(network).__name__
    with new_folder(output, overwrite) as folder:
        difference = (_write_bert if form == "bert" else _write_onnx)(network, folder, model)
        stock_tokenizer(tokenizer).save_pretrained(folder)
        _rename_tokenizer_class(folder / "tokenizer_config.json")
        files = ", ".join(sorted(path.name for path in folder.iterdir()))
    rows = [
        ("model", model),
        ("class", f"{name} -> {name.replace('Cloud', 'Bert') if form == 'bert' else ONNX_FILE}"),
        (
            "strings",
            f"grammar {network.config.grammar}, "
            f"{'canonical' if network.config.canonical else 'in the order of the input'}",
        ),
        ("largest difference", f"{difference:.1e}{' (relative)' if form == 'onnx' else ''}"),
        ("files", files),
    ]
    return Export(rows, difference)


def stock_tokenizer(tokenizer: ScopeTokenizer) -> PreTrainedTokenizerFast:
    """The same ids as a `tokenizer.json` that needs no code of ours.

    The model's unknown token is none of the vocabulary's words, so that an unknown word is an error there as well.
    """
    words = tokenizer.get_vocab()
    backend = Tokenizer(models.WordLevel(words, unk_token="a word outside the SCOPE vocabulary"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    cls, sep = ("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[cls, sep]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=tokenizer.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _rename_tokenizer_class(file: Path) -> None:
    """Name the class as transformers 4 and 5 both know it."""
    fields = json.loads(file.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def _load(path: str) -> tuple[Any, ScopeTokenizer]:
    config = read_config(path)
    kind = KINDS.get((config.architectures or ["?"])[0])
    if kind is None:
        raise CheckpointError(f"a checkpoint of {config.architectures}, not of {', '.join(KINDS)}.", source=path)
    with loading(path):
        network, loaded = kind.from_pretrained(path, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    refuse_missing_weights(path, loaded)
    if not isinstance(tokenizer, ScopeTokenizer):
        raise CheckpointError(f"its tokenizer is a {type(tokenizer).__name__}, not a ScopeTokenizer.", source=path)
    return network.float().eval(), tokenizer


@torch.no_grad()
def _write_bert(network: Any, folder: Path, path: str) -> float:
    """Write config and safetensors of stock BERT; return the largest difference of its outputs."""
    config: CloudConfig = network.config
    for name, plain in NOT_IN_BERT.items():
        value = getattr(config, name, plain)
        if value != plain:
            raise CheckpointError(
                f"has {name}{'' if value is True else f' {value!r}'}, which plain BERT cannot compute; "
                "export it as ONNX.",
                source=path,
            )
    if not isinstance(network, CloudModel | CloudForMaskedLM):
        raise CheckpointError(
            f"{type(network).__name__} has a head of {config.head_layers} (linear, SiLU) layers on the [CLS] "
            "state and units, while BertForSequenceClassification reads a tanh pooler; export it as ONNX, or with "
            "`encoder_only=True` without the head.",
            source=path,
            flag="encoder_only",
        )
    fields = config.to_dict()
    bert_fields = {name: fields[name] for name in BertConfig().to_dict() if name in fields}
    for name in ("architectures", "model_type", "transformers_version", "dtype"):
        bert_fields.pop(name, None)
    strings = {name: fields.get(name) for name in STRINGS}
    bert_config = BertConfig(**(bert_fields | strings))
    bert: Any = BertForMaskedLM(bert_config) if isinstance(network, CloudForMaskedLM) else None
    bert = BertModel(bert_config, add_pooling_layer=False) if bert is None else bert
    weights = network.state_dict()
    if weights.keys() != bert.state_dict().keys():
        other = sorted(weights.keys() ^ bert.state_dict().keys())
        raise CheckpointError(f"weights that plain BERT does not have in common: {', '.join(other[:3])}.", source=path)
    bert.load_state_dict(weights)
    bert.eval()
    ids, mask = probe(config.max_position_embeddings)
    outputs = [model(input_ids=ids, attention_mask=mask)[0][mask.bool()] for model in (network, bert)]
    difference = float((outputs[0] - outputs[1]).abs().max())
    if not difference < TOLERANCE:
        raise CheckpointError(
            f"the outputs of plain BERT differ by {difference:.2g}; nothing was written.", source=path
        )
    bert.save_pretrained(folder)
    return difference


class _Named(nn.Module):
    """A model with its outputs as a plain tuple, in the order of `names`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.inputs = ["input_ids", "attention_mask"]
        takes = inspect.signature(network.forward).parameters
        per_cell = any("per_atom" in transform for transform in network.config.target_transforms or [])
        thermal = isinstance(network, CloudForDebye | CloudForCrystalProperties)
        if thermal or per_cell:  # other heads take the atoms per cell and do not read them
            self.inputs += [name for name in ("temperature", "n_atoms") if name in takes]
        if isinstance(network, CloudForDebye):
            self.names = ["debye_temperature", "heat_capacity", "internal_energy"]
        elif isinstance(network, CloudForCrystalProperties):
            self.names = ["predictions", *THERMAL]
        elif isinstance(network, CloudForPropertyRegression):
            self.names = ["predictions"]
        else:
            self.names = ["logits" if isinstance(network, CloudForMaskedLM) else "last_hidden_state"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(**dict(zip(self.inputs, inputs, strict=True)))
        if isinstance(self.network, CloudForDebye):
            return outputs.logits[:, 0], outputs.heat_capacity, outputs.internal_energy
        if isinstance(self.network, CloudForCrystalProperties):
            return outputs.logits, *(outputs[name] for name in THERMAL)
        return (outputs[0],)

    def example(self, width: int) -> tuple[Tensor, ...]:
        """Inputs of 4 padded strings."""
        ids, mask = probe(width)
        extra = {
            "temperature": torch.tensor([1.0, 100.0, 300.0, 2000.0]),
            "n_atoms": torch.tensor([1.0, 2.0, 5.0, 40.0]),
        }
        return (ids, mask, *(extra[name] for name in self.inputs[2:]))

    def units(self) -> dict[str, str]:
        """Unit of each output, `;` between the columns of `predictions`."""
        config = self.network.config
        if isinstance(self.network, CloudForDebye):
            return {"debye_temperature": "K", "heat_capacity": "J/(mol K)", "internal_energy": "J/mol"}
        if isinstance(self.network, CloudForCrystalProperties):
            return {"predictions": "; ".join(config.target_units or []), **THERMAL}
        if isinstance(self.network, CloudForPropertyRegression):
            return {"predictions": "; ".join(config.target_units or [])}
        return {}


@torch.no_grad()
def _write_onnx(network: Any, folder: Path, path: str) -> float:
    """Write `model.onnx` and the config; return the largest relative difference of its outputs."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise CheckpointError(
            f"ONNX needs packages that are absent ({error}): pip install 'cloud-hf[onnx]'."
        ) from error
    named = _Named(network).eval()
    width = network.config.max_position_embeddings
    inputs = named.example(min(12, width))
    axes = tuple({0: "batch", 1: "length"} if value.ndim == 2 else {0: "batch"} for value in inputs)
    with _silence():
        program: Any = torch.onnx.export(
            named,
            inputs,
            input_names=named.inputs,
            output_names=named.names,
            dynamic_shapes=(axes,),
            dynamo=True,
            verbose=False,
        )
        config = network.config
        about = {name: str(getattr(config, name)) for name in STRINGS}
        about |= {"target_names": "; ".join(config.target_names or [])}
        about |= {f"unit_{name}": unit for name, unit in named.units().items()}
        program.model.metadata_props.update({key: value for key, value in about.items() if value})
        size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
        program.save(folder / ONNX_FILE, external_data=size > ONNX_LIMIT)
    fields = network.config.to_dict()
    fields.pop("auto_map", None)
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    session = onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])
    largest = 0.0
    for length in {2, min(40, width)}:
        given = named.example(length)
        feed = {name: value.numpy() for name, value in zip(named.inputs, given, strict=True)}
        for mine, theirs in zip(named(*given), session.run(None, feed), strict=True):
            unmasked = given[1].bool() if mine.ndim == 3 else slice(None)
            difference = (mine - torch.from_numpy(theirs))[unmasked].abs().max() / mine[unmasked].abs().max().clamp(
                min=1e-9
            )
            largest = max(largest, float(difference))
    if not largest < TOLERANCE:
        raise CheckpointError(f"the outputs of ONNX Runtime differ by {largest:.2g}; nothing was written.", source=path)
    return largest


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter tells of operators that are not installed and of renamed axes, which says nothing to its user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

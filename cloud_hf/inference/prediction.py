"""Load a predictor and run it over many items; every item gives a row."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from tqdm import tqdm
from transformers.utils import logging

from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, bundled_heads, bundled_likelihood, bundled_model, heads_in
from cloud_hf.checkpoints.reading import loading, read_config, refuse_missing_weights
from cloud_hf.data.inputs import Item, encode_items
from cloud_hf.data.tables import CHUNK_ROWS
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.fast_model import FastPredictor, load_fast
from cloud_hf.inference.likelihood_head import LikelihoodHead
from cloud_hf.models.phonon_dos import DEBYE_TEMPERATURES, THERMAL_UNITS, PhononDOS
from cloud_hf.models.quantities_cloud import Quantity, QuantityReader, checked_temperature
from cloud_hf.scope import TIMEOUT, ScopeEncoder

if TYPE_CHECKING:  # transformers' model classes, whose import takes seconds
    from cloud_hf.inference.likelihood import StringLikelihood
    from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline

logger = logging.get_logger(__name__)

__all__ = [
    "Prediction", "Predictors", "check_batch_size", "checked_temperature", "heads_of", "load_predictor",
    "load_predictors", "model_path", "model_paths", "predict_encoded", "predict_items", "shown_heads", "units_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prediction:
    """An item with its predicted quantities, empty if it failed (then `item.error` is why).

    Attributes:
        item: What was predicted.
        quantities: As `CrystalPropertyPipeline` gives them.
        log_likelihood: Of the string, nats per word; None if nothing tells it.
        out_of_distribution: Whether it is below the threshold; None if there is none.
        phonon_dos: Predicted phonon density of states, without a batch; None if no model gives one.
        heat_capacity_widths: Temperature in K to what the calibration multiplies the width of its Cv by.
    """

    item: Item
    quantities: tuple[Quantity, ...] = ()
    log_likelihood: float | None = None
    out_of_distribution: bool | None = None
    phonon_dos: PhononDOS | None = None
    heat_capacity_widths: Mapping[str, float] = field(default_factory=dict)


class Predictors:
    """Several checkpoints that read the same strings; serves where `predict_encoded` takes one pipeline.

    Args:
        pipelines: At least one; all must have been trained on strings of the same grammar and encoder settings.
        heads: For each pipeline the names of the heads to show; None: all but its auxiliary targets.
        likelihood: Tells strings of another kind than the checkpoints learned.

    Raises:
        CheckpointError: The checkpoints read different strings.
    """

    def __init__(
        self,
        pipelines: "Sequence[CrystalPropertyPipeline | FastPredictor]",
        heads: Sequence[Sequence[str]] | None = None,
        likelihood: "StringLikelihood | LikelihoodHead | None" = None,
    ) -> None:
        self.pipelines = list(pipelines)
        self.likelihood = likelihood
        chosen = [shown_heads(pipeline.settings) for pipeline in pipelines] if heads is None else heads
        self._shown = [_units(pipeline, names) for pipeline, names in zip(pipelines, chosen, strict=True)]
        self._first_of = [
            next(
                place for place, other in enumerate(self.pipelines) if _reads_alike(other.tokenizer, pipeline.tokenizer)
            )
            for pipeline in self.pipelines
        ]
        for pipeline in self.pipelines[1:]:
            if _strings(pipeline.settings) != _strings(self.pipelines[0].settings):
                raise CheckpointError(
                    "The checkpoints read different SCOPE strings, so one string cannot serve them all; choose one "
                    f"with `head` ({', '.join(name for names in chosen for name in names)}).",
                    flag="head",
                )

    @property
    def encoder(self) -> Any:
        """The `ScopeEncoder` with the settings that all models were trained with."""
        return self.pipelines[0].encoder

    @property
    def units(self) -> dict[str, str]:
        """The unit of every quantity that may be predicted, in the order of the predictions."""
        return {name: unit for units in self._shown for name, unit in units.items()}

    @property
    def parts(self) -> "list[tuple[CrystalPropertyPipeline | FastPredictor, dict[str, str]]]":
        """Each model with the units of the quantities that are shown of it."""
        return list(zip(self.pipelines, self._shown, strict=True))

    def giving(self, names: Collection[str]) -> "Predictors":
        """Return those of the models that give any of the quantities, which may be auxiliary targets."""
        parts, missing = [], set(names) - self.units.keys()
        for pipeline, shown in self.parts:
            hidden = {name: unit for name, unit in pipeline.units.items() if name in missing}
            missing -= hidden.keys()
            if hidden or not shown.keys().isdisjoint(names):
                parts.append((pipeline, shown | hidden))
        few = Predictors([pipeline for pipeline, _ in parts], likelihood=self.likelihood)
        few._shown = [units for _, units in parts]
        return few

    @property
    def has_debye_temperature(self) -> bool:
        """Whether Cv(T) can be drawn of the predictions."""
        return "debye_temperature" in self.units

    @property
    def has_temperature(self) -> bool:
        """Whether some quantities are of the temperature that predictions are asked for at."""
        return self.has_debye_temperature or "heat_capacity_per_atom" in self.units

    @property
    def has_phonon_dos(self) -> bool:
        """Whether a density of states can be drawn of the predictions."""
        return "zero_point_energy_per_atom" in self.units

    def phonon_dos(self, outputs: list[dict[str, torch.Tensor]]) -> list[PhononDOS | None]:
        """The density of states of each input, from the first model that gives any."""
        for pipeline, tensors in zip(self.pipelines, outputs, strict=True):
            dos = pipeline.phonon_dos(tensors)
            if dos is not None:
                return [PhononDOS(dos.edges, *row) for row in zip(*dos[1:], strict=True)]
        return [None] * len(outputs[0]["n_atoms"])

    @property
    def heat_capacity_widths(self) -> Mapping[str, float]:
        """What the intervals of Cv by the density of states are multiplied by at temperatures in K; empty: nowhere."""
        spectra = [pipeline for pipeline in self.pipelines if pipeline.gives_phonon_dos]
        calibration = spectra[0].calibration if spectra else None
        target = None if calibration is None else calibration.targets.get("heat_capacity")
        return {} if target is None else target.quantity_widths.get("heat_capacity", {})

    @property
    def interval_names(self) -> set[str]:
        """Names of the quantities that come with intervals."""
        return {
            name
            for pipeline, shown in zip(self.pipelines, self._shown, strict=True)
            for name in shown
            if pipeline.gives_interval(name)
        }

    def collate(self, items: Sequence[Any]) -> list[dict[str, torch.Tensor]]:
        """What each model reads, as `CrystalPropertyPipeline.collate`; equal tokenizers read every string once."""
        features: list[dict[str, torch.Tensor]] = []
        for pipeline, first in zip(self.pipelines, self._first_of, strict=True):
            features.append(pipeline.collate(items, features[first] if first < len(features) else None))
        return features

    def likelihoods(
        self,
        scopes: Sequence[str],
        features: Sequence[dict[str, torch.Tensor]],
        outputs: Sequence[dict[str, torch.Tensor]],
    ) -> list[tuple[float | None, bool | None]]:
        """Log-likelihood of each string in nats per word, and whether it is out of distribution, None if unknown.

        Args:
            scopes: SCOPE strings.
            features: What `collate` gave for them.
            outputs: What `forward` gave for them.
        """
        likelihood = self.likelihood
        if likelihood is None:
            return [(None, None)] * len(scopes)
        if isinstance(likelihood, LikelihoodHead):
            runs = zip(self.pipelines, outputs, strict=True)
            states = next((given["pooled"] for pipeline, given in runs if pipeline is likelihood.network), None)
            values = likelihood(scopes) if states is None else likelihood.of_states(states)
        else:
            alike = (
                tokens
                for pipeline, tokens in zip(self.pipelines, features, strict=True)
                if _reads_alike(pipeline.tokenizer, likelihood.tokenizer)
            )
            tokens = next(alike, None)
            if tokens is None:
                values = likelihood(scopes)
            else:
                lengths = tokens["attention_mask"].sum(dim=1).tolist()
                ids = [row[:length].numpy() for row, length in zip(tokens["input_ids"], lengths, strict=True)]
                values = likelihood.of_ids(ids)
        outside = likelihood.outside(values)
        flags = [None] * len(scopes) if outside is None else outside.tolist()
        return list(zip(values.tolist(), flags, strict=True))

    def forward(self, features: list[dict[str, torch.Tensor]], temperature: float) -> list[dict[str, torch.Tensor]]:
        """What each model gives, as `CrystalPropertyPipeline.forward`; the temperature in K is for Debye heads."""
        pairs = zip(self.pipelines, features, strict=True)
        return [pipeline.forward(tensors, temperature=temperature) for pipeline, tensors in pairs]

    def quantities(self, outputs: list[dict[str, torch.Tensor]]) -> list[list[Quantity]]:
        """The shown quantities of all models for each input."""
        each = [
            pipeline.quantities(tensors, names=shown)
            for pipeline, tensors, shown in zip(self.pipelines, outputs, self._shown, strict=True)
        ]
        return each[0] if len(each) == 1 else [list(chain.from_iterable(rows)) for rows in zip(*each, strict=True)]


def _units(pipeline: QuantityReader, heads: Sequence[str]) -> dict[str, str]:
    """Quantities that belong to some heads: with each thermal property goes the Debye temperature."""
    others = set(heads_of(pipeline.settings)) - set(heads)
    if "heat_capacity" in others and pipeline.gives_phonon_dos:  # all that follows from the density of states goes
        others |= {*THERMAL_UNITS, *DEBYE_TEMPERATURES}
    hidden = others | {f"{head}_{per}" for head in others for per in ("per_atom", "per_cell")}
    return {name: unit for name, unit in pipeline.units.items() if name not in hidden}


@dataclass(frozen=True)
class _Described(QuantityReader):
    """What a checkpoint predicts, by its configuration alone."""

    config: Any

    @property
    def settings(self) -> Any:
        return self.config

    @property
    def is_debye(self) -> bool:
        return "CloudForDebye" in (self.config.architectures or [])

    @property
    def has_spectrum(self) -> bool:
        return "CloudForCrystalProperties" in (self.config.architectures or [])


def units_of(model: str = "default", auxiliary: bool = False) -> dict[str, str]:
    """Return the unit of every quantity that a model predicts; reads configurations, no weights.

    Args:
        model: `default` (all checkpoints inside the package), a folder or a Hub id.
        auxiliary: Whether to name the auxiliary targets too.

    Raises:
        CheckpointError: There is no such checkpoint, or one without a property head.
    """
    units: dict[str, str] = {}
    for path in model_paths(model):
        described = _Described(_config_with_head(path, None))
        units |= described.units if auxiliary else _units(described, shown_heads(described.config))
    return units


def _reads_alike(one: Any, other: Any) -> bool:
    """Whether two tokenizers make the same ids of every string, and refuse the same ones."""
    if one is other:
        return True
    facts = ("model_max_length", "padding_side", "special_tokens_pattern", "model_input_names", "all_special_ids")
    return (
        type(one) is type(other)
        and all(getattr(one, fact, None) == getattr(other, fact, None) for fact in facts)
        and one.get_vocab() == other.get_vocab()
    )


def _strings(config: Any) -> tuple[Any, ...]:
    """What decides on the string of a crystal."""
    return (config.grammar, config.canonical, config.symmetry, config.symprec, config.angle_tolerance)


def load_predictor(
    model: str = "default", head: str | None = None, dtype: str = "float32", members: int | None = None
) -> "CrystalPropertyPipeline":
    """Load a checkpoint as a `crystal-property` pipeline.

    A warning tells if the checkpoint, its tokenizer and the encoder here do not go together.

    Args:
        model: `default` (the checkpoint inside the package), a folder or a Hub id.
        head: Name of the head that must be there, e.g. `heat_capacity`; None: the checkpoint's own.
        dtype: Of the weights, `float32` or `bfloat16` (faster where the processor knows it, about 1 % less exact); the
            predictions themselves and the Debye model are in float32.
        members: Run only the first members of the checkpoint's ensemble; None: all. Intervals stay those of all
            members.

    Raises:
        CheckpointError: No such checkpoint, one of another model type, one without this head, or with fewer members.
    """
    from cloud_hf.checkpoints.registration import AutoModelForSequenceClassification, AutoTokenizer
    from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline

    path = model_path(model, head)
    config = _config_with_head(path, head)
    with loading(path):
        network, loaded = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=getattr(torch, dtype), output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path)
    refuse_missing_weights(path, loaded)
    _warn_of_other_settings(path, config, tokenizer)
    return CrystalPropertyPipeline(network, tokenizer=tokenizer, task="crystal-property", members=members)


def _config_with_head(path: str, head: str | None) -> Any:
    """Read the configuration of a checkpoint that must have a head, or this one."""
    config = read_config(path)
    available = heads_of(config)
    if not available:
        raise CheckpointError(
            f"{', '.join(config.architectures or ['a checkpoint'])} has no property head; "
            "train one with `cloud-hf finetune`.",
            source=path,
        )
    if head is not None and head not in available:
        raise CheckpointError(f"there is no head {head!r}; it has {', '.join(available)}.", source=path)
    return config


def _load(
    model: str, head: str | None, dtype: str, members: int | None, flagged: bool
) -> "CrystalPropertyPipeline | FastPredictor":
    """Load a checkpoint the fast way where it can be, else as `load_predictor`."""
    path = model_path(model, head)
    config = _config_with_head(path, head)
    fast = load_fast(path, config, dtype, members, flagged) if Path(path).is_dir() else None
    if fast is None:
        return load_predictor(model, head, dtype, members)
    _warn_of_other_settings(path, config, fast.tokenizer)
    return fast


def load_predictors(
    model: str = "default",
    head: str | None = None,
    dtype: str = "float32",
    intervals: bool = True,
    likelihood: str | None = "default",
    members: int | None = None,
) -> Predictors:
    """Load a checkpoint, or all bundled ones, to predict every head at once.

    Args:
        model: `default` (all checkpoints inside the package), a folder or a Hub id.
        head: Show only this head, which may be an auxiliary target; None: all that are not auxiliary.
        dtype: As for `load_predictor`.
        intervals: Whether predictions get intervals where a checkpoint has a calibration.
        likelihood: Folder or Hub id of the masked language model that tells unusual strings; `default`: what a
            checkpoint in a folder has learned of it (`cloud-hf likelihood --distil`), else, for those inside the
            package, the model that lies there too; None: none.
        members: As for `load_predictor`, of each checkpoint.

    Raises:
        CheckpointError: As for `load_predictor`, or the checkpoints read different strings.
    """
    flagged = likelihood == "default"
    if model != "default" or head is not None:
        pipelines = [_load(model, head, dtype, members, flagged)]
        heads = [[head] if head else shown_heads(pipelines[0].settings)]
    else:
        folders: dict[str, list[str]] = {}
        for name in bundled_heads():
            folders.setdefault(bundled_model(name), []).append(name)
        pipelines = [_load(folder, None, dtype, members, flagged) for folder in folders]
        shown = [shown_heads(pipeline.settings) for pipeline in pipelines]
        heads = [[name for name in names if name in some] for names, some in zip(folders.values(), shown, strict=True)]
    if not intervals:
        for pipeline in pipelines:
            pipeline.calibration = None
    predictors = Predictors(pipelines, heads)
    if flagged:
        beside = (pipeline.likelihood for pipeline in pipelines if isinstance(pipeline, FastPredictor))
        predictors.likelihood = next((head for head in beside if head is not None), None)
        wanted = model == "default" and predictors.likelihood is None
        likelihood = bundled_likelihood() if wanted else None
    if likelihood is not None:
        from cloud_hf.inference.likelihood import StringLikelihood

        if _strings(read_config(likelihood)) == _strings(pipelines[0].settings):
            predictors.likelihood = StringLikelihood.load(likelihood)
        else:
            logger.warning(f"{likelihood} reads other strings than the predictor, so no likelihoods are given.")
    return predictors


def _warn_of_other_settings(path: str, config: Any, tokenizer: Any) -> None:
    """Compare what made the strings of model and tokenizer, and what would make them here."""
    trained, tokenized = config.encoder_settings, getattr(tokenizer, "encoder_settings", None)
    if None not in (trained, tokenized) and trained != tokenized:
        logger.warning(
            f"{path}: the model was trained on strings made with: {trained}, but its tokenizer belongs to strings made "
            f"with: {tokenized}. Do not mix the files of two checkpoints."
        )
    installed = ScopeEncoder.from_config(config).settings
    if (trained or tokenized) not in (None, installed):
        logger.warning(
            f"{path} was trained on strings made with: {trained or tokenized}. Crystals are encoded here with: "
            f"{installed}. Near the symmetry tolerance their strings may differ."
        )


def model_path(model: str = "default", head: str | None = None) -> str:
    """Return the folder or Hub id that `model` and `head` stand for.

    Raises:
        CheckpointError: No bundled checkpoint has this head.
    """
    return bundled_model(head or DEFAULT_HEAD) if model == "default" else model


def model_paths(model: str = "default") -> list[str]:
    """Return the folders or the Hub id that `--model` without `--head` stands for: all checkpoints of the package."""
    return [*dict.fromkeys(map(bundled_model, bundled_heads()))] if model == "default" else [model]


def heads_of(config: Any) -> list[str]:
    """Return the names of the quantities that a checkpoint was trained for."""
    return heads_in(config.to_dict())


def shown_heads(config: Any) -> list[str]:
    """Return the heads of a checkpoint that are shown unless others are asked for: all but its auxiliary targets."""
    return [name for name in heads_of(config) if name not in (config.auxiliary_targets or ())]


Predictor: TypeAlias = "CrystalPropertyPipeline | FastPredictor | Predictors"


def predict_items(
    predictor: Predictor,
    items: Sequence[Item],
    temperature: float = 300.0,
    batch_size: int = 256,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
) -> list[Prediction]:
    """Encode and predict items in their order; an item that fails keeps its place, with its error.

    Args:
        predictor: From `load_predictor` or `load_predictors`; its `encoder` is used for files and structures.
        items: From `collect_items`.
        temperature: K, for Debye heads.
        batch_size: Strings per forward pass; strings of similar length go together.
        processes: Worker processes that encode crystals.
        timeout: Longest time for encoding one crystal, s. `None` sets no limit.
    """
    encoded = encode_items(items, predictor.encoder, processes, timeout)
    shown = tqdm(encoded, total=len(items), desc="predict", unit="crystal", disable=None)
    return list(predict_encoded(predictor, shown, temperature, batch_size))


def predict_encoded(
    predictor: Predictor,
    items: Iterable[Item],
    temperature: float = 300.0,
    batch_size: int = 256,
    chunk_size: int = CHUNK_ROWS,
) -> Iterator[Prediction]:
    """Predict items that `encode_items` gives, as they come and in their order.

    Args:
        predictor: From `load_predictor` or `load_predictors`.
        items: May be endless; `chunk_size` of them are in memory at a time.
        temperature: K, for Debye heads.
        batch_size: Strings per forward pass.
        chunk_size: Items that are sorted by length together, so that a batch holds strings of similar length.

    Yields:
        One prediction an item.

    Raises:
        DebyeInputError: A temperature that cannot be, before any item is read.
        CloudError: A batch of fewer than one string.
    """
    temperature = checked_temperature(temperature)
    check_batch_size(batch_size)
    every = predictor if isinstance(predictor, Predictors) else Predictors([predictor])
    items = iter(items)
    while chunk := list(islice(items, chunk_size)):
        yield from _predict_chunk(every, chunk, temperature, batch_size)


def check_batch_size(batch_size: int) -> None:
    """Refuse batches in which there would be no string.

    Raises:
        CloudError: It is no whole number from 1 on.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise CloudError(f"batch_size must be a whole number of strings, 1 or more, not {batch_size!r}.")


def _predict_chunk(
    predictor: Predictors, items: Sequence[Item], temperature: float, batch_size: int
) -> list[Prediction]:
    predictions = [Prediction(item) for item in items]
    places = [place for place, item in enumerate(items) if item.error is None]
    places.sort(key=lambda place: len((items[place].scope or "").split()))
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        try:
            features = predictor.collate([items[place] for place in batch])
        except CloudError:  # a string that the model cannot read, or a number of atoms below 1: find it
            batch = [place for place in batch if _is_readable(predictor, predictions, place)]
            if not batch:
                continue
            features = predictor.collate([items[place] for place in batch])
        outputs = predictor.forward(features, temperature=temperature)
        quantities_of_rows, spectra = predictor.quantities(outputs), predictor.phonon_dos(outputs)
        likelihoods = predictor.likelihoods([items[place].scope or "" for place in batch], features, outputs)
        widths = predictor.heat_capacity_widths
        for place, quantities, (value, outside), dos in zip(
            batch, quantities_of_rows, likelihoods, spectra, strict=True
        ):
            predictions[place] = _checked(Prediction(items[place], tuple(quantities), value, outside, dos, widths))
    return predictions


def _is_readable(predictor: Predictors, predictions: list[Prediction], place: int) -> bool:
    item = predictions[place].item
    try:
        predictor.collate([item])
    except CloudError as error:
        predictions[place] = Prediction(item.failed(error))
        return False
    return True


def _checked(prediction: Prediction) -> Prediction:
    """A prediction that is not finite is a failed row, not a number."""
    if all(math.isfinite(quantity["value"]) for quantity in prediction.quantities):
        return prediction
    item = prediction.item
    return Prediction(item.failed(CloudError("the model's prediction is not a finite number.")))

"""One training of a study: a model and trees learn from the same rows and predict the same others."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf import CloudForMaskedLM, ScopeTokenizer
from cloud_hf.baselines import chosen_trees
from cloud_hf.checkpoints.bundled import bundled_likelihood
from cloud_hf.checkpoints.reading import loading, read_config
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.inputs import Item
from cloud_hf.errors import StudyError
from cloud_hf.files import new_folder
from cloud_hf.inference.prediction import load_predictor, predict_encoded
from cloud_hf.studies.common.arguments import LabelStudyArguments, TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.folder import digest_of
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments
from cloud_hf.training.few_labels import few_label_predictions, frozen_vectors
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_heads import build_model, head_config, set_scales
from cloud_hf.training.finetune_rows import Rows, parse_targets
from cloud_hf.training.finetune_trainer import FinetuneTrainer
from cloud_hf.training.pretrain import new_config

__all__ = [
    "ARCHITECTURE", "Fit", "StudyTarget", "auto_predictions", "encoder_folder", "encoder_vectors", "fit_and_predict",
    "fit_arms", "predict_quantity", "random_encoder", "study_target", "target_settings", "training_rows",
    "training_settings", "trees", "trees_and_choice",
]  # fmt: skip

ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "element_descriptors": True,
    "site_multiplicity": True, "pooling": "cls_multiplicity", "max_position_embeddings": 128,
}  # fmt: skip
"""Of the encoders inside the package, and so of those with random weights."""

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class StudyTarget:
    """What is learned.

    Attributes:
        name: Label column.
        unit: Its unit.
        transform: `standardise`, `log`, `per_atom`, `log_per_atom`: what the head learns; ignored with `debye`.
        debye: `heat_capacity` or `internal_energy`: the head learns a Debye temperature from the labels at 300 K.
        per_cell: The labels are of primitive cells (Debye heads, `per_atom`), otherwise per atom or intensive.
    """

    name: str
    unit: str
    transform: str = "standardise"
    debye: str | None = None
    per_cell: bool = False

    @property
    def tree_kind(self) -> str:
        """What the trees learn of it."""
        if self.debye == "heat_capacity":
            return "heat_capacity"
        return "log" if self.transform.startswith("log") else "value"


@dataclass(frozen=True)
class Fit:
    """What a training ends with.

    Attributes:
        predictions: Predictions of each set of rows, in the unit of the labels, shape (n,).
        model: The fine-tuned model, in eval mode.
        tokenizer: Its tokenizer.
        selection: How early stopping chose the weights, None without it.
    """

    predictions: dict[str, Numbers]
    model: Any
    tokenizer: Any
    selection: dict[str, Any] | None


def fit_and_predict(
    arguments: TrainingStudyArguments,
    target: StudyTarget,
    crystals: Crystals,
    train: Indices,
    tests: Mapping[str, Indices],
    seed: int | None = None,
    validation: Indices | None = None,
    early_stopping: int | None = None,
) -> Fit:
    """Fine-tune a head on some rows and predict others; without `early_stopping` the last step's weights.

    Args:
        arguments: Which encoder, and how to train.
        target: What is learned.
        crystals: All rows, with the label of `target`.
        train: Rows to learn from.
        tests: Rows to predict, by name; their labels are not looked at.
        seed: Seed of head, dropout and order; None: that of the arguments.
        validation: Rows to stop by.
        early_stopping: Evaluations (one an epoch) without a better one after which to stop; needs `validation`.

    Raises:
        StudyError: No row to learn from, or labels without a logarithm where one is to be learned.
        CheckpointError: The encoder cannot be used, or the training diverged.
    """
    if not len(train):
        raise StudyError("no row is left to train on.", source=target.name)
    if target.transform.startswith("log") and not target.debye and (crystals.labels[target.name][train] <= 0).any():
        raise StudyError(
            f"the transform {target.transform!r} needs positive labels, and some are not.", source=target.name
        )
    seed = arguments.seed if seed is None else seed
    encoder = str(encoder_folder(arguments.model, seed))
    settings = _settings(
        target, encoder, head_layers=arguments.head_layers, head_dropout=arguments.head_dropout,
        early_stopping=early_stopping,
    )  # fmt: skip
    targets = parse_targets(settings)
    config = head_config(settings, targets)
    tokenizer = _tokenizer(encoder)
    rows = _rows(crystals, target, tokenizer)
    set_seed(seed)
    set_scales(settings, config, targets, rows.take(train))
    with tempfile.TemporaryDirectory() as folder:
        training = CloudTrainingArguments(
            output_dir=folder, num_train_epochs=arguments.num_train_epochs, max_steps=arguments.max_steps,
            per_device_train_batch_size=arguments.per_device_train_batch_size, learning_rate=arguments.learning_rate,
            weight_decay=arguments.weight_decay, seed=seed, bf16=bool(arguments.bf16), logging_strategy="no",
            eval_strategy=IntervalStrategy.EPOCH if early_stopping else IntervalStrategy.NO,
        )  # fmt: skip
        checked = rows.take(validation) if validation is not None and early_stopping else None
        trainer = FinetuneTrainer(
            settings, training, build_model(settings, config), tokenizer, rows.take(train), checked
        )
        trainer.fit()
        predictions = {
            name: trainer.predict_rows(rows.take(test))[:, 0] if len(test) else np.zeros(0)
            for name, test in tests.items()
        }
    model: Any = trainer.model
    return Fit(predictions, model.eval(), tokenizer, trainer.selection)


def auto_predictions(
    arguments: TrainingStudyArguments, target: StudyTarget, crystals: Crystals, train: Indices, test: Indices,
    seed: int = 0,
) -> tuple[Numbers, dict[str, Any]]:  # fmt: skip
    """Predict rows by what `cloud-hf finetune --method auto` chooses, in the unit of the labels, and say what it is."""
    encoder = str(encoder_folder(arguments.model, arguments.seed))
    vectors = _vectors(target, encoder, tuple(crystals.scopes))
    labels = crystals.labels[target.name]
    per_cell = crystals.n_atoms if target.per_cell else np.ones(len(crystals))
    heat = target.debye == "heat_capacity"
    atoms = np.ones(len(crystals)) if heat else per_cell
    predicted, choice = few_label_predictions(
        vectors, crystals.scopes, labels / atoms, train, test, target.tree_kind, per_cell if heat else None, seed=seed
    )
    return predicted * atoms[test], asdict(choice)


def encoder_vectors(encoder: str, scopes: Sequence[str]) -> Numbers:
    """Return what a property head on an encoder would read of each string.

    Args:
        encoder: Folder or Hub id.
        scopes: Strings, n in number.

    Returns:
        Shape (n, width).
    """
    return _vectors(StudyTarget("none", "1"), encoder, tuple(scopes))


@lru_cache(maxsize=1)
def _vectors(target: StudyTarget, encoder: str, scopes: tuple[str, ...]) -> Numbers:
    """What a head on the encoder reads of each string; the same for every draw."""
    settings = _settings(target, encoder)
    tokenizer = _tokenizer(encoder)
    model = build_model(settings, head_config(settings, parse_targets(settings)))
    return frozen_vectors(model, tokenizer, tokenizer(list(scopes))["input_ids"])


def _settings(target: StudyTarget, encoder: str, **given: Any) -> FinetuneArguments:
    heads: dict[str, Any] = {"debye": [target.debye]} if target.debye else {"transform": [target.transform]}
    if target.per_cell and (target.debye or "per_atom" in target.transform):
        heads["n_atoms"] = "n_atoms"
    return FinetuneArguments(
        model=encoder, data=target.name, target=[f"{target.name}:{target.unit}"], baselines=False, **heads, **given
    )


def _tokenizer(encoder: str) -> Any:
    with loading(encoder):
        return AutoTokenizer.from_pretrained(encoder)


def study_target(arguments: LabelStudyArguments) -> StudyTarget:
    """Read `column:unit` and check it against what the head shall learn.

    Raises:
        TableError: There is no unit, or one that the Debye model does not give.
    """
    heads: dict[str, Any] = {"debye": ["heat_capacity"]} if arguments.debye else {"transform": [arguments.transform]}
    learned = FinetuneArguments(model="default", data="", target=[arguments.target], baselines=False, **heads)
    (target,) = parse_targets(learned)
    debye = "heat_capacity" if arguments.debye else None
    return StudyTarget(target.name, target.unit, arguments.transform, debye, arguments.per_cell)


def target_settings(target: StudyTarget) -> dict[str, Any]:
    """What decides how a label is learned, for `StudyFolder`."""
    return {
        "target": f"{target.name}:{target.unit}", "transform": target.transform, "debye": target.debye,
        "per_cell": target.per_cell,
    }  # fmt: skip


def fit_arms(
    arguments: TrainingStudyArguments, target: StudyTarget, crystals: Crystals, train: Indices, test: Indices,
    seed: int | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Predict rows by the model, by trees (unless switched off) and by the mean of the training labels.

    Returns:
        `model`, `trees` and `mean`, each of shape (len(test),), in the unit of the labels; lists, as cells keep them.
    """
    predictions = fit_and_predict(arguments, target, crystals, train, {"test": test}, seed).predictions
    arms = {"model": predictions["test"]}
    if arguments.baselines:
        arms["trees"] = trees(target, crystals, train, test)
    atoms = crystals.n_atoms if target.per_cell else np.ones(len(crystals))
    mean = (crystals.labels[target.name] / atoms)[train].mean()
    arms["mean"] = mean * atoms[test]
    return {name: values.tolist() for name, values in arms.items()}


def trees(target: StudyTarget, crystals: Crystals, train: Indices, test: Indices, seed: int = 0) -> Numbers:
    """Predict rows by the tree baseline, in the unit of the labels."""
    return trees_and_choice(target, crystals, train, test, seed)[0] if len(test) else np.zeros(0)


def trees_and_choice(
    target: StudyTarget, crystals: Crystals, train: Indices, test: Indices, seed: int = 0
) -> tuple[Numbers, dict[str, Any]]:
    """Predict rows by the tree baseline, and say which trees were chosen, as `TreeChoice` does."""
    labels = crystals.labels[target.name]
    atoms = crystals.n_atoms if target.per_cell else None
    if target.debye != "heat_capacity" and atoms is not None:  # per atom, and back
        predicted, choice = chosen_trees(crystals.scopes, labels / atoms, train, test, target.tree_kind, seed=seed)
        return predicted * atoms[test], asdict(choice)
    predicted, choice = chosen_trees(crystals.scopes, labels, train, test, target.tree_kind, atoms, seed=seed)
    return predicted, asdict(choice)


def predict_quantity(path: str, crystals: Crystals, quantity: str, unit: str, head: str | None = None) -> Numbers:
    """Predict a quantity of crystals with a checkpoint as it is.

    Args:
        path: Folder or Hub id.
        crystals: n in number.
        quantity: Its name among those that the checkpoint predicts.
        unit: Unit that it must have.
        head: Head that the checkpoint must have; None: any.

    Returns:
        Shape (n,).

    Raises:
        StudyError: A crystal that cannot be predicted, or another unit.
        CheckpointError: A checkpoint that cannot be used.
    """
    predictor = load_predictor(path, head)
    items = [Item(name, scope=scope) for name, scope in zip(crystals.ids, crystals.scopes, strict=True)]
    predicted = []
    for prediction in predict_encoded(predictor, tqdm(items, desc="predict", unit="crystal", disable=None)):
        if prediction.item.error is not None:
            raise StudyError(f"cannot predict {prediction.item.error}", source=path)
        entry = next((entry for entry in prediction.quantities if entry["name"] == quantity), None)
        if entry is None or entry["unit"] != unit:
            raise StudyError(f"gives no {quantity!r} in {unit}.", source=path)
        predicted.append(entry["value"])
    return np.array(predicted)


def training_rows(
    crystals: Crystals, labels: NDArray[np.float64], tokenizer: Any, n_atoms: NDArray[np.float64] | None = None
) -> Rows:
    """Return crystals as rows that a fine-tuning reads; those of one string are one group.

    Args:
        crystals: n of them, with canonical strings.
        labels: Shape (n, n_targets), NaN where there is none.
        tokenizer: Of the model.
        n_atoms: Atoms that each label is meant for, shape (n,); None: 1.
    """
    return Rows(
        position=crystals.position, source=crystals.ids, scope=crystals.scopes,
        input_ids=tokenizer(crystals.scopes)["input_ids"], group=crystals.scopes, identifier=list(crystals.ids),
        labels=labels, n_atoms=np.ones(len(crystals)) if n_atoms is None else n_atoms,
        temperature=np.full(len(crystals), 300.0),
    )  # fmt: skip


def _rows(crystals: Crystals, target: StudyTarget, tokenizer: Any) -> Rows:
    n_atoms = crystals.n_atoms if target.per_cell else None
    return training_rows(crystals, crystals.labels[target.name][:, None], tokenizer, n_atoms)


def encoder_folder(model: str, seed: int = 0) -> Path | str:
    """Return the folder or Hub id of an encoder.

    Args:
        model: Name, folder or Hub id as in `TrainingStudyArguments`.
        seed: Seed of random weights.

    Raises:
        StudyError: This version of the package has no such weights.
    """
    if model == "default":
        folder = bundled_likelihood()
        if folder is None:
            raise StudyError("No masked language model ships with this version; give a folder with --model.")
        return folder
    return Path(_scratch(seed).name) if model == "scratch" else model


@cache
def _scratch(seed: int) -> tempfile.TemporaryDirectory[str]:
    """A folder that lives as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="cloud-scratch-")
    random_encoder(Path(folder.name), seed=seed, **ARCHITECTURE)
    return folder


def random_encoder(folder: Path, grammar: str = "sites", seed: int = 0, **architecture: Any) -> Path:
    """Write an encoder without pre-training into `folder`, unless it is there, and return the folder.

    Args:
        folder: For config, weights and tokenizer.
        grammar: Grammar that heads on it will read.
        seed: Seed of the weights.
        architecture: Fields of `PretrainArguments`.
    """
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        settings = PretrainArguments(data=[], grammar=grammar, **architecture)
        tokenizer = ScopeTokenizer(model_max_length=settings.max_position_embeddings)
        set_seed(seed)
        model = CloudForMaskedLM(new_config(settings, len(tokenizer), grammar))
        with new_folder(folder, error=StudyError) as aside:
            tokenizer.save_pretrained(aside)
            model.save_pretrained(aside)
    return folder


def training_settings(arguments: TrainingStudyArguments) -> dict[str, Any]:
    """What decides how a model of a study is trained, for `StudyFolder`."""
    names = (
        "num_train_epochs", "max_steps", "per_device_train_batch_size", "learning_rate", "weight_decay", "head_layers",
        "head_dropout", "bf16", "baselines", "seed",
    )  # fmt: skip
    settings = {name: getattr(arguments, name) for name in names}
    folder = encoder_folder(arguments.model, arguments.seed)
    weights = digest_of(folder) if arguments.model != "scratch" and Path(folder).is_dir() else arguments.model
    return settings | {"model": arguments.model if arguments.model in ("default", "scratch") else weights,
                    "weights": weights, "parameters": _parameters(folder)}  # fmt: skip


def _parameters(folder: Path | str) -> str:
    config = read_config(str(folder))
    return f"{config.num_hidden_layers} layers x {config.hidden_size}"

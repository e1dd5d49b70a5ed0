"""Masked-language-modelling pre-training on SCOPE strings."""

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import set_seed
from transformers.utils import logging

from cloud_hf.checkpoints.reading import loading, read_config, refuse_missing_weights
from cloud_hf.checkpoints.records import record_training_data
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.corpus.shards import open_corpus
from cloud_hf.data.splits import split_by_string
from cloud_hf.data.tables import SCOPE_COLUMN, is_missing, read_table, recorded_settings
from cloud_hf.data.token_classes import TokenClasses
from cloud_hf.errors import CheckpointError, CloudError, GrammarError, TableError, about
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.models.modeling_cloud import CloudForMaskedLM
from cloud_hf.models.tokenization_scope import ScopeTokenizer, grammar_of
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.encoder import EncoderSettings
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments, check_output_dir
from cloud_hf.training.checkpointing import data_hash
from cloud_hf.training.collators import MaskingCollator
from cloud_hf.training.corpus_rows import corpus_grammar, corpus_rows
from cloud_hf.training.corpus_shards import CorpusRows
from cloud_hf.training.metrics import mlm_metrics
from cloud_hf.training.token_rows import TokenRows, pack
from cloud_hf.training.trainer import CloudTrainer

logger = logging.get_logger(__name__)

ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "element_descriptors",
    "site_multiplicity",
    "pooling",
)
"""Arguments of a new model that are fields of its config too."""

__all__ = ["best_and_nats", "new_config", "pretrain", "read_strings", "tokenize_strings", "training_rows"]


def read_strings(paths: Sequence[str]) -> tuple[list[str], str | None]:
    """Read the distinct strings of some tables, in order of first appearance, and the settings they were made with.

    Settings that are not recorded or differ (a warning names them) come back as None.

    Raises:
        TableError: A table has no column `scope`, or none of them holds a string.
    """
    strings: dict[str, None] = {}
    settings: set[str] = set()
    for path in paths:
        table = read_table(path)
        if SCOPE_COLUMN not in table.columns:
            raise TableError(f"there is no column {SCOPE_COLUMN!r}; make one with `cloud-hf encode`.", source=path)
        settings |= recorded_settings(table)
        strings |= dict.fromkeys(str(text) for text in table[SCOPE_COLUMN] if not is_missing(text))
    if not strings:
        raise TableError("there are no SCOPE strings.", source=", ".join(paths))
    if len(settings) > 1:
        logger.warning(f"The strings were made with different settings: {'; '.join(sorted(settings))}.")
    return list(strings), settings.pop() if len(settings) == 1 else None


def tokenize_strings(strings: Sequence[str], tokenizer: Any) -> Dataset:
    """Return a dataset of `input_ids`.

    Raises:
        CloudError: A string that the tokenizer refuses; the message begins with it.
    """
    try:
        ids = tokenizer(list(strings))["input_ids"]
    except CloudError:
        _name_the_first_refused(strings, tokenizer)
        raise
    return Dataset.from_dict({"input_ids": ids})


def _name_the_first_refused(strings: Sequence[str], tokenizer: Any) -> None:
    for text in strings:
        try:
            tokenizer(text)
        except CloudError as error:
            raise about(error, repr(text)) from error.__cause__


def pretrain(arguments: PretrainArguments, training: CloudTrainingArguments) -> dict[str, float]:
    """Train `CloudForMaskedLM`, save it with its tokenizer in `training.output_dir` and return its metrics.

    Returns:
        Perplexity and masked accuracy on the strings kept back (if any), over all masked words and by class
        (`validation_perplexity_wyckoff`, `validation_masked_accuracy_elements`, ...), and numbers of strings.

    Raises:
        CloudError: Tables or strings that cannot be used.
    """
    arguments.check_source()
    _check(training)
    check_output_dir(training)
    set_seed(training.seed)
    corpus = open_corpus(arguments.corpus) if arguments.corpus else None
    if corpus is None:
        strings, settings = read_strings(arguments.data)
        model, tokenizer = _model_and_tokenizer(arguments, {grammar_of(text) for text in strings})
        train_rows, validation_rows = split_by_string(strings, arguments.validation_fraction, training.seed)
        if not len(train_rows):
            raise TableError(
                "no string is left to train on; lower --validation-fraction.", source=", ".join(arguments.data)
            )
        chosen = [strings[row] for row in train_rows]
        train: TokenRows | CorpusRows = training_rows(
            tokenize_strings(chosen, tokenizer), tokenizer, arguments, training.seed
        )
        kept_back = [strings[row] for row in validation_rows]
    else:
        grammar = corpus_grammar(arguments, corpus)
        settings = str(EncoderSettings.read(corpus.report["encoder"])._replace(grammar=grammar))
        model, tokenizer = _model_and_tokenizer(arguments, {grammar})
        train, kept_back = corpus_rows(
            arguments, corpus, grammar, tokenizer, training.seed, progress=not training.disable_tqdm
        )
    kept_back.sort(key=lambda text: len(text.split()))
    validation = training_rows(tokenize_strings(kept_back, tokenizer), tokenizer) if kept_back else None
    collator = MaskingCollator(
        tokenizer,
        arguments.mlm_probability,
        training.seed,
        masking=arguments.masking,
        segment_probability=arguments.segment_probability,
        pad_to_multiple_of=arguments.pad_to_multiple_of,
    )
    training.remove_unused_columns = False
    training.include_for_metrics = ["inputs"]
    if training.ddp_find_unused_parameters is None:
        training.ddp_find_unused_parameters = False
    if settings is not None:
        encoder = ScopeEncoder.from_settings(settings)
        for name in ("canonical", "symprec", "angle_tolerance", "symmetry"):
            setattr(model.config, name, getattr(encoder, name))
    model.config.encoder_settings = settings
    model.config.sparse_prediction = True  # the same loss in less time
    trainer = CloudTrainer(
        model=model,
        args=training,
        data_collator=collator,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        compute_metrics=partial(mlm_metrics, classes=TokenClasses(tokenizer)),
        preprocess_logits_for_metrics=best_and_nats,
        identity=_identity(arguments, train),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    collator.epoch = 0
    metrics = trainer.evaluate(metric_key_prefix="validation") if validation else {}
    metrics |= {"train_strings": len(train.string_lengths), "validation_strings": len(kept_back)}
    model.config.sparse_prediction = False  # whoever trains on expects logits for every position
    trainer.save_result()
    trainer.log_metrics("validation", metrics)
    trainer.save_metrics("validation", metrics, combined=False)
    if trainer.is_world_process_zero():
        licences = arguments.data_license, arguments.license
        folder = training.output_dir or "."
        n_strings = len(train.string_lengths) + len(kept_back)
        record_training_data(
            folder,
            "pre-training",
            arguments.data or [str(arguments.corpus)],
            n_strings,
            *licences,
            model=arguments.model,
        )
    trainer.publish()
    return metrics


def training_rows(
    dataset: Dataset, tokenizer: Any, arguments: PretrainArguments | None = None, seed: int = 0
) -> TokenRows:
    """Turn a dataset of `input_ids` into the rows that are trained on, packed if `arguments` say so."""
    filler = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    rows = TokenRows(dataset, filler)
    if arguments is not None and arguments.packing:
        rows.packs = pack(rows.string_lengths, arguments.packing_length, seed)
    return rows


def _check(training: CloudTrainingArguments) -> None:
    if training.dataloader_persistent_workers:
        raise CloudError(
            "--dataloader-persistent-workers keeps the masks of the first epoch for ever; leave it out (workers start "
            "in each epoch, which takes a second)."
        )


def _identity(arguments: PretrainArguments, train: TokenRows | CorpusRows) -> dict[str, Any]:
    """What decides the result besides training arguments and model config."""
    names = ["masking", "mlm_probability", "packing"]
    names += ["segment_probability"] if arguments.masking == "segment" else []
    names += ["packing_length"] if arguments.packing else []
    digest = train.selection.digest if isinstance(train, CorpusRows) else data_hash(train.ids, train.string_lengths)
    return {name: getattr(arguments, name) for name in names} | {"hash of the training strings": digest}


def _model_and_tokenizer(arguments: PretrainArguments, grammars: set[str]) -> tuple[CloudForMaskedLM, Any]:
    """A new model, or the checkpoint to continue from."""
    if arguments.model is None:
        grammar = arguments.grammar or min(grammars)
        if grammar not in grammars:
            raise GrammarError(
                f"No string is written in the grammar {grammar!r}, only in {', '.join(sorted(grammars))}."
            )
        if arguments.grammar is None and len(grammars) > 1:
            raise GrammarError(
                f"The strings mix the grammars {', '.join(sorted(grammars))}; "
                "say with --grammar which one heads will read."
            )
        tokenizer: Any = ScopeTokenizer(model_max_length=arguments.max_position_embeddings)
        return CloudForMaskedLM(new_config(arguments, len(tokenizer), grammar)), tokenizer
    config = read_config(arguments.model)
    _refuse_other_architecture(arguments, config)
    config.grammar = arguments.grammar or config.grammar
    if config.grammar not in grammars:
        raise GrammarError(
            f"{arguments.model} reads the grammar {config.grammar!r}, the strings are in "
            f"{', '.join(sorted(grammars))}; encode the crystals in its grammar, or name another one with --grammar."
        )
    loaded: dict[str, Any]
    model: CloudForMaskedLM
    with loading(arguments.model):
        model, loaded = CloudForMaskedLM.from_pretrained(arguments.model, config=config, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    refuse_missing_weights(arguments.model, loaded, remedy="Nothing was trained.")
    return model, tokenizer


def _refuse_other_architecture(arguments: PretrainArguments, config: CloudConfig) -> None:
    """Flags that shape a new model cannot reshape a checkpoint; those that repeat what it has do no harm."""
    names = {name: name for name in ARCHITECTURE} | {"dropout": "hidden_dropout_prob"}
    defaults = {entry.name: entry.default for entry in fields(arguments)}
    differing = [
        f"{name} is {getattr(config, of_config)}, not {getattr(arguments, name)}"
        for name, of_config in names.items()
        if getattr(arguments, name) not in (defaults[name], getattr(config, of_config))
    ]
    if differing:
        raise CheckpointError(
            f"{'; '.join(differing)}. These arguments shape a new model: leave them out to continue "
            "from the checkpoint, or leave --model out.",
            source=arguments.model,
        )


def new_config(arguments: PretrainArguments, vocab_size: int, grammar: str) -> CloudConfig:
    """Return the config of a new model."""
    return CloudConfig(
        vocab_size=vocab_size,
        hidden_size=arguments.hidden_size,
        num_hidden_layers=arguments.num_hidden_layers,
        num_attention_heads=arguments.num_attention_heads,
        intermediate_size=4 * arguments.hidden_size,
        hidden_dropout_prob=arguments.dropout,
        attention_probs_dropout_prob=arguments.dropout,
        max_position_embeddings=arguments.max_position_embeddings,
        element_descriptors=arguments.element_descriptors,
        site_multiplicity=arguments.site_multiplicity,
        pooling=arguments.pooling,
        grammar=grammar,
        canonical=grammar == "sites",
    )


def best_and_nats(logits: Tensor, labels: Tensor) -> Any:
    """Keep the best id and the negative log probability of the label per word, instead of all logits.

    Args:
        logits: Of a batch, shape (batch, length, vocab_size).
        labels: Ids to predict, -100 where nothing is asked (0 nats there), shape (batch, length).

    Returns:
        Ids and nats, each of shape (batch, length), as `mlm_metrics` reads them.
    """
    nats = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
    return logits.argmax(-1), nats

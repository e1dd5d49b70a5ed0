"""What `cloud-hf pretrain --corpus` trains on: the rows of a corpus that are neither excluded nor too long."""

from collections.abc import Sequence
from typing import Any

from transformers.utils import logging

from cloud_hf.checkpoints.reading import read_config
from cloud_hf.corpus.shards import Corpus
from cloud_hf.data.tables import read_table
from cloud_hf.errors import GrammarError, TableError
from cloud_hf.training.arguments import PretrainArguments
from cloud_hf.training.corpus_shards import CorpusRows, select_rows

logger = logging.get_logger(__name__)

__all__ = ["HASH_COLUMN", "corpus_grammar", "corpus_rows", "excluded_hashes"]

HASH_COLUMN = "hash"


def corpus_grammar(arguments: PretrainArguments, corpus: Corpus) -> str:
    """Return the column to train on: what `--grammar` says, what the checkpoint reads, else `sites` if it is there.

    Raises:
        GrammarError: The corpus does not have it.
    """
    wanted = arguments.grammar or (read_config(arguments.model).grammar if arguments.model else None)
    wanted = wanted or ("sites" if "sites" in corpus.grammars else corpus.grammars[0])
    if wanted not in corpus.grammars:
        raise GrammarError(
            f"has no strings in the grammar {wanted!r}, only in {', '.join(corpus.grammars)}; name "
            "another one with --grammar, or build the corpus with it (--grammars).",
            source=corpus.name,
        )
    return wanted


def excluded_hashes(paths: Sequence[str]) -> set[str]:
    """Read exclusion lists, as `cloud-hf corpus leakage` writes them.

    Raises:
        TableError: A table has no column `hash`.
    """
    hashes: set[str] = set()
    for path in paths:
        table = read_table(path)
        if HASH_COLUMN not in table.columns:
            raise TableError(
                f"there is no column {HASH_COLUMN!r}; `cloud-hf corpus leakage` writes such a list.", source=path
            )
        hashes |= set(table[HASH_COLUMN].dropna().astype(str))
    return hashes


def corpus_rows(
    arguments: PretrainArguments, corpus: Corpus, grammar: str, tokenizer: Any, seed: int, progress: bool = False
) -> tuple[CorpusRows, list[str]]:
    """Return the rows to train on, and the strings that are kept back.

    Raises:
        CorpusError: The corpus cannot be read, or nothing is left of it.
    """
    longest = min(
        tokenizer.model_max_length, arguments.packing_length if arguments.packing else tokenizer.model_max_length
    )
    excluded = excluded_hashes(arguments.exclude)
    selection = select_rows(corpus, grammar, arguments.validation_fraction, seed, longest, excluded, progress)
    if selection.too_long:
        limit = "--packing-length" if arguments.packing else "--max-position-embeddings of a new model"
        logger.warning(
            f"{selection.too_long} strings of more than {longest} tokens are left out ({limit} sets the limit)."
        )
    if arguments.exclude:
        logger.warning(f"{selection.excluded} rows of {len(corpus)} are left out, as the exclusion list asks.")
    rows = CorpusRows(
        corpus, grammar, selection, tokenizer, arguments.packing_length if arguments.packing else None, seed
    )
    return rows, selection.validation

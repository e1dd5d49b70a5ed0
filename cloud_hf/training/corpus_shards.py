"""A corpus as training rows: read shard by shard, in an order that a resumed run finds again."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler
from tqdm import tqdm

from cloud_hf.corpus.shards import Corpus
from cloud_hf.errors import CorpusError
from cloud_hf.training.samplers import BATCHES_PER_BUCKET
from cloud_hf.training.token_rows import pack

__all__ = ["CorpusRows", "Selection", "ShardSampler", "select_rows"]

SHARDS_TOGETHER = 8
"""Shards whose rows are mixed with each other; this many are in memory at a time."""

SPECIAL_TOKENS = 2
"""[CLS] and [SEP]."""


@dataclass(frozen=True)
class Selection:
    """Which rows of a corpus are trained on, and which are kept back.

    Attributes:
        positions: Rows of each shard to train on.
        lengths: Their tokens.
        validation: Strings that are kept back.
        digest: Of the hashes of all rows that are trained on.
        excluded: Rows left out because the exclusion list names them.
        too_long: Rows left out because they have more tokens than the model has positions.
        without: Rows that have no string in the grammar, or one that an earlier row has.
    """

    positions: list[NDArray[np.int32]]
    lengths: list[NDArray[np.int32]]
    validation: list[str]
    digest: str
    excluded: int
    too_long: int
    without: int


def select_rows(
    corpus: Corpus,
    grammar: str,
    validation_fraction: float = 0.0,
    seed: int = 0,
    max_length: int | None = None,
    exclude: Collection[str] = (),
    progress: bool = False,
) -> Selection:
    """Read a corpus once and decide about each row.

    Whether a row is kept back depends on its hash and the seed alone, not on the order or the size of the corpus.

    Args:
        corpus: The corpus.
        grammar: Column of strings.
        validation_fraction: Expected share of rows to keep back, 0 <= fraction < 1.
        seed: Of that choice.
        max_length: Most tokens of a string, [CLS] and [SEP] included.
        exclude: Hashes of rows to leave out.
        progress: Whether to show a bar.

    Raises:
        CorpusError: The corpus has no such column, or no row is left.
    """
    if grammar not in corpus.grammars:
        raise CorpusError(f"has no column {grammar!r}, only {', '.join(corpus.grammars)}.", source=corpus.name)
    positions, lengths, validation = [], [], []
    digest = hashlib.sha256()
    excluded = too_long = without = 0
    seen = np.empty(0, np.uint64)  # the strings of a row are distinct together, one grammar's may not be
    left_out = pa.array(sorted(exclude), pa.string())
    for number in tqdm(range(len(corpus.files)), desc="reading the corpus", unit="shard", disable=not progress):
        table = pa.concat_tables(corpus.shard(number, ("hash", grammar)))
        is_there = compute.is_valid(table[grammar]).to_numpy().copy()
        if grammar != "sites":
            seen = _first_ones(table[grammar], is_there, seen)
        without += int((~is_there).sum())
        is_excluded = is_there & compute.is_in(table["hash"], value_set=left_out).to_numpy()
        tokens = compute.add(compute.count_substring(table[grammar], " "), 1 + SPECIAL_TOKENS)
        n_tokens = compute.fill_null(tokens, 0).to_numpy().astype(np.int32)
        is_long = is_there & ~is_excluded & (n_tokens > (max_length or np.iinfo(np.int32).max))
        usable = is_there & ~is_excluded & ~is_long
        excluded, too_long = excluded + int(is_excluded.sum()), too_long + int(is_long.sum())
        kept_back = usable & (_uniform(table["hash"], seed) < validation_fraction)
        validation += table[grammar].filter(pa.array(kept_back)).to_pylist()
        chosen = usable & ~kept_back
        digest.update("".join(table["hash"].filter(pa.array(chosen)).to_pylist()).encode())
        positions.append(np.flatnonzero(chosen).astype(np.int32))
        lengths.append(n_tokens[chosen])
    if not any(map(len, positions)):
        raise CorpusError(
            f"no string in the grammar {grammar!r} is left to train on ({excluded} excluded, {too_long} "
            f"too long, {len(validation)} kept back).",
            source=corpus.name,
        )
    return Selection(positions, lengths, validation, digest.hexdigest()[:16], excluded, too_long, without)


def _first_ones(column: pa.ChunkedArray, is_there: NDArray[np.bool_], seen: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mark strings that came before as not there; return the sorted keys of all that have come."""
    keys = np.array(
        [int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=8).digest()) for text in column.to_pylist()],
        np.uint64,
    )
    first = np.zeros(len(keys), dtype=bool)
    there = np.flatnonzero(is_there)
    first[there[np.unique(keys[there], return_index=True)[1]]] = True
    is_there &= first & ~np.isin(keys, seen)
    return np.union1d(seen, keys[is_there])


def _uniform(hashes: pa.ChunkedArray, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each hash, another one for another seed."""
    key = hashlib.sha256(f"validation {seed}".encode()).digest()[:8]
    mask = int.from_bytes(key) >> 11
    values = [(int(text[:16], 16) >> 11) ^ mask for text in hashes.to_pylist()]
    return np.array(values, np.float64) / 2.0**53


class CorpusRows(TorchDataset[dict[str, Any]]):
    """Training rows of a corpus; the shards that they come from are read when they are asked for.

    A row is a dictionary of `input_ids`, shape (tokens,), and, for packed rows, `lengths`, as that of `TokenRows`; so
    is index `len(self)`, the filler row [CLS] [SEP].

    Args:
        corpus: The corpus.
        grammar: Column of strings.
        selection: Which of its rows.
        tokenizer: Writes ids.
        packing_length: Put several strings in a row of at most this many tokens; None: one string a row.
        seed: Of the packing.
    """

    def __init__(
        self,
        corpus: Corpus,
        grammar: str,
        selection: Selection,
        tokenizer: Any,
        packing_length: int | None = None,
        seed: int = 0,
    ) -> None:
        self.corpus, self.grammar, self.selection, self.tokenizer = corpus, grammar, selection, tokenizer
        self.packing_length, self.seed = packing_length, seed
        self.filler = np.array([tokenizer.cls_token_id, tokenizer.sep_token_id], dtype=np.int32)
        self.string_lengths = np.concatenate(selection.lengths)
        if packing_length is None:
            self.sizes = [len(positions) for positions in selection.positions]
        else:
            self.sizes = [len(self._packs(shard)) for shard in range(len(selection.positions))]
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        self._loaded: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row == len(self):
            return {"input_ids": self.filler}
        if not 0 <= row < len(self):
            raise IndexError(f"There is no row {row} among {len(self)}.")
        shard = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return self._shard(shard)[row - int(self.offsets[shard])]

    def row_lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32] | None:
        """Tokens of rows; None where they are packed, and so all nearly full."""
        return None if self.packing_length is not None else self.string_lengths[rows]

    def __getstate__(self) -> dict[str, Any]:  # a worker of the data loader reads for itself
        return self.__dict__ | {"_loaded": OrderedDict()}

    def _packs(self, shard: int) -> list[NDArray[np.int64]]:
        return pack(self.selection.lengths[shard], self.packing_length or 0, self.seed)

    def _shard(self, shard: int) -> list[dict[str, Any]]:
        rows = self._loaded.get(shard)
        if rows is None:
            while len(self._loaded) > 2 * SHARDS_TOGETHER:  # batches at the seam of two groups need both
                self._loaded.popitem(last=False)
            rows = self._loaded[shard] = self._read(shard)
        self._loaded.move_to_end(shard)
        return rows

    def _read(self, shard: int) -> list[dict[str, Any]]:
        column = pa.concat_tables(self.corpus.shard(shard, (self.grammar,)))[self.grammar]
        strings = column.take(pa.array(self.selection.positions[shard])).to_pylist()
        ids = [np.asarray(row, dtype=np.int32) for row in self.tokenizer(strings)["input_ids"]]
        lengths = np.array([len(row) for row in ids])
        if not np.array_equal(lengths, self.selection.lengths[shard]):
            raise CorpusError("the shard changed while it was trained on.", source=self.corpus.files[shard])
        if self.packing_length is None:
            return [{"input_ids": row} for row in ids]
        return [
            {"input_ids": np.concatenate([ids[string] for string in strings]), "lengths": lengths[strings]}
            for strings in self._packs(shard)
        ]


class ShardSampler(Sampler[int]):
    """Sample every row of a corpus once an epoch, shard by shard, each node from shards of its own.

    An epoch is a permutation of the shards and, within every few of them, of their rows. Each node takes an equal part
    of that order, in one piece, so that it reads its part of the shards only. The order depends on the rows, the batch
    size, the number of nodes, seed and epoch, not on a running random state or a buffer, so a resumed run finds it
    again without reading what was trained on.

    Args:
        rows: The rows.
        batch_size: Rows per process and forward pass.
        nodes: Processes that train together; batch number i goes to process i modulo `nodes`.
        seed: Seed of the order.
        by_length: Whether to sort rows by length within random groups of batches, for little padding.
    """

    def __init__(
        self, rows: CorpusRows, batch_size: int, nodes: int = 1, seed: int = 0, by_length: bool = True
    ) -> None:
        self.rows, self.batch_size, self.nodes, self.seed, self.by_length = rows, batch_size, nodes, seed, by_length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch (the training loop calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        n_rows = len(self.rows)
        return (
            n_rows if self.nodes == 1 else -(-n_rows // (self.nodes * self.batch_size)) * self.nodes * self.batch_size
        )

    def __iter__(self) -> Iterator[int]:
        order = self.order()
        if self.nodes == 1:
            for piece in self._pieces(order, 0):
                yield from piece.tolist()
            return
        share = len(self) // self.nodes
        filled = np.full(len(self), len(self.rows), np.int64)
        filled[: len(order)] = order
        filled = _spread_fillers(filled, len(order), self.nodes)
        parts = [self._pieces(filled[node * share : (node + 1) * share], node) for node in range(self.nodes)]
        for pieces in zip(*parts, strict=True):
            for start in range(0, len(pieces[0]), self.batch_size):
                for piece in pieces:
                    yield from piece[start : start + self.batch_size].tolist()

    def order(self) -> NDArray[np.int64]:
        """The rows of this epoch in the order of shards, shape (rows,), before they are dealt out."""
        chance = np.random.default_rng([self.seed, self.epoch])
        shards = chance.permutation(len(self.rows.sizes))
        groups = []
        for start in range(0, len(shards), SHARDS_TOGETHER):
            together = [
                np.arange(self.rows.offsets[shard], self.rows.offsets[shard + 1])
                for shard in shards[start : start + SHARDS_TOGETHER]
            ]
            groups.append(chance.permutation(np.concatenate(together)))
        return np.concatenate(groups)

    def _pieces(self, order: NDArray[np.int64], node: int) -> Iterator[NDArray[np.int64]]:
        """Some batches at a time, each of rows of similar length, the incomplete one last."""
        chance = np.random.default_rng([self.seed, self.epoch, 1 + node])
        for start in range(0, len(order), BATCHES_PER_BUCKET * self.batch_size):
            piece = order[start : start + BATCHES_PER_BUCKET * self.batch_size]
            lengths = self._lengths(piece) if self.by_length else None
            if lengths is not None:
                piece = piece[np.argsort(lengths, kind="stable")]
                whole = len(piece) // self.batch_size * self.batch_size
                batches = piece[:whole].reshape(-1, self.batch_size)
                piece = np.concatenate([batches[chance.permutation(len(batches))].ravel(), piece[whole:]])
            yield piece

    def _lengths(self, piece: NDArray[np.int64]) -> Sequence[int] | NDArray[np.int32] | None:
        real = np.minimum(piece, len(self.rows) - 1)
        return self.rows.row_lengths(real)


def _spread_fillers(filled: NDArray[np.int64], n_rows: int, nodes: int) -> NDArray[np.int64]:
    """Give each node its share of the filler rows that complete the last step, at the end of its part."""
    share = len(filled) // nodes
    parts, start = [], 0
    for node in range(nodes):
        size = (n_rows - start) // (nodes - node)
        parts += [filled[start : start + size], np.full(share - size, n_rows, np.int64)]
        start += size
    return np.concatenate(parts)

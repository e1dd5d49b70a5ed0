"""`cloud_hf.search`: the nearest crystals of a collection, by the cosine between encoder vectors (`cloud_hf.embed`)."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cloud_hf.corpus.schema import CORPUS_FILE
from cloud_hf.corpus.shards import open_corpus
from cloud_hf.crystals.rows import STRUCTURE_KEYS
from cloud_hf.crystals.sources import is_table
from cloud_hf.data.inputs import Item, encode_items, iterate_items, table_items
from cloud_hf.data.tables import SCOPE_COLUMN, read_table
from cloud_hf.errors import CloudError, one_line
from cloud_hf.files import new_file
from cloud_hf.inference.api import EMBEDDING_HEAD, embed, vectors_of
from cloud_hf.inference.prediction import model_path
from cloud_hf.scope import TIMEOUT, ScopeEncoder
from cloud_hf.screening.index import open_index, search_index
from cloud_hf.screening.known import string_hashes
from cloud_hf.screening.known_crystals import CompactVectors, known_crystals

logger = logging.getLogger(__name__)

__all__ = ["Collection", "nearest", "same_first", "search", "shared_words"]

BLOCK = 65_536
"""Rows that are compared at a time."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Collection:
    """Crystals to search in.

    Attributes:
        sources: What messages call each crystal.
        scopes: Their canonical strings.
        labels: Other columns of the table, one row a crystal.
        compact: Their vectors, for the weights that gave them.
    """

    sources: list[str]
    scopes: list[str]
    labels: pd.DataFrame
    compact: CompactVectors | None = None

    def __len__(self) -> int:
        return len(self.scopes)

    @classmethod
    def known(cls) -> "Collection":
        """Return the known crystals that ship with the package, with their values."""
        table = known_crystals()
        labels = table.drop(columns=["id", SCOPE_COLUMN])
        return cls(table["id"].tolist(), table[SCOPE_COLUMN].tolist(), labels, CompactVectors.bundled())

    @classmethod
    def read(cls, given: Any, processes: int = 1, timeout: float | None = TIMEOUT) -> "Collection":
        """Read a table, a corpus, or crystals of any other kind; what cannot be read is left out with a warning.

        Args:
            given: As for `search`.
            processes: Worker processes that read and encode crystals.
            timeout: Longest time for one crystal, s; None sets no limit.

        Raises:
            CloudError: No crystal is left.
        """
        if isinstance(given, str | os.PathLike) and (Path(given) / CORPUS_FILE).is_file():
            return cls._of_corpus(os.fspath(given))
        table: pd.DataFrame | None = given if isinstance(given, pd.DataFrame) else None
        if isinstance(given, str | os.PathLike) and is_table(os.fspath(given)):
            table = read_table(given)
        name = "table" if isinstance(given, pd.DataFrame) else os.fspath(given) if table is not None else "inputs"
        items = iterate_items(given) if table is None else table_items(table, name)
        rows = list(encode_items(items, ScopeEncoder(), processes, timeout))
        readable = [place for place, item in enumerate(rows) if item.error is None]
        if not readable:
            raise CloudError("holds no crystal that can be read.", source=name)
        if len(readable) < len(rows):
            first = next(item.message for item in rows if item.error is not None)
            left_out = len(rows) - len(readable)
            logger.warning("%s: %d of %d crystals are left out, the first: %s", name, left_out, len(rows), first)
        labels = pd.DataFrame(index=range(len(rows))) if table is None else table.reset_index(drop=True)
        crystals = {column for keys in STRUCTURE_KEYS for column in keys}
        hidden = [column for column in labels if column in crystals | {SCOPE_COLUMN, "id"}]
        labels = labels.drop(columns=hidden).iloc[readable].reset_index(drop=True)
        return cls([rows[place].source for place in readable], [str(rows[place].scope) for place in readable], labels)

    @classmethod
    def _of_corpus(cls, folder: str) -> "Collection":
        corpus = open_corpus(folder)
        if "sites" not in corpus.grammars:
            raise CloudError("holds no strings of the grammar 'sites', which the models read.", source=folder)
        scopes: list[str] = []
        for number in range(len(corpus.files)):
            for table in corpus.shard(number, ["sites"]):
                scopes += [text for text in table.column("sites").to_pylist() if text]
        sources = [f"{folder}:{row}" for row in range(len(scopes))]
        return cls(sources, scopes, pd.DataFrame(index=range(len(scopes))))


def search(
    queries: Any,
    collection: Any = None,
    k: int = 10,
    *,
    model: str = "default",
    head: str | None = None,
    vectors: str | os.PathLike[str] | None = None,
    index: str | os.PathLike[str] | None = None,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    batch_size: int = 256,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Find the crystals of a collection that are nearest to each query.

    Args:
        queries: Crystals, as for `cloud_hf.predict`.
        collection: A table of structures or strings with labels, the folder of a corpus, or crystals as above; None:
            the known crystals that ship with the package, with values from databases.
        k: Neighbours of each query.
        model: `default` (inside the package), a checkpoint folder or a Hub id.
        head: Takes the bundled checkpoint with this head.
        vectors: A `.safetensors` file that keeps the vectors of the collection for the next search.
        index: A file that keeps an approximate index of the vectors, for collections above a million crystals (needs
            the extra `search`); None: every vector is compared.
        processes: Worker processes that read and encode crystals.
        timeout: Longest time for one crystal, s; None sets no limit. A crystal that takes longer is a failed row.
        batch_size: Strings per forward pass.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        A row for each neighbour, the nearest first: `query`, `rank`, `similarity` (cosine), `source`, `scope`,
        `shared` (the words that both strings have behind the generators, and whether the space group is the same), and
        the other columns of the table. A query that cannot be read has one row, with its `error`.

    Raises:
        CloudError: No crystal in the collection, or a file of vectors of other crystals or another model.
    """
    if not isinstance(k, Integral) or k < 1:
        raise CloudError(f"k must be a whole number of neighbours, 1 or more, not {k!r}.")
    if collection is None:
        crystals = Collection.known()
    else:
        crystals = collection if isinstance(collection, Collection) else Collection.read(collection, processes, timeout)
    asked = list(encode_items(iterate_items(queries), ScopeEncoder(), processes, timeout))
    settings: dict[str, Any] = {"model": model, "head": head, "batch_size": batch_size, "progress": progress}
    readable = [place for place, item in enumerate(asked) if item.error is None]
    near: list[tuple[list[int], list[float]]] = []
    if readable:
        made, failed = vectors_of([str(asked[place].scope) for place in readable], **settings)
        for number, item in failed.items():  # a string that is too long for the model is near to nothing
            error = item.error or CloudError("the model gives no vector.")
            error.source = None  # which is the string, where the query may have a name
            asked[readable[number]] = asked[readable[number]].failed(error)
        made = np.delete(made, list(failed), axis=0)
    good = [str(item.scope) for item in asked if item.error is None]
    if good:
        folder = model_path(model, head or EMBEDDING_HEAD)
        if crystals.compact is not None and crystals.compact.fits(folder):
            places, cosines = nearest(crystals.compact.project(made), crystals.compact.table, k)
        else:
            places, cosines = nearest(made, _vectors(crystals, vectors, settings), k, index)
        near = same_first(good, crystals, places, cosines)
    rows: list[dict[str, Any]] = []
    following = iter(near)
    for item in asked:
        rows += [_failed(item)] if item.error is not None else _rows(item, crystals, *next(following))
    columns = ["query", "rank", "similarity", "source", "scope", "shared", *crystals.labels.columns, "error"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def nearest(
    queries: Vectors, table: Vectors, k: int, index: str | os.PathLike[str] | None = None
) -> tuple[NDArray[np.int64], Vectors]:
    """Return the nearest vectors by cosine, the nearest first; equal ones in the order of the table.

    Args:
        queries: Shape (n, width).
        table: Shape (rows, width); rows of NaN are never found.
        k: How many for each query; fewer if the table has fewer.
        index: File of an approximate index; None: compare every vector.

    Returns:
        Rows of the table and cosines, each of shape (n, min(k, rows)).

    Raises:
        CloudError: The index cannot be used.
    """
    usable = np.flatnonzero(np.isfinite(table).all(axis=1))
    k = min(k, len(usable))
    units = _units(queries)
    if index is not None and k:
        compared = _units(table[usable])
        places, cosines = search_index(open_index(index, compared), compared, units, k)
        return usable[places], cosines
    places, cosines = np.zeros((len(queries), 0), dtype=np.int64), np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(usable), BLOCK):
        rows = usable[start : start + BLOCK]
        both = np.concatenate([cosines, units @ _units(table[rows]).T], axis=1)
        names = np.concatenate([places, np.broadcast_to(rows, (len(queries), len(rows)))], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        places, cosines = np.take_along_axis(names, order, 1), np.take_along_axis(both, order, 1)
    return places, cosines


def same_first(
    scopes: Sequence[str], collection: Collection, places: NDArray[np.int64], cosines: Vectors
) -> list[tuple[list[int], list[float]]]:
    """Put the crystal that has the very string of a query before the others, as compact vectors may not tell it so.

    Args:
        scopes: Strings of the queries.
        collection: What was searched in.
        places: From `nearest`.
        cosines: From `nearest`.

    Returns:
        For each query the rows of the collection and their cosines.
    """
    asked = set(scopes)
    place_of = {scope: place for place, scope in reversed(list(enumerate(collection.scopes))) if scope in asked}
    rows = []
    for scope, names, values in zip(scopes, places.tolist(), cosines.tolist(), strict=True):
        if scope in place_of and names and collection.scopes[names[0]] != scope:
            others = [pair for pair in zip(names, values, strict=True) if pair[0] != place_of[scope]][: len(names) - 1]
            names, values = [place_of[scope], *(name for name, _ in others)], [1.0, *(value for _, value in others)]
        rows.append((names, values))
    return rows


def shared_words(one: str, other: str) -> str:
    """Return what two strings of the grammar `sites` have in common, e.g. `space group, Na 4a, Cl 4b`."""
    heads, bodies = zip(*(text.split(" | ") for text in (one, other)), strict=True)
    pairs = [list(zip(body.split()[::2], body.split()[1::2], strict=True)) for body in bodies]
    same = dict.fromkeys(f"{element} {word}" for element, word in pairs[0] if (element, word) in pairs[1])
    elements = {element for element, _ in pairs[0]} & {element for element, _ in pairs[1]}
    rest = [element for element in dict.fromkeys(e for e, _ in pairs[0]) if element in elements]
    named = {text.split()[0] for text in same}
    return ", ".join([*(["space group"] if heads[0] == heads[1] else []), *same, *(e for e in rest if e not in named)])


def _units(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _vectors(collection: Collection, path: str | os.PathLike[str] | None, settings: dict[str, Any]) -> Vectors:
    """Vectors of a collection, from a file if it holds them."""
    if path is None:
        return embed(collection.scopes, **settings)
    hashes, made = string_hashes(collection.scopes).astype(np.int64), embed(collection.scopes[:1], **settings)
    if Path(path).is_file():
        try:
            stored = load_file(path)
            same = np.array_equal(stored["hashes"], hashes) and np.allclose(stored["vectors"][:1], made, atol=1e-3)
        except (SafetensorError, KeyError, OSError) as error:
            raise CloudError(f"cannot be read as vectors ({one_line(error)}); remove it.", source=str(path)) from error
        if not same:
            raise CloudError(
                "holds vectors of other crystals or of another model; name another file.", source=str(path)
            )
        return stored["vectors"]
    vectors = embed(collection.scopes, **settings)
    with new_file(path) as aside:
        save_file({"hashes": hashes, "vectors": vectors}, aside)
    return vectors


def _rows(item: Item, collection: Collection, places: Sequence[int], cosines: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {
            **{str(name): value for name, value in collection.labels.iloc[place].items()},
            "query": item.source, "rank": rank, "similarity": cosine, "source": collection.sources[place],
            "scope": collection.scopes[place], "shared": shared_words(str(item.scope), collection.scopes[place]),
        }
        for rank, (place, cosine) in enumerate(zip(places, cosines, strict=True), start=1)
    ]  # fmt: skip


def _failed(item: Item) -> dict[str, Any]:
    return {"query": item.source, "error": item.message}

"""An approximate index of vectors for collections above a million crystals: a graph of neighbours (HNSW), by usearch.

Building it takes longer than one exact search, so it is kept in a file. What it finds is ranked again by the exact
cosine.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import CloudError, one_line
from cloud_hf.files import new_file

__all__ = ["open_index", "search_index"]

CONNECTIONS, EFFORT = 32, 256
"""Edges of each vector, and vectors that are looked at when one is added or searched."""

SPARE = 4
"""The index is asked for this many times the neighbours that are wanted."""

CHECKED = 64
"""Vectors of a file that are compared with those of the collection."""

Vectors = NDArray[np.float32]


def open_index(path: str | os.PathLike[str], units: Vectors) -> Any:
    """Read the index of a file, or build it and write the file.

    Args:
        path: The file.
        units: Vectors of length 1, shape (n, width), n at least 1.

    Raises:
        CloudError: usearch is not installed, or the file holds something else.
    """
    try:
        from usearch.index import Index
    except ImportError as error:
        raise CloudError("an index needs usearch, which is not installed: pip install 'cloud-hf[search]'.") from error
    width = units.shape[1]
    settings = {"ndim": width, "metric": "cos", "dtype": "f16", "connectivity": CONNECTIONS}
    index: Any = Index(**settings, expansion_add=EFFORT, expansion_search=EFFORT)
    if Path(path).is_file():
        rows = np.unique(np.linspace(0, len(units) - 1, CHECKED).astype(np.int64))
        try:
            index.load(os.fspath(path))
            same = len(index) == len(units) and index.ndim == width
            same = same and np.allclose(np.array(index.get(rows), dtype=np.float32), units[rows], atol=5e-3)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CloudError(f"cannot be read as an index ({one_line(error)}); remove it.", source=str(path)) from error
        if not same:
            raise CloudError("is an index of other crystals or of another model; name another file.", source=str(path))
        return index
    index.add(np.arange(len(units)), units)
    with new_file(path) as aside:
        index.save(os.fspath(aside))
    return index


def search_index(index: Any, units: Vectors, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """Return the nearest vectors that the index finds, the nearest first.

    Args:
        index: From `open_index`.
        units: The vectors of the collection, of length 1, shape (n, width).
        queries: Vectors of length 1, shape (m, width).
        k: How many; at most n.

    Returns:
        Rows and cosines, each of shape (m, k).
    """
    wanted = min(SPARE * k, len(units))
    places = np.zeros((len(queries), k), dtype=np.int64)
    cosines = np.zeros((len(queries), k), dtype=np.float32)
    for row, query in enumerate(queries):
        near_places = np.asarray(index.search(query, wanted).keys, dtype=np.int64)
        if len(near_places) < k:  # parts of the graph may not be reached
            near_places = np.arange(len(units))
        exact = units[near_places] @ query
        best = np.argsort(-exact, kind="stable")[:k]
        places[row], cosines[row] = near_places[best], exact[best]
    return places, cosines

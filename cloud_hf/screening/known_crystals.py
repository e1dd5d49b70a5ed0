"""Known crystals that ship with the package: their strings, values from databases, and compact vectors.

The vectors are bound to the weights that made them: a file of vectors names the SHA-256 of the weights, and is not used
with others. `scripts/build_known_crystals.py` writes both files.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf.data.inputs import Item
from cloud_hf.files import new_file
from cloud_hf.inference.fast_model import FastPredictor

__all__ = [
    "CRYSTALS_FILE",
    "RECORD_FILE",
    "VECTORS_FILE",
    "CompactVectors",
    "known_crystals",
    "known_record",
    "vectors_of",
    "weights_digest",
]

CRYSTALS_FILE, VECTORS_FILE, RECORD_FILE = (f"known_crystals.{suffix}" for suffix in ("parquet", "safetensors", "json"))


STEPS = 127
"""Largest absolute value of a component, in steps of the row."""

Vectors = NDArray[np.float32]


def known_crystals() -> pd.DataFrame:
    """Return the known crystals of the package, each string once.

    Returns:
        Columns `id` (in its source), `formula`, `space_group`, `scope`, and values as `NAME (UNIT)`, NaN where the
        sources have none. `known_record()` says where they come from.
    """
    with as_file(files(__package__) / CRYSTALS_FILE) as path:
        return pd.read_parquet(path)


def known_record() -> dict[str, Any]:
    """Return what the table of known crystals holds, its sources and their licences."""
    record: dict[str, Any] = json.loads((files(__package__) / RECORD_FILE).read_text(encoding="utf-8"))
    return record


def weights_digest(folder: str) -> str | None:
    """Return the SHA-256 of a checkpoint's weights; None where the folder has no such file, as a Hub id."""
    path = Path(folder, SAFE_WEIGHTS_NAME)
    if not path.is_file():
        return None
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class CompactVectors:
    """Vectors of `cloud_hf.embed` in fewer dimensions and 8 bits, for cosines.

    Attributes:
        basis: Orthonormal columns onto which vectors are projected, shape (width, kept).
        steps: Projected vectors of length 1, in whole steps of each row, shape (rows, kept), int8.
        digest: SHA-256 of the weights.
    """

    basis: Vectors
    steps: NDArray[np.int8]
    digest: str

    @classmethod
    def of(cls, vectors: Vectors, kept: int, digest: str) -> "CompactVectors":
        """Keep the directions in which vectors of length 1 have the most weight.

        Args:
            vectors: Shape (rows, width).
            kept: Dimensions.
            digest: SHA-256 of the weights that gave them.
        """
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        _, directions = np.linalg.eigh(units.T.astype(np.float64) @ units)  # in rising order
        basis = directions[:, : -kept - 1 : -1].astype(np.float16).astype(np.float32)
        projected = units @ basis
        scale = STEPS / np.abs(projected).max(axis=1, keepdims=True)
        return cls(basis, np.rint(projected * scale).astype(np.int8), digest)

    @classmethod
    def bundled(cls) -> "CompactVectors":
        """Return those of `known_crystals()`, row by row."""
        with as_file(files(__package__) / VECTORS_FILE) as path:
            return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "CompactVectors":
        """Read what `save` wrote."""
        with safe_open(path, framework="numpy") as kept:
            basis = kept.get_tensor("basis").astype(np.float32)
            return cls(basis, kept.get_tensor("steps"), kept.metadata()["weights"])

    def save(self, path: Path) -> None:
        """Write a `.safetensors` file."""
        with new_file(path) as aside:
            save_file({"basis": self.basis.astype(np.float16), "steps": self.steps}, aside, {"weights": self.digest})

    def fits(self, folder: str) -> bool:
        """Tell whether a checkpoint has the weights that gave the vectors."""
        return weights_digest(folder) == self.digest

    @property
    def table(self) -> Vectors:
        """The vectors, of any length, shape (rows, kept)."""
        return self.steps.astype(np.float32)

    def project(self, vectors: Vectors) -> Vectors:
        """Bring vectors of `cloud_hf.embed` into the same dimensions, shape (n, kept)."""
        return np.asarray(vectors @ self.basis, dtype=np.float32)


@torch.inference_mode()
def vectors_of(predictor: FastPredictor, scopes: Sequence[str], batch_size: int = 256) -> Vectors:
    """Return the vectors of `cloud_hf.embed` from a model that is loaded already, shape (len(scopes), width).

    Args:
        predictor: The model.
        scopes: Strings that it can read.
        batch_size: Strings per forward pass.
    """
    order = sorted(range(len(scopes)), key=lambda place: len(scopes[place]))  # little padding
    parts: list[Vectors] = []
    for start in range(0, len(order), batch_size):
        items = [Item(scopes[place], scope=scopes[place], n_atoms=1.0) for place in order[start : start + batch_size]]
        parts.append(predictor.states(predictor.collate(items)).float().numpy())
    vectors: Vectors = np.empty((len(scopes), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors

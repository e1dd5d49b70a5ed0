"""Which strings are those of known crystals: a sorted array of hashes, 8 bytes a crystal."""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.inputs import encode_items, iterate_items
from cloud_hf.errors import CloudError
from cloud_hf.files import new_file
from cloud_hf.scope import TIMEOUT, ScopeEncoder

__all__ = ["HASH", "KNOWN_FILE", "KnownStrings", "string_hashes"]

KNOWN_FILE = "known_strings.parquet"
HASH = "hash"


def string_hashes(scopes: Iterable[str]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each string; two of a million strings share one with a probability of 3e-8."""
    digests = b"".join(hashlib.blake2b(scope.encode(), digest_size=8).digest() for scope in scopes)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


class KnownStrings:
    """Strings of known crystals.

    Args:
        hashes: From `string_hashes`, in any order.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = np.unique(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def bundled(cls) -> "KnownStrings":
        """Return those of the crystals of the Materials Project that the package knows."""
        with as_file(files(__package__) / KNOWN_FILE) as path:
            return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "KnownStrings":
        """Read what `save` wrote."""
        return cls(pd.read_parquet(path)[HASH].to_numpy(dtype=np.uint64))

    def save(self, path: Path) -> None:
        """Write the hashes to a Parquet file."""
        with new_file(path) as aside:
            pd.DataFrame({HASH: self._hashes}).to_parquet(aside, index=False)

    def and_of(self, inputs: Sequence[str], processes: int = 1, timeout: float | None = TIMEOUT) -> "KnownStrings":
        """Return these and those of the user's crystals.

        Args:
            inputs: Tables with a column `scope` or structures, crystal files, folders.
            processes: Worker processes that encode crystals.
            timeout: Longest time for one crystal, s; None sets no limit.

        Raises:
            CloudError: An input that holds no crystal that can be read.
        """
        hashes, last = [self._hashes], None
        for given in inputs:
            scopes = []
            for item in encode_items(iterate_items([given]), ScopeEncoder(), processes, timeout):
                if item.error is None:
                    scopes.append(str(item.scope))
                else:
                    last = item.error
            if not scopes:
                raise CloudError(f"holds no crystal that can be read{f' ({last})' if last else ''}.", source=str(given))
            hashes.append(string_hashes(scopes))
        return KnownStrings(np.concatenate(hashes))

    def and_strings(self, scopes: Iterable[str]) -> "KnownStrings":
        """Return these and further canonical `sites` strings."""
        return KnownStrings(np.concatenate([self._hashes, string_hashes(scopes)]))

    def holds(self, scopes: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which strings are known, shape (len(scopes),)."""
        return np.isin(string_hashes(scopes), self._hashes)

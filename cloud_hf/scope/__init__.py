"""From a `Cell` to its SCOPE string and back to numbers: symmetry search, canonical form, grammar."""

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.opening import read_cells
from cloud_hf.crystals.readers import MAX_ATOMS, Crystal, read_cell, read_crystal
from cloud_hf.parallel.batch import TIMEOUT, encode_batch
from cloud_hf.scope.encoder import EncodedCrystal, ScopeEncoder
from cloud_hf.scope.explanation import Phrase, Word, explain
from cloud_hf.scope.grammar import Scope, parse
from cloud_hf.scope.pairing import sites_scope

__all__ = [
    "MAX_ATOMS",
    "TIMEOUT",
    "Cell",
    "Crystal",
    "EncodedCrystal",
    "Phrase",
    "Scope",
    "ScopeEncoder",
    "Word",
    "encode_batch",
    "explain",
    "parse",
    "read_cell",
    "read_cells",
    "read_crystal",
    "sites_scope",
]

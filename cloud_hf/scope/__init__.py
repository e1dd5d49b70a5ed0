"""Structure to SCOPE string: readers, symmetry, grammar."""

from cloud_hf.scope.batch import encode_batch
from cloud_hf.scope.cell import Cell
from cloud_hf.scope.encoder import EncodedCrystal, ScopeEncoder
from cloud_hf.scope.grammar import Scope, parse
from cloud_hf.scope.pairing import sites_scope
from cloud_hf.scope.readers import Crystal, read_cell, read_cells, read_crystal

__all__ = [
    "Cell",
    "Crystal",
    "EncodedCrystal",
    "Scope",
    "ScopeEncoder",
    "encode_batch",
    "parse",
    "read_cell",
    "read_cells",
    "read_crystal",
    "sites_scope",
]

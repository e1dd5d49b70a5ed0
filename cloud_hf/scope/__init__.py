"""Structure to SCOPE string: readers, symmetry, grammar."""

from cloud_hf.scope.encoder import EncodedCrystal, ScopeEncoder
from cloud_hf.scope.readers import Crystal, read_crystal

__all__ = ["Crystal", "EncodedCrystal", "ScopeEncoder", "read_crystal"]

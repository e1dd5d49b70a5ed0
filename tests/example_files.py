"""The files of `examples/`; what is like others is left to the longer tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.cif"))
"""The example crystals, CIF files."""

LIKE_OTHERS = {
    "Al", "Fe", "Au", "Ge", "GaAs", "CsCl", "ZnS_sphalerite", "LiF", "CaF2_fluorite", "PbTe", "MgAl2O4_spinel",
    "BaTiO3", "LiFePO4_triphylite",
}  # fmt: skip
"""Examples of simple structures, which would make tests over all examples longer and no harder."""

EACH_EXAMPLE = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in LIKE_OTHERS else ()) for path in EXAMPLES
]
"""For `parametrize`: every example in `make test-long`, those unlike others in `make test`."""


@cache
def learn_symmetry() -> None:
    """Encode the examples in this process, once.

    The worker of each command or function is a fork, and would otherwise learn the symmetry of the same few space
    groups again, which takes it ten times as long as the crystals themselves.
    """
    from cloud_hf.data.inputs import collect_items, encode_items
    from cloud_hf.scope import ScopeEncoder

    items = collect_items([str(path) for path in EXAMPLES if path.stem not in LIKE_OTHERS])
    assert not [row.message for row in encode_items(items, ScopeEncoder(), timeout=None) if row.error]

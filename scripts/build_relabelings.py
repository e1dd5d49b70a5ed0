"""Write cloud_hf/scope/wyckoff_relabelings.json: what the package needs to know about Wyckoff letters.

The facts come from pymatgen (`pymatgen.analysis.prototypes`, tables of the `aviary` package; Goodall et al.,
Sci. Adv. 8, eabn4117, 2022) and from spglib (Hermann-Mauguin symbols). Importing the pymatgen module takes
seconds, reading this file a millisecond. Per space group:

- `symbol`: short Hermann-Mauguin symbol;
- `multiplicities`: atoms per conventional cell, one number per letter, from `a` on (the 27th letter is `A`);
- `free`: free coordinates of each position, 0 to 3;
- `generators`: letter permutations that generate all relabellings under the affine normaliser; the n-th
  character is the new name of the n-th letter.

Run it when pymatgen's tables change: `python scripts/build_relabelings.py`.
"""

import json
from pathlib import Path

import spglib
from pymatgen.analysis.prototypes import (
    WYCKOFF_MULTIPLICITY_DICT,
    WYCKOFF_POSITION_PARAM_DICT,
    WYCKOFF_POSITION_RELAB_DICT,
)

from cloud_hf.scope._relabelings import LETTERS, generated_group

TARGET = Path(__file__).parent.parent / "cloud_hf" / "scope" / "wyckoff_relabelings.json"
N_HALL_SYMBOLS = 530


def space_group_symbols() -> dict[int, str]:
    """Return the short Hermann-Mauguin symbol of each space group in spglib's default setting."""
    symbols: dict[int, str] = {}
    for hall_number in range(1, N_HALL_SYMBOLS + 1):
        kind = spglib.get_spacegroup_type(hall_number)
        if kind is not None:
            symbols.setdefault(kind.number, kind.international_short)
    return symbols


def permutations_of(space_group: int) -> set[str]:
    """Return pymatgen's relabellings of a space group as strings."""
    n_letters = len(WYCKOFF_MULTIPLICITY_DICT[str(space_group)])
    letters = LETTERS[:n_letters]
    tables = WYCKOFF_POSITION_RELAB_DICT[str(space_group)]
    return {letters.translate(table) for table in tables}


def few_generators(permutations: set[str]) -> list[str]:
    """Pick permutations greedily until they generate all of the set (or its closure, if it is no group)."""
    chosen: list[str] = []
    reached = generated_group(chosen, len(next(iter(permutations))))
    while not permutations <= reached:
        candidates = sorted(permutations - reached)
        best = max(candidates, key=lambda new: len(generated_group([*chosen, new], len(new))))
        chosen.append(best)
        reached = generated_group(chosen, len(best))
    return chosen


def main() -> None:
    """Extract the tables, say where they are no groups, and write the file: one line per space group."""
    symbols = space_group_symbols()
    lines = []
    for space_group in range(1, 231):
        multiplicities = WYCKOFF_MULTIPLICITY_DICT[str(space_group)]
        letters = LETTERS[: len(multiplicities)]
        permutations = permutations_of(space_group)
        generators = few_generators(permutations)
        if (closure := generated_group(generators, len(letters))) != permutations:
            print(f"{space_group}: {len(permutations)} relabellings are no group; their closure has {len(closure)}.")
        row = {
            "symbol": symbols[space_group],
            "multiplicities": [multiplicities[letter] for letter in letters],
            "free": [WYCKOFF_POSITION_PARAM_DICT[str(space_group)][letter] for letter in letters],
            "generators": generators,
        }
        lines.append(f'"{space_group}": {json.dumps(row, separators=(",", ":"))}')
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""The strings that the bundled masked language model learns.

`python scripts/bundle_rows.py --split DIR --output runs/bundle` reads what `cloud-hf split` made of the tables, and
writes

- `corpus.parquet`: distinct canonical `sites` strings for masked-language modelling;
- `rows.json`: how many rows and strings there are of what, and why others are left out.

No crystal of the paper's two small tables, no validation crystal and none of WBM is in the corpus.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from cloud_hf.errors import ScopeError
from cloud_hf.scope.pairing import sites_scope

UNLABELLED = ("materials_project", "lemat", "jarvis", "mp_elastic", "published_scope_10k")
SMALL = ("heat_capacity_structures_train", "heat_capacity_train", "dielectric_fold0_train")
MAX_WORDS = 126
"""[CLS] and [SEP] make 128."""


def split_of(split: Path, table: str) -> pd.DataFrame:
    """Rows that have a string, with `scope` in the grammar `sites`; None there where it cannot be told."""
    rows = pd.read_parquet(split / f"{table}.split.parquet")
    rows = rows[rows.error.isna()].copy()
    rows["scope"] = [_sites(text) for text in rows.scope]
    return rows


def _sites(text: str) -> str | None:
    try:
        return str(sites_scope(text))
    except ScopeError:
        return None


def write_corpus(split: Path, output: Path, excluded: set[str], counts: dict[str, dict[str, int]]) -> None:
    """Write distinct strings in a seeded order."""
    strings: dict[str, None] = {}
    for table in UNLABELLED:
        rows = split_of(split, table)
        kept = rows[rows.scope.notna() & ~rows.group.isin(excluded)]
        usable = [scope for scope in kept.scope if len(scope.split()) <= MAX_WORDS]
        before = len(strings)
        strings |= dict.fromkeys(usable)
        counts[f"corpus: {table}"] = {
            "rows": len(rows),
            "without a sites string": int(rows.scope.isna().sum()),
            "excluded crystals": int((rows.scope.notna() & rows.group.isin(excluded)).sum()),
            "too long": len(kept) - len(usable),
            "new strings": len(strings) - before,
        }
    order = np.random.default_rng(0).permutation(len(strings))
    lines = list(strings)
    pd.DataFrame({"scope": [lines[index] for index in order]}).to_parquet(output / "corpus.parquet", index=False)
    counts["corpus"] = {"strings": len(lines)}


def main() -> None:
    """Write the strings and how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, required=True, help="folder that cloud-hf split wrote")
    parser.add_argument("--output", type=Path, default=Path("runs/bundle"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    small = {group for table in SMALL for group in split_of(arguments.split, table).group}
    everywhere = [pd.read_parquet(path) for path in sorted(arguments.split.glob("*.split.parquet"))]
    validation = {group for rows in everywhere for group in rows[rows.part == "validation"].group}
    wbm = set(split_of(arguments.split, "wbm").group)
    counts: dict[str, dict[str, int]] = {}
    write_corpus(arguments.split, arguments.output, small | validation | wbm, counts)
    (arguments.output / "rows.json").write_text(json.dumps(counts, indent=1) + "\n")
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()

"""What the encoder of the bundled model learns first: strings without labels, and labelled rows of the large tables.

`python scripts/bundle_rows.py --data DIR --split DIR --output runs/bundle` reads the labelled tables and what
`cloud-hf split` made of them, and writes

- `corpus.parquet`: distinct canonical `sites` strings for masked-language modelling;
- `multitask.parquet`: a row per crystal of a table, all labels that may train the shared encoder, and its part;
- `rows.json`: how many rows and strings there are of what, and why others are left out.

No crystal of the paper's two small tables, no validation crystal and none of WBM is in the corpus or among the training
rows of the multi-task table, so that the folds of the joint training can be scored on these crystals.
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

LABELS: dict[str, dict[str, str]] = {
    "materials_project": {
        "formation_energy_per_atom": "formation_energy_per_atom",
        "band_gap": "band_gap",
        "megnet2018_e_form": "megnet2018_e_form",
        "megnet2018_gap_pbe": "megnet2018_gap_pbe",
    },
    "mp_elastic": {"K_Voigt": "bulk_modulus", "G_Voigt": "shear_modulus"},
    "jarvis": {
        "bulk_modulus_kv": "bulk_modulus",
        "shear_modulus_gv": "shear_modulus",
        "formation_energy_peratom": "jarvis_formation_energy",
        "optb88vdw_bandgap": "jarvis_band_gap",
        "ph_heat_capacity_per_atom": "jarvis_heat_capacity",
    },
}
"""Column of each table: name of the target that it is a label of."""

PARTS = ("train", "validation")

TARGETS = tuple(dict.fromkeys(name for columns in LABELS.values() for name in columns.values()))


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


def write_multitask(data: Path, split: Path, output: Path, small: set[str], counts: dict[str, dict[str, int]]) -> None:
    """Write the labelled rows of all tables below each other, training and validation."""
    tables = []
    for table, columns in LABELS.items():
        labels = pd.read_parquet(data / f"{table}.parquet", columns=list(columns))
        rows = split_of(split, table)
        rows = rows[rows.scope.notna()]
        frame = rows[["id", "scope", "group", "part"]].assign(table=table)
        for column, name in columns.items():
            frame[name] = labels[column].to_numpy()[rows.row]
        fits = np.array([len(scope.split()) <= MAX_WORDS for scope in frame.scope])
        seen = ~frame.group.isin(small) | (frame.part == "validation")
        tables.append(frame[fits & seen])
        counts[f"multitask: {table}"] = {"rows": len(frame), "too long": int((~fits).sum()), "kept": len(tables[-1])}
    whole = pd.concat(tables, ignore_index=True).reindex(columns=["id", "table", "scope", "group", "part", *TARGETS])
    # a modulus of a mechanically unstable crystal is no stiffness
    for name in ("bulk_modulus", "shear_modulus", "jarvis_heat_capacity"):
        whole.loc[whole[name] <= 0.5, name] = np.nan
    whole = whole[whole[list(TARGETS)].notna().any(axis=1)]
    whole.to_parquet(output / "multitask.parquet", index=False)
    for table in LABELS:
        counts[f"multitask: {table}"]["train"] = int(((whole.table == table) & (whole.part == "train")).sum())
    for name in TARGETS:
        counts[f"label: {name}"] = {part: int(whole[whole.part == part][name].notna().sum()) for part in PARTS}


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled tables")
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
    write_multitask(arguments.data, arguments.split, arguments.output, small | wbm, counts)
    (arguments.output / "rows.json").write_text(json.dumps(counts, indent=1) + "\n")
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()

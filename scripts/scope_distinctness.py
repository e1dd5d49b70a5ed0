"""SCOPE strings against protostructure labels over all tables; a section of `benchmark_scope.py`.

Two crystals should share a `sites` string if and only if they share pymatgen's protostructure label, and what a
grammar's strings cannot tell apart sets a floor under the error of every model that reads them.
"""

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarking import show
from pymatgen.analysis.prototypes import canonicalize_element_wyckoffs
from pymatgen.core import Element
from redescriptions import ANGLE_TOLERANCE, ENCODERS, SYMPREC, Arrays, SharedSearch, load_arrays
from scope_invariance import TIMEOUT, TITLES

from cloud_hf import CloudError, ScopeEncoder
from cloud_hf.data.tables import write_table
from cloud_hf.errors import EncoderFailureError, EncodingTimeoutError, WorkerDiedError
from cloud_hf.parallel.batch import encode_batch
from cloud_hf.scope.canonical import ELEMENT_ORDER, ELEMENT_RANK

__all__ = ["distinctness"]

PACKAGE = Path(__file__).resolve().parents[1] / "cloud_hf"

TABLES = (
    *("heat_capacity_structures_train", "jarvis", "mp_elastic", "nomad2018", "wbm"),
    *("aflow_agl", "materials_project", "lemat", "carbon24", "published_parity"),
)
UNFORESEEN = (EncoderFailureError, EncodingTimeoutError, WorkerDiedError)
GRAMMARS: dict[str, dict[str, Any]] = {**ENCODERS, "full": {"grammar": "full"}}

LABELS = {  # unit -> columns, from the README of the shared data
    "eV/atom": "formation_energy_per_atom e_above_hull megnet2018_e_form formation_energy_peratom ehull",
    "eV/cation": "formation_energy_ev_natom",
    "eV": "band_gap megnet2018_gap_pbe optb88vdw_bandgap bandgap_energy_ev",
    "GPa": "bulk_modulus_kv shear_modulus_gv bulk_modulus shear_modulus K_Voigt G_Voigt",
    "J/(mol atom K)": "ph_heat_capacity_per_atom cv_100K_per_atom cv_300K_per_atom cv_500K_per_atom cv_1000K_per_atom",
    "J/(mol cell K)": "cloud_cv_J_molcell_K",
    "K": "debye_temperature",
    "1/K": "thermal_expansion",
    "W/(m K)": "thermal_conductivity",
    "1": "epsx epsy epsz",
}
UNITS = {column: unit for unit, columns in LABELS.items() for column in columns.split()}


class LabelJob:
    """Encode a crystal in every grammar and label it with pymatgen, from one symmetry data set; for `encode_batch`."""

    def __init__(self) -> None:
        self.encoders = {name: ScopeEncoder(**settings) for name, settings in GRAMMARS.items()}

    def describe(self, crystal: Arrays) -> Any:
        """Return the strings by grammar, and the `label`."""
        with SharedSearch() as search:
            row: dict[str, Any] = {"sites": self.encoders["sites"].encode(crystal)}
            if search.dataset is None:  # the encoder knows cubic crystals without asking
                types = [ELEMENT_RANK[Element.from_Z(int(number)).symbol] + 1 for number in crystal.numbers]
                search((crystal.lattice, crystal.frac_coords, types), symprec=SYMPREC, angle_tolerance=ANGLE_TOLERANCE)
            row["label"] = _label(search, row["sites"])
            return row | {key: encoder.encode(crystal) for key, encoder in self.encoders.items() if key not in row}


def _label(search: SharedSearch, scope: str) -> str:
    """Protostructure label of the crystal that was searched last: space group, letters per element, elements.

    Formula and Pearson symbol, with which pymatgen's label begins, follow from these and are left out. Only the
    letters that spglib gave go in; the choice among equivalent letters is pymatgen's.
    """
    _, first = np.unique(search.dataset.crystallographic_orbits, return_index=True)
    orbits = [(ELEMENT_ORDER[search.cell[2][i] - 1], search.dataset.wyckoffs[i]) for i in first]
    if sorted(element for element, _ in orbits) != sorted(scope.split("|")[1].split()[::2]):
        raise RuntimeError(f"The orbits of the data set are not those of {scope!r}.")
    letters: dict[str, Counter[str]] = defaultdict(Counter)
    for element, letter in orbits:
        letters[element][letter] += 1
    elements = sorted(letters)
    wyckoffs = "_".join("".join(f"{n}{letter}" for letter, n in sorted(letters[e].items())) for e in elements)
    number = int(search.dataset.number)
    return f"{number}_{canonicalize_element_wyckoffs(wyckoffs, number)}:{'-'.join(elements)}"


def _step(args: argparse.Namespace) -> int:
    """Every how manieth row of the tables counts."""
    return 40 if args.quick else 1


def _encoded_table(path: Path, args: argparse.Namespace) -> pd.DataFrame:
    """Return the rows of a table with their strings and label, from the temporary folder if they are there."""
    sources = sorted([Path(__file__), *(PACKAGE / "scope").glob("*.*")])
    parts = [path.read_bytes(), *(source.read_bytes() for source in sources), str(args.quick).encode()]
    parts += [LabelJob().encoders[key].settings.encode() for key in GRAMMARS]
    cache = args.cache / f"{path.stem}-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.parquet"
    if cache.is_file():
        return pd.read_parquet(cache)
    print(f"{path.stem}:", flush=True)
    crystals = load_arrays(path)[:: _step(args)]
    arrays = [cell for _, cell in crystals]
    outcomes: list[Any] = list(encode_batch(LabelJob(), arrays, args.processes, timeout=TIMEOUT, progress=True))
    rows = [
        {"id": f"{path.stem}/{name}"} | ({"error": str(outcome)} if isinstance(outcome, CloudError) else outcome)
        for (name, _), outcome in zip(crystals, outcomes, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["id", "label", *GRAMMARS, "error"])
    if any(isinstance(outcome, UNFORESEEN) for outcome in outcomes):
        return table  # a fault of the program or the machine, not of the crystal: try again next time
    write_table(table, cache)
    return table


def _violations(table: pd.DataFrame, one: str, other: str) -> list[dict[str, Any]]:
    """Values of `one` that go with several of `other`, each with up to five ids."""
    several = table.groupby(one)[other].transform("nunique") > 1
    return [
        {one: value, other: {str(key): list(ids)[:5] for key, ids in group.groupby(other)["id"]}}
        for value, group in table[several].groupby(one)
    ]


def _collisions(table: pd.DataFrame, grammar: str) -> dict[str, Any]:
    groups = table.groupby(grammar)
    return {
        "n": len(table),
        "strings": int(table[grammar].nunique()),
        "shared_with_another_protostructure": float((groups["label"].transform("nunique") > 1).mean()),
        "shared_with_any_other_row": float((groups["label"].transform("size") > 1).mean()),
    }


def _irreducible(values: pd.Series, strings: pd.Series) -> dict[str, Any]:
    """MAE of the per-string median, over all rows and over those whose string occurs more than once."""
    groups = values.groupby(strings)
    errors = (values - groups.transform("median")).abs()
    shared = groups.transform("size") > 1
    mae_shared = float(errors[shared].mean()) if shared.any() else None
    return {"mae": float(errors.mean()), "n_shared": int(shared.sum()), "mae_shared": mae_shared}


def _label_errors(path: Path, encoded: pd.DataFrame, step: int) -> Iterator[dict[str, Any]]:
    labels = pd.read_parquet(path).iloc[::step]
    for column, unit in UNITS.items():
        if column not in labels:
            continue
        values = labels[column].astype(float).reset_index(drop=True)
        values = values[np.isfinite(values) & encoded["error"].isna()]
        if not len(values):
            continue
        mad = float((values - values.mean()).abs().mean())
        by_grammar = {key: _irreducible(values, encoded[key].loc[values.index]) for key in GRAMMARS}
        yield {"table": path.stem, "column": column, "unit": unit, "n": len(values), "mad": mad} | by_grammar


def distinctness(args: argparse.Namespace) -> dict[str, Any]:
    """Strings against protostructure labels over all tables, and what each grammar cannot tell apart."""
    paths = [args.tables / f"{name}.parquet" for name in TABLES]
    tables = {path.stem: _encoded_table(path, args) for path in paths}
    everything = pd.concat(tables.values(), ignore_index=True)
    good = everything[everything["error"].isna()]
    if good.empty:
        raise SystemExit(f"No crystal could be encoded: {everything['error'].iloc[0]}")
    no_carbon = good[~good["id"].str.startswith("carbon24/")]  # one composition, few space groups: it would dominate
    one_string, one_label = _violations(good, "sites", "label"), _violations(good, "label", "sites")
    result: dict[str, Any] = {
        "settings": {key: ScopeEncoder(**settings).settings for key, settings in GRAMMARS.items()},
        "n": len(good),
        "n_by_table": {name: len(table) for name, table in tables.items()},
        "refused": everything[everything["error"].notna()][["id", "error"]].to_dict("records"),
        "strings": int(good["sites"].nunique()),
        "labels": int(good["label"].nunique()),
        "one_string_several_labels": one_string,
        "one_label_several_strings": one_label,
        "collisions": {key: _collisions(good, key) for key in GRAMMARS},
        "collisions_without_carbon24": {key: _collisions(no_carbon, key) for key in GRAMMARS},
        "irreducible": [error for path in paths for error in _label_errors(path, tables[path.stem], _step(args))],
    }
    _show_distinctness(result)
    return result


def _show_distinctness(result: dict[str, Any]) -> None:
    headers = ["crystals", "refused", "sites strings", "labels", "1 string, 2+ labels", "1 label, 2+ strings"]
    kinds = ("one_string_several_labels", "one_label_several_strings")
    counts = [
        result["n"],
        len(result["refused"]),
        result["strings"],
        result["labels"],
        *(len(result[k]) for k in kinds),
    ]
    show("Strings against pymatgen's protostructure labels", [counts], headers)
    for kind in kinds:
        for violation in result[kind]:
            print(f"  {kind}: {json.dumps(violation)}")
    for row in result["refused"][:20]:
        print(f"  refused: {row['id']}: {row['error']}")
    shares = ("shared_with_another_protostructure", "shared_with_any_other_row")
    for title, figures in (
        ("Collisions", "collisions"),
        ("Collisions without carbon24", "collisions_without_carbon24"),
    ):
        rows = [
            [TITLES[key], row["n"], row["strings"], *(100 * row[share] for share in shares)]
            for key, row in result[figures].items()
        ]
        headers = ["grammar", "N", "strings", "shared with another protostructure, %", "with any other row, %"]
        show(title, rows, headers, ".2f")
    names = list(TITLES.values())
    errors, headers = result["irreducible"], ["table", "label", "unit", "N", "MAD"]
    start = [[row[key] for key in ("table", "column", "unit", "n", "mad")] for row in errors]
    rows = [[*first, *(row[key]["mae"] for key in GRAMMARS)] for first, row in zip(start, errors, strict=True)]
    show("Irreducible MAE, all rows", rows, [*headers, *names])
    rows = [
        [*first, *(row[key][figure] for key in GRAMMARS for figure in ("n_shared", "mae_shared"))]
        for first, row in zip(start, errors, strict=True)
    ]
    headers += [text for name in names for text in (f"N {name}", "MAE")]
    show("Irreducible MAE, rows that share a string", rows, headers)

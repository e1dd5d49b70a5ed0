"""Measure the SCOPE encoder: invariance, distinctness and speed, with the paper's procedure beside it.

    python scripts/benchmark_scope.py [--data DIR] [--out FILE] [--crystals N] [--only SECTION ...] [--quick]
                                      [--processes N] [--seed N]

Prints tables and writes them as JSON; sections that are not run again keep their old figures in the file.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import random
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one core is one thread; read when the libraries are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import pandas as pd
import torch
from pymatgen.analysis.prototypes import canonicalize_element_wyckoffs
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from redescriptions import ENCODERS, KINDS, Arrays, RedescriptionJob, SharedSearch, load_arrays, summarise
from tabulate import tabulate
from transformers import AutoTokenizer

from cloud_hf import CloudError, ScopeEncoder, ScopeTokenizer
from cloud_hf.errors import EncoderFailureError, EncodingTimeoutError, WorkerDiedError
from cloud_hf.scope.batch import encode_batch
from cloud_hf.scope.canonical import ELEMENT_ORDER

ROOT = Path(__file__).resolve().parents[1]
TEMPORARY = Path(tempfile.gettempdir()) / "cloud_scope_benchmark"
PACKAGES = ("cloud-hf", "numpy", "spglib", "moyopy", "pymatgen", "gemmi", "transformers", "tokenizers", "torch")
MAX_SITES = 60
"""Sites in a cell of the invariance and speed samples; its 2x2x2 supercell has eight times as many."""
SMALL_SITES = 20
"""Sites in the smaller cells of the speed section, about 10 on average, as in MP-20."""
TIMEOUT = 600.0
"""s for one crystal with everything that is asked about it."""

RATES = ("", ",.0f", ".2f")
TABLES = (
    *("heat_capacity_structures_train", "jarvis", "mp_elastic", "nomad2018", "wbm"),
    *("aflow_agl", "materials_project", "lemat", "carbon24", "published_parity"),
)
UNFORESEEN = (EncoderFailureError, EncodingTimeoutError, WorkerDiedError)
GRAMMARS: dict[str, dict[str, Any]] = {**ENCODERS, "full": {"grammar": "full"}}
TITLES = {"sites": "sites", "composition": "composition", "paper": "composition as released", "full": "full"}

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


def show(title: str, rows: list[list[Any]], headers: list[str], floatfmt: str | tuple[str, ...] = ".4g") -> None:
    """Print one table."""
    print(f"\n{title}\n\n{tabulate(rows, headers=headers, tablefmt='github', floatfmt=floatfmt)}")


# ------------------------------------------------------------------------------------------------ 1. invariance


def invariance(args: argparse.Namespace) -> dict[str, Any]:
    """Share of re-descriptions that keep the string, on raw and on symmetry-idealised crystals."""
    crystals = [pair for pair in load_arrays(args.tables / "materials_project.parquet") if len(pair[1][1]) <= MAX_SITES]
    sample = random.Random(args.seed).sample(crystals, min(args.crystals, len(crystals)))
    result: dict[str, Any] = {
        "table": "materials_project",
        "max_sites": MAX_SITES,
        "settings": {name: ScopeEncoder(**settings).settings for name, settings in ENCODERS.items()},
    }
    for condition in ("raw", "idealised"):
        job = RedescriptionJob(idealised=condition == "idealised")
        found = summarise(encode_batch(job, sample, args.processes, timeout=TIMEOUT, progress=True))
        result[condition] = found
        lines = {**found["kinds"], f"all {len(KINDS) - 1} kinds without the noise": found["all_kinds"]}
        rows = [[kind, line["n"], *(_percent(line[key]) for key in ENCODERS)] for kind, line in lines.items()]
        title = (
            f"Strings kept, % of re-descriptions: {found['n']} {condition} crystals, {len(found['refused'])} refused"
        )
        show(title, rows, ["re-description", "N", *(TITLES[key] for key in ENCODERS)], ".2f")
        changed = [
            [
                entry["id"],
                entry["kind"],
                " and ".join(entry["grammars"]),
                *entry["space_groups"],
                ", ".join(f"{number} at {tolerance}" for tolerance, number in entry["at_tolerances"].items()),
            ]
            for entry in found["changed"]
        ]
        headers = ["crystal", "kind", "grammar", "space group", "after", "space group by tolerance (Å)"]
        show(f"Strings that changed, {condition} crystals: {len(changed)}", changed, headers)
    return result


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


# ---------------------------------------------------------------------------------------------- 2. distinctness


class LabelJob:
    """Encode a crystal in every grammar and label it with pymatgen, from one symmetry data set; for `encode_batch`."""

    def __init__(self) -> None:
        self.encoders = {name: ScopeEncoder(**settings) for name, settings in GRAMMARS.items()}

    def describe(self, crystal: Arrays) -> Any:
        """Return the strings by grammar, and the `label`."""
        with SharedSearch() as search:
            row: dict[str, Any] = {"sites": self.encoders["sites"].encode(crystal)}
            row["label"] = _label(search, row["sites"])
            return row | {key: encoder.encode(crystal) for key, encoder in self.encoders.items() if key not in row}


def _label(search: SharedSearch, scope: str) -> str:
    """Protostructure label of the crystal that was searched last: space group, letters per element, elements.

    Formula and Pearson symbol, with which pymatgen's label begins, follow from these and are left out. Only the
    letters that spglib gave go in; the choice among equivalent letters is pymatgen's.
    """
    if search.dataset is None:
        raise RuntimeError("The encoder did not ask spglib.get_symmetry_dataset, so there is no data set to label.")
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
    sources = sorted([Path(__file__), *(ROOT / "cloud_hf" / "scope").glob("*.*")])
    parts = [path.read_bytes(), *(source.read_bytes() for source in sources), str(args.quick).encode()]
    parts += [LabelJob().encoders[key].settings.encode() for key in GRAMMARS]
    cache = TEMPORARY / f"{path.stem}-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.parquet"
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
    cache.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(cache.with_suffix(".tmp"))
    cache.with_suffix(".tmp").replace(cache)
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


# ----------------------------------------------------------------------------------------------------- 3. speed


def interleaved(
    methods: dict[str, Callable[[Any], object]], items: Sequence[Any], rounds: int, chunk: int
) -> dict[str, Any]:
    """Time methods on the same items in turn, so that whatever else the machine does meets all of them.

    Args:
        methods: Name → function of a chunk of items; the first one is the reference.
        items: What to work on.
        rounds: Passes over all items.
        chunk: Items that one method takes before it is the next one's turn.

    Returns:
        Per method the median `rate` (items/s) and the median over the rounds of the `ratio` to the reference.
    """
    seconds: dict[str, list[float]] = {name: [0.0] * rounds for name in methods}
    names = list(methods)
    for name in names:  # load tables; not with the first items, as pymatgen remembers its last 32 symmetry searches
        methods[name](items[-20:])
    for turn in range(rounds):
        for start in range(0, len(items), chunk):
            names.append(names.pop(0))
            for name in names:
                begin = time.perf_counter()
                methods[name](items[start : start + chunk])
                seconds[name][turn] += time.perf_counter() - begin
    reference = np.array(seconds[next(iter(methods))])
    return {
        name: {
            "rate": float(len(items) / np.median(spent)),
            "ratio": float(np.median(reference / spent)),
            "rounds": rounds,
        }
        for name, spent in seconds.items()
    }


class PaperProcedure:
    """The released encoder's way from a file to a string: pymatgen's parser, its symmetry analyser, two tables."""

    def __init__(self, published: Path) -> None:
        self.generators = json.loads((published / "generator.json").read_text())
        self.multiplicities = json.loads((published / "wyckoff-position-multiplicities.json").read_text())

    def encode(self, path: Path) -> str:
        """Return the composition string of a CIF, sites and elements in the order of the file."""
        structure = Structure.from_file(path)
        dataset = SpacegroupAnalyzer(structure, symprec=0.01, angle_tolerance=5).get_symmetry_dataset()
        number = str(dataset.number)
        words = dict.fromkeys(self.multiplicities[number][letter] + letter for letter in dataset.wyckoffs)
        fractions = [
            f"{element} {float(np.round(structure.composition.get_atomic_fraction(element), 2))}"
            for element in structure.composition
        ]
        return f"{' '.join(self.generators[number])} | {' '.join(words)} | {' '.join(fractions)}"


def _write_cifs(args: argparse.Namespace, n_files: int, max_sites: int, folder: Path) -> list[Path]:
    crystals = load_arrays(args.tables / "materials_project.parquet")
    crystals = [(name, cell) for name, cell in crystals if len(cell.numbers) <= max_sites]
    folder.mkdir()
    files = []
    for name, cell in random.Random(args.seed).sample(crystals, n_files):
        files.append(folder / f"{name}.cif")
        CifWriter(Structure(cell.lattice, cell.numbers.tolist(), cell.frac_coords)).write_file(files[-1])
    return files


def _encode_all(encode: Callable[[Path], str]) -> Callable[[Any], object]:
    return lambda files: [encode(file) for file in files]


def _encoder_speed(files: list[Path], max_sites: int, paper: PaperProcedure, rounds: int) -> dict[str, Any]:
    encoders = {
        "sites, spglib": ScopeEncoder(),
        "composition as released": ScopeEncoder("composition", canonical=False),
    }
    if importlib.util.find_spec("moyopy") is not None:
        encoders["sites, moyopy"] = ScopeEncoder(symmetry="moyopy")
    released = encoders["composition as released"]
    sites = float(np.mean([len(Structure.from_file(file)) for file in files]))
    same = sum(paper.encode(file) == released.encode(file) for file in files)
    everyone: dict[str, Any] = {"paper's procedure": paper, **encoders}
    methods = {name: _encode_all(one.encode) for name, one in everyone.items()}
    timed = interleaved(methods, files, rounds, chunk=50)
    show(
        f"File to string, one core, {len(files)} CIF files of {sites:.1f} sites on average (at most {max_sites}), "
        f"median of {rounds} rounds; 'composition as released' is the paper's procedure's string for {same} files",
        [[name, row["rate"], row["ratio"]] for name, row in timed.items()],
        ["method", "crystals/s", "times the paper's"],
        RATES,
    )
    settings = {name: encoder.settings for name, encoder in encoders.items()}
    head = {"n": len(files), "max_sites": max_sites, "mean_sites": sites}
    return {**head, "same_as_paper": same, "settings": settings, "methods": timed}


def _process_speed(files: list[Path], repeats: int, rounds: int) -> dict[str, Any]:
    encoder = ScopeEncoder()
    methods: dict[str, Callable[[Any], object]] = {
        "one worker process": lambda part: list(encode_batch(encoder, part, processes=1)),
        "two worker processes": lambda part: list(encode_batch(encoder, part, processes=2)),
        "no worker, this process": _encode_all(encoder.encode),
    }
    items = files * repeats
    timed = interleaved(methods, items, rounds, chunk=len(items))
    show(
        f"encode_batch, {len(items)} CIF files of at most {SMALL_SITES} sites, {os.cpu_count()} cores; start of "
        "workers included",
        [[name, row["rate"], row["ratio"]] for name, row in timed.items()],
        ["method", "crystals/s", "times one worker"],
        RATES,
    )
    return {
        "n": len(items),
        "max_sites": SMALL_SITES,
        "settings": encoder.settings,
        "cores": os.cpu_count(),
        "methods": timed,
    }


def _tokenizer_speed(args: argparse.Namespace, rounds: int) -> dict[str, Any]:
    scopes = pd.read_parquet(args.tables / "published_scope_10k.parquet")["scope"].tolist()
    scopes = scopes[: 2000 if args.quick else None]
    published, ours = AutoTokenizer.from_pretrained(args.data / "published"), ScopeTokenizer()
    methods: dict[str, Callable[[Any], Any]] = {
        "published, batched": lambda part: published(part, padding=True, return_tensors="pt"),
        "ScopeTokenizer": lambda part: ours(part, padding=True, return_tensors="pt"),
    }
    theirs, mine = (method(scopes) for method in methods.values())
    names = ("input_ids", "attention_mask")
    same = all(torch.equal(theirs[name], mine[name]) for name in names)
    timed = interleaved(methods, scopes, rounds, chunk=1000)
    show(
        f"Tokenizer, {len(scopes)} strings in batches of 1000 to padded tensors, one core, {rounds} rounds; "
        f"{' and '.join(names)} {'are equal' if same else 'DIFFER'}",
        [[name, row["rate"], row["ratio"]] for name, row in timed.items()],
        ["tokenizer", "strings/s", "times the published"],
        RATES,
    )
    return {"n": len(scopes), "batch": 1000, "same_ids": same, "methods": timed}


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Files to strings, one process against two, and strings to ids."""
    torch.set_num_threads(1)
    n_files, rounds = (40, 3) if args.quick else (500, 7)
    paper = PaperProcedure(args.data / "published")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen reports rounding of coordinates
        found: dict[str, Any] = {"load_before": os.getloadavg()[0]}
        for max_sites in (MAX_SITES, SMALL_SITES):
            files = _write_cifs(args, n_files, max_sites, Path(folder) / str(max_sites))
            found[f"encoder_{max_sites}_sites"] = _encoder_speed(files, max_sites, paper, rounds)
        return found | {
            "processes": _process_speed(files, 2 if args.quick else 10, 3),
            "tokenizer": _tokenizer_speed(args, rounds),
        }


# ------------------------------------------------------------------------------------------------- the whole run

SECTIONS = {"invariance": invariance, "distinctness": distinctness, "speed": speed}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_section(out: Path, name: str, figures: dict[str, Any]) -> None:
    """Put one section into the result file, aside first, and keep the others."""
    results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    results[name] = figures
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".tmp")
    aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(out)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared")))
    parser.add_argument("--out", type=Path, help="default: docs/results/scope.json; --quick: the temporary folder")
    parser.add_argument("--crystals", type=int, help="crystals of the invariance section (1000; --quick: 30)")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="small samples of everything: a trial, not a result")
    parser.add_argument("--processes", type=int, default=1, help="for invariance and distinctness")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.crystals = args.crystals or (30 if args.quick else 1000)
    args.out = args.out or (TEMPORARY / "quick.json" if args.quick else ROOT / "docs" / "results" / "scope.json")
    args.tables = args.data / "data"
    if not args.tables.is_dir():
        parser.error(f"{args.tables} is not there; give the shared folder with --data or CLOUD_SHARED.")
    return args


def main() -> None:
    """Run the sections one after the other; each is written when it is done."""
    args = parse_arguments()
    for name in args.only:
        begin = time.perf_counter()
        figures = SECTIONS[name](args)
        run = {"quick": args.quick, "seed": args.seed, "processes_used": args.processes, "versions": _versions()}
        run["seconds"] = round(time.perf_counter() - begin, 1)
        write_section(args.out, name, {**run, **figures})
        print(f"\n{name}: {run['seconds']} s, written to {args.out}", flush=True)


if __name__ == "__main__":
    main()

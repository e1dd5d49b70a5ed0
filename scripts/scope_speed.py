"""Files to SCOPE strings and strings to ids against the paper's procedure; a section of `benchmark_scope.py`."""

import argparse
import importlib.util
import json
import os
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarking import interleaved, show
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from redescriptions import load_arrays
from scope_invariance import MAX_SITES

from cloud_hf import ScopeEncoder, ScopeTokenizer
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.parallel.batch import encode_batch

__all__ = ["speed"]

SMALL_SITES = 20
"""Sites in the smaller cells, about 10 on average, as in MP-20."""

RATES = ("", ",.0f", ".2f", ".2f")


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
        [[name, row["rate"], row["ratio"], row["first_round"]] for name, row in timed.items()],
        ["method", "crystals/s", "times the paper's", "in the first round"],
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
        speeds: dict[str, Any] = {"load_before": os.getloadavg()[0]}
        for max_sites in (MAX_SITES, SMALL_SITES):
            files = _write_cifs(args, n_files, max_sites, Path(folder) / str(max_sites))
            speeds[f"encoder_{max_sites}_sites"] = _encoder_speed(files, max_sites, paper, rounds)
        return speeds | {
            "processes": _process_speed(files, 2 if args.quick else 10, 3),
            "tokenizer": _tokenizer_speed(args, rounds),
        }

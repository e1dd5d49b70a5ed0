"""Measure screening: many candidates from one command, stopped and continued, and proposals of the language model.

    OMP_NUM_THREADS=1 python scripts/benchmark_screen.py
    OMP_NUM_THREADS=1 python scripts/benchmark_screen.py --parts large --products 1000000

large       `cloud-hf screen` on at least so many products of the textbook prototypes, one member, a band gap and a
            bulk modulus wanted: stopped (SIGTERM) once half of the pieces are done, then the same command again.
            Peak memory of each run and of one on a tenth of the products, processor time, and whether the pieces of the
            first run stayed as they were.
processes   The same command with one process and with two: whether every row is the same.
proposals   What becomes of the draws of the language model inside the package: validity, uniqueness and novelty, with
            free elements and with free Wyckoff words, at several temperatures.

Each part is stored in the output file when it is done.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarking import processor, show, versions, write_section
from tqdm import tqdm

from cloud_hf.checkpoints.bundled import bundled_likelihood
from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.screening.candidates import Product
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.plan import load_plan
from cloud_hf.screening.proposals import Sampling, propose
from cloud_hf.screening.prototypes import bundled_prototypes
from cloud_hf.screening.run import gather

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("large", "processes", "proposals")

WANTS = ("band_gap=1:2", "bulk_modulus>=100")
LARGE = ("perovskite", "spinel", "chalcopyrite", "half-heusler", "potassium-nickel-fluoride", "zircon", "scheelite")
"""Prototypes that are taken, one after the other, until their products are enough."""

PROPOSED = ("rock-salt", "perovskite", "spinel", "half-heusler", "elpasolite", "garnet")


def command(folder: Path, prototypes: list[str], *argv: str) -> list[str]:
    """A screening that keeps its pieces in a folder."""
    python = [sys.executable, "-m", "cloud_hf", "screen", *prototypes, "--want", *WANTS, "--members", "1"]
    return [*python, "-o", str(folder), "--limit", str(10**9), *argv]


def measured(argv: list[str], stop: Any = None) -> dict[str, Any]:
    """Run a command and return its peak memory and its times; `stop` says when to end it."""
    begin = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    stopped = False
    while stop is not None and not stopped and process.poll() is None:
        time.sleep(0.5)
        if stop():
            process.send_signal(signal.SIGTERM)
            stopped = True
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not stopped:
        raise SystemExit(f"{' '.join(argv)} ended with status {process.returncode}.")
    return {
        "peak_memory_MB": round(usage.ru_maxrss / 1024), "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1), "stopped": stopped,
    }  # fmt: skip


def large(products: int) -> Any:
    """A large screening, stopped and continued, beside a small one."""
    bundled = bundled_prototypes()
    names: list[str] = []
    for name in LARGE:
        if not names or len(Product.of([bundled[one] for one in names], {}, limit=None)) < products:
            names.append(name)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text, "all")
        whole = command(folder, names)
        pieces = -(-len(Product.of([bundled[one] for one in names], {}, limit=None)) // 20_000)

        def done() -> list[Path]:
            return sorted((folder / "all").glob("*.parquet"))

        first = measured(whole, lambda: len(done()) >= pieces // 2)
        before = {path: path.stat().st_mtime_ns for path in done()}
        second = measured(whole)
        kept = sum(path.stat().st_mtime_ns == at for path, at in before.items())
        plan = load_plan(folder)
        totals = gather(plan)
        size = sum(path.stat().st_size for path in done())
        small = measured(command(Path(text, "few"), names[:1], "--elements", "A=metals", "B=transition-metals", "X=O"))
        few = gather(load_plan(Path(text, "few")))
    seconds = first["processor_seconds"] + second["processor_seconds"]
    found = {
        "prototypes": names, "wants": WANTS, "members": 1, "products": totals.counts.products,
        "candidates": totals.counts.candidates, "known": totals.known, "failed": totals.failed,
        "pieces": plan.pieces, "pieces_before_the_stop": len(before), "pieces_that_stayed": kept,
        "first_run": first, "second_run": second, "output_MB": round(size / 1e6, 1),
        "processor_seconds": round(seconds, 1),
        "candidates_per_processor_second": round(totals.counts.candidates / seconds),
        "products_per_processor_second": round(totals.counts.products / seconds),
        "small_run": small | {"products": few.counts.products, "candidates": few.counts.candidates},
    }  # fmt: skip
    show("Large", [[found[key] for key in ("products", "candidates", "processor_seconds")]], ["products", "c", "s"])
    return found


def processes() -> Any:
    """Whether two processes give the rows of one."""
    with tempfile.TemporaryDirectory() as text:
        tables = []
        for number in (1, 2):
            folder = Path(text, str(number))
            argv = ["--elements", "A=alkali,alkaline-earths,3d", "X=chalcogens,halogens", "--rows", "100"]
            measured(command(folder, ["rock-salt", "wurtzite"], *argv, "--processes", str(number)))
            tables.append(pd.concat([pd.read_parquet(path) for path in sorted((folder / "all").glob("*.parquet"))]))
        same = tables[0].equals(tables[1])
    return {"candidates": len(tables[0]), "equal": same}


def proposals(samples: int) -> Any:
    """What becomes of draws."""
    folder = bundled_likelihood()
    if folder is None:
        raise SystemExit("No language model ships with this version.")
    model, known = StringLikelihood.load(folder), KnownStrings.bundled()
    prototypes = [bundled_prototypes()[name] for name in PROPOSED]
    rows = []
    for sites in (False, True):
        for temperature in tqdm((0.7, 1.0, 1.5), desc="proposals", disable=None):
            _, found = propose(prototypes, {}, model, known, Sampling(samples, temperature, 0, sites))
            rows.append({
                "sites": sites, "temperature": temperature, **found.record(),
                "validity": found.valid / found.drawn,
                "uniqueness": found.unique / found.valid if found.valid else None,
                "novelty": found.novel / found.unique if found.unique else None,
            })  # fmt: skip
    show("Proposals", [[*row.values()] for row in rows], [*rows[0]])
    return {"prototypes": PROPOSED, "samples_of_each": samples, "seed": 0, "draws": rows}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=200, help="draws of each prototype")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/screen.json")
    arguments = parser.parse_args()
    machine = {"processor": processor(), "threads": 1, **versions(["torch"])}
    for part in arguments.parts:
        if part == "large":
            figures = large(arguments.products)
        else:
            figures = processes() if part == "processes" else proposals(arguments.samples)
        write_section(arguments.out, part, figures | {"machine": machine})


if __name__ == "__main__":
    main()

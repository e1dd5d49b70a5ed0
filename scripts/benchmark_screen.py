"""Measure screening: many candidates from one command, stopped and continued, and proposals of the language model.

    OMP_NUM_THREADS=1 python scripts/benchmark_screen.py
    OMP_NUM_THREADS=1 python scripts/benchmark_screen.py --parts large --products 1000000

large       `cloud-hf screen` on at least so many products of the textbook prototypes, one member, a band gap and a
            bulk modulus wanted: killed once half of the pieces are done, then the same command again. Rates, peak
            memory when a tenth, half and all of the pieces are done, and whether the pieces of the killed run stayed.
resumption  A smaller one, killed in the middle of a piece and continued: whether every row and the table of the best
            are those of a run that nobody killed.
processes   The same command with one process and with two: whether every row is the same.
proposals   What becomes of the draws of the language model inside the package: validity, uniqueness and novelty, with
            free elements and with free Wyckoff words, at several temperatures.

Each part is stored in the output file when it is done.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as parquet
from benchmarking import processor, show, versions, write_section
from tqdm import tqdm

from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.screening.api import TOP_FILE
from cloud_hf.screening.candidates import Counts, Product
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.plan import PIECES
from cloud_hf.screening.proposals import Sampling, propose
from cloud_hf.screening.prototypes import bundled_prototypes
from cloud_hf.screening.run import COUNTS_KEY

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("large", "resumption", "processes", "proposals")

WANTS = ("band_gap=1:2", "bulk_modulus>=100")
LARGE = ("chalcopyrite", "half-heusler", "perovskite", "spinel", "potassium-nickel-fluoride", "zircon", "scheelite")
"""Prototypes that are taken, one after the other, until their products are enough."""

PIECE = 20_000
"""Products in a piece."""

PROPOSED = ("rock-salt", "perovskite", "spinel", "half-heusler", "elpasolite", "garnet")


def command(folder: Path, prototypes: list[str], *argv: str) -> list[str]:
    """A screening that keeps its pieces in a folder."""
    python = [sys.executable, "-m", "cloud_hf", "screen", *prototypes, "--want", *WANTS, "--members", "1"]
    return [*python, "-o", str(folder), "--limit", str(10**9), *argv]


def peak_memory(pid: int) -> float:
    """Highest memory of a process so far in MB, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def measured(argv: list[str], watch: Callable[[float], bool] | None = None) -> dict[str, Any]:
    """Run a command.

    Args:
        argv: The command.
        watch: Called again and again with the highest memory so far in MB; tells when to kill the process.

    Returns:
        Peak memory, times, and whether it was killed.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    killed, peak = False, 0.0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak = max(peak, peak_memory(process.pid))
        if watch is not None and not killed and watch(peak):
            os.kill(process.pid, signal.SIGKILL)
            killed = True
        time.sleep(0.1)
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not killed:
        raise SystemExit(f"{' '.join(argv)} ended with status {process.returncode}.")
    return {
        "peak_memory_MB": round(peak), "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1), "killed": killed,
    }  # fmt: skip


def done(folder: Path) -> list[Path]:
    """Files of the pieces that are done; those of a piece that is being written begin with a dot."""
    return sorted((folder / PIECES).glob("[0-9]*.parquet"))


def counted(folder: Path) -> Counts:
    """What became of the products of the pieces that are done."""
    total = Counts()
    for path in done(folder):
        total.add(Counts(**json.loads(parquet.read_schema(path).metadata[COUNTS_KEY])["counts"]))
    return total


def rows_of(folder: Path) -> pd.DataFrame:
    """All rows of a screening."""
    return pd.concat([pd.read_parquet(path) for path in done(folder)], ignore_index=True)


def large(products: int, minutes: float) -> Any:
    """A large screening, killed and continued, for so many minutes at most."""
    begin = time.perf_counter()
    bundled = bundled_prototypes()
    names: list[str] = []
    for name in LARGE:
        if not names or len(Product.of([bundled[one] for one in names], {}, limit=None)) < products:
            names.append(name)
    pieces = -(-len(Product.of([bundled[one] for one in names], {}, limit=None)) // PIECE)
    memory: dict[str, int] = {}

    def note(share: float, peak: float) -> bool:
        """Keep the memory when a share of the pieces is done; whether it is."""
        reached = len(done(folder)) >= share * pieces
        if reached:
            memory.setdefault(f"{share:.0%}", round(peak))
        return reached

    def to_the_end(peak: float) -> bool:
        note(1.0, peak)
        return time.perf_counter() - begin > 60 * minutes

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text, "all")
        argv = command(folder, names)
        first = measured(argv, lambda peak: note(0.1, peak) and note(0.5, peak))
        before = {path: path.stat().st_mtime_ns for path in done(folder)}
        second = measured(argv, to_the_end)
        untouched = sum(path.stat().st_mtime_ns == at for path, at in before.items())
        counts, pieces_done = counted(folder), len(done(folder))
        size = sum(path.stat().st_size for path in done(folder))
    cost, clock = (first[key] + second[key] for key in ("processor_seconds", "seconds"))
    figures = {
        "prototypes": names, "wants": WANTS, "members": 1, "processes": 1, "products": counts.products,
        "candidates": counts.candidates, "duplicates": counts.duplicates, "forbidden": counts.forbidden,
        "pieces": pieces, "pieces_done": pieces_done,
        "pieces_before_the_kill": len(before), "pieces_that_stayed": untouched,
        "killed_run": first, "second_run": second,
        "peak_memory_MB_when_done": memory, "output_MB": round(size / 1e6, 1),
        "seconds": round(clock, 1), "processor_seconds": round(cost, 1),
        "load_at_the_end": round(os.getloadavg()[2], 1),
        "candidates_per_second": round(counts.candidates / clock),
        "products_per_second": round(counts.products / clock),
        "candidates_per_processor_second": round(counts.candidates / cost),
        "products_per_processor_second": round(counts.products / cost),
    }  # fmt: skip
    show("Large", [[figures[key] for key in ("products", "candidates", "processor_seconds")]], ["products", "c", "s"])
    return figures


def resumption() -> Any:
    """Whether a killed screening ends with the rows of one that was not killed."""
    with tempfile.TemporaryDirectory() as text:
        whole, parts = Path(text, "whole"), Path(text, "parts")
        names, argv = ["perovskite", "rock-salt"], ["--elements", "A=alkali,alkaline-earths", "X=O,F", "--rows", "200"]
        measured(command(whole, names, *argv))
        pieces = len(done(whole))
        since: list[float] = []

        def inside(_: float) -> bool:
            """Whether half of the pieces have been done for a moment, so that the next one is being worked on."""
            if len(done(parts)) >= pieces // 2:
                since.append(time.perf_counter())
            return bool(since) and since[-1] - since[0] > 0.05

        killed = measured(command(parts, names, *argv), inside)
        before = len(done(parts))
        measured(command(parts, names, *argv))
        tables = [rows_of(folder) for folder in (whole, parts)]
        best = [Path(folder, TOP_FILE).read_bytes() for folder in (whole, parts)]
    return {
        "killed": killed["killed"], "pieces": pieces, "pieces_before_the_kill": before, "candidates": len(tables[0]),
        "equal_rows": tables[0].equals(tables[1]), "equal_best": best[0] == best[1],
    }  # fmt: skip


def processes() -> Any:
    """Whether two processes give the rows of one."""
    with tempfile.TemporaryDirectory() as text:
        tables = []
        for number in (1, 2):
            folder = Path(text, str(number))
            argv = ["--elements", "A=alkali,alkaline-earths,3d", "X=chalcogens,halogens", "--rows", "100"]
            measured(command(folder, ["rock-salt", "wurtzite"], *argv, "--processes", str(number)))
            tables.append(rows_of(folder))
        same = tables[0].equals(tables[1])
    return {"candidates": len(tables[0]), "equal": same}


def proposals(samples: int) -> Any:
    """What becomes of draws."""
    model, known = StringLikelihood.bundled(), KnownStrings.bundled()
    prototypes = [bundled_prototypes()[name] for name in PROPOSED]
    rows = []
    for sites in (False, True):
        for temperature in tqdm((0.7, 1.0, 1.5), desc="proposals", disable=None):
            _, proposed = propose(prototypes, {}, model, known, Sampling(samples, temperature, 0, sites))
            rows.append({
                "sites": sites, "temperature": temperature, **proposed.record(),
                "validity": proposed.valid / proposed.drawn,
                "uniqueness": proposed.unique / proposed.valid if proposed.valid else None,
                "novelty": proposed.novel / proposed.unique if proposed.unique else None,
            })  # fmt: skip
    show("Proposals", [[*row.values()] for row in rows], [*rows[0]])
    return {"prototypes": PROPOSED, "samples_of_each": samples, "seed": 0, "draws": rows}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=600, help="longest time of the large screening")
    parser.add_argument("--samples", type=int, default=200, help="draws of each prototype")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/screen.json")
    arguments = parser.parse_args()
    machine = {"processor": processor(), "threads": 1, **versions(["torch"])}
    for part in arguments.parts:
        if part == "large":
            figures = large(arguments.products, arguments.minutes)
        else:
            others = {"resumption": resumption, "processes": processes}
            figures = others[part]() if part in others else proposals(arguments.samples)
        write_section(arguments.out, part, figures | {"machine": machine})


if __name__ == "__main__":
    main()

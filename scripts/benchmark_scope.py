"""Measure the SCOPE encoder: invariance, distinctness and speed, with the paper's procedure beside it.

    python scripts/benchmark_scope.py [--data DIR] [--out FILE] [--crystals N] [--only SECTION ...] [--quick]
                                      [--processes N] [--seed N]

Prints tables and writes them as JSON; sections that are not run again keep their old figures in the file.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one core is one thread; read when the libraries are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarking import versions, write_section
from scope_distinctness import distinctness
from scope_invariance import invariance
from scope_speed import speed

ROOT = Path(__file__).resolve().parents[1]
TEMPORARY = Path(tempfile.gettempdir()) / "cloud_scope_benchmark"
PACKAGES = ("cloud-hf", "numpy", "spglib", "moyopy", "pymatgen", "gemmi", "transformers", "tokenizers", "torch")
SECTIONS = {"invariance": invariance, "distinctness": distinctness, "speed": speed}


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
    args.tables, args.cache = args.data / "data", TEMPORARY
    if not args.tables.is_dir():
        parser.error(f"{args.tables} is not there; give the shared folder with --data or CLOUD_SHARED.")
    return args


def main() -> None:
    """Run the sections one after the other; each is written when it is done."""
    args = parse_arguments()
    for name in args.only:
        begin = time.perf_counter()
        figures = SECTIONS[name](args)
        run = {"quick": args.quick, "seed": args.seed, "processes_used": args.processes, "versions": versions(PACKAGES)}
        run["seconds"] = round(time.perf_counter() - begin, 1)
        write_section(args.out, name, {**run, **figures})
        print(f"\n{name}: {run['seconds']} s, written to {args.out}", flush=True)


if __name__ == "__main__":
    main()

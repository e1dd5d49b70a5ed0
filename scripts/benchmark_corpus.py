"""Measure `cloud-hf corpus build`: peak memory of its processes, speed beside the bare encoder, and two processes.

    OMP_NUM_THREADS=1 python scripts/benchmark_corpus.py                       # 10 to 100 thousand, about 15 minutes
    OMP_NUM_THREADS=1 python scripts/benchmark_corpus.py --parts memory --sizes 1000000

Each part, and each size of the first, is stored when it is done and left out of the next run, unless `--again` is
given.

memory      The command with one worker process on tables of growing size. Every process of the run is looked at twice a
            second: its peak resident memory (`VmHWM`, which the kernel keeps), and its processor time.
speed       Builds against `ScopeEncoder().encode` on the same rows, which lie in memory for it; pieces in turn,
            processor time of all processes. The build reads a Parquet file, looks for duplicates, writes shards and
            counts. It works in this process, or, as the command does, in a worker that can be stopped.
processes   The command with one and with two worker processes on one table, in turn: wall-clock time, which whatever
            else runs on the machine disturbs, and processor time per crystal, which shows what the second one costs.
            The table is large, as the command needs two seconds to start and each worker one to learn symmetry.

The crystals are those of the reference data in random order, then again with cells scaled at random and elements
exchanged, so that they take as long as real ones and have strings of their own.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from benchmarking import processor, versions, write_section
from tqdm import tqdm

from cloud_hf import ScopeEncoder
from cloud_hf.corpus import BuildSettings, build_corpus
from cloud_hf.corpus.schema import open_rows
from cloud_hf.scope.canonical import ELEMENT_ORDER

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("memory", "speed", "processes")
TABLES = ("materials_project", "wbm", "lemat", "jarvis")
SIZES = (10_000, 30_000, 100_000)
PAPER_ROWS = 6_300_000
"""Crystals in the paper's pre-training corpus, about."""

STRAIN = 0.03
"""Largest relative change of the lengths of a perturbed cell, the same for all three."""

COLUMNS = ["id", "lattice", "numbers", "frac_coords"]
_NUMBERS = {"lattice": pa.float64(), "numbers": pa.int64(), "frac_coords": pa.float64()}
ROW_SCHEMA = pa.schema([("id", pa.string()), *((name, pa.list_(kind)) for name, kind in _NUMBERS.items())])


def crystals(folder: Path, seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """Yield crystals as rows of `ROW_SCHEMA` without end: real ones first, then perturbed ones."""
    from pymatgen.core import Element

    table = pa.concat_tables(parquet.read_table(folder / f"{name}.parquet", columns=COLUMNS) for name in TABLES)
    ids, *arrays = (table[name].to_pylist() if name == "id" else table[name] for name in COLUMNS)
    chance = random.Random(seed)
    numbers = [Element(symbol).Z for symbol in ELEMENT_ORDER]
    order = list(range(len(table)))
    exchange, scale = np.arange(max(numbers) + 120), 1.0
    for turn in itertools.count():
        chance.shuffle(order)
        for place in order:
            lattice, species, coords = (np.asarray(column[place].values) for column in arrays)
            if turn:
                scale = 1.0 + chance.uniform(-STRAIN, STRAIN)
            yield f"{ids[place]}-{turn}", lattice * scale, exchange[species], coords
        exchange[numbers] = chance.sample(numbers, len(numbers))


def write_table(folder: Path, n: int, path: Path) -> None:
    """Write `n` crystals as a Parquet table."""
    with open_rows(path, ROW_SCHEMA) as rows:
        for row in itertools.islice(crystals(folder), n):
            rows.add(row)


# ------------------------------------------------------------------------------------------------ the command


def measured_build(table: Path, n: int, processes: int) -> dict[str, Any]:
    """Run the command on a table in a session of its own, and watch every process of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "cloud_hf", "corpus", "build", str(table)]
        command += ["-o", f"{folder}/corpus", "--processes", str(processes)]
        start = time.perf_counter()
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True
        )
        seen: dict[int, tuple[float, float]] = {}
        while run.poll() is None:
            seen.update(_processes(run.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
        output = run.communicate()[0]
        report = json.loads(Path(folder, "corpus", "corpus.json").read_text(encoding="utf-8"))
        if report["rows"]["in"] != n:
            raise SystemExit(f"{' '.join(command)} read {report['rows']['in']} crystals of {n}: {output}")
        main = seen.pop(run.pid)
        spent = main[1] + sum(cpu for _, cpu in seen.values())
        return {
            "crystals": n,
            "processes": processes,
            "peak_worker_MB": round(max(peak for peak, _ in seen.values())),
            "peak_main_MB": round(main[0]),
            "rows": report["rows"],
            "seconds": round(seconds, 1),
            "processor_seconds": round(spent, 1),
            "crystals_per_processor_second": round(n / spent, 1),
        }


def _processes(session: int) -> dict[int, tuple[float, float]]:
    """Peak resident memory in MB and processor time in s of every process of a session."""
    usage_of = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != session:
                continue
            lines = (path / "status").read_text().splitlines()
        except (OSError, ValueError):  # it has ended
            continue
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        if peaks:
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            usage_of[int(path.name)] = peaks[0] / 1024, cpu
    return usage_of


def memory(folder: Path, n: int) -> dict[str, Any]:
    """Peak memory for one size."""
    with tempfile.TemporaryDirectory() as scratch:
        write_table(folder, n, Path(scratch, "crystals.parquet"))
        return measured_build(Path(scratch, "crystals.parquet"), n, 1)


def processes(folder: Path, n: int, rounds: int) -> dict[str, Any]:
    """One and two worker processes in turn."""
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch, "crystals.parquet")
        write_table(folder, n, table)
        for _ in tqdm(range(rounds), desc="processes", disable=None):
            for number, builds in runs.items():
                builds.append(measured_build(table, n, number))
    median = {
        field: {number: statistics.median(run[field] for run in builds) for number, builds in runs.items()}
        for field in ("seconds", "processor_seconds")
    }
    return {
        "crystals": n,
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": median["seconds"],
        "processor_seconds": median["processor_seconds"],
        "times_faster": round(median["seconds"][1] / median["seconds"][2], 2),
        "times_processor_time": round(median["processor_seconds"][2] / median["processor_seconds"][1], 3),
    }


# ------------------------------------------------------------------------------------------------ in this process


def speed(folder: Path, n: int, rounds: int) -> dict[str, Any]:
    """Crystals per second of processor time, of the encoder and of builds with one grammar and with all."""
    rows = list(itertools.islice(crystals(folder, seed=1), rounds * n))
    encoder = ScopeEncoder()
    builds = {
        "corpus, sites": (BuildSettings(("sites",)), None),
        "corpus, all grammars": (BuildSettings(), None),
        "corpus, all grammars, worker": (BuildSettings(), 60.0),
    }
    spent: dict[str, list[float]] = {"encoder": [], **{name: [] for name in builds}}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in tqdm(range(-1, rounds), desc="speed", disable=None):  # the first turn loads tables and is not kept
            piece = rows[max(turn, 0) * n :][: n if turn >= 0 else 200]
            table = Path(scratch, f"{turn}.parquet")
            with open_rows(table, ROW_SCHEMA) as file:
                for row in piece:
                    file.add(row)
            _encode(encoder, piece)  # new symmetry is learned once, which must not count for whoever is first
            for name in random.Random(turn).sample(sorted(spent), len(spent)):
                start = _spent()
                if name == "encoder":
                    _encode(encoder, piece)
                else:
                    settings, timeout = builds[name]
                    build_corpus([str(table)], Path(scratch, f"{turn} {name}"), settings, 1, timeout)
                if turn >= 0:
                    spent[name].append(_spent() - start)
    ratios = {
        name: [one / two for one, two in zip(spent["encoder"], times, strict=True)] for name, times in spent.items()
    }
    return {
        "crystals": n,
        "rounds": rounds,
        "crystals_per_second": {name: round(n / statistics.median(times), 1) for name, times in spent.items()},
        "of_encoder": {name: round(statistics.median(ratio_list), 3) for name, ratio_list in ratios.items()},
        "of_encoder_lowest": {name: round(min(ratio_list), 3) for name, ratio_list in ratios.items()},
    }


def _spent() -> float:
    """Processor time in s of this process, its children, and theirs that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15])) if int(fields[1]) == os.getpid() else 0
    times = os.times()
    return time.process_time() + times.children_user + times.children_system + ticks / os.sysconf("SC_CLK_TCK")


def _encode(encoder: ScopeEncoder, rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        encoder.encode(dict(zip(COLUMNS, row, strict=True)))


def main() -> None:
    """Run what the output file lacks."""
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="crystals of the memory part")
    parser.add_argument("--piece", type=int, default=10_000, help="crystals per round of the part speed")
    parser.add_argument("--table", type=int, default=40_000, help="crystals of the part processes")
    parser.add_argument("--rounds", type=int, default=3, help="of the other parts (default 3)")
    parser.add_argument("--data", type=Path, default=shared / "data", help=f"folder with {', '.join(TABLES)}.parquet")
    parser.add_argument("--again", action="store_true", help="also what the output file has")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "corpus.json")
    arguments = parser.parse_args()
    data, rounds, out = arguments.data, arguments.rounds, arguments.output
    jobs: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    if "memory" in arguments.parts:
        jobs += [(f"memory_{n}", partial(memory, data, n)) for n in arguments.sizes]
    if "speed" in arguments.parts:
        jobs.append(("speed", lambda: speed(data, arguments.piece, rounds)))
    if "processes" in arguments.parts:
        jobs.append(("processes", lambda: processes(data, arguments.table, rounds)))
    for name, job in jobs:
        results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        if name in results and not arguments.again:
            print(f"{name}: is in {out}; --again measures it anew.")
            continue
        load = os.getloadavg()[0]
        figures = job() | {"load_before": round(load, 2)}
        write_section(out, name, figures)
        print(json.dumps({name: figures}, indent=1))
    write_section(out, "machine", {"processor": processor(), "cores": os.cpu_count()})
    write_section(out, "versions", versions(("cloud-hf", "datatrove", "numpy", "pyarrow", "pymatgen", "spglib")))
    write_section(out, "cost", _cost(json.loads(out.read_text(encoding="utf-8"))))


def _cost(results: dict[str, Any]) -> dict[str, Any]:
    """Core-hours of the paper's corpus, from the largest build that was measured."""
    builds = [figures for name, figures in results.items() if name.startswith("memory_")]
    if not builds:
        return {}
    largest = max(builds, key=lambda figures: figures["crystals"])
    hours = PAPER_ROWS / largest["crystals_per_processor_second"] / 3600
    return {"crystals": PAPER_ROWS, "core_hours": round(hours, 1), "measured_on": largest["crystals"]}


if __name__ == "__main__":
    main()

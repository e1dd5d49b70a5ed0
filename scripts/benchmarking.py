"""What the benchmark scripts share: timing in turns, tables on the terminal, result files in sections."""

import gc
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from cloud_hf.files import write_json

__all__ = ["interleaved", "processor", "show", "versions", "write_section"]


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(title: str, rows: list[list[Any]], headers: list[str], floatfmt: str | tuple[str, ...] = ".4g") -> None:
    """Print one table."""
    print(f"\n{title}\n\n{tabulate(rows, headers=headers, tablefmt='github', floatfmt=floatfmt)}")


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
        Per method the median `rate` (items/s), the median over the rounds of the `ratio` to the reference, and the
        ratio of the `first_round`, in which every item is new.
    """
    seconds: dict[str, list[float]] = {name: [0.0] * rounds for name in methods}
    names = list(methods)
    for name in names:  # load tables; not with the first items, as pymatgen remembers its last 32 symmetry searches
        methods[name](items[-20:])
    gc.collect()
    gc.freeze()  # what the benchmark itself holds is no work of the methods
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
            "first_round": float(reference[0] / spent[0]),
            "rounds": rounds,
        }
        for name, spent in seconds.items()
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of `packages`."""
    version_of = {"python": platform.python_version()}
    for package in packages:
        try:
            version_of[package] = version(package)
        except PackageNotFoundError:
            version_of[package] = "not installed"
    return version_of


def write_section(out: Path, name: str, figures: dict[str, Any]) -> None:
    """Put one section into the result file, and keep the others."""
    results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    results[name] = figures
    write_json(results, out)

"""Share of re-descriptions of a crystal that keep its SCOPE string; a section of `benchmark_scope.py`."""

import argparse
import random
from typing import Any

from benchmarking import show
from redescriptions import ENCODERS, KINDS, RedescriptionJob, load_arrays, summarise

from cloud_hf import ScopeEncoder
from cloud_hf.parallel.batch import encode_batch

__all__ = ["MAX_SITES", "TIMEOUT", "TITLES", "invariance"]

MAX_SITES = 60
"""Sites in a cell of the invariance and speed samples; its 2x2x2 supercell has eight times as many."""

TIMEOUT = 600.0
"""s for one crystal with everything that is asked about it."""

TITLES = {"sites": "sites", "composition": "composition", "paper": "composition as released", "full": "full"}


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
        summary = summarise(encode_batch(job, sample, args.processes, timeout=TIMEOUT, progress=True))
        result[condition] = summary
        lines = {**summary["kinds"], f"all {len(KINDS) - 1} kinds without the noise": summary["all_kinds"]}
        rows = [[kind, line["n"], *(_percent(line[key]) for key in ENCODERS)] for kind, line in lines.items()]
        counted = f"{summary['n']} {condition} crystals, {len(summary['refused'])} refused"
        title = f"Strings kept, % of re-descriptions: {counted}"
        show(title, rows, ["re-description", "N", *(TITLES[key] for key in ENCODERS)], ".2f")
        changed = [
            [
                entry["id"],
                entry["kind"],
                " and ".join(entry["grammars"]),
                *entry["space_groups"],
                ", ".join(f"{number} at {tolerance}" for tolerance, number in entry["at_tolerances"].items()),
            ]
            for entry in summary["changed"]
        ]
        headers = ["crystal", "kind", "grammar", "space group", "after", "space group by tolerance (Å)"]
        show(f"Strings that changed, {condition} crystals: {len(changed)}", changed, headers)
    return result


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share

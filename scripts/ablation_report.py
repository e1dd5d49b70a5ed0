"""The result files of `scripts/ablate.py` as a table with verdicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ablation_cells import CELLS, Cell
from heat_capacity_study import UNIT, paired
from tabulate import tabulate

from cloud_hf.files import write_text

__all__ = ["compare", "read_results", "show", "verdict", "write_report"]


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Result of each cell that has one, and of `trees`, in the order of the grid."""
    names = ["trees", *(cell.name for cell in CELLS)]
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def compare(results: dict[str, dict[str, Any]], name: str, other: str | None) -> dict[str, float] | None:
    """Paired difference of two cells on the same rows, None where one of them is missing."""
    if other not in results or name == other:
        return None
    one, two = results[name], results[other]
    if one["rows"] != two["rows"]:
        raise SystemExit(f"The cells {name} and {other} were scored on different rows; run one of them again.")
    return paired(np.array(one["absolute_error"]), np.array(two["absolute_error"]))


def verdict(gap: dict[str, float] | None, adds: bool, seeds: float = 0.0) -> str:
    """What a paired difference says about a change.

    Args:
        gap: From `compare`; its 95 % interval decides.
        adds: Whether the change adds something.
        seeds: Standard deviation of the MAE over seeds; differences below the 95 % limit of two trainings that differ
            in the seed alone, 1.96 sqrt(2) times this, are no effect of the change. 0 where both are one training.
    """
    if gap is None:
        return ""
    if gap["low"] <= 0 <= gap["high"]:
        return "no clear gain" if adds else "no clear loss"
    if abs(gap["difference"]) < 1.96 * 2**0.5 * seeds:
        return "within the spread of seeds"
    if gap["high"] < 0:
        return "pays" if adds else "better so"
    return "hurts" if adds else "worse"


def _verdict(results: dict[str, dict[str, Any]], cell: Cell) -> str:
    trained = {one.name: (one.fit, one.seeds[0]) for one in CELLS}
    seeds = results.get("ensemble_3", {}).get("mae_of_seeds") or [0.0, 0.0]
    same = trained.get(cell.reference or "") == trained[cell.name]
    gap = compare(results, cell.name, cell.reference)
    return verdict(gap, cell.adds, 0.0 if same else float(np.std(seeds, ddof=1)))


def _gap(gap: dict[str, float] | None) -> str:
    return "" if gap is None else f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def _rows(results: dict[str, dict[str, Any]]) -> list[list[Any]]:
    rows = []
    for cell in CELLS:
        if cell.name in results:
            found = results[cell.name]
            gap = compare(results, cell.name, cell.reference)
            trees = compare(results, cell.name, "trees")
            rows.append([
                cell.question, f"`{cell.name}`", cell.change, f"{found['mae']:.3f}", f"{found['mae_mad']:.4f}",
                f"{found['median_absolute_error']:.3f}", f"`{cell.reference}`" if cell.reference else "", _gap(gap),
                _gap(trees), _verdict(results, cell), f"{found['training_seconds']:.0f}",
            ])  # fmt: skip
    return rows


HEADERS = (
    "question", "cell", "change", "MAE", "MAE:MAD", "median error", "reference", "difference to it", "to the trees",
    "verdict", "training, s",
)  # fmt: skip


def show(folder: Path) -> str:
    """The state of the grid for the terminal."""
    results = read_results(folder)
    done = {row[1].strip("`"): row for row in _rows(results)}
    lines = [
        [cell.name, *(done[cell.name][3:5] + done[cell.name][7:9] if cell.name in done else ["to do"])]
        for cell in CELLS
    ]
    headers = ["cell", f"MAE, {UNIT}", "MAE:MAD", "to its reference", "to the trees"]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def write_report(folder: Path, document: Path) -> None:
    """Write the document; nothing in it is typed in."""
    results = read_results(folder)
    scored = {name: found for name, found in results.items() if name != "trees"}
    if not scored:
        raise SystemExit(f"{folder}: there are no results yet.")
    one = next(iter(scored.values()))
    settings = one["settings"]
    folds = ", ".join(map(str, settings["folds"]))
    lines = [
        "# What makes the model better, one change at a time",
        "",
        "Written by `python scripts/ablate.py --report` from `docs/results/ablations/`; do not edit.",
        "",
        f"Heat capacity at 300 K of the paper's crystals: mean absolute error in {UNIT} on the {one['n']} rows of the "
        f"folds {folds} ({settings['folds_from']}), each predicted by a model trained on the other folds for "
        f"{settings['epochs']:g} epochs (batches of {settings['batch']}, learning rate {settings['learning_rate']:g}, "
        f"cosine, {settings['precision']}, last step, no selection). Differences are paired over the rows with the "
        "95 % interval of a bootstrap over them; negative is better than the reference. The interval does not hold "
        "the spread between seeds" + _seeds(results) + ".",
        "",
    ]
    if "trees" in results:
        trees = results["trees"]
        lines += [f"Trees on the same rows: MAE {trees['mae']:.3f}, MAE:MAD {trees['mae_mad']:.4f}, median error "
                  f"{trees['median_absolute_error']:.3f}.", ""]  # fmt: skip
    rows = _rows(results)
    lines += [tabulate(rows, headers=HEADERS, tablefmt="github", disable_numparse=True), ""]
    pays, costs = _verdicts(results, "pays", "worse", "better so"), _verdicts(results, "no clear", "hurts", "within")
    lines += [f"Clear effects: {pays or 'none'}.", "", f"Without a clear benefit: {costs or 'none'}.", ""]
    missing = [f"`{cell.name}`" for cell in CELLS if cell.name not in results]
    if missing:
        lines += [f"Not measured: {', '.join(missing)}.", ""]
    made = sorted({f"{found['version']} at {found['commit']}, {found['device']}" for found in scored.values()})
    lines += [f"cloud_hf {'; '.join(made)}.", ""]
    document.parent.mkdir(parents=True, exist_ok=True)
    write_text("\n".join(lines), document)


def _verdicts(results: dict[str, dict[str, Any]], *beginnings: str) -> str:
    """The changes whose verdict begins with one of some words."""
    found = []
    for cell in CELLS:
        if cell.name in results:
            said = _verdict(results, cell)
            if said.startswith(beginnings):
                found.append(f"{cell.change} (`{cell.name}`): {said}")
    return "; ".join(found)


def _seeds(results: dict[str, dict[str, Any]]) -> str:
    found = results.get("ensemble_3", {}).get("mae_of_seeds")
    if not found:
        return ""
    listed = ", ".join(f"{mae:.3f}" for mae in found)
    return f" (the base with {len(found)} seeds: {listed}, standard deviation {np.std(found, ddof=1):.3f})"

"""Measure the heat-capacity error against the number of training rows, for the model and for trees.

    python scripts/learning_curve.py --encoder runs/mlm

All are scored on the rows of one fold. Each draw takes so many of the other rows at random, and the arms learn from the
same ones: `model` (the encoder with a Debye head), `trees`, and with `--scratch` the model without pre-training. Small
draws are trained for more epochs, so that every training has `--steps` steps at least. A draw that is in the work
folder is not run again; the picture and the result file are written anew after each.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ablation_cells import BASE
from heat_capacity_study import (
    BATCH,
    LABEL,
    LEARNING_RATE,
    ROOT,
    TABLE,
    UNIT,
    HeatCapacities,
    Indices,
    cached,
    digest_of,
    fit,
    paired,
    provenance,
    quiet,
    random_encoder,
    read_heat_capacities,
    trees,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate
from transformers import AutoTokenizer

from cloud_hf.data.tables import write_text

SIZES = (50, 100, 200, 400, 800)
SMALL = 400
"""Below so many training rows a batch has `SMALL_BATCH` strings."""
SMALL_BATCH = 16
STYLES = {
    "model": ("tab:blue", "o", "model"),
    "scratch": ("tab:cyan", "s", "model without pre-training"),
    "trees": ("tab:orange", "^", "trees"),
}


def schedule(n: int, epochs: float, steps: int) -> tuple[int, float]:
    """Return batch size and epochs of a training on `n` rows: `epochs`, or as many as `steps` steps take."""
    batch = SMALL_BATCH if n < SMALL else BATCH
    per_epoch = -(-n // batch)
    return batch, max(epochs, float(-(-steps // per_epoch)))


def draw_rows(train: Indices, n: int, draw: int) -> Indices:
    """Return `n` of the training rows, sorted; the same ones for every arm and on every machine."""
    return np.sort(np.random.default_rng([n, draw]).choice(train, n, replace=False))


def run_arm(data: HeatCapacities, arm: str, args: argparse.Namespace, n: int, draw: int) -> dict[str, Any]:
    """Absolute errors of one arm on the test rows, from the work folder if they are there."""
    test, train = np.flatnonzero(data.fold == args.fold), np.flatnonzero(data.fold != args.fold)
    rows = draw_rows(train, n, draw)
    settings: dict[str, Any] = {"fold": args.fold, "folds_from": data.folds_from, "rows": rows.tolist()}
    batch, epochs = schedule(n, args.epochs, args.steps)
    encoder = args.encoder
    if arm == "scratch":
        encoder = random_encoder(args.work / "encoders" / f"random_seed{draw}", "sites", draw, **BASE)
    if arm != "trees":
        settings |= {"batch": batch, "epochs": epochs, "learning_rate": LEARNING_RATE, "encoder": digest_of(encoder)}

    def compute() -> dict[str, Any]:
        if arm == "trees":
            predicted = trees(data, rows, test)
        else:
            tokenizer = AutoTokenizer.from_pretrained(encoder)
            strings = data.strings["sites"]
            train_rows, test_rows = (
                data.rows(index, [strings[row] for row in index], tokenizer) for index in (rows, test)
            )
            predicted = fit(encoder, train_rows, {"test": test_rows}, "debye", draw, epochs, batch)["test"]
        return {"absolute_error": np.abs(predicted - data.label[test]).round(4).tolist()}

    return cached(args.work / f"{arm}_{n}_{draw}.json", settings, compute)


def summary(found: dict[int, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """One row per size: of each arm the MAE of every draw, mean and spread, and the paired difference to the trees.

    Args:
        found: Results of the draws, by size and arm.
    """
    lines = []
    for n, arms in sorted(found.items()):
        draws = min(map(len, arms.values()))
        if not draws:
            continue
        errors = {arm: np.array([one["absolute_error"] for one in runs[:draws]]) for arm, runs in arms.items()}
        line: dict[str, Any] = {"train_rows": n, "draws": draws, "arms": {}}
        for arm, values in errors.items():
            maes = values.mean(axis=1)
            entry = {"mae": maes.tolist(), "mae_mean": float(maes.mean())}
            entry["mae_std"] = float(maes.std(ddof=1)) if draws > 1 else None
            if arm != "trees":
                entry["to_trees"] = paired(values.mean(axis=0), errors["trees"].mean(axis=0))
                entry["draws_better_than_trees"] = int((maes < errors["trees"].mean(axis=1)).sum())
                entry["seconds"] = [one["seconds"] for one in arms[arm][:draws]]
                entry |= {key: arms[arm][0]["settings"][key] for key in ("batch", "epochs")}
            line["arms"][arm] = entry
        lines.append(line)
    return lines


def plot(lines: Sequence[dict[str, Any]], test_rows: int, path: Path) -> None:
    """Draw mean and standard deviation of the MAE over the number of training rows, both logarithmic."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for arm, (colour, marker, label) in STYLES.items():
        points = [(line["train_rows"], line["arms"][arm]) for line in lines if arm in line["arms"]]
        if points:
            axes.errorbar(
                [n for n, _ in points], [entry["mae_mean"] for _, entry in points],
                yerr=[entry["mae_std"] or 0.0 for _, entry in points], color=colour, marker=marker, capsize=3,
                label=label,
            )  # fmt: skip
    sizes = [line["train_rows"] for line in lines]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, labels=[str(n) for n in sizes])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    ticks = [value for value in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30) if low <= value <= high]
    axes.set_yticks(ticks, labels=[f"{value:g}" for value in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlabel("training rows")
    axes.set_ylabel("MAE of Cv at 300 K, J/(mol cell K)")
    axes.set_title(f"{test_rows} test rows; bars: standard deviation over draws", fontsize=10)
    axes.grid(which="major", color="0.9")
    axes.legend(frameon=False)
    aside = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(aside, dpi=150, format="png")
    aside.replace(path)


def show(lines: Sequence[dict[str, Any]]) -> str:
    """The summary as a table."""
    rows = []
    for line in lines:
        for arm, entry in line["arms"].items():
            gap = entry.get("to_trees")
            listed = f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else ""
            spread = "" if entry["mae_std"] is None else f"{entry['mae_std']:.3f}"
            better = f"{entry['draws_better_than_trees']}/{line['draws']}" if gap else ""
            rows.append([line["train_rows"], line["draws"], arm, f"{entry['mae_mean']:.3f}", spread, listed, better])
    headers = ["training rows", "draws", "arm", f"MAE, {UNIT}", "+-", "to the trees", "draws better"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the draws that are missing, small ones first."""
    args = _arguments(arguments)
    quiet()
    data = read_heat_capacities(args.data, args.split, args.work)
    test_rows, whole = int((data.fold == args.fold).sum()), int((data.fold != args.fold).sum())
    sizes = sorted({n for n in (args.sizes or [*SIZES, whole]) if n <= whole})
    arms = ["model", *(["scratch"] if args.scratch else []), "trees"]
    found: dict[int, dict[str, list[dict[str, Any]]]] = {n: {arm: [] for arm in arms} for n in sizes}
    label = data.label[data.fold == args.fold]
    for draw in range(args.draws):
        for n in sizes:
            for arm in arms:
                found[n][arm].append(run_arm(data, arm, args, n, draw))
            lines = summary(found)
            result = {
                "table": TABLE, "label": LABEL, "unit": UNIT, "fold": args.fold, "folds_from": data.folds_from,
                "test_rows": test_rows, "mad": float(np.abs(label - label.mean()).mean()), **provenance(),
                "sizes": lines,
            }  # fmt: skip
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_text(json.dumps(result, indent=1) + "\n", args.out)
            plot(lines, test_rows, args.picture)
    print(show(summary(found)))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the pre-trained encoder")
    parser.add_argument("--scratch", action="store_true", help="also the model without pre-training")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--split", type=Path, help="what `cloud-hf split` wrote; without it folds of the strings alone")
    parser.add_argument("--fold", type=int, default=0, help="fold whose rows are scored")
    parser.add_argument("--sizes", type=int, nargs="+", help="training rows; default 50 ... 800 and all")
    parser.add_argument("--draws", type=int, default=5, help="draws of each size")
    parser.add_argument("--epochs", type=float, default=100, help="passes over the training rows, at least")
    parser.add_argument("--steps", type=int, default=1500, help="steps of a training, at least")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "learning_curve", help="folder of the draws")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "learning_curve.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "learning_curve.png")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

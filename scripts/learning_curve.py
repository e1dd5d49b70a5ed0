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
    PRECISION,
    ROOT,
    TABLE,
    UNIT,
    HeatCapacities,
    cached,
    digest_of,
    fit,
    provenance,
    quiet,
    random_encoder,
    read_heat_capacities,
    trees,
)
from tabulate import tabulate

from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.files import write_text
from cloud_hf.inference.plotting import save_figure
from cloud_hf.studies.low_data.figures import curve_figure
from cloud_hf.studies.low_data.study import draw_rows, schedule, summary

SIZES = (50, 100, 200, 400, 800)


def run_arm(data: HeatCapacities, arm: str, args: argparse.Namespace, n: int, draw: int) -> dict[str, Any]:
    """Absolute errors of one arm on the test rows, from the work folder if they are there."""
    test, train = np.flatnonzero(data.fold == args.fold), np.flatnonzero(data.fold != args.fold)
    rows = draw_rows(train, n, draw)
    settings: dict[str, Any] = {"fold": args.fold, "folds_from": data.folds_from, "rows": rows.tolist()}
    batch, epochs = schedule(n, args.epochs, args.steps, BATCH)
    encoder = args.encoder
    if arm == "scratch":
        encoder = random_encoder(args.work / "encoders" / f"random_seed{draw}", "sites", draw, **BASE)
    if arm != "trees":
        settings |= {"batch": batch, "epochs": epochs, "learning_rate": LEARNING_RATE, "precision": PRECISION}
        settings |= {"encoder": digest_of(encoder)}

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
            figure = curve_figure(lines, f"MAE of Cv at 300 K, {UNIT}", f"{test_rows} test rows")
            save_figure(figure, str(args.picture))
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

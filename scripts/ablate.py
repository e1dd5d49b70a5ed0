"""Measure what makes the heat-capacity model better, one change at a time.

    python scripts/ablate.py --encoder runs/mlm --multitask runs/multitask --corpus strings.parquet --recipe mlm.yaml
    python scripts/ablate.py --encoder runs/mlm --cells base scratch    # some cells
    python scripts/ablate.py --list                                     # what is done
    python scripts/ablate.py --report                                   # write docs/ablations.md

Every cell is scored on the test rows of the same folds, trained for as many passes over the other rows, and compared on
these rows with its reference and with the trees. A cell that has a result file is not run again, nor is a training that
is in the work folder; an interrupted grid goes on where it stopped. Trainings use a GPU where there is one.

The encoder of `corpus_quarter` is pre-trained here, if it is not in the work folder, on a quarter of the strings of
`--corpus` with `--recipe` (that of `--encoder`, so that the strings are the only difference).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ablation_cells import BASE, CELLS, TRAINED_ON, Cell, Fit
from ablation_report import show, write_report
from heat_capacity_study import (
    BATCH,
    LEARNING_RATE,
    PRECISION,
    ROOT,
    UNIT,
    HeatCapacities,
    cached,
    digest_of,
    fit,
    quiet,
    random_encoder,
    read_heat_capacities,
    trees,
)
from numpy.typing import NDArray
from wyckoff_labellings import equivalent_strings, random_description

from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import CloudError

COPIES = 10
"""Labellings of each crystal in the training rows of `labelled`; epochs are divided by it."""


class Grid:
    """The cells with all that they share.

    Args:
        args: Of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work: Path = args.work
        self.data: HeatCapacities = read_heat_capacities(args.data, args.split, self.work)
        self.test = [np.flatnonzero(self.data.fold == fold) for fold in args.folds]
        self.train = [np.flatnonzero(self.data.fold != fold) for fold in args.folds]
        for fold, rows in zip(args.folds, self.test, strict=True):
            if not len(rows):
                raise SystemExit(f"There is no fold {fold}; the folds are 0 to {self.data.fold.max()}.")
        if args.rows:
            self.train = [rows[: args.rows] for rows in self.train]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result of every cell."""
        return {
            "folds": list(self.args.folds), "folds_from": self.data.folds_from, "epochs": self.args.epochs,
            "batch": BATCH, "learning_rate": LEARNING_RATE, "precision": PRECISION,
            "train_rows": [len(rows) for rows in self.train],
        }  # fmt: skip

    def encoder(self, kind: str) -> Path | None:
        """Folder of a pre-trained encoder, None if it was not given."""
        if kind == "quarter":
            folder = self.work / "encoder_quarter"
            return folder if self.args.corpus or (folder / "model.safetensors").is_file() else None
        given: Path | None = self.args.encoder if kind == "mlm" else self.args.multitask
        return given

    def settings_of(self, cell: Cell) -> dict[str, Any]:
        """What decides the result of a cell."""
        kind = cell.fit.encoder
        folder = None if kind == "random" else self.encoder(kind)
        own = {"fit": cell.fit.name, "reads": cell.reads, "seeds": list(cell.seeds)}
        return self.settings | own | {"encoder": folder and digest_of(self.ready(kind, folder))}

    def ready(self, kind: str, folder: Path) -> Path:
        """The folder of an encoder, pre-trained now if it is that on a quarter of the strings."""
        if (folder / "model.safetensors").is_file():
            return folder
        if kind != "quarter":
            raise SystemExit(f"{folder}: there is no model.safetensors; give the folder of `cloud-hf pretrain`.")
        if self.args.recipe is None:
            raise SystemExit("corpus_quarter needs --recipe, the recipe that --encoder was pre-trained with.")
        table = self.work / "quarter.parquet"
        write_table(quarter_of(self.args.corpus), table)
        command = [
            sys.executable,
            "-m",
            "cloud_hf",
            "pretrain",
            "--config",
            str(self.args.recipe),
            "--data",
            str(table),
        ]
        command += ["--output_dir", str(folder), "--use_cpu", "false", "--resume_from_checkpoint", "true"]
        subprocess.run(command, check=True)
        return folder

    def predictions(self, what: Fit, place: int, seed: int) -> dict[str, Any]:
        """Predictions of one training for the test rows of a fold: of `one` string each, and the `mean`."""
        fold = self.args.folds[place]
        folder = self._encoder_of(what, seed)
        settings = self.settings | {"folds": [fold], "train_rows": [len(self.train[place])], "seed": seed}
        settings |= {"fit": asdict(what), "encoder": digest_of(folder)}

        def compute() -> dict[str, Any]:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            train, test = self.train[place], self.test[place]
            epochs = self.args.epochs
            strings = self._strings(what.strings)
            if what.strings == "labelled":
                train, epochs = np.repeat(train, COPIES), epochs / COPIES
                every = {int(row): equivalent_strings(strings[row]) for row in np.unique(train)}
                texts = [every[row][turn % COPIES % len(every[row])] for turn, row in enumerate(train.tolist())]
            else:
                texts = [strings[row] for row in train]
            tests = {"one": self.data.rows(test, [strings[row] for row in test], tokenizer)}
            if what.strings in ("sites", "labelled"):
                several = [equivalent_strings(strings[row]) for row in test]
                counts = np.array([len(found) for found in several])
                tests["mean"] = self.data.rows(np.repeat(test, counts), list(chain(*several)), tokenizer)
            found = fit(folder, self.data.rows(train, texts, tokenizer), tests, what.head, seed, epochs)
            if "mean" in found:
                found["mean"] = np.add.reduceat(found["mean"], np.cumsum(counts) - counts) / counts
            return {name: values.tolist() for name, values in found.items()}

        return cached(self.work / "fits" / f"{what.name}_fold{fold}_seed{seed}.json", settings, compute)

    def _encoder_of(self, what: Fit, seed: int) -> Path:
        if what.encoder != "random":
            folder = self.encoder(what.encoder)
            if folder is None:
                raise SystemExit(f"{what.name} needs {TRAINED_ON[what.encoder]}.")
            return self.ready(what.encoder, folder)
        grammar = {"composition": "composition", "released": "composition", "full": "full"}.get(what.strings, "sites")
        changes = dict(what.changes)
        name = "_".join(["random", grammar, *(f"{key}-{value}" for key, value in changes.items()), f"seed{seed}"])
        return random_encoder(self.work / "encoders" / name, grammar, seed, **(BASE | changes))

    def _strings(self, name: str) -> list[str]:
        sites = self.data.strings["sites"]
        if name == "described":
            return [random_description(text, seed=0) for text in sites]
        return sites if name == "labelled" else self.data.strings[name]

    def trees(self) -> dict[str, Any]:
        """Errors of the trees on the same rows."""

        def compute() -> dict[str, Any]:
            found = [trees(self.data, train, test) for train, test in zip(self.train, self.test, strict=True)]
            return {"name": "trees"} | self._scored(np.concatenate(found))

        return cached(self.args.out / "trees.json", self.settings, compute)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Fill a cell, unless it is filled."""

        def compute() -> dict[str, Any]:
            by_seed, seconds = [], 0.0
            for seed in cell.seeds:
                fits = [self.predictions(cell.fit, place, seed) for place in range(len(self.args.folds))]
                seconds += sum(one["seconds"] for one in fits)
                by_seed.append(np.concatenate([np.array(one[cell.reads]) for one in fits]))
            entry = {key: getattr(cell, key) for key in ("name", "question", "change", "reference", "adds")}
            entry |= self._scored(np.mean(by_seed, axis=0)) | {"training_seconds": round(seconds, 1)}
            if len(by_seed) > 1:
                entry["mae_of_seeds"] = [self._scored(found)["mae"] for found in by_seed]
            return entry

        return cached(self.args.out / f"{cell.name}.json", self.settings_of(cell), compute)

    def _scored(self, predicted: NDArray[np.float64]) -> dict[str, Any]:
        rows = np.concatenate(self.test)
        label = self.data.label[rows]
        errors = np.abs(predicted - label)
        mad = float(np.abs(label - label.mean()).mean())
        return {
            "n": len(rows),
            "unit": UNIT,
            "mae": float(errors.mean()),
            "median_absolute_error": float(np.median(errors)),
            "mae_mad": float(errors.mean()) / mad,
            "rows": rows.tolist(),
            "absolute_error": errors.round(4).tolist(),
        }

    def waits_for(self, cell: Cell) -> str | None:
        """Argument without which a cell cannot run."""
        kind = cell.fit.encoder
        return None if kind == "random" or self.encoder(kind) is not None else TRAINED_ON[kind]


def quarter_of(tables: Sequence[str]) -> pd.DataFrame:
    """A quarter of the distinct strings of some tables, always the same ones, with what made them."""
    every = pd.concat([read_table(path) for path in tables], ignore_index=True)
    columns = [name for name in ("scope", "encoder") if name in every.columns]
    distinct = every[columns].dropna(subset="scope").drop_duplicates("scope")
    return distinct.sample(frac=0.25, random_state=0).sort_index().reset_index(drop=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the cells that are named, or all that can be."""
    args = _arguments(arguments)
    if args.list or args.report:
        if args.report:
            write_report(args.out, args.document)
        print(show(args.out))
        return
    quiet()
    grid = Grid(args)
    cells = [cell for cell in CELLS if not args.cells or cell.name in args.cells]
    grid.trees()
    failed = []
    for cell in cells:
        missing = grid.waits_for(cell)
        if missing:
            print(f"{cell.name}: waits for {missing}", flush=True)
            continue
        try:
            found = grid.run(cell)
        except CloudError as error:  # the others can go on
            failed.append(f"{cell.name}: {error}")
            continue
        print(f"{cell.name}: MAE {found['mae']:.3f} {UNIT}, {found['training_seconds']:.0f} s", flush=True)
        write_report(args.out, args.document)
    print(show(args.out))
    if failed:
        raise SystemExit("\n".join(failed))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    results = ROOT / "docs" / "results" / "ablations"
    parser.add_argument("--encoder", type=Path, help="encoder of the base: MLM on all strings")
    parser.add_argument("--multitask", type=Path, help="the same, trained on multi-task labels after that")
    parser.add_argument("--corpus", nargs="+", help="tables of strings that --encoder was trained on")
    parser.add_argument("--recipe", type=Path, help="YAML recipe that --encoder was trained with")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--split", type=Path, help="what `cloud-hf split` wrote; without it folds of the strings alone")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1], help="folds whose rows are scored")
    parser.add_argument("--epochs", type=float, default=100, help="passes over the training rows")
    parser.add_argument("--rows", type=int, help="train on so few rows, to try the grid out")
    parser.add_argument("--cells", nargs="+", choices=[cell.name for cell in CELLS], help="only these")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "ablations", help="encoders and trainings")
    parser.add_argument("--out", type=Path, default=results, help="result files")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "ablations.md", help="the table")
    parser.add_argument("--list", action="store_true", help="say what is done")
    parser.add_argument("--report", action="store_true", help="write the table from the result files")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""The study `ablation`: what makes a model of heat capacities better, one change at a time."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf.data.kept_strings import encode_table
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import CloudError, StudyError
from cloud_hf.metrics import regression_metrics
from cloud_hf.scope import ScopeEncoder
from cloud_hf.studies.ablation.cells import BASE, CELLS, COPIES, Cell, Training
from cloud_hf.studies.ablation.labellings import equivalent_strings, random_description
from cloud_hf.studies.common.arguments import TrainingStudyArguments, one_table
from cloud_hf.studies.common.crystals import assigned_folds, read_crystals
from cloud_hf.studies.common.fitting import (
    StudyTarget,
    encoder_folder,
    fit_and_predict,
    random_encoder,
    training_settings,
    trees,
)
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.heat_capacities import HEAD_TARGETS, UNIT, check_heat_capacities
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.common.scoring import paired
from cloud_hf.training.arguments import in_range

__all__ = ["Arguments", "run", "verdict"]

FOLDS = 5
"""Folds of the crystals, where no split is given."""

GRAMMAR_OF = {"released": "composition", "composition": "composition", "full": "full"}
"""Grammar of each kind of string that is not of `sites`."""

NEEDED = {"multitask": "multitask", "quarter": "corpus"}
"""The argument without which there is no such encoder."""

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass
class Arguments(TrainingStudyArguments):
    """Change one thing at a time in a model of heat capacities, and compare it with its reference on the same rows.

    What is changed: pre-training, inputs, grammar, canonical order, Wyckoff labellings, head, ensemble and size. Every
    cell is scored on the held-out rows of the same folds and trained for as many passes over the other rows. Cells that
    are done stay in the report when others are chosen with --cells. --data names one table with structures and Cv at
    300 K in J/(mol of primitive cells K). Cells that need an encoder that is not given are left out.
    """

    label: str = field(default="cloud_cv_J_molcell_K", metadata={"help": "Column of Cv at 300 K."})
    released: str = field(default="cloud_scope", metadata={"help": "Column of the paper's own strings."})
    split: str | None = field(
        default=None,
        metadata={"help": "TABLE.split.parquet that `cloud-hf split` wrote for --data; not given: folds by string."},
    )
    folds: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "Folds whose rows are scored."})
    cells: list[str] = field(default_factory=list, metadata={"help": "Only these cells; none: all."})
    multitask: str | None = field(
        default=None, metadata={"help": "Encoder like --model, trained on multi-task labels after that."}
    )
    corpus: list[str] = field(default_factory=list, metadata={"help": "Tables of strings that --model was trained on."})
    recipe: str | None = field(
        default=None,
        metadata={"help": "YAML recipe that --model was pre-trained with; with --corpus an encoder is pre-trained on a "
                  "quarter of the strings."},
    )  # fmt: skip
    num_train_epochs: float = field(default=100.0, metadata={"help": "Passes over the training rows."})
    head_dropout: float = field(default=0.1, metadata={"help": "Dropout before the head."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        one_table(self.data)
        names = [cell.name for cell in CELLS]
        unknown = [name for name in self.cells if name not in names]
        if unknown:
            raise StudyError(f"--cells: there is no cell {unknown[0]!r}; there are {', '.join(names)}.")
        for fold in self.folds:
            in_range("folds", fold, 0, 1000)
        if not self.folds:
            raise StudyError("--folds needs at least one number.")
        if self.corpus and self.recipe is None:
            raise StudyError("--corpus needs --recipe, the recipe that --model was pre-trained with.")


def run(arguments: Arguments) -> Path:
    """Fill the cells that are missing and return the path of the report.

    Raises:
        CloudError: Data or folder that cannot be used, or cells that failed; the others are done and in the report.
    """
    grid = _Grid(arguments)
    predictions = {"trees": grid.trees()} if arguments.baselines else {}
    details: dict[str, dict[str, Any]] = {}
    failed = []
    chosen = [cell.name for cell in CELLS if not arguments.cells or cell.name in arguments.cells]
    # those that are chosen first, as others may read the same trainings
    plan = sorted(CELLS, key=lambda cell: cell.name not in chosen)
    for cell in (bar := tqdm(plan, desc="ablation", unit="cell", disable=None)):
        bar.set_postfix_str(cell.name)
        if not grid.has_encoder(cell.training.encoder) or not (cell.name in chosen or grid.is_done(cell)):
            continue
        try:
            predictions[cell.name], details[cell.name] = grid.predictions(cell)
        except CloudError as error:  # the others can go on
            failed.append(f"{cell.name}: {error}")
    report = finish(grid.folder, _results(grid, predictions, details), {})
    if failed:
        raise StudyError(f"written without cells that failed. {'; '.join(failed)}", source=str(report))
    return report


class _Grid:
    """The table with its folds, and the trainings of the cells.

    Args:
        arguments: Arguments of the study.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        path = Path(arguments.data[0])
        settings = training_settings(arguments) | {
            "data": f"{path.name} {digest_of(path)}", "label": arguments.label,
            "split": digest_of(arguments.split) if arguments.split else None,
        }  # fmt: skip
        self.folder = StudyFolder(arguments.out, "ablation", settings)
        self.strings_folder = self.folder.path / "cells" / "strings"
        table = read_crystals(path, [arguments.label], self.strings_folder, arguments.workers)
        self.crystals = table.labelled(arguments.label)
        if not len(self.crystals):
            raise StudyError(f"no row with a string has a label in the column {arguments.label!r}.", source=str(path))
        self.labels = self.crystals.labels[arguments.label]
        check_heat_capacities(self.labels, self.crystals.n_atoms, self.crystals.ids, arguments.label, path)
        self.fold = assigned_folds(self.crystals, arguments.split, FOLDS, arguments.seed)
        for fold in arguments.folds:
            if not (self.fold == fold).any():
                raise StudyError(
                    f"no crystal falls into fold {fold}; the folds are 0 to {self.fold.max()}.", source=str(path)
                )
        self.test = np.concatenate([np.flatnonzero(self.fold == fold) for fold in arguments.folds])

    def target(self, head: str) -> StudyTarget:
        """What a head learns."""
        return StudyTarget(self.arguments.label, UNIT, **HEAD_TARGETS[head])

    def has_encoder(self, kind: str) -> bool:
        """Whether the encoder is given, or can be made."""
        return kind not in NEEDED or bool(getattr(self.arguments, NEEDED[kind]))

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell needs no training."""
        if cell.training.encoder == "quarter" and not (self.quarter / SAFE_WEIGHTS_NAME).is_file():
            return False
        pairs = [(fold, seed) for fold in self.arguments.folds for seed in cell.seeds]
        return all(self.folder.has(self._place(cell.training, *pair)) for pair in pairs)

    def predictions(self, cell: Cell) -> tuple[Numbers, dict[str, Any]]:
        """Train what is missing of a cell.

        Returns:
            Its predictions for the test rows of all folds, and `training_seconds` and, with several seeds, the MAE of
            each and their standard deviation.
        """
        by_seed, seconds = [], 0.0
        for seed in cell.seeds:
            trained = [self._train(cell.training, fold, seed) for fold in self.arguments.folds]
            seconds += sum(entry["seconds"] for entry in trained)
            by_seed.append(np.concatenate([entry[cell.reads] for entry in trained]))
        details: dict[str, Any] = {"training_seconds": round(seconds, 1)}
        if len(by_seed) > 1:
            errors = [float(np.abs(values - self.labels[self.test]).mean()) for values in by_seed]
            details |= {"mae_of_seeds": errors, "std_of_seeds": float(np.std(errors, ddof=1))}
        return np.mean(by_seed, axis=0), details

    def trees(self) -> Numbers:
        """Predictions of the trees for the test rows of all folds."""

        def compute(fold: int) -> dict[str, Any]:
            train, test = np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)
            return {"one": trees(self.target("debye"), self.crystals, train, test).tolist()}

        cells = [
            self.folder.cell(f"trees/fold_{fold}", lambda fold=fold: compute(fold))  # type: ignore[misc]
            for fold in self.arguments.folds
        ]
        return np.concatenate([cell["one"] for cell in cells])

    def _place(self, training: Training, fold: int, seed: int) -> str:
        kind = training.encoder
        weights = f"-{digest_of(self._encoder(training, seed))}" if kind in NEEDED else ""
        return f"{training.name}{weights}/fold_{fold}_seed_{seed}"

    def _train(self, training: Training, fold: int, seed: int) -> dict[str, Any]:
        """Predictions of one training for the test rows of a fold: of `one` string each, and the `mean`."""
        encoder = str(self._encoder(training, seed))
        return self.folder.cell(
            self._place(training, fold, seed), lambda: self._fit(training, encoder, fold, seed)
        )  # fmt: skip

    def _fit(self, training: Training, encoder: str, fold: int, seed: int) -> dict[str, Any]:
        train, test = np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)
        changed: dict[str, Any] = {"model": encoder}
        strings = self._strings(training.strings)
        if training.strings == "labelled":
            every = {row: equivalent_strings(strings[row]) for row in train.tolist()}
            train = np.repeat(train, COPIES)
            texts = [every[row][turn % COPIES % len(every[row])] for turn, row in enumerate(train.tolist())]
            changed["num_train_epochs"] = self.arguments.num_train_epochs / COPIES
        else:
            texts = [strings[row] for row in train]
        rows = self.crystals.take(train).with_scopes(texts)
        rows = rows.followed_by(self.crystals.take(test).with_scopes([strings[row] for row in test]))
        parts = {"one": np.arange(len(train), len(rows))}
        counts = np.zeros(0, dtype=np.int64)
        if training.strings in ("sites", "labelled"):
            several = [equivalent_strings(strings[row]) for row in test]
            counts = np.array([len(labellings) for labellings in several])
            begin = len(rows)
            rows = rows.followed_by(self.crystals.take(np.repeat(test, counts)).with_scopes([*chain(*several)]))
            parts["mean"] = np.arange(begin, len(rows))
        fit = fit_and_predict(
            replace(self.arguments, **changed), self.target(training.head), rows, np.arange(len(train)), parts, seed
        )
        if "mean" in parts:
            ends = np.cumsum(counts)
            fit.predictions["mean"] = np.add.reduceat(fit.predictions["mean"], ends - counts) / counts
        return {name: values.tolist() for name, values in fit.predictions.items()}

    def _strings(self, kind: str) -> list[str]:
        if kind in ("sites", "labelled"):
            return self.crystals.scopes
        if kind == "described":
            return [random_description(scope, seed=0) for scope in self.crystals.scopes]
        path = Path(self.arguments.data[0])
        if kind == "released":
            if self.arguments.released not in self.crystals.table.columns:
                raise StudyError(
                    f"has no column {self.arguments.released!r}; name it with --released.", source=str(path)
                )
            return [str(text) for text in self.crystals.table[self.arguments.released]]
        strings = encode_table(
            read_table(path), path, self.strings_folder, self.arguments.workers, ScopeEncoder(kind),
            self.crystals.position,
        )  # fmt: skip
        failed = strings[strings["reason"].notna()]
        if len(failed):
            first = "{source}: {reason}".format(**failed.iloc[0])
            raise StudyError(f"{len(failed)} rows have no string of {kind!r}; {first}", source=str(path))
        return strings["scope"].tolist()

    @property
    def quarter(self) -> Path:
        """Folder of the encoder that is pre-trained on a quarter of the strings."""
        return self.folder.path / "encoders" / "quarter"

    def _encoder(self, training: Training, seed: int) -> Path | str:
        if training.encoder == "mlm":
            return encoder_folder(self.arguments.model, seed)
        if training.encoder == "multitask":
            return encoder_folder(str(self.arguments.multitask), seed)
        if training.encoder == "quarter":
            return self._pretrained_on_a_quarter()
        grammar = GRAMMAR_OF.get(training.strings, "sites")
        changes = dict(training.changes)
        name = "_".join(["random", grammar, *(f"{key}-{value}" for key, value in changes.items()), f"seed{seed}"])
        return random_encoder(self.folder.path / "encoders" / name, grammar, seed, **(BASE | changes))

    def _pretrained_on_a_quarter(self) -> Path:
        if not (self.quarter / SAFE_WEIGHTS_NAME).is_file():
            table = self.quarter.with_suffix(".parquet")
            write_table(quarter_of(self.arguments.corpus), table)
            command = [sys.executable, "-m", "cloud_hf", "pretrain", "--config", str(self.arguments.recipe)]
            command += ["--data", str(table), "--output-dir", str(self.quarter), "--resume-from-checkpoint", "true"]
            if subprocess.run(command, check=False).returncode:  # noqa: S603  (our own command)
                raise StudyError(
                    "the pre-training on a quarter of the strings stopped; see above.", source=str(self.quarter)
                )
        return self.quarter


def quarter_of(tables: Sequence[str]) -> pd.DataFrame:
    """Return a quarter of the distinct strings of some tables, always the same ones, with what made them."""
    every = pd.concat([read_table(path) for path in tables], ignore_index=True)
    columns = [name for name in ("scope", "encoder") if name in every.columns]
    distinct = every[columns].dropna(subset="scope").drop_duplicates("scope")
    return distinct.sample(frac=0.25, random_state=0).sort_index().reset_index(drop=True)


def _results(grid: _Grid, predictions: Mapping[str, Numbers], details: Mapping[str, Any]) -> dict[str, Any]:
    """Errors of every cell, its differences to its reference and to the trees, and verdicts."""
    labels = grid.labels[grid.test]
    errors = {name: np.abs(values - labels) for name, values in predictions.items()}
    scores: dict[str, Any] = {}
    for name, values in predictions.items():
        metrics = regression_metrics(labels, values)
        scores[name] = {key: metrics[key] for key in ("mae", "median_absolute_error", "mae_mad")}
        scores[name]["absolute_error"] = errors[name].round(4).tolist()
    spread = details.get("ensemble_3", {}).get("std_of_seeds", 0.0)
    by_name = {cell.name: cell for cell in CELLS}
    cells: dict[str, Any] = {}
    for name, cell in by_name.items():
        if name not in details:
            continue
        gaps = {
            other: paired(errors[name], errors[other])
            for other in (cell.reference, "trees")
            if other is not None and other in errors
        }
        reference = by_name.get(cell.reference or "")
        same = reference is not None and (reference.training, reference.seeds[0]) == (cell.training, cell.seeds[0])
        gap = gaps.get(cell.reference or "")
        cells[name] = {
            **{key: getattr(cell, key) for key in ("question", "change", "reference", "adds")}, **scores[name],
            "to_reference": gap, "to_trees": gaps.get("trees"),
            "verdict": verdict(gap, cell.adds, 0.0 if same else spread), **details[name],
        }  # fmt: skip
    return {
        "unit": UNIT, "n": len(labels), "folds": list(grid.arguments.folds),
        "folds_from": "cloud-hf split" if grid.arguments.split else "strings",
        "train_rows": [int((grid.fold != fold).sum()) for fold in grid.arguments.folds], "trees": scores.get("trees"),
        "cells": cells, "not_measured": [cell.name for cell in CELLS if cell.name not in cells],
        "rows": grid.crystals.position[grid.test].tolist(),
    }  # fmt: skip


def verdict(gap: Mapping[str, float] | None, adds: bool, seeds: float = 0.0) -> str:
    """Say what a paired difference shows about a change.

    Args:
        gap: Difference of the errors, from `paired`; its 95 % interval decides. None: there is no reference.
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

"""The study `low-data`: errors against the number of labels, for the model and for trees."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from cloud_hf.data.assignment import composition_name
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.arguments import LabelStudyArguments
from cloud_hf.studies.common.crystals import Crystals, assigned_folds, read_crystals, with_atoms
from cloud_hf.studies.common.fitting import (
    StudyTarget,
    auto_predictions,
    fit_and_predict,
    study_target,
    target_settings,
    training_settings,
    trees_and_choice,
)
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.heat_capacities import check_heat_capacities
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.low_data.figures import NAMES, curve_figure
from cloud_hf.training.arguments import in_range

__all__ = ["REPORT_VALUES", "Arguments", "below_from", "draw_rows", "paired_over_draws", "run", "schedule", "summary"]

REPORT_VALUES = {"NAMES": NAMES}

SMALL = 400
"""Below this many training rows a batch has at most `SMALL_BATCH` strings."""
SMALL_BATCH = 16

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass
class Arguments(LabelStudyArguments):
    """Learning curves: errors of model and trees that learned from few labels, on the same held-out crystals.

    One fold of the crystals is held out. Samples of the others are drawn at random, several of each size, and model
    and trees learn from the same ones. --data names one table (.csv, .jsonl or .parquet) with structures or
    SCOPE strings and a column of labels.
    """

    n_atoms: str | None = field(
        default=None, metadata={"help": "Column of atoms per primitive cell; not given: as the strings say."}
    )
    sizes: list[int] = field(
        default_factory=lambda: [50, 100, 200, 400, 800], metadata={"help": "Numbers of labels to learn from; 0: all."}
    )
    draws: int = field(default=5, metadata={"help": "Random draws of each size."})
    min_steps: int = field(
        default=400, metadata={"help": "Steps of every training at least: small draws get more epochs."}
    )
    arms: list[str] | None = field(
        default=None,
        metadata={"help": "Run these alone, of model, scratch, auto, trees and mean; not given: all that apply."},
    )
    scratch: bool = field(default=False, metadata={"help": "Train the model without pre-training too."})
    split: str | None = field(
        default=None,
        metadata={"help": "TABLE.split.parquet that `cloud-hf split` wrote for --data; not given: folds by string."},
    )
    folds: int = field(default=5, metadata={"help": "Folds of the crystals."})
    fold: int = field(default=0, metadata={"help": "The fold that is held out, from 0."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("draws", self.draws, 1, 1000)
        in_range("min_steps", self.min_steps, 1, 1e7)
        in_range("folds", self.folds, 2, 1000)
        in_range("fold", self.fold, 0, self.folds - 1)
        self.sizes = sorted(set(self.sizes))
        unknown = [arm for arm in self.arms or () if arm not in NAMES]
        if unknown or (self.arms is not None and not self.arms):
            raise StudyError(f"--arms must be some of {', '.join(NAMES)}, not {', '.join(unknown) or 'none'}.")
        for size in self.sizes:
            in_range("sizes", size or 2, 2, 1e9)
        if not self.sizes:
            raise StudyError("--sizes needs at least one number.")


def run(arguments: Arguments) -> Path:
    """Run the draws that are missing, small ones first, and return the path of the report.

    Raises:
        CloudError: Data or folder that cannot be used; the message says why.
    """
    target = study_target(arguments)
    path = Path(arguments.data[0])
    settings = training_settings(arguments) | {
        **target_settings(target), "data": f"{path.name} {digest_of(path)}", "min_steps": arguments.min_steps,
        "folds": arguments.folds, "fold": arguments.fold, "n_atoms": arguments.n_atoms,
        **({"split": digest_of(arguments.split)} if arguments.split else {}),
    }  # fmt: skip
    folder = StudyFolder(arguments.out, "low-data", settings)
    table = read_crystals(path, [target.name], folder.path / "cells" / "strings", arguments.workers)
    crystals, fold = _checked(arguments, target, table)
    train, test = np.flatnonzero(fold != arguments.fold), np.flatnonzero(fold == arguments.fold)
    sizes = _checked_sizes(arguments, train, test)
    beside = ["auto", "trees"] if arguments.baselines else []
    arms = ["model", *(["scratch"] if arguments.scratch else []), *beside, "mean"]
    arms = [arm for arm in NAMES if arm in (arguments.arms or arms)]
    runs: dict[int, dict[str, list[dict[str, Any]]]] = {n: {arm: [] for arm in arms} for n in sizes}
    cells = [(draw, n, arm) for draw in range(arguments.draws) for n in sizes for arm in arms]
    for draw, n, arm in tqdm(cells, desc="draws", unit="training", disable=None):

        def compute(draw: int = draw, n: int = n, arm: str = arm) -> dict[str, Any]:
            return _cell(arguments, target, crystals, draw_rows(train, n, draw, arguments.seed), test, arm, draw)

        runs[n][arm].append(folder.cell(f"{n}/draw_{draw}/{arm}", compute))
    labels = crystals.labels[target.name]
    names = [composition_name(scope) for scope in crystals.scopes]
    seen = {names[row] for row in train}
    lines = summary(runs)
    results = {
        "table": {
            "file": path.name, "bytes": path.stat().st_size, "sha256_begins_with": digest_of(path),
            "rows": len(table) + len(table.failures), "labelled": len(crystals),
            "unlabelled": len(table) - len(crystals), "crystals": len(set(names)),
            "failures": table.failures.to_dict("records"),
        },
        "target": target.name, "unit": target.unit, "test_rows": len(test), "train_rows": len(train),
        "test_crystals_in_training": sum(names[row] in seen for row in test),
        "rows": f"rows of fold {arguments.fold} of {arguments.folds}, by crystal",
        "mad": float(np.abs(labels[test] - labels[test].mean()).mean()),
        "below_trees_from": {arm: below_from(lines, arm) for arm in arms if arm not in ("trees", "mean")},
        "sizes": lines,
    }  # fmt: skip
    draws = " or ".join(str(draws) for draws in sorted({line["draws"] for line in lines}))
    title = f"{len(test):,} held-out rows; {draws} draws a size"
    figure = curve_figure(lines, f"MAE of {target.name}, {target.unit}", title)
    return finish(folder, results, {"learning_curve.png": figure})


def schedule(n: int, epochs: float, steps: int, batch: int = 32) -> tuple[int, float]:
    """Return batch size and epochs of a training on `n` rows: `epochs`, or as many as `steps` steps take.

    Args:
        n: Training rows.
        epochs: Passes over them, at least.
        steps: Steps, at least.
        batch: Strings per step from `SMALL` rows on.
    """
    batch = min(batch, SMALL_BATCH) if n < SMALL else batch
    per_epoch = -(-n // batch)
    return batch, max(epochs, float(-(-steps // per_epoch)))


def draw_rows(train: Indices, n: int, draw: int, seed: int = 0) -> Indices:
    """Return `n` of the training rows, sorted; the same ones for every arm and on every machine."""
    chance = np.random.default_rng([n, draw] if seed == 0 else [n, draw, seed])
    return np.sort(chance.choice(train, n, replace=False))


def paired_over_draws(errors: ArrayLike, others: ArrayLike, resamples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """Compare two models that learned from the same draws, by their absolute errors on the same rows.

    Draws and rows are resampled independently of each other (the pigeonhole bootstrap of Owen, Ann. Appl. Stat. 1, 386
    (2007)), so that the interval is for other draws and other crystals. With one draw only the rows are resampled.

    Args:
        errors: Absolute errors of the first, shape (draws, n).
        others: Absolute errors of the second, in the same order, shape (draws, n).
        resamples: Samples that the bootstrap draws.
        seed: Seed of the bootstrap.

    Returns:
        `difference` of the mean absolute errors (negative: the first is better) with `low` and `high`, its 95 %
        interval, in the unit of the errors.
    """
    gap = np.asarray(errors, dtype=float) - np.asarray(others, dtype=float)
    draws, n = gap.shape
    chance = np.random.default_rng(seed)
    piece = max(1, min(500, 2_000_000 // n))
    means = []
    for begin in range(0, resamples, piece):
        size = min(piece, resamples - begin)
        rows = chance.multinomial(n, np.full(n, 1 / n), size) / n
        of_draws = chance.multinomial(draws, np.full(draws, 1 / draws), size) / draws
        means.append(((of_draws @ gap) * rows).sum(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return {"difference": float(gap.mean()), "low": float(low), "high": float(high)}


def summary(runs: dict[int, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Return one entry per size: of each arm the MAE of every draw, mean and spread, and the difference to the trees.

    Args:
        runs: Results of the draws, by size and arm: `absolute_error` of the test rows, and of a training `seconds`
            and `settings` with `batch` and `epochs`.
    """
    lines = []
    for n, arms in sorted(runs.items()):
        draws = min(map(len, arms.values()))
        if not draws:
            continue
        errors = {arm: np.array([cell["absolute_error"] for cell in cells[:draws]]) for arm, cells in arms.items()}
        line: dict[str, Any] = {"train_rows": n, "draws": draws, "arms": {}}
        for arm, values in errors.items():
            maes = values.mean(axis=1)
            entry = {"mae": maes.tolist(), "mae_mean": float(maes.mean())}
            entry["mae_std"] = float(maes.std(ddof=1)) if draws > 1 else None
            entry["median_absolute_error"] = float(np.median(values, axis=1).mean())
            if arm != "trees" and "trees" in errors:
                entry["to_trees"] = paired_over_draws(values, errors["trees"])
                entry["draws_better_than_trees"] = int((maes < errors["trees"].mean(axis=1)).sum())
            settings = arms[arm][0].get("settings", {})
            if "epochs" in settings:
                entry["seconds"] = [cell["seconds"] for cell in arms[arm][:draws]]
                entry |= {key: settings[key] for key in ("batch", "epochs")}
            chosen = [cell["chosen"]["model"] for cell in arms[arm][:draws] if "chosen" in cell]
            if chosen:
                entry["chosen"] = {model: chosen.count(model) for model in dict.fromkeys(chosen)}
            line["arms"][arm] = entry
        lines.append(line)
    return lines


def below_from(lines: Sequence[dict[str, Any]], arm: str) -> int | None:
    """Return the smallest size from which on every interval of the difference to the trees lies below 0, or None."""
    smallest = None
    for line in sorted(lines, key=lambda line: -line["train_rows"]):
        gap = line["arms"].get(arm, {}).get("to_trees")
        if gap is None or gap["high"] >= 0:
            break
        smallest = line["train_rows"]
    return smallest


def _checked(arguments: Arguments, target: StudyTarget, table: Crystals) -> tuple[Crystals, Indices]:
    """The labelled crystals and their folds."""
    path = arguments.data[0]
    crystals = with_atoms(table.labelled(target.name), arguments.n_atoms, path)
    if not len(crystals):
        raise StudyError(f"no row has a label in the column {target.name!r}.", source=path)
    labels = crystals.labels[target.name]
    if target.debye:
        atoms = crystals.n_atoms if target.per_cell else np.ones(len(crystals))
        check_heat_capacities(labels, atoms, crystals.ids, target.name, path)
    elif target.transform.startswith("log") and (labels <= 0).any():
        row = int(np.flatnonzero(labels <= 0)[0])
        raise StudyError(
            f"--transform {target.transform} needs positive labels, but that of {crystals.ids[row]} is "
            f"{labels[row]:g}.",
            source=path,
        )
    return crystals, assigned_folds(crystals, arguments.split, arguments.folds, arguments.seed)


def _checked_sizes(arguments: Arguments, train: Indices, test: Indices) -> list[int]:
    if not len(test):
        raise StudyError(f"no crystal falls into fold {arguments.fold}; lower --folds.", source=arguments.data[0])
    sizes = sorted({size or len(train) for size in arguments.sizes})
    if sizes[-1] > len(train):
        raise StudyError(
            f"--sizes {sizes[-1]}: {arguments.data[0]} leaves {len(train)} labelled rows to learn "
            f"from beside fold {arguments.fold}; give sizes up to that."
        )
    return sizes


def _cell(
    arguments: Arguments, target: StudyTarget, crystals: Crystals, rows: Indices, test: Indices, arm: str, draw: int
) -> dict[str, Any]:
    """Absolute errors of one arm that learned from `rows`."""
    labels = crystals.labels[target.name]
    seed = arguments.seed + draw
    settings: dict[str, Any] = {}
    if arm == "trees":
        predicted, choice = trees_and_choice(target, crystals, rows, test, seed)
        settings = {"chosen": choice}
    elif arm == "auto":
        predicted, choice = auto_predictions(arguments, target, crystals, rows, test, seed)
        settings = {"chosen": choice}
    elif arm == "mean":
        atoms = crystals.n_atoms if target.per_cell else np.ones(len(crystals))
        predicted = (labels / atoms)[rows].mean() * atoms[test]
    else:
        batch, epochs = schedule(
            len(rows), arguments.num_train_epochs, arguments.min_steps, arguments.per_device_train_batch_size
        )
        changed: dict[str, Any] = {"per_device_train_batch_size": batch, "num_train_epochs": epochs}
        if arm == "scratch":
            changed["model"] = "scratch"
        fit = fit_and_predict(replace(arguments, **changed), target, crystals, rows, {"test": test}, seed)
        predicted = fit.predictions["test"]
        settings = {"settings": {"batch": batch, "epochs": epochs}}
    return {"rows": rows.tolist(), "absolute_error": np.abs(predicted - labels[test]).tolist(), **settings}

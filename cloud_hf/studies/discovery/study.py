"""The study `discovery`: learn formation energies of the Materials Project, predict WBM, and tell what is stable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.checkpoints.bundled import bundled_model
from cloud_hf.data.splits import split_by_string
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import StudyError, TableError
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals, read_crystals
from cloud_hf.studies.common.fitting import (
    StudyTarget,
    fit_and_predict,
    fit_arms,
    predict_quantity,
    training_settings,
    trees,
)
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.common.scoring import compared
from cloud_hf.studies.discovery.figures import WINDOW, figures
from cloud_hf.studies.discovery.files import (
    DISTANCE,
    DOWNLOADS,
    ENERGY,
    IDENTIFIER,
    UNIQUE,
    checksum,
    entry_ids,
    read_hull,
    read_test_crystals,
)
from cloud_hf.studies.discovery.metrics import (
    MOST_STABLE,
    STABILITY_THRESHOLD,
    hull_distances,
    offset_removed,
    stability_of_subsets,
)
from cloud_hf.training.arguments import in_range

__all__ = ["NOMAD_TARGETS", "REPORT_VALUES", "Arguments", "run"]

REPORT_VALUES = {
    "DOWNLOADS": DOWNLOADS, "MOST_STABLE": MOST_STABLE, "STABILITY_THRESHOLD": STABILITY_THRESHOLD, "WINDOW": WINDOW,
}  # fmt: skip

NOMAD_TARGETS = {"formation_energy_ev_natom": "eV/cation", "bandgap_energy_ev": "eV"}
"""Label columns of NOMAD-2018 and their units."""

UNIT = "eV/atom"
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass
class Arguments(TrainingStudyArguments):
    """Learn formation energies of the Materials Project, predict WBM, and judge what is stable: MatBench Discovery.

    --data names two tables: crystals to learn from, and crystals of WBM, or the benchmark's structures (.jsonl.gz).
    --hull names the benchmark's summary of WBM; without it only energies are judged.
    """

    target: str = field(
        default="formation_energy_per_atom", metadata={"help": "Label column of the table to learn from, eV/atom."}
    )
    test_target: str = field(
        default="",
        metadata={"help": "Label column of WBM, eV/atom; not given: the same name. With --hull its energies are used."},
    )
    hull: str | None = field(
        default=None, metadata={"help": "The benchmark's summary of WBM, 2023-12-13-wbm-summary.csv.gz."}
    )
    train: bool = field(
        default=True, metadata={"help": "Train a model for WBM; otherwise only --checkpoint is scored."}
    )
    checkpoint: str | None = field(
        default=None,
        metadata={"help": "Checkpoint with a head of the same name as --target, scored without training: a folder, a "
                  "Hub id, or 'bundled', that inside the package."},
    )  # fmt: skip
    nomad: str | None = field(
        default=None, metadata={"help": "Table of NOMAD-2018, a second benchmark, learned and scored by itself."}
    )
    nomad_epochs: float = field(default=30.0, metadata={"help": "Passes over the training rows of NOMAD-2018."})
    nomad_share: float = field(default=0.2, metadata={"help": "Of the strings of NOMAD-2018 that are held out."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("nomad_epochs", self.nomad_epochs, 1e-3, 1e6)
        in_range("nomad_share", self.nomad_share, 0.01, 0.9)
        if len(self.data) != 2:
            raise StudyError(
                f"--data names {len(self.data)} files; the study needs two: a table to learn from, and WBM, "
                "in this order."
            )
        if not self.train and self.checkpoint is None:
            raise StudyError("With --no-train there is nothing to score; name a --checkpoint.")


def run(arguments: Arguments) -> Path:
    """Run the study and return the path of its report.

    Raises:
        CloudError: Data, hull, checkpoint or folder that cannot be used; the message says why.
    """
    hull = None if arguments.hull is None else read_hull(arguments.hull)
    folder = StudyFolder(arguments.out, "discovery", _settings(arguments))
    cache = folder.path / "cells" / "strings"
    known = read_crystals(arguments.data[0], [arguments.target], cache, arguments.workers)
    column = (arguments.test_target or arguments.target) if hull is None else None
    wbm = read_test_crystals(arguments.data[1], column, cache, arguments.workers)
    learned = known.labelled(arguments.target)
    if not len(learned):
        raise StudyError(
            f"no row with a string has a label in the column {arguments.target!r}.", source=arguments.data[0]
        )
    labels = wbm.labels[column] if column is not None else _energies(wbm, hull, arguments)
    seen = np.isin(wbm.scopes, list({*known.scopes}))

    arms = _arms(arguments, folder, learned, wbm)
    results: dict[str, Any] = {
        "rows": {
            "train": _counts(known) | {"labelled": len(learned), "vintages": _vintages(learned)},
            "test": _counts(wbm) | {"labelled": int((~np.isnan(labels)).sum()),
                                    "labelled_and_seen": int((seen & ~np.isnan(labels)).sum())},
        },
        "energies": _energy_scores(arms, labels, seen, wbm, arguments.seed),
    }  # fmt: skip
    if arguments.checkpoint is not None:
        results["checkpoint"] = {"weights": _checkpoint(arguments.checkpoint, arguments.target)[1]}
    if hull is not None:
        results["hull_file"] = checksum(str(arguments.hull))
        results["stability"] = _stability(arms, labels, wbm, hull)
    for name in ("model", "checkpoint"):
        if name in arms:
            _write_predictions(folder.path / f"predictions_{name}.csv", wbm, arms[name])
    if arguments.nomad is not None:
        results["nomad"] = _nomad(arguments, folder, cache)
    distances = None if hull is None else _column(wbm, hull, DISTANCE)
    return finish(folder, results, figures(arms, labels, seen, distances))


def _settings(arguments: Arguments) -> dict[str, Any]:
    train, test = (f"{Path(path).name} {digest_of(path)}" for path in arguments.data)
    return training_settings(arguments) | {"train_table": train, "test_table": test, "target": arguments.target}


def _arms(arguments: Arguments, folder: StudyFolder, learned: Crystals, wbm: Crystals) -> dict[str, Numbers]:
    """Predict all crystals of WBM: by the model, a checkpoint, trees and the mean of the training labels."""
    target = StudyTarget(arguments.target, UNIT)
    both = learned.followed_by(replace(wbm, labels={}))  # labels of WBM are not looked at
    train, test = np.arange(len(learned)), np.arange(len(learned), len(both))
    wanted: dict[str, tuple[str, Callable[[], Numbers]]] = {}
    if arguments.train:
        wanted["model"] = (
            "model", lambda: fit_and_predict(arguments, target, both, train, {"wbm": test}).predictions["wbm"]
        )  # fmt: skip
    if arguments.checkpoint is not None:
        path, tag = _checkpoint(arguments.checkpoint, target.name)
        wanted["checkpoint"] = (
            f"checkpoint-{tag}",
            lambda: predict_quantity(path, wbm, target.name, UNIT, target.name),
        )
    if arguments.baselines:
        wanted["trees"] = ("trees", lambda: trees(target, both, train, test))
    arms = {}
    for arm, (name, predict) in tqdm(wanted.items(), desc="WBM", unit="arm", disable=None):
        cell = folder.cell(f"wbm/{name}", lambda predict=predict: {"predictions": predict().tolist()})  # type: ignore[misc]
        arms[arm] = np.array(cell["predictions"])
        if len(arms[arm]) != len(wbm):
            raise StudyError(
                "holds other rows; remove it to compute it again.", source=f"{folder.path}/cells/wbm/{name}.json"
            )
    return arms | {"mean": np.full(len(wbm), learned.labels[target.name].mean())}


def _checkpoint(given: str, head: str) -> tuple[str, str]:
    """Folder or Hub id of a checkpoint, and what its results are known by: a digest of the weights, or the id."""
    path = bundled_model(head) if given == "bundled" else given
    return path, digest_of(path) if Path(path).is_dir() else path.replace("/", "_")


def _column(wbm: Crystals, hull: pd.DataFrame, name: str) -> Numbers:
    return hull[name].reindex(entry_ids(wbm)).to_numpy(dtype=float)


def _energies(wbm: Crystals, hull: pd.DataFrame | None, arguments: Arguments) -> Numbers:
    if hull is None:
        raise TableError("There is neither a column of labels nor a hull.")
    labels = _column(wbm, hull, ENERGY)
    if np.isnan(labels).all():
        raise StudyError(
            f"none of the {len(wbm):,} crystals in {arguments.data[1]} is in it by its id "
            f"(there {hull.index[0]!r}, here {entry_ids(wbm)[0]!r}). The table needs the benchmark's ids in a column "
            f"{IDENTIFIER!r} or 'id'.",
            source=arguments.hull,
        )
    return labels


def _counts(crystals: Crystals) -> dict[str, Any]:
    return {
        "rows": len(crystals) + len(crystals.failures), "encoded": len(crystals), "strings": len({*crystals.scopes}),
        "failed": len(crystals.failures), "failures": crystals.failed_by_reason,
    }  # fmt: skip


def _vintages(learned: Crystals) -> dict[str, int]:
    """Rows by where their label is from, as far as the table says."""
    if "label_source" not in learned.table.columns:
        return {}
    return {str(name): int(count) for name, count in learned.table["label_source"].value_counts().items()}


def _energy_scores(
    arms: Mapping[str, Numbers], labels: Numbers, seen: Flags, wbm: Crystals, seed: int
) -> dict[str, Any]:
    """Errors of energies, as predicted and without the offset, on unseen crystals and on all."""
    scores: dict[str, Any] = {}
    for name, rows, described in (
        (
            "unseen",
            np.flatnonzero(~np.isnan(labels) & ~seen),
            "labelled crystals whose string is not in the training table",
        ),
        ("all", np.flatnonzero(~np.isnan(labels)), "all labelled crystals, those in the training table too"),
    ):
        if not len(rows):
            raise StudyError(f"No {described}: there is nothing to score. Is WBM the second table of --data?")
        raw = {arm: values[rows] for arm, values in arms.items()}
        corrected, offsets = offset_removed(labels[rows], raw, [wbm.scopes[row] for row in rows], seed)
        scores[f"{name}, as predicted"] = compared(labels[rows], raw, UNIT, described)
        scores[f"{name}, offset removed"] = compared(
            labels[rows], corrected, UNIT, f"{described}; the mean difference of the other half subtracted"
        ) | {"offsets": offsets}
    return scores


def _stability(arms: Mapping[str, Numbers], labels: Numbers, wbm: Crystals, hull: pd.DataFrame) -> dict[str, Any]:
    """The benchmark's metrics over the crystals of the test table that are in the hull table, encoded or not."""
    failed = [text for text in wbm.failures["source"].astype(str) if text in hull.index]
    there = np.flatnonzero(~np.isnan(labels))
    ids = [*entry_ids(wbm)[there], *failed]
    rows = hull.loc[ids]
    true, energies = rows[DISTANCE].to_numpy(), rows[ENERGY].to_numpy()
    scopes = [wbm.scopes[row] for row in there]
    corrected, _ = offset_removed(labels[there], {arm: values[there] for arm, values in arms.items()}, scopes)
    scores: dict[str, Any] = {}
    for suffix, values in (("", {arm: v[there] for arm, v in arms.items()}), (", offset removed", corrected)):
        for arm, energy in values.items():
            if arm != "mean":
                given = np.concatenate([energy, np.full(len(failed), np.nan)])
                scores[arm + suffix] = stability_of_subsets(true, hull_distances(true, energies, given), rows[UNIQUE])
    return {
        "rows": len(rows),
        "without_string": len(failed),
        "not_in_test_table": len(hull) - len(rows),
        "arms": scores,
    }


def _write_predictions(path: Path, wbm: Crystals, values: Numbers) -> None:
    """Predicted formation energies as the benchmark takes them; crystals without a string have none."""
    frame = pd.DataFrame({IDENTIFIER: entry_ids(wbm), "prediction": values, "row": wbm.position})
    failed = wbm.failures.rename(columns={"source": IDENTIFIER})[[IDENTIFIER, "row"]].assign(prediction=np.nan)
    whole = pd.concat([frame, failed]) if len(failed) else frame
    write_table(whole.sort_values("row")[[IDENTIFIER, "prediction"]], path)


def _nomad(arguments: Arguments, folder: StudyFolder, cache: Path) -> dict[str, Any]:
    """Learn and score both labels of NOMAD-2018 on held-out strings."""
    path = str(arguments.nomad)
    missing = [name for name in NOMAD_TARGETS if name not in read_table(path).columns]
    if missing:
        raise TableError(f"has no column {', '.join(missing)}, so it is not the table of NOMAD-2018.", source=path)
    crystals = read_crystals(path, [*NOMAD_TARGETS], cache, arguments.workers)
    changed = replace(arguments, num_train_epochs=arguments.nomad_epochs)
    scores = {}
    for name, unit in tqdm(NOMAD_TARGETS.items(), desc="NOMAD-2018", unit="target", disable=None):
        rows = crystals.labelled(name)
        train, test = split_by_string(rows.scopes, arguments.nomad_share, arguments.seed)
        if not len(test):
            raise StudyError(
                f"no string of {len(rows)} rows with {name!r} is held out; raise --nomad-share.", source=path
            )
        tag = f"{digest_of(path)}-{arguments.nomad_epochs:g}-{arguments.nomad_share:g}"
        target = StudyTarget(name, unit)

        def compute(
            target: StudyTarget = target, rows: Crystals = rows, train: Any = train, test: Any = test
        ) -> dict[str, Any]:
            return fit_arms(changed, target, rows, train, test)

        cell = folder.cell(f"nomad/{name}-{tag}", compute)
        arms = {arm: values for arm, values in cell.items() if arm != "seconds"}
        described = f"held-out strings; trained on {len(train):,} others, none of them the same string"
        scores[name] = compared(rows.labels[name][test], arms, unit, described)
    table = {"file": Path(path).name, "digest": digest_of(path)} | _counts(crystals)
    return {"table": table, "epochs": arguments.nomad_epochs, "scores": scores}

"""The study `ood`: errors on crystals unlike those trained on, against errors on others that are like them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import StudyError
from cloud_hf.metrics.statistics import ratio_interval
from cloud_hf.studies.common.arguments import LabelStudyArguments
from cloud_hf.studies.common.crystals import Crystals, read_crystals
from cloud_hf.studies.common.fitting import StudyTarget, fit_arms, study_target, target_settings, training_settings
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.common.scoring import compared
from cloud_hf.studies.ood.figures import TITLES, error_bars, growth_figure
from cloud_hf.studies.ood.splits import SPLITS, OodSplit, ood_split
from cloud_hf.training.arguments import in_range

__all__ = ["REPORT_VALUES", "Arguments", "growth", "run"]

REPORT_VALUES = {"TITLES": TITLES}


@dataclass
class Arguments(LabelStudyArguments):
    """Errors on crystals unlike those trained on: a left-out element, space group or prototype, newest, largest cells.

    Model and trees learn from the same rows; their errors outside stand beside those on as many random others. --data
    names one table (.csv, .jsonl or .parquet) with structures or SCOPE strings and a column of labels.
    """

    splits: list[str] = field(
        default_factory=lambda: list(SPLITS), metadata={"help": f"Which of: {', '.join(SPLITS)}."}
    )
    elements: list[str] | None = field(
        default=None,
        metadata={"help": "Elements to leave out, one result each; F,Cl leaves out both at once. Not given: the one "
                  "whose share of rows is nearest to --share."},
    )  # fmt: skip
    space_groups: list[str] | None = field(
        default=None,
        metadata={"help": "Crystal systems ('cubic') or space groups ('62,225', '195-230') to leave out, one result "
                  "each. Not given: the crystal system whose share of rows is nearest to --share."},
    )  # fmt: skip
    share: float = field(default=0.1, metadata={"help": "Of the rows that is left out, roughly."})
    rows: int = field(default=0, metadata={"help": "Labelled rows to take, at random; 0: all."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("share", self.share, 0.001, 0.5)
        in_range("rows", self.rows, 0, 1e9)
        unknown = [name for name in self.splits if name not in SPLITS]
        if unknown or not self.splits:
            raise StudyError(f"--splits {' '.join(self.splits)}: choose from {', '.join(SPLITS)}.")


def run(arguments: Arguments) -> Path:
    """Run the study and return the path of its report.

    Raises:
        CloudError: Data, splits or folder that cannot be used; the message says why.
    """
    target = study_target(arguments)
    folder, crystals, labelled = _open(arguments, target)
    splits = [
        ood_split(crystals, name, group, arguments.share, arguments.seed)
        for name in dict.fromkeys(arguments.splits)
        for group in _groups(arguments, name)
    ]
    scores: dict[str, Any] = {}
    for split in tqdm(splits, desc="splits", unit="split", disable=None):
        rows = np.concatenate([split.inside, split.outside])

        def compute(split: OodSplit = split, rows: NDArray[np.int64] = rows) -> dict[str, Any]:
            return {
                "rows": crystals.position[rows].tolist(),
                "arms": fit_arms(arguments, target, crystals, split.train, rows),
            }

        name = f"{split.name}/{split.group}"
        cell = folder.cell(name, compute)
        if cell["rows"] != crystals.position[rows].tolist():
            raise StudyError(
                "holds other rows; remove it to compute it again.", source=f"{folder.path}/cells/{name}.json"
            )
        scores[name] = _scores(split, crystals.labels[target.name], target, cell)
    results = {
        "table": {
            "rows": labelled["rows"], "labelled": labelled["labelled"], "used": len(crystals),
            "strings": len(set(crystals.scopes)), "failed": len(crystals.failures),
            "failures": crystals.failed_by_reason,
        },
        "splits": scores,
    }  # fmt: skip
    figures = {"errors.png": error_bars(scores, target.unit), "growth.png": growth_figure(scores)}
    return finish(folder, results, figures)


def growth(outside: ArrayLike, inside: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Say how many times larger the mean absolute error is outside than inside.

    Args:
        outside: Absolute errors, shape (n,).
        inside: Absolute errors of other rows, shape (m,).
        seed: Seed of the bootstrap.

    Returns:
        `ratio` of the means with `low` and `high`, the 95 % interval of the bootstrap over both sets of rows; empty if
        the error inside is zero.
    """
    above, below = np.asarray(outside, dtype=float), np.asarray(inside, dtype=float)
    if below.mean() == 0:
        return {}
    low, high = ratio_interval(above, below, paired=False, resamples=5000, seed=seed)
    return {"ratio": float(above.mean() / below.mean()), "low": low, "high": high}


def _groups(arguments: Arguments, name: str) -> list[str | None]:
    """What to leave out, one split each; None: let the split choose."""
    given = {"element": arguments.elements, "space_group": arguments.space_groups}.get(name)
    return [*given] if given else [None]


def _open(arguments: Arguments, target: StudyTarget) -> tuple[StudyFolder, Crystals, dict[str, int]]:
    """Sample the labelled rows and open the folder, before anything is encoded."""
    path = arguments.data[0]
    labels = numeric_column(read_table(path), target.name, path).to_numpy()
    labelled = np.flatnonzero(~np.isnan(labels))
    if not len(labelled):
        raise StudyError(f"no row has a label in the column {target.name!r}.", source=path)
    bad = labelled[labels[labelled] <= 0]
    if len(bad) and (target.debye or target.transform.startswith("log")):
        which = "a heat capacity" if target.debye else f"a label under --transform {target.transform}"
        raise StudyError(
            f"{target.name!r} is {labels[bad[0]]:g}, but {which} must be positive.", source=path, row=int(bad[0])
        )
    rows = labelled
    if arguments.rows > len(labelled):
        raise StudyError(f"{len(labelled)} rows have a label, fewer than --rows {arguments.rows}.", source=path)
    if arguments.rows:
        rows = np.sort(np.random.default_rng(arguments.seed).permutation(labelled)[: arguments.rows])
    settings = training_settings(arguments) | {
        **target_settings(target), "data": f"{Path(path).name} {digest_of(path)}",
        "rows": arguments.rows, "share": arguments.share,
    }  # fmt: skip
    folder = StudyFolder(arguments.out, "ood", settings)
    crystals = read_crystals(path, [target.name], folder.path / "cells" / "strings", arguments.workers, rows=rows)
    return folder, crystals, {"rows": len(labels), "labelled": len(labelled)}


def _scores(split: OodSplit, labels: NDArray[np.float64], target: StudyTarget, cell: dict[str, Any]) -> dict[str, Any]:
    arms = {name: np.array(values) for name, values in cell["arms"].items()}
    inside = {name: values[: len(split.inside)] for name, values in arms.items()}
    outside = {name: values[len(split.inside) :] for name, values in arms.items()}
    errors = {
        name: (np.abs(outside[name] - labels[split.outside]), np.abs(inside[name] - labels[split.inside]))
        for name in arms
    }
    train = f"trained on {len(split.train):,} others"
    return {
        "split": split.name, "group": split.group, "outside_is": split.description, "left_out": split.left_out,
        "train": len(split.train), "seconds": cell["seconds"],
        "inside": compared(
            labels[split.inside], inside, target.unit, f"random rows that are not {split.description}; {train}"
        ),
        "outside": compared(labels[split.outside], outside, target.unit, f"{split.description}; {train}"),
        "growth": {name: growth(*pair) for name, pair in errors.items()},
    }  # fmt: skip

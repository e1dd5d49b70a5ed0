"""UnconvBench: exfoliation, 2-D crystals, metal-organic frameworks, superconductors and defects, in given folds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cloud_hf.studies.common.fitting import training_settings
from cloud_hf.studies.common.fold_figures import arm_bars, parity_figures
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.folds import FoldArguments, fold_settings, run_folds
from cloud_hf.studies.common.published import UNCONVBENCH
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.unconvbench.files import UNCONVBENCH_TASKS, find_folders, load_folder

__all__ = ["REPORT_VALUES", "Arguments", "run"]

REPORT_VALUES = {"TASKS": UNCONVBENCH_TASKS}


@dataclass
class Arguments(FoldArguments):
    """Train and test on UnconvBench: crystals unlike those of most data sets.

    --data is a folder with `TASK/FOLD/train_and_val.csv` and `test.csv`, a string or structure (CIF text, path or
    pymatgen JSON) and a target in each row, or with the benchmark's own `ub_unconvbench_TASK.json` and
    `metadata_validation.json`. Tasks are exfoliation, 2d_e_tot, 2d_gap, qmof, co2_adsp, supercon and defected; folders
    of other names are tasks of their own. A model learns from a fold's training rows and predicts its test rows, which
    choose nothing.
    """

    target_column: str | None = field(default=None, metadata={"help": "Column of the target, if it cannot be told."})
    structure_column: str | None = field(
        default=None, metadata={"help": "Column of strings or structures, if it cannot be told."}
    )


def run(arguments: Arguments) -> Path:
    """Train and test every fold that is not done yet, and write results, report and pictures.

    Returns:
        Path of the report.

    Raises:
        StudyError: Data, folds or the results folder cannot be used.
        TableError: A table cannot be used, or results cannot be written.
    """
    folders = find_folders(arguments.data, arguments.tasks)
    folder = StudyFolder(arguments.out, "unconvbench", training_settings(arguments) | fold_settings(arguments))
    tasks = [
        load_folder(
            name, path, folder.path / "strings", arguments.folds, arguments.workers, arguments.target_column,
            arguments.structure_column,
        )
        for name, path in folders.items()
    ]  # fmt: skip
    done, results = run_folds(arguments, folder, tasks)
    return finish(folder, results, {"mae_mad.png": _ratios_figure(results["tasks"]), **parity_figures(done)})


def _ratios_figure(scores: Mapping[str, Any]) -> Figure:
    """Draw MAE:MAD of task and arm, and of single folds."""
    values: dict[str, dict[str, float]] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for name, errors in scores.items():
        mad = errors["pooled"]["arms"]["mean"]["mad"] or 1.0
        arms = [arm for arm in ("model", "trees") if arm in errors["over_folds"]]
        values[name] = {arm: errors["over_folds"][arm]["mean"] / mad for arm in arms}
        dots[name] = {arm: [fold["mae"][arm] / mad for fold in errors["folds"]] for arm in arms}
        if name in UNCONVBENCH:
            ends = [float(end) for end in UNCONVBENCH[name].split("-")]
            values[name]["published"] = sum(ends) / len(ends)
    title = "Error over the spread of the labels"
    return arm_bars(values, dots, "MAE:MAD", title, (1.0, "mean of all labels"))

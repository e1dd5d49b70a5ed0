"""UnconvBench: exfoliation, 2-D crystals, metal-organic frameworks, superconductors and defects, in given folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_hf.studies.common.fitting import training_settings
from cloud_hf.studies.common.fold_report import (
    arm_bars,
    failures_of,
    fold_table,
    over_folds_table,
    parity_figure,
    protocol,
    rows_and_failures,
)
from cloud_hf.studies.common.fold_runs import FoldArguments, fold_settings, run_folds, score_folds
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.folds import FoldedTask
from cloud_hf.studies.common.published import UNCONVBENCH
from cloud_hf.studies.common.report import Report, comparison_table
from cloud_hf.studies.unconvbench.files import find_folders, load_folder

__all__ = ["Arguments", "run"]


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
            name, path, folder.path / "strings", arguments.folds, arguments.encode_processes, arguments.target_column,
            arguments.structure_column,
        )
        for name, path in folders.items()
    ]  # fmt: skip
    done = list(run_folds(arguments, folder, tasks))
    scores = {task.name: score_folds(task, cells) for task, cells in done}
    counts = failures_of(tasks, folder.path / "failures.csv")["task"].value_counts().to_dict()
    folder.write_results({"tasks": scores, "without_string": counts})
    return folder.write_report(str(_report(arguments, folder, done, scores)))


def _report(
    arguments: Arguments,
    folder: StudyFolder,
    done: Sequence[tuple[FoldedTask, Sequence[Mapping[str, Any]]]],
    scores: dict[str, Any],
) -> Report:
    report = Report(
        "UnconvBench",
        "How far a model that reads SCOPE strings, so composition and symmetry but no coordinates, gets on crystals "
        f"unlike those of most data sets: layers, frameworks, superconductors, defects. {protocol(arguments)} *trees* "
        "are boosted and extra trees on features of the same strings; *mean* predicts the mean of the training labels.",
    )
    report.heading("Data")
    rows_and_failures(report, [task for task, _ in done], scores)
    report.heading("Errors over folds")
    report.text(
        "Mean and standard deviation of the folds' mean absolute errors; N is the number of test rows of these folds "
        "together. MAE:MAD divides by the mean absolute deviation of those rows. Published are MAE:MAD of CLOUD on the "
        "benchmark's five folds; a result stands beside them only where the data above are the benchmark's."
    )
    published = {name: {"CLOUD": (None, UNCONVBENCH[name])} for name in scores if name in UNCONVBENCH}
    over_folds_table(report, scores, published)
    fold_table(report, scores)
    reference = "trees" if arguments.baselines else "mean"
    report.picture(
        arm_bars(*_ratios(scores), "MAE:MAD", "Error over the spread of the labels", (1.0, "mean of all labels")),
        folder.path, "mae_mad.png",
        "Mean absolute error over the mean absolute deviation of the labels, mean of the folds; 1 is what predicting "
        "the mean gives. Published: CLOUD, where the benchmark has the task.",
    )  # fmt: skip
    report.heading("All rows together, paired")
    report.text(
        f"The rows of all folds together; differences are paired row by row against the {reference}, with the 95 % "
        "interval of a bootstrap over rows."
    )
    comparison_table(report, {name: found["pooled"] for name, found in scores.items()})
    for task, cells in done:
        report.picture(
            parity_figure(task, cells), folder.path, f"parity_{task.name}.png",
            f"{task.name}: predictions of {scores[task.name]['pooled']['rows']}.",
        )  # fmt: skip
    return report


def _ratios(
    scores: Mapping[str, Any],
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, list[float]]]]:
    """MAE:MAD of task and arm, and of single folds."""
    values: dict[str, dict[str, float]] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for name, found in scores.items():
        mad = found["pooled"]["arms"]["mean"]["mad"] or 1.0
        arms = [arm for arm in ("model", "trees") if arm in found["over_folds"]]
        values[name] = {arm: found["over_folds"][arm]["mean"] / mad for arm in arms}
        dots[name] = {arm: [fold["mae"][arm] / mad for fold in found["folds"]] for arm in arms}
        if name in UNCONVBENCH:
            ends = [float(end) for end in UNCONVBENCH[name].split("-")]
            values[name]["published"] = sum(ends) / len(ends)
    return values, dots

"""MatBench's eight structure tasks: official folds, the model beside trees and the published results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cloud_hf.errors import StudyError
from cloud_hf.studies.common.fitting import training_settings
from cloud_hf.studies.common.fold_figures import arm_bars, parity_figures
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.folds import FoldArguments, FoldedTask, fold_settings, run_folds
from cloud_hf.studies.common.published import MATBENCH
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.matbench.files import FOLD_SEED, MATBENCH_TASKS, find_sources, load_task
from cloud_hf.studies.matbench.submission import SUBMISSION_FILE, submission, write_submission
from cloud_hf.training.arguments import in_range

__all__ = ["REPORT_VALUES", "Arguments", "run"]

REPORT_VALUES = {"FOLD_SEED": FOLD_SEED, "SUBMISSION_FILE": SUBMISSION_FILE, "TASKS": MATBENCH_TASKS}


@dataclass
class Arguments(FoldArguments):
    """Train and test on MatBench's eight structure tasks.

    They are jdft2d, phonons, dielectric, log_gvrh, log_kvrh, perovskites, mp_gap and mp_e_form. --data is a folder with
    `matbench_<task>.json.gz` of each (the message for a missing one says from where) and the official folds,
    `matbench_v0.1_validation.json`. A model learns from a fold's training rows and predicts its test rows, which choose
    nothing. All five folds of a task give `submission/results.json.gz` in the benchmark's format.

    A table of strings or structures with the target can stand for a data set. With the benchmark's ids in a column `id`
    and the fold file, the folds are the official ones; without, the table's rows are dealt out into folds of its own.
    """

    inner_folds: int = field(
        default=5, metadata={"help": "Folds that a table without official test rows is dealt out into."}
    )
    target_column: str | None = field(default=None, metadata={"help": "Column of the target in a table."})
    structure_column: str | None = field(
        default=None, metadata={"help": "Column of strings, CIF text, paths or pymatgen dicts in a table."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("inner_folds", self.inner_folds, 2, 1000)


def run(arguments: Arguments) -> Path:
    """Train and test every fold that is not done yet, and write results, report and pictures.

    Returns:
        Path of the report.

    Raises:
        StudyError: Data, folds or the results folder cannot be used.
        TableError: A table cannot be used, or results cannot be written.
    """
    sources = find_sources(arguments.data, arguments.tasks)
    settings = training_settings(arguments) | fold_settings(arguments) | {"inner_folds": arguments.inner_folds}
    folder = StudyFolder(arguments.out, "matbench", settings)
    tasks = [
        load_task(
            name, source, folder.path / "strings", arguments.folds, arguments.inner_folds, arguments.seed,
            arguments.workers, arguments.target_column, arguments.structure_column,
        )
        for name, source in sources.items()
    ]  # fmt: skip
    done, results = run_folds(arguments, folder, tasks)
    whole = [(task, cells) for task, cells in done if _is_official(task) and len(cells) == 5]
    if whole:
        write_submission(submission(whole, _metadata(folder)), folder.path / SUBMISSION_FILE)
    results["submission"] = [task.name for task, _ in whole]
    official = [task.name for task in tasks if _is_official(task)]
    relative = _relative_figure(results["tasks"], "trees" if arguments.baselines else "mean", official)
    return finish(folder, results, {"relative.png": relative, **parity_figures(done)})


def _is_official(task: FoldedTask) -> bool:
    return "fold_file" in task.facts


def _metadata(folder: StudyFolder) -> dict[str, Any]:
    return {"package": "cloud_hf"} | {key: value for key, value in folder.settings.items() if value is not None}


def _relative_figure(scores: Mapping[str, Any], reference: str, official: Sequence[str]) -> Figure:
    """Draw errors over those of the reference: of task and arm, and of single folds."""
    values: dict[str, dict[str, float]] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for name, errors in scores.items():
        below = errors["over_folds"][reference]["mean"]
        if not below > 0:
            raise StudyError(
                f"the {reference} make no error, so no error can be given relative to theirs.", source=name
            )
        values[name] = {"model": errors["over_folds"]["model"]["mean"] / below}
        dots[name] = {"model": [fold["mae"]["model"] / fold["mae"][reference] for fold in errors["folds"]]}
        if name in official:
            board = MATBENCH[f"matbench_{name}"]
            values[name] |= {
                "published": board["CLOUD"] / below,
                "best on the board": board["best on the board"] / below,
            }
    where = "the trees" if reference == "trees" else "the mean of the training labels"
    title = "Error relative to a baseline on the same rows"
    return arm_bars(values, dots, f"MAE / MAE of {where}", title, (1.0, where))

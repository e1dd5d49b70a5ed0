"""MatBench's eight structure tasks: official folds, the model beside trees and the published results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_hf.errors import StudyError
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
from cloud_hf.studies.common.published import DIELECTRIC_FOLD_0, MATBENCH
from cloud_hf.studies.common.report import Report, comparison_table
from cloud_hf.studies.matbench.files import find_sources, load_task
from cloud_hf.studies.matbench.submission import SUBMISSION_FILE, submission, write_submission
from cloud_hf.studies.matbench.tasks import MATBENCH_TASKS
from cloud_hf.training.arguments import in_range

__all__ = ["Arguments", "run"]

Done = tuple[FoldedTask, Sequence[Mapping[str, Any]]]


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
            arguments.encode_processes, arguments.target_column, arguments.structure_column,
        )
        for name, source in sources.items()
    ]  # fmt: skip
    done = list(run_folds(arguments, folder, tasks))
    scores = {task.name: score_folds(task, cells) for task, cells in done}
    whole = [(task, cells) for task, cells in done if _is_official(task) and len(cells) == 5]
    if whole:
        write_submission(submission(whole, _metadata(folder)), folder.path / SUBMISSION_FILE)
    failures = failures_of(tasks, folder.path / "failures.csv")
    counts = failures["task"].value_counts().to_dict()
    folder.write_results({"tasks": scores, "without_string": counts, "submission": [task.name for task, _ in whole]})
    return folder.write_report(str(_report(arguments, folder, done, scores, [task.name for task, _ in whole])))


def _is_official(task: FoldedTask) -> bool:
    return "fold_file" in task.facts


def _metadata(folder: StudyFolder) -> dict[str, Any]:
    return {"package": "cloud_hf"} | {key: value for key, value in folder.settings.items() if value is not None}


def _published(done: Sequence[Done]) -> dict[str, dict[str, Sequence[Any]]]:
    """MAE and MAE:MAD of published models, of tasks that ran on the official folds."""
    return {
        task.name: {
            name: (mae, mae / MATBENCH_TASKS[task.name].mad)
            for name, mae in MATBENCH[f"matbench_{task.name}"].items()
        }
        for task, _ in done
        if _is_official(task)
    }  # fmt: skip


def _report(
    arguments: Arguments, folder: StudyFolder, done: Sequence[Done], scores: dict[str, Any], submitted: list[str]
) -> Report:
    tasks = [task for task, _ in done]
    official = [task.name for task in tasks if _is_official(task)]
    report = Report(
        "MatBench",
        "How far a model that reads SCOPE strings, so composition and symmetry but no coordinates, gets on MatBench's "
        f"structure tasks. {protocol(arguments)} *trees* are boosted and extra trees on features of the same strings; "
        "*mean* predicts the mean of the training labels.",
    )
    report.heading("Data")
    rows_and_failures(report, tasks, scores)
    report.heading("Errors over folds")
    report.text(
        "Mean and standard deviation of the folds' mean absolute errors, as the board gives them; N is the number of "
        "test rows of these folds together. MAE:MAD divides by the mean absolute deviation of those rows, for "
        "published results by that of the whole data set. A row whose string is also in training is another crystal "
        "with the same string or a duplicate; the benchmark's folds allow it, folds of a table's own rows do not."
    )
    over_folds_table(report, scores, _published(done))
    fold_table(report, scores)
    reference = "trees" if arguments.baselines else "mean"
    values, dots = _relative(scores, reference, official)
    where = "the trees" if reference == "trees" else "the mean of the training labels"
    report.picture(
        arm_bars(values, dots, f"MAE / MAE of {where}", "Error relative to a baseline on the same rows", (1.0, where)),
        folder.path,
        "relative.png",
        f"Error of the model over that of {where} on the same rows, mean of the folds; below 1 the model is better."
        + (" Published results of the same task over the same baseline." if official else ""),
    )
    report.heading("All rows together, paired")
    report.text(
        f"The rows of all folds together; differences are paired row by row against {where}, with the 95 % interval of "
        "a bootstrap over rows."
    )
    comparison_table(report, {name: found["pooled"] for name, found in scores.items()})
    for task, cells in done:
        report.picture(
            parity_figure(task, cells), folder.path, f"parity_{task.name}.png",
            f"{task.name}: predictions of {scores[task.name]['pooled']['rows']}.",
        )  # fmt: skip
    if "dielectric" in scores and "dielectric" not in official:
        report.heading("For orientation: published errors of dielectric, official fold 0")
        report.text(
            "Of 953 rows that are not in the table, after training on 3,811; fold 0 is easier than the other folds, "
            "whose errors a few large refractive indices dominate. Not comparable with the folds above."
        )
        report.table(["by", "MAE"], list(DIELECTRIC_FOLD_0.items()))
    report.heading("Submission")
    report.text(_submission_text(tasks, submitted))
    return report


def _relative(
    scores: Mapping[str, Any], reference: str, official: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, list[float]]]]:
    """Errors over those of the reference: of task and arm, and of single folds."""
    values: dict[str, dict[str, float]] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for name, found in scores.items():
        below = found["over_folds"][reference]["mean"]
        if not below > 0:
            raise StudyError(f"{name}: the {reference} make no error, so no error can be given relative to theirs.")
        values[name] = {"model": found["over_folds"]["model"]["mean"] / below}
        dots[name] = {"model": [fold["mae"]["model"] / fold["mae"][reference] for fold in found["folds"]]}
        if name in official:
            board = MATBENCH[f"matbench_{name}"]
            values[name] |= {
                "published": board["CLOUD"] / below,
                "best on the board": board["best on the board"] / below,
            }
    return values, dots


def _submission_text(tasks: Sequence[FoldedTask], submitted: Sequence[str]) -> str:
    if not submitted:
        return "None: that takes all five official folds of a task."
    names = ", ".join(submitted)
    text = f"`{SUBMISSION_FILE}` holds {names} in the format of MatBench 0.6."
    if any(task.remarks for task in tasks if task.name in submitted):
        return f"{text} **Not to be submitted**: see the remarks on the data."
    return (
        f"{text} The benchmark's repository takes it with an `info.json` (authors, algorithm, references, "
        "requirements) and the code that made it."
    )

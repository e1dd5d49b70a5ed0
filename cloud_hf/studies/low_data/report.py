"""The report of the study `low-data` and its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.published import CLOUD_DEBYE
from cloud_hf.studies.common.report import ARM_STYLES, Report, new_figure
from cloud_hf.studies.common.scoring import signed

__all__ = ["curve_figure", "write_low_data_report"]

NAMES = {"model": "model", "scratch": "model without pre-training", "trees": "trees", "mean": "mean of the labels"}
TICKS = tuple(float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8))


def write_low_data_report(folder: StudyFolder, results: Mapping[str, Any]) -> Path:
    """Write report.md and the picture, and return the path of the report.

    Args:
        folder: Of the study.
        results: What results.json holds below `results`.
    """
    settings, unit, table = folder.settings, results["unit"], results["table"]
    lines = results["sizes"]
    draws = sorted({line["draws"] for line in lines})
    report = Report(
        f"Few labels of {results['target']}",
        f"How large is the error when only few labels are known? Model and trees learn from the same random draws and "
        f"predict the same {results['test_rows']:,} held-out crystals.",
    )
    report.text(
        f"Table `{table['file']}` ({table['bytes']:,} bytes, sha256 begins with `{table['sha256_begins_with']}`): "
        f"{table['rows']:,} rows, {table['labelled']:,} with label and string ({table['unlabelled']:,} without label, "
        f"{len(table['failures'])} without a usable string), {table['crystals']:,} different crystals. Scored on "
        f"{results['test_rows']:,} {results['rows']}; draws are from the other {results['train_rows']:,}, "
        f"{results['test_crystals_in_training']} of the held-out rows have their crystal among these. Encoder "
        f"`{settings['model']}` ({settings['parameters']}), {_length(settings)}; the last step's weights, no selection."
    )
    for one in table["failures"][:5]:
        report.text(f"No usable string, row {one['row']}: {one['reason']}")
    report.text(" ".join(_verdicts(results)))
    report.heading("Errors")
    rows: list[list[Any]] = []
    for line in lines:
        for arm, entry in line["arms"].items():
            gap = entry.get("to_trees")
            better = f"{entry['draws_better_than_trees']} of {line['draws']}" if gap else None
            rows.append(
                [line["train_rows"], NAMES[arm], line["draws"], results["test_rows"], entry["mae_mean"],
                 entry["mae_std"], entry["median_absolute_error"], entry["mae_mean"] / (results["mad"] or 1.0),
                 signed(gap) if gap else None, better, entry.get("epochs")]
            )  # fmt: skip
    headers = ["labels", "by", "draws", "N", f"MAE, {unit}", "+-", "median error", "MAE:MAD", "MAE - trees' (95 %)",
               "draws below", "epochs"]  # fmt: skip
    report.table(headers, rows)
    report.text(
        f"Means over the draws; +-: standard deviation over the draws. MAD, the error of the mean of the held-out "
        f"rows, is {results['mad']:.4g} {unit}. Intervals: bootstrap over draws and held-out rows, paired."
    )
    if settings["debye"]:
        listed = ", ".join(f"{name} {ratio:g}" for name, ratio in CLOUD_DEBYE.items())
        report.text(
            f"Published MAE:MAD of heat capacity, with 1,213 labels and on the paper's own test rows: {listed}. "
            "No published learning curve of these labels is known."
        )
    title = f"{results['test_rows']:,} held-out rows; {' or '.join(map(str, draws))} draws a size"
    report.picture(
        curve_figure(lines, f"MAE of {results['target']}, {unit}", title), folder.path, "learning_curve.png",
        "Mean absolute error against the number of labels; the band is the range of the draws",
    )  # fmt: skip
    report.heading("What this does not show")
    report.text(
        "Draws near the size of the whole table share most of their rows, so that their spread is smaller than that of "
        "new tables; and few draws tell little about that spread, so that intervals from two or three are somewhat too "
        "narrow. The training recipe was not tuned for each size. The intervals take each size by itself; of many "
        "sizes one may look different by chance."
    )
    return folder.write_report(str(report))


def curve_figure(lines: Sequence[Mapping[str, Any]], quantity: str, title: str) -> Figure:
    """Draw the MAE over the number of training rows, both logarithmic, with the range of the draws as a band.

    Args:
        lines: From `low_data.summary`.
        quantity: What is drawn, with its unit.
        title: Of the picture.
    """
    figure = new_figure(6.6, 4.6)
    axes = figure.add_subplot()
    arms = [arm for arm in ARM_STYLES if any(arm in line["arms"] for line in lines)]
    for arm in arms:
        style = ARM_STYLES[arm]
        points = [(line["train_rows"], line["arms"][arm]) for line in lines if arm in line["arms"]]
        sizes = [n for n, _ in points]
        axes.plot(sizes, [entry["mae_mean"] for _, entry in points], **style, linestyle="-", zorder=3)
        axes.fill_between(
            sizes, [min(entry["mae"]) for _, entry in points], [max(entry["mae"]) for _, entry in points],
            color=style["color"], alpha=0.18, linewidth=0,
        )  # fmt: skip
    sizes = [line["train_rows"] for line in lines]
    axes.set(xscale="log", yscale="log", xlabel="labels learned from", ylabel=quantity)
    axes.set_xticks(sizes, labels=[f"{n:,}" for n in sizes])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_title(f"{title}; band: range of the draws", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _length(settings: Mapping[str, Any]) -> str:
    if settings["max_steps"] > 0:
        return f"{settings['max_steps']:,} steps"
    return f"{settings['num_train_epochs']:g} epochs or {settings['min_steps']:,} steps, whichever is more"


def _verdicts(results: Mapping[str, Any]) -> list[str]:
    """What the intervals show, one sentence an arm."""
    texts = []
    largest = max(line["train_rows"] for line in results["sizes"])
    for arm, smallest in results["below_trees_from"].items():
        gaps = [line["arms"][arm].get("to_trees") for line in results["sizes"]]
        if None in gaps:
            continue
        name = f"The {NAMES[arm]}"
        if smallest is None:
            texts.append(f"{name} is not shown to be below the trees with up to {largest:,} labels.")
        else:
            texts.append(f"{name} is shown to be below the trees from {smallest:,} labels on (of the sizes measured).")
        above = [f"{line['train_rows']:,}" for line, gap in zip(results["sizes"], gaps, strict=True) if gap["low"] > 0]
        if above:
            texts.append(f"The trees are shown to be better with {', '.join(above)} labels.")
    return texts or ["No trees were trained, so nothing is compared with them."]

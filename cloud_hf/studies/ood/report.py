"""Report and pictures of the study `ood`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.report import ARM_STYLES, Report, new_figure
from cloud_hf.studies.common.scoring import signed

__all__ = ["write_ood_report"]

_TITLES = {
    "element": "element", "space_group": "space group", "prototype": "prototype", "time": "newest",
    "size": "large cells",
}  # fmt: skip
_NAMES = {"model": "model", "trees": "trees", "mean": "mean of the training labels"}


def write_ood_report(folder: StudyFolder, results: Mapping[str, Any]) -> Path:
    """Write report and pictures of results into their folder and return the report's path."""
    settings, table, splits = folder.settings, results["table"], results["splits"]
    name, unit = settings["target"].split(":", 1)
    report = Report(
        "Crystals unlike those trained on",
        f"`{name}` in {unit}, from {settings['data'].split()[0]}. Each split leaves crystals of one kind out of the "
        "training (outside), and as many random others (inside, whole strings, no more than a third of them); model "
        "and trees learn from the same remaining rows and predict both. No SCOPE string stands in two parts. The ratio "
        "of the two errors is the price of the other kind; how much the labels vary there has a part in it, which "
        "MAE:MAD and the error of the mean show.",
    )
    report.text(
        f"{table['used']:,} rows with a string ({table['strings']:,} different strings) of {table['labelled']:,} "
        f"labelled ones ({table['rows']:,} in the table"
        + (f"; a random sample of {settings['rows']:,}" if settings["rows"] else "")
        + f"); {table['failed']:,} of the chosen rows could not be encoded"
        + (", listed in results.json." if table["failures"] else ".")
        + f" Model: {settings['parameters']}, {settings['model']}, {_length(settings)} of "
        f"{settings['per_device_train_batch_size']} strings a step, last weights, seed {settings['seed']}. Trees: mean "
        "of gradient boosting and extra trees. Both sides of a split share one training, so that after a short one the "
        "ratio says more than the errors themselves. No published result exists for these splits."
    )
    report.heading("Errors inside and outside")
    report.table(
        ["split", "outside", "N train", "N inside", "N outside", "by", f"MAE inside, {unit}", f"MAE outside, {unit}",
         "MAE:MAD inside", "MAE:MAD outside", "outside / inside (95 %)"],
        [
            [_TITLES[found["split"]], found["outside_is"], found["train"], found["inside"]["n"], found["outside"]["n"],
             _NAMES[arm], found["inside"]["arms"][arm]["mae"], found["outside"]["arms"][arm]["mae"],
             found["inside"]["arms"][arm]["mae_mad"], found["outside"]["arms"][arm]["mae_mad"],
             _ratio(found["growth"][arm])]
            for found in splits.values()
            for arm in found["outside"]["arms"]
        ],
        digits=3,
    )  # fmt: skip
    if any(found["left_out"] for found in splits.values()):
        counts = ", ".join(f"{_TITLES[f['split']]} {f['left_out']:,}" for f in splits.values() if f["left_out"])
        report.text(f"Rows that a split cannot place and that no part of it takes: {counts}.")
    if any(found["split"] == "time" for found in splits.values()):
        report.text(
            "Newest: by the number in the id, which databases such as the Materials Project give out in order; a proxy "
            "for the date, as later calculations of known crystals get new numbers too. A string is as old as its "
            "oldest row."
        )
    if any("trees" in found["outside"]["arms"] for found in splits.values()):
        report.heading("Model against trees")
        report.text("Paired over the same rows; negative: the model is better.")
        report.table(
            ["split", f"inside: MAE - trees', {unit} (95 %)", f"outside: MAE - trees', {unit} (95 %)"],
            [
                [f"{_TITLES[found['split']]} ({found['group']})",
                 *(signed(found[part]["arms"]["model"]["difference"]) for part in ("inside", "outside"))]
                for found in splits.values()
            ],
        )  # fmt: skip
    report.heading("Pictures")
    report.picture(
        _bars(splits, unit), folder.path, "errors.png", f"Mean absolute errors of {name} inside and outside, with 95 % "
        "intervals over rows",
    )  # fmt: skip
    report.picture(
        _growth(splits), folder.path, "growth.png", "How many times larger the error is outside, with 95 % intervals"
    )
    return folder.write_report(str(report))


def _length(settings: Mapping[str, Any]) -> str:
    return (
        f"{settings['max_steps']:,} steps" if settings["max_steps"] > 0 else f"{settings['num_train_epochs']:g} epochs"
    )


def _ratio(found: Mapping[str, float]) -> str | None:
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else None


def _labels(splits: Mapping[str, Any]) -> list[str]:
    return [f"{_TITLES[found['split']]}\n{found['group'].replace('_', ' ')}" for found in splits.values()]


def _bars(splits: Mapping[str, Any], unit: str) -> Figure:
    arms = [arm for arm in ("model", "trees") if all(arm in found["outside"]["arms"] for found in splits.values())]
    figure = new_figure(max(5.0, 2.2 + 1.5 * len(splits)), 4.8)
    axes = figure.add_subplot()
    width = 0.8 / (2 * len(arms))
    for index, (arm, part) in enumerate((arm, part) for arm in arms for part in ("inside", "outside")):
        places = np.arange(len(splits)) + (index - len(arms) + 0.5) * width
        scores = [found[part]["arms"][arm] for found in splits.values()]
        # 1.96 standard errors of a mean absolute error, whose variance is that of the errors
        spread = [
            1.96 * np.sqrt(max(one["rmse"] ** 2 - one["mae"] ** 2, 0) / found[part]["n"])
            for one, found in zip(scores, splits.values(), strict=True)
        ]
        style = ARM_STYLES[arm]
        axes.bar(
            places, [one["mae"] for one in scores], 0.94 * width, yerr=spread, color=style["color"],
            alpha=0.4 if part == "inside" else 1.0, label=f"{style['label']}, {part}",
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "0.25"},
        )  # fmt: skip
    axes.set_xticks(np.arange(len(splits)), _labels(splits))
    axes.set(ylabel=f"Mean absolute error, {unit}", title="Errors on crystals unlike those trained on")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])
    axes.legend(ncols=len(arms), fontsize=9, loc="upper left")
    return figure


def _growth(splits: Mapping[str, Any]) -> Figure:
    figure = new_figure(max(5.0, 2.2 + 1.3 * len(splits)), 4.4)
    axes = figure.add_subplot()
    for index, arm in enumerate(("model", "trees")):
        points = [(place, f["growth"][arm]) for place, f in enumerate(splits.values()) if f["growth"].get(arm)]
        if not points:
            continue
        ratio = np.array([found["ratio"] for _, found in points])
        ends = np.array([(found["low"], found["high"]) for _, found in points])
        axes.errorbar(
            [place + 0.16 * (index - 0.5) for place, _ in points], ratio, np.abs(ends.T - ratio), fmt="none",
            ecolor=ARM_STYLES[arm]["color"], elinewidth=1.4, capsize=3,
        )  # fmt: skip
        axes.scatter([place + 0.16 * (index - 0.5) for place, _ in points], ratio, zorder=3, **ARM_STYLES[arm])
    axes.axhline(1, color="0.3", linestyle="--", linewidth=1, label="no more error outside")
    axes.set_xticks(np.arange(len(splits)), _labels(splits))
    axes.set(
        ylabel="MAE outside / MAE inside", title="How much the error grows outside", xlim=(-0.5, len(splits) - 0.5)
    )
    axes.grid(axis="y", alpha=0.25)
    axes.set_ylim(top=axes.get_ylim()[0] + 1.3 * np.ptp(axes.get_ylim()))  # room for the legend
    axes.legend(fontsize=9, loc="upper right")
    return figure

"""Report and pictures of the study `discovery`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.published import WBM
from cloud_hf.studies.common.report import ARM_STYLES, Report, comparison_table, new_figure
from cloud_hf.studies.discovery.files import DOWNLOADS
from cloud_hf.studies.discovery.metrics import MOST_STABLE, STABILITY_THRESHOLD, cumulative_curves

__all__ = ["write_discovery_report"]

Numbers = NDArray[np.float64]

_STYLES = ARM_STYLES | {"checkpoint": {"color": "#7a3fa0", "marker": "s", "label": "CLOUD, given checkpoint"}}
_METRICS = ("F1", "DAF", "Precision", "Recall", "Accuracy", "TPR", "TNR", "MAE", "RMSE", "R2", "ROC-AUC")
_WINDOW = 0.02
"""Half the width of the window of the rolling error, eV/atom."""


def write_discovery_report(
    folder: StudyFolder, results: Mapping[str, Any], arms: Mapping[str, Numbers], pictured: Mapping[str, Any]
) -> Path:
    """Write report and pictures into the folder of the study and return the report's path.

    Args:
        folder: Of the study.
        results: As in `results.json`.
        arms: Predicted formation energies of every crystal of WBM, eV/atom, shape (n,).
        pictured: `labels` (eV/atom, NaN without one), `seen` (whether the string is in the training table) and
            `distances` (eV/atom above the hull; None without a hull), each of shape (n,).
    """
    settings, energies = folder.settings, results["energies"]
    train, test = results["rows"]["train"], results["rows"]["test"]
    report = Report(
        "MatBench Discovery: learn the Materials Project, predict WBM",
        f"`{settings['target']}` in eV/atom, learned from {train['labelled']:,} labelled rows of "
        f"{settings['train_table'].split()[0]} ({train['rows']:,} rows, {train['encoded']:,} with a string) and "
        f"predicted for {test['rows']:,} crystals of {settings['test_table'].split()[0]}, of which {test['encoded']:,} "
        f"have a string and {test['labelled']:,} of these a label. Rows without a string are listed in results.json.",
    )
    report.text(
        f"The string of {test['labelled_and_seen']:,} labelled crystals of WBM is in the training table, with a label "
        "there or without. *Unseen* leaves these out; *all* keeps them, as the benchmark does. " + _arms(arms, settings)
    )
    if len(train["vintages"]) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in train["vintages"].items())
        report.text(f"The training labels are of several sources (`label_source`): {counts}.")
    report.heading("Formation energies")
    report.text(
        "Energies of other settings differ by an offset that no model of one of them can know. *Offset removed*: from "
        "the predictions of either half of the rows (by string) the mean difference of the other half is subtracted, "
        f"{_offsets(energies['unseen, offset removed']['offsets'])}. Settings need not be its only cause: most "
        "crystals of the Materials Project lie near the hull, those of WBM were made by exchanging elements, so what "
        "learned from the former errs towards too stable.\n\n"
        "No row's own label has a part in its correction, but labels of WBM have, so these errors are not predictions."
    )
    published = {"unseen, as predicted": {name: row["MAE"] for name, row in WBM.items() if "MAE" in row}}
    comparison_table(report, energies, published)
    report.text(
        "The published error is of distances to the hull over all of WBM (256,963 crystals) after training on 154,719 "
        "of the Materials Project with unrelaxed structures, so it is a scale, not the same measurement."
    )
    _stability_section(report, results)
    if "nomad" in results:
        table = results["nomad"]["table"]
        report.heading("NOMAD-2018")
        report.text(
            f"{table['rows']:,} rows of {table['file']}, {table['failed']:,} of them without a usable string "
            "(longer than 128 tokens, or not encoded; listed in results.json), so the figures are for the more "
            "symmetric part. Mixed oxides of Al, Ga and In in a few lattices: near relatives, strings held out at "
            f"random, {results['nomad']['epochs']:g} epochs. No published result is for these rows."
        )
        comparison_table(report, results["nomad"]["scores"])
    report.heading("Pictures")
    labels, seen = pictured["labels"], pictured["seen"]
    rows = np.flatnonzero(~np.isnan(labels) & ~seen)
    shown = {arm: values[rows] for arm, values in arms.items() if arm != "mean"}
    report.picture(
        _parity(labels[rows], shown), folder.path, "parity.png",
        f"Predicted over true formation energies of {len(rows):,} unseen crystals of WBM, as predicted",
    )  # fmt: skip
    report.picture(
        _errors(labels[rows], shown), folder.path, "errors.png",
        "Differences between prediction and label; dashed: their means, the offsets",
    )  # fmt: skip
    distances = pictured["distances"]
    if distances is not None:
        rows = np.flatnonzero(~np.isnan(distances) & ~np.isnan(labels))
        found = {arm: (distances + values - labels)[rows] for arm, values in arms.items() if arm != "mean"}
        report.picture(
            _hull(distances[rows], found), folder.path, "hull.png",
            f"{len(rows):,} crystals by their true distance to the hull: what the predictions make of them (right and "
            f"wrong, stacked), and the mean absolute error within {_WINDOW} eV/atom",
        )  # fmt: skip
        report.picture(
            _cumulative(distances[rows], found), folder.path, "cumulative.png",
            "Precision and recall when the crystals predicted most stable are followed first",
        )  # fmt: skip
    return folder.write_report(str(report))


def _stability_section(report: Report, results: Mapping[str, Any]) -> None:
    report.heading("Stable or not")
    if "stability" not in results:
        report.text(f"No distances to the hull were given, so nothing is classified. {DOWNLOADS}")
        return
    found, file = results["stability"], results["hull_file"]
    report.text(
        f"{found['rows']:,} crystals of {file['file']} ({file['bytes']:,} bytes, SHA-256 {file['sha256']}, MD5 "
        f"{file['md5']}, {file['known_as'] or 'not a file whose checksum the benchmark lists'}); "
        f"{found['not_in_test_table']:,} more of it are not in the table of crystals. {found['without_string']:,} have "
        "no string and count as predicted unstable. Predicted distance = true distance + predicted - true formation "
        f"energy; stable: at most {STABILITY_THRESHOLD:g} eV/atom. Energies in eV/atom, the rest without unit. *Most "
        f"stable*: the {MOST_STABLE:,} unique prototypes (or all, if there are fewer) with the smallest predicted "
        "distances. With the offset removed, labels of the other half are used, which the benchmark does not allow."
    )
    lines: list[list[Any]] = [
        [arm, subset, one["n"], one["missing"], *(one[name] for name in _METRICS)]
        for arm, subsets in found["arms"].items()
        for subset, one in subsets.items()
    ]
    lines += [
        [f"{name} (published)", "full", *[None] * 2, *(row.get(key) for key in _METRICS)] for name, row in WBM.items()
    ]
    report.table(["by", "subset", "N", "missing", *_METRICS], lines, digits=3)


def _arms(arms: Mapping[str, Numbers], settings: Mapping[str, Any]) -> str:
    words = {
        "model": f"Model: {settings['parameters']}, {settings['model']}, {_length(settings)} of "
        f"{settings['per_device_train_batch_size']} strings a step, last weights, seed {settings['seed']}.",
        "checkpoint": "Checkpoint: a model with this head, trained elsewhere on its own rows, which are not looked at.",
        "trees": "Trees: mean of gradient boosting and extra trees on the training rows.",
    }
    return " ".join(text for arm, text in words.items() if arm in arms)


def _offsets(offsets: Mapping[str, list[float]]) -> str:
    words = [f"{' and '.join(f'{value:+.3f}' for value in both)} eV/atom for {arm}" for arm, both in offsets.items()]
    return "; ".join(words)


def _length(settings: Mapping[str, Any]) -> str:
    return (
        f"{settings['max_steps']:,} steps" if settings["max_steps"] > 0 else f"{settings['num_train_epochs']:g} epochs"
    )


def _parity(labels: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    every = np.concatenate([labels, *arms.values()])
    low, high = float(every.min()), float(every.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    figure = new_figure(max(4.6, 2.9 * len(arms) + 1.0), 3.7)
    panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    maps = []
    for axes, (arm, values) in zip(panels, arms.items(), strict=True):
        extent = (*limits, *limits)
        maps.append(
            axes.hexbin(
                labels, values, gridsize=32, extent=extent, bins="log", mincnt=1, cmap="viridis", linewidths=0.1
            )
        )
        axes.plot(limits, limits, color="0.2", linestyle="--", linewidth=1)
        mae = np.abs(values - labels).mean()
        axes.set_title(f"{_STYLES[arm]['label']}\nMAE {mae:.3g} eV/atom, n = {len(labels):,}", fontsize=10)
        axes.set(xlabel="True energy, eV/atom", xlim=limits, ylim=limits, aspect="equal")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("Predicted energy, eV/atom")
    figure.suptitle("Formation energies of unseen crystals of WBM", fontsize=11)
    most = max(2.0, *(float(np.max(cells.get_array())) for cells in maps))
    for cells in maps:
        cells.set_clim(1, most)
    figure.colorbar(maps[0], ax=list(panels), shrink=0.8, label="crystals per cell")
    return figure


def _errors(labels: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    figure = new_figure(7.0, 4.4)
    axes = figure.add_subplot()
    gaps = {arm: values - labels for arm, values in arms.items()}
    reach = max(float(np.quantile(np.abs(gap), 0.98)) for gap in gaps.values()) or 1.0
    for arm, gap in gaps.items():
        colour = _STYLES[arm]["color"]
        label = f"{_STYLES[arm]['label']}: mean {gap.mean():+.3f} eV/atom"
        axes.hist(
            gap,
            bins=np.linspace(-reach, reach, 101).tolist(),
            histtype="step",
            color=colour,
            linewidth=1.6,
            label=label,
        )
        axes.axvline(gap.mean(), color=colour, linestyle="--", linewidth=1)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set(
        xlabel="Predicted - true formation energy, eV/atom", ylabel="Crystals",
        title=f"Errors on {len(labels):,} unseen crystals of WBM", xlim=(-reach, reach),
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(fontsize=9, loc="upper left")
    return figure


def _hull(true: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    """Of the first arm the crystals by true distance, right and wrong; of all the rolling error."""
    figure = new_figure(7.4, 6.8)
    above, below = figure.subplots(2, 1, sharex=True)
    arm, predicted = next(iter(arms.items()))
    reach = max(float(np.quantile(np.abs(true), 0.98)), 5 * _WINDOW)
    stable, called = true <= STABILITY_THRESHOLD, predicted <= STABILITY_THRESHOLD
    kinds = (
        ("true positive", stable & called, "#1f5fa8"), ("false negative", stable & ~called, "#9fc3e6"),
        ("true negative", ~stable & ~called, "#3d8b40"), ("false positive", ~stable & called, "#d1682a"),
    )  # fmt: skip
    above.hist(
        [true[chosen] for _, chosen, _ in kinds], bins=np.linspace(-reach, reach, 81).tolist(), stacked=True,
        color=[colour for *_, colour in kinds],
        label=[f"{name}, {int(chosen.sum()):,}" for name, chosen, _ in kinds],
    )  # fmt: skip
    above.set(ylabel="Crystals", title=f"Stable or not by {_STYLES[arm]['label']}")
    above.legend(fontsize=9)
    grid = np.linspace(-reach, reach, 161)
    for name, values in arms.items():
        error = np.abs(values - true)
        order = np.argsort(true)
        ends = np.searchsorted(true[order], [grid - _WINDOW, grid + _WINDOW])
        sums = np.concatenate([[0.0], np.cumsum(error[order])])
        counts = ends[1] - ends[0]
        rolling = np.where(counts >= 3, (sums[ends[1]] - sums[ends[0]]) / np.maximum(counts, 1), np.nan)
        below.plot(grid, rolling, color=_STYLES[name]["color"], linewidth=1.6, label=_STYLES[name]["label"])
    below.fill_between(grid, np.abs(grid), color="0.5", alpha=0.15, label="error smaller than the distance")
    for axes in (above, below):
        axes.axvline(STABILITY_THRESHOLD, color="0.3", linestyle="--", linewidth=1)
        axes.grid(alpha=0.25)
    below.set(xlabel="True energy above the hull, eV/atom", ylabel="Rolling MAE, eV/atom", xlim=(-reach, reach))
    below.set_ylim(bottom=0)
    below.legend(fontsize=9)
    return figure


def _cumulative(true: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    figure = new_figure(9.0, 4.2)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    steps = np.arange(1, len(true) + 1)
    for arm, predicted in arms.items():
        style = {"color": _STYLES[arm]["color"], "linewidth": 1.6, "label": _STYLES[arm]["label"]}
        followed = int((predicted <= STABILITY_THRESHOLD).sum())
        for axes, values in zip(panels, cumulative_curves(true, predicted), strict=True):
            axes.plot(steps, values, **style)
            if followed:
                axes.plot(followed, values[followed - 1], "o", color=style["color"], markersize=6)
    share = float((true <= STABILITY_THRESHOLD).mean())
    panels[0].axhline(share, color="0.4", linestyle="--", linewidth=1, label=f"at random: {share:.2f}")
    panels[1].plot(steps, steps / len(true), color="0.4", linestyle="--", linewidth=1, label="at random")
    for axes, title in zip(panels, ("Precision", "Recall"), strict=True):
        axes.set(xlabel="Crystals followed, most stable prediction first", title=title, ylim=(0, 1.02))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=9)
    panels[0].set_ylabel("Share")
    figure.supxlabel("Dots: as many as are predicted stable.", fontsize=9, color="0.35")
    return figure

"""Report and pictures of the scaling study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from cloud_hf.studies.common.published import SCALING_EXPONENTS
from cloud_hf.studies.common.report import Report, new_figure
from cloud_hf.studies.scaling.fits import Fits
from cloud_hf.studies.scaling.power_laws import EXPONENT_RANGE

__all__ = ["write_report"]

LAW_NAMES = {
    "parameter_exponent": "a, of parameters in L(N, D)",
    "data_exponent": "b, of data in L(N, D)",
    "floor": "E, loss that remains, nats per masked word",
    "best_parameters": "p: best N ~ C^p for compute C",
    "best_data": "q: best D ~ C^q for compute C",
}
PUBLISHED = {"parameter_exponent": "parameters", "best_parameters": "parameters", "data_exponent": "data",
             "best_data": "data"}  # fmt: skip
FLOOR_SHARE = 0.01
"""Of the lowest loss: a smaller E is none."""

SHOWN_CELLS = 60
"""Cells in the table of the report; results.json holds all."""


def write_report(results: Mapping[str, Any], fits: Fits, folder: Path) -> str:
    """Draw the pictures into the folder and return the report.

    Args:
        results: What `results.json` holds.
        fits: To the cells.
        folder: Of the study.
    """
    cells = results["cells"]
    report = Report(
        "Scaling: loss against parameters, data and compute",
        f"{len(cells)} masked language models were trained from random weights on nested corpora of "
        f"{results['distinct_strings']:,} distinct SCOPE strings ({', '.join(results['tables'])}). The loss is the "
        f"cross entropy in {results['unit']} on {results['rows']}. N counts parameters without embeddings, D the "
        "tokens seen in training (padding not counted, every pass counted), C = 6 N D operations, which is an "
        f"estimate. Training: {results['training']}. D thus grows with the distinct strings and with the steps alike, "
        "which this study does not tell apart. "
        f"{results['rows_without_a_string']:,} rows had no usable string"
        + (" and are listed in failures.csv." if results["rows_without_a_string"] else "."),
    )
    _law_section(report, results, fits)
    _pictures(report, results, fits, folder)
    _slices_section(report, results, fits)
    _cells_section(report, results)
    return str(report)


def _law_section(report: Report, results: Mapping[str, Any], fits: Fits) -> None:
    report.heading("The law")
    if fits.law is None:
        report.text("A law L(N, D) = E + A/N^a + B/D^b needs three model sizes and three corpora or more.")
        return
    law = fits.law
    report.text(
        f"L(N, D) = E + A/N^a + B/D^b with E = {_small(law.floor)}, A = {law.parameter_factor:.3g}, "
        f"a = {law.parameter_exponent:.3g}, B = {law.data_factor:.3g}, b = {law.data_exponent:.3g}, fitted to ln L of "
        f"all cells with Huber's loss (Hoffmann et al. 2022); intervals are those of a bootstrap over cells "
        f"({results['resamples']} fits). An interval counts as informative if it spans less than a factor of two and "
        f"does not reach an end of the range that was searched, {EXPONENT_RANGE[0]:g} to {EXPONENT_RANGE[1]:g}."
    )
    rows = []
    for name, text in LAW_NAMES.items():
        found = results["intervals"][name]
        rows.append(
            [text, _small(found["value"]), f"{_small(found['low'])} to {_small(found['high'])}",
             _yes(found["informative"]), SCALING_EXPONENTS[PUBLISHED[name]] if name in PUBLISHED else None]
        )  # fmt: skip
    report.table(["quantity", "this run", "95 % interval", "informative", "published, about"], rows, digits=3)
    report.text(
        "The published exponents add up to 1, as p and q do by definition and a and b need not; therefore they stand "
        "beside both. Absolute losses cannot be compared with published ones: strings, vocabulary and masks differ."
    )
    if law.floor < FLOOR_SHARE * min(cell["loss"] for cell in results["cells"]):
        report.text(
            "E is practically 0: these trainings are so far from the floor that they do not show it, and a and b would "
            "come out larger with one."
        )
    found = fits.prediction
    if found is not None:
        report.text(
            f"Does the law predict? Fitted to the {found['fitted_cells']} cells without the largest model and the "
            f"largest corpus, it is off by {found['mean_relative_error']:.1%} on average for the "
            f"{found['predicted_cells']} others (mean {found['mean_relative_bias']:+.1%}); for the largest model on "
            f"the largest corpus it says {found['largest_predicted']:.3f}, measured {found['largest_measured']:.3f}."
        )
    vague = [LAW_NAMES[name].split(",")[0].split(":")[0] for name, found in results["intervals"].items()
             if not found["informative"]]  # fmt: skip
    if vague:
        report.text(
            f"Not determined by this grid: {', '.join(vague)}. More model and corpus sizes, over more decades, and "
            "--replicates narrow the intervals; the same command with larger --hidden_sizes and --corpus_sizes does."
        )


def _small(value: float) -> str:
    return f"{value:.3g}" if value > 1e-6 else "0"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _slices_section(report: Report, results: Mapping[str, Any], fits: Fits) -> None:
    report.heading("Slices")
    report.text(
        "Power laws without a floor, L ~ x^-e, of one row or column of the grid each: local slopes, as a rule smaller "
        "than the exponents of L(N, D), where only one term falls. Intervals are Student's, of the straight line in "
        "logarithms."
    )
    rows = [["parameters", f"{n:,} strings", *_slope(found)] for n, found in fits.by_corpus.items()]
    rows += [["data", f"model {name}", *_slope(found)] for name, found in fits.by_model.items()]
    if fits.by_compute is not None:
        rows.append(["compute", "cells that no cheaper one beats", *_slope(fits.by_compute)])
    report.table(["loss against", "of", "exponent", "95 % interval", "N, cells"], rows, digits=3)


def _slope(found: Any) -> list[Any]:
    ends = None if found.low is None else f"{found.low:.3g} to {found.high:.3g}"
    return [found.exponent, ends, found.n]


def _cells_section(report: Report, results: Mapping[str, Any]) -> None:
    report.heading("Cells")
    cells, frequencies = results["cells"], results["word_frequencies"]
    classes = list(dict.fromkeys(name for cell in cells for name in cell["loss_by_class"]))
    report.text(
        f"Loss in {results['unit']} on {results['rows']}. Word frequencies of the largest corpus alone give "
        f"{frequencies['loss']:.3f} there. Seconds are wall time. Trees have no part in this study, as there is no "
        "label to predict."
    )
    rows = [
        [f"{cell['width']}x{cell['layers']}", cell["parameters"], cell["strings"], round(cell["tokens_seen"]),
         f"{cell['flops']:.2e}", cell["learning_rate"], cell["loss"],
         *(cell["loss_by_class"].get(name) for name in classes), cell["masked_accuracy"], cell["seconds"]]
        for cell in cells[:SHOWN_CELLS]
    ]  # fmt: skip
    headers = ["width x layers", "N", "strings", "D, tokens", "C", "learning rate", "loss",
               *(f"loss, {name}" for name in classes), "accuracy", "seconds"]  # fmt: skip
    report.table(headers, rows)
    if len(cells) > SHOWN_CELLS:
        report.text(f"The other {len(cells) - SHOWN_CELLS} cells are in results.json.")


def _pictures(report: Report, results: Mapping[str, Any], fits: Fits, folder: Path) -> None:
    cells = results["cells"]
    note = "lines: the fitted law, bands: 95 % of the bootstrap" if fits.law else "no law was fitted"
    figure = _curves(cells, fits, "parameters", "tokens_seen", [f"{cell['strings']:,} strings" for cell in cells])
    figure.axes[0].set(xlabel="Parameters without embeddings, N", title="Loss against parameters")
    report.picture(figure, folder, "loss_parameters.png", f"Loss against parameters, a colour per corpus; {note}.")
    names = [f"{cell['width']}x{cell['layers']}, N = {cell['parameters']:,}" for cell in cells]
    figure = _curves(cells, fits, "tokens_seen", "parameters", names)
    figure.axes[0].set(xlabel="Tokens seen in training, D", title="Loss against data")
    report.picture(figure, folder, "loss_data.png", f"Loss against data, a colour per model; {note}.")
    report.picture(
        _compute_figure(cells, fits), folder, "loss_compute.png",
        "Loss against compute, a colour per model; dashed: power law of the cells that no cheaper one beats; orange: "
        "the lowest loss that the fitted law allows for a budget, with the 95 % band of the bootstrap.",
    )  # fmt: skip


def _groups(names: list[str]) -> dict[str, tuple[list[int], Any]]:
    """Rows and colour of each name."""
    distinct = list(dict.fromkeys(names))
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(distinct)))
    return {
        name: ([row for row, other in enumerate(names) if other == name], colour)
        for name, colour in zip(distinct, colours, strict=True)
    }


def _curves(cells: list[dict[str, Any]], fits: Fits, along: str, fixed: str, names: list[str]) -> Figure:
    figure = new_figure(7.4, 5.0)
    axes = figure.add_subplot()
    x, other, loss = (np.array([cell[key] for cell in cells], dtype=float) for key in (along, fixed, "loss"))
    grid = np.geomspace(x.min() / 1.3, x.max() * 1.3, 100)
    for name, (rows, colour) in _groups(names).items():
        axes.plot(x[rows], loss[rows], "o", color=colour, label=name, zorder=3)
        if fits.law is None:
            continue
        level = other[rows].mean()
        drawn = [law(grid, level) if along == "parameters" else law(level, grid) for law in [fits.law, *fits.laws]]
        axes.plot(grid, drawn[0], color=colour, linewidth=1.3)
        low, high = np.quantile(np.array(drawn[1:]), (0.025, 0.975), axis=0)
        axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    _finish(axes, loss)
    axes.legend(fontsize=9)
    return figure


def _compute_figure(cells: list[dict[str, Any]], fits: Fits) -> Figure:
    figure = new_figure(7.4, 5.0)
    axes = figure.add_subplot()
    flops, loss = (np.array([cell[key] for cell in cells], dtype=float) for key in ("flops", "loss"))
    for name, (rows, colour) in _groups([f"{cell['width']}x{cell['layers']}" for cell in cells]).items():
        rows = sorted(rows, key=lambda row: flops[row])
        axes.plot(flops[rows], loss[rows], "o-", color=colour, linewidth=1.0, label=f"model {name}", zorder=3)
    if fits.law is not None:
        grid = np.geomspace(flops.min(), flops.max(), 100)
        low, high = np.quantile(np.array([law.best(grid) for law in fits.laws]), (0.025, 0.975), axis=0)
        axes.plot(grid, fits.law.best(grid), color="#d1682a", linewidth=1.4, label="best N for C, by L(N, D)")
        axes.fill_between(grid, low, high, color="#d1682a", alpha=0.18, linewidth=0)
    best = fits.frontier
    axes.plot(flops[best], loss[best], "o", markersize=11, markerfacecolor="none", markeredgecolor="0.2",
              label="no cheaper cell is better", zorder=4)  # fmt: skip
    if fits.by_compute is not None:
        grid = np.geomspace(flops[best].min(), flops[best].max(), 50)
        exponent = fits.by_compute.exponent
        axes.plot(grid, fits.by_compute(grid), "--", color="0.2", label=f"L ~ C^{-exponent:.3g}")
    _finish(axes, loss)
    axes.set(xlabel="Compute, C = 6 N D operations (an estimate)", title="Loss against compute")
    axes.legend(fontsize=9)
    return figure


def _finish(axes: Any, loss: Any) -> None:
    lowest, highest = 0.93 * loss.min(), 1.07 * loss.max()
    axes.set(xscale="log", yscale="log", ylabel="Loss, nats per masked word", ylim=(lowest, highest))
    axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25, which="major")

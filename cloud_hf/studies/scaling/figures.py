"""Pictures of the scaling study."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from cloud_hf.studies.common.report import new_figure
from cloud_hf.studies.scaling.laws import Fits

__all__ = ["figures"]


def figures(cells: list[dict[str, Any]], fits: Fits) -> dict[str, Figure]:
    """Draw the loss of all cells against parameters, data and compute.

    Args:
        cells: What `train_cell` returned.
        fits: To the cells.
    """
    corpora = [f"{cell['strings']:,} strings" for cell in cells]
    against_size = _curves(cells, fits, "parameters", "tokens_seen", corpora)
    against_size.axes[0].set(xlabel="Parameters without embeddings, N", title="Loss against parameters")
    models = [f"{cell['width']}x{cell['layers']}, N = {cell['parameters']:,}" for cell in cells]
    against_data = _curves(cells, fits, "tokens_seen", "parameters", models)
    against_data.axes[0].set(xlabel="Tokens seen in training, D", title="Loss against data")
    return {
        "loss_parameters.png": against_size, "loss_data.png": against_data,
        "loss_compute.png": _compute_figure(cells, fits),
    }  # fmt: skip


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

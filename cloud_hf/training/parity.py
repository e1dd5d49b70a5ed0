"""The picture that a fine-tuning writes: predictions over labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_hf.errors import CloudError
from cloud_hf.files import save_figure

__all__ = ["DENSE", "Parity", "plot_parity"]


@dataclass(frozen=True)
class Parity:
    """Labels and predictions of a target.

    Attributes:
        name: Name of the target.
        unit: Its unit.
        parts: Labels and predictions in that unit, each of shape (n,), of `train`, `validation` and `test`.
    """

    name: str
    unit: str
    parts: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


PART_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "0.6", "zorder": 2},
    "validation": {"color": "#d1682a", "zorder": 3},
    "test": {"color": "#1f5fa8", "zorder": 4},
}
DENSE = 1500
"""From this many points on, colour shows how many lie on top of one another."""


def plot_parity(targets: Sequence[Parity], path: str) -> None:
    """Draw predictions over labels, one panel per target, with the MAE and number of rows of each part.

    The training rows lie in grey below the others. A part with many rows is drawn as a map of their density.

    Args:
        targets: Targets, each with at least one labelled row.
        path: Picture to write; its extension gives the format.

    Raises:
        CloudError: There is nothing to draw, or the picture cannot be written.
    """
    targets = [target for target in targets if any(len(labels) for labels, _ in target.parts.values())]
    if not targets:
        raise CloudError("There is nothing to plot: no row has a label.")
    columns = min(len(targets), 3)
    rows = -(-len(targets) // columns)
    figure = Figure(figsize=(6.4 * columns, 6.6 * rows), layout="compressed")
    FigureCanvasAgg(figure)
    for index, target in enumerate(targets):
        _draw_parity(figure, figure.add_subplot(rows, columns, index + 1), target)
    save_figure(figure, path)


def _draw_parity(figure: Figure, axes: Any, target: Parity) -> None:
    every = np.concatenate([values for pair in target.parts.values() for values in pair])
    lowest, highest = float(every.min()), float(every.max())
    margin = 0.04 * (highest - lowest) or 0.1 * abs(highest) or 1.0
    limits = (lowest - margin, highest + margin)
    axes.plot(limits, limits, color="0.2", linewidth=1.0, linestyle="--", zorder=5)
    errors = []
    for part, (labels, predictions) in target.parts.items():
        mae = np.abs(predictions - labels).mean()
        errors.append(f"{part}: MAE {mae:.3g} {target.unit}, n = {len(labels):,}")
        style = PART_STYLES[part]
        if part != "train" and len(labels) >= DENSE:
            cells = axes.hexbin(
                labels, predictions, gridsize=70, extent=(*limits, *limits), bins="log", mincnt=1, cmap="viridis",
                linewidths=0.1, zorder=style["zorder"],
            )  # fmt: skip
            figure.colorbar(cells, ax=axes, shrink=0.75, label=f"{part} rows per cell")
        else:
            size = float(np.clip(2500 / len(labels), 3 if part == "train" else 7, 32))
            opacity = 0.35 if part == "train" and len(labels) > DENSE else 0.75
            axes.scatter(labels, predictions, s=size, alpha=opacity, linewidths=0, rasterized=True, label=part, **style)
    axes.set(
        xlabel=f"Label: {target.name}, {target.unit}",
        ylabel=f"Prediction: {target.name}, {target.unit}",
        xlim=limits,
        ylim=limits,
        aspect="equal",
    )
    axes.set_title("\n".join([target.name, *errors]), fontsize=10)
    axes.grid(alpha=0.25, zorder=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", fontsize=9, markerscale=1.5)

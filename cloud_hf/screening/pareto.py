"""The Pareto front of two wants: candidates that no other one beats in both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_hf.files import save_figure
from cloud_hf.screening.plan import Plan
from cloud_hf.screening.run import ranked_pieces
from cloud_hf.screening.wants import HULL, Want

__all__ = ["front_of", "gains", "pareto_front", "plot_front"]

MOST_POINTS = 5000
"""Candidates that are drawn besides the front; a fixed share of all."""

NAMED = 12
"""Points of the front that are named, as far as names find room."""


def gains(values: NDArray[np.float64], want: Want) -> NDArray[np.float64]:
    """Return how good values are for a want, the more the better; in a window all are equally good."""
    if want.direction:
        return want.direction * values
    return -np.maximum(np.maximum(want.low - values, values - want.high), 0.0)


def front_of(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points no other one beats: better in one coordinate and not worse in the other.

    Args:
        points: Shape (n, 2), the more the better.
    """
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    x, y = points[order].T
    group = np.searchsorted(-x, -x)  # where the points of the same first coordinate begin, the best of them first
    higher = np.concatenate([[-np.inf], np.maximum.accumulate(y)])[group]
    kept = (y > higher) & (y == y[group])
    on_front = np.zeros(len(points), dtype=bool)
    on_front[order] = kept
    return on_front


def pareto_front(
    plan: Plan, wants: Sequence[Want], columns: Sequence[str], new: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the front of the predictions of two quantities, and a sample of the candidates.

    Candidates that could not be predicted are on neither, and if the distance to the hull is one of the quantities,
    those for which it is not known because the hull lacks phases.

    Args:
        plan: All its pieces are done.
        wants: The two.
        columns: Their columns in the rows.
        new: Leave known crystals out.
    """
    front: pd.DataFrame | None = None
    sample: list[pd.DataFrame] = []
    share = max(1, -(-len(plan.source) // MOST_POINTS))
    of_hull = any(want.quantity == HULL for want in wants)
    for piece in ranked_pieces(plan, new, whole_hull=of_hull):
        table = piece.dropna(subset=list(columns))
        sample.append(table.iloc[::share])
        both = table if front is None else pd.concat([front, table], ignore_index=True)
        points = [gains(both[name].to_numpy(dtype=float), want) for name, want in zip(columns, wants, strict=True)]
        front = both[front_of(np.stack(points, axis=1))] if len(both) else both
    assert front is not None  # noqa: S101  (there is a piece)
    return front.sort_values(columns[0], ignore_index=True), pd.concat(sample, ignore_index=True)


def plot_front(
    front: pd.DataFrame, sample: pd.DataFrame, wants: Sequence[Want], columns: Sequence[str], path: str | Path
) -> None:
    """Draw candidates, the front, some of its formulas, and what is wanted.

    Raises:
        CloudError: The picture cannot be written.
    """
    figure = Figure(figsize=(7.0, 5.0), layout="compressed")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    x, y = columns
    axes.scatter(sample[x], sample[y], s=6, color="0.75", label=f"candidates ({len(sample):,} drawn)")
    axes.plot(front[x], front[y], "o-", color="#1f5fa8", markersize=4, label="Pareto front")
    across, up = axes.get_xlim(), axes.get_ylim()  # asked for, as they are made only then, and kept
    axes.autoscale(False)
    for want, span, limits in ((wants[0], axes.axvspan, across), (wants[1], axes.axhspan, up)):
        span(max(want.low, limits[0]), min(want.high, limits[1]), color="#3d8b40", alpha=0.12)
    axes.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    axes.legend()
    figure.draw_without_rendering()  # which gives everything its place
    step = max(1, len(front) // NAMED)
    taken: list[Any] = []
    for _, row in front.iloc[::step].iterrows():
        name = axes.annotate(
            str(row["formula"]), (row[x], row[y]), xytext=(4, 4), textcoords="offset points", fontsize=7
        )
        box = name.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            name.remove()
        else:
            taken.append(box)
    save_figure(figure, str(path))

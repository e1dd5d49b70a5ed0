"""Predictions as a table that fits a terminal: values with their intervals, few digits, narrow headings."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cloud_hf.cli.output import item_row

if TYPE_CHECKING:
    from cloud_hf.prediction import Prediction

__all__ = ["OUTSIDE", "terminal_table", "unknown_elements"]

OUTSIDE = "(!)"
"""Marks crystals that are out of distribution."""

NARROW = 3
"""With more quantities than this the strings are left to the output file."""


def unknown_elements(quantities: Sequence[Mapping[str, Any]]) -> str | None:
    """Name the elements that a head has never seen, e.g. `At: band_gap, bulk_modulus; Po: band_gap`; None without."""
    heads: dict[str, list[str]] = {}
    for quantity in quantities:
        for element in quantity.get("unknown_elements", ()):
            heads.setdefault(element, []).append(quantity["name"])
    return "; ".join(f"{element}: {', '.join(names)}" for element, names in sorted(heads.items())) or None


def terminal_table(predictions: Sequence["Prediction"], units: Mapping[str, str]) -> pd.DataFrame:
    """Write predictions for the terminal.

    Args:
        predictions: To be shown.
        units: Unit of every quantity that may be there, in the order of the columns.

    Returns:
        One row a prediction: what it is, values with their intervals in brackets, elements that a head has never seen
        and the errors.
    """
    rows = []
    for prediction in predictions:
        row: dict[str, Any] = item_row(prediction.item)
        for quantity in prediction.quantities:
            row[_heading(quantity["name"], units)] = _with_interval(quantity)
        if prediction.out_of_distribution is not None:
            row["unusual"] = OUTSIDE if prediction.out_of_distribution else None
        row |= {"unknown elements": unknown_elements(prediction.quantities), "error": prediction.item.error}
        rows.append(row)
    first = list(item_row(predictions[0].item)) if predictions else ["source", "formula"]
    columns = [*first, *(_heading(name, units) for name in units), "unusual", "unknown elements", "error"]
    table = pd.DataFrame(rows, columns=columns)
    if "n_atoms" in table:
        table["n_atoms"] = [None if pd.isna(value) else f"{value:g}" for value in table["n_atoms"]]
    if len(table) and table["formula"].notna().all():
        table = table.drop(columns="source")
    if len(units) > NARROW:
        table = table.drop(columns=[name for name in ("scope", "space_group", "n_atoms") if name in table])
    return table


def _heading(name: str, units: Mapping[str, str]) -> str:
    words = name if len(units) <= NARROW else name.replace("_", "\n")
    return f"{words}\n({units[name]})"


def _with_interval(quantity: Mapping[str, Any]) -> str:
    value = quantity["value"]
    if "low" not in quantity:
        return f"{value:.1f}" if quantity["unit"] == "K" else f"{value:.3f}"
    low, high = quantity["low"], quantity["high"]
    places = _places(high - low)
    return f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def _places(width: float) -> int:
    """Decimals that show two digits of an interval's width."""
    return 2 if not 0 < width < math.inf else min(max(1 - math.floor(math.log10(width)), 0), 4)

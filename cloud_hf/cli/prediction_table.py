"""Predictions as a table that fits a terminal: values with their intervals, few digits, narrow headings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cloud_hf.data.inputs import ITEM_COLUMNS, item_row
from cloud_hf.inference.prediction_rows import shown_value, unknown_elements

if TYPE_CHECKING:
    from cloud_hf.inference.prediction import Prediction

__all__ = ["OUTSIDE", "terminal_table"]

OUTSIDE = "(!)"
"""Marks crystals that are out of distribution."""

UNKNOWN = "unknown\nelements"

NARROW = 3
"""With more quantities than this intervals stand below the values, and strings, values per cell, `IN_FILE` and the
heads that do not know an element are left to the output file."""

IN_FILE = frozenset(
    {f"{name}_per_atom" for name in ("entropy", "thermal_energy", "thermal_helmholtz_energy", "zero_point_energy")}
    | {"debye_temperature_of_low_temperatures"}
)
"""Follow from the same density of states as the heat capacity and the Debye temperature beside them."""


def terminal_table(predictions: Sequence["Prediction"], units: Mapping[str, str]) -> pd.DataFrame:
    """Write predictions for the terminal.

    Args:
        predictions: To be shown.
        units: Unit of every quantity that may be there, in the order of the columns.

    Returns:
        One row a prediction: what it is, values with their intervals in brackets, elements that a head has never seen
        and the errors.
    """
    wide = len(units) > NARROW
    hidden = {name for name in units if wide and ("_per_cell" in name or name in IN_FILE)}
    headings = {name: _heading(name, unit, wide) for name, unit in units.items() if name not in hidden}
    rows = []
    for prediction in predictions:
        row: dict[str, Any] = item_row(prediction.item)
        for quantity in prediction.quantities:
            if quantity["name"] in headings:
                row[headings[quantity["name"]]] = ("\n" if wide else " ").join(filter(None, shown_value(quantity)))
        if prediction.out_of_distribution is not None:
            row["unusual"] = OUTSIDE if prediction.out_of_distribution else None
        unknown = unknown_elements(prediction.quantities)
        if wide and unknown:
            unknown = " ".join(part.partition(":")[0] for part in unknown.split("; "))
        row |= {UNKNOWN: unknown, "error": prediction.item.message}
        rows.append(row)
    first = list(ITEM_COLUMNS)
    table = pd.DataFrame(rows, columns=[*first, *headings.values(), "unusual", UNKNOWN, "error"])
    table["n_atoms"] = [None if pd.isna(value) else f"{value:g}" for value in table["n_atoms"]]
    table["space_group"] = [None if pd.isna(value) else f"{value:.0f}" for value in table["space_group"]]
    if table["formula"].notna().all():
        table = table.drop(columns="source")
    if wide:
        table = table.drop(columns=["scope", "space_group", "n_atoms"])
        table = table.rename(columns={"space_group_symbol": "space\ngroup"})
    return table


def _heading(name: str, unit: str, wide: bool) -> str:
    return f"{name.replace('_', chr(10)) if wide else name}\n({unit})"

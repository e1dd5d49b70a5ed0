"""Predictions as a table that fits a terminal: values with their intervals, few digits, narrow headings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cloud_hf.data.inputs import ITEM_COLUMNS, item_row
from cloud_hf.inference.prediction_rows import shown_value, unknown_elements, unseen_elements

if TYPE_CHECKING:
    from cloud_hf.inference.prediction import Prediction

__all__ = ["OUTSIDE", "terminal_table"]

OUTSIDE = "(!)"
"""Marks crystals that are out of distribution."""

UNKNOWN = "unknown\nelements"

NARROW = 3
"""With more quantities than this, intervals are printed below the values; strings, values per cell, `IN_FILE` and
unknown elements appear only in the output file."""

IN_FILE = frozenset(
    {f"{name}_per_atom" for name in ("entropy", "thermal_energy", "thermal_helmholtz_energy", "zero_point_energy")}
    | {"debye_temperature_of_low_temperatures"}
)
"""Follow from the same density of states as the heat capacity and the Debye temperature beside them."""


def terminal_table(predictions: Sequence["Prediction"], units: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Write predictions for the terminal.

    Args:
        predictions: To be shown.
        units: Unit of every quantity that may be there, in the order of the columns.

    Returns:
        One row a prediction, by column, None for an empty cell: what it is, values with their intervals in brackets,
        elements that a head has never seen and the error. All rows have the same columns.
    """
    wide = len(units) > NARROW
    hidden = {name for name in units if wide and ("_per_cell" in name or name in IN_FILE)}
    headings = {name: _heading(name, unit, wide) for name, unit in units.items() if name not in hidden}
    left_out = {"scope", "space_group", "n_atoms"} if wide else set()
    said = {(prediction.item.formula, prediction.item.space_group) for prediction in predictions}
    if len(said) == len(predictions) and all(formula is not None for formula, _ in said):
        left_out.add("source")  # formula and space group tell which row is which
    columns = [name for name in ITEM_COLUMNS if name not in left_out]
    return [_row(prediction, columns, headings, wide) for prediction in predictions]


def _row(
    prediction: "Prediction", columns: Sequence[str], headings: Mapping[str, str], wide: bool
) -> dict[str, str | None]:
    row: dict[str, str | None] = {}
    item = item_row(prediction.item)
    for name in columns:
        value = item[name]
        heading = "space\ngroup" if wide and name == "space_group_symbol" else name
        row[heading] = value if value is None or isinstance(value, str) else f"{value:g}"
    row |= dict.fromkeys(headings.values())
    for quantity in prediction.quantities:
        if quantity["name"] in headings:
            row[headings[quantity["name"]]] = ("\n" if wide else " ").join(filter(None, shown_value(quantity)))
    row["unusual"] = OUTSIDE if prediction.out_of_distribution else None
    quantities = prediction.quantities
    unknown = " ".join(unseen_elements(quantities)) or None if wide else unknown_elements(quantities)
    return row | {UNKNOWN: unknown, "error": prediction.item.message}


def _heading(name: str, unit: str, wide: bool) -> str:
    return f"{name.replace('_', chr(10)) if wide else name}\n({unit})"

"""Predictions as rows of a table: one a crystal, units in the names of the columns, intervals beside the values."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloud_hf.data.inputs import ITEM_COLUMNS, item_row

if TYPE_CHECKING:  # torch, which the command's help does not need
    from cloud_hf.inference.prediction import Prediction, Predictors

__all__ = ["prediction_columns", "prediction_row", "shown_value", "unknown_elements", "unseen_elements"]

TEMPERATURE = "temperature (K)"


def prediction_columns(predictor: "Predictors") -> dict[str, str]:
    """Return the columns of a table of predictions and their dtypes."""
    columns = dict(ITEM_COLUMNS)
    if predictor.has_temperature:
        columns[TEMPERATURE] = "float64"
    ends = predictor.interval_names
    for name, unit in predictor.units.items():
        columns[f"{name} ({unit})"] = "float64"
        if name in ends:
            columns |= {f"{name}_{end} ({unit})": "float64" for end in ("low", "high")}
    if predictor.likelihood is not None:
        columns["log_likelihood"] = "float64"
        if predictor.likelihood.settings.threshold is not None:
            columns["out_of_distribution"] = "boolean"
    if ends:
        columns["unknown_elements"] = "object"
    return columns | {"error": "object"}


def prediction_row(prediction: "Prediction", temperature: float | None = None) -> dict[str, Any]:
    """Return a row of a table with the columns of `prediction_columns`; what it lacks is missing there.

    Args:
        prediction: Its item, quantities and flags.
        temperature: K, if quantities depend on it.
    """
    row: dict[str, Any] = item_row(prediction.item)
    if temperature is not None:
        row[TEMPERATURE] = temperature
    for quantity in prediction.quantities:
        name, unit = quantity["name"], quantity["unit"]
        row[f"{name} ({unit})"] = quantity["value"]
        row |= {f"{name}_{end} ({unit})": quantity[end] for end in ("low", "high") if end in quantity}
    row |= {"log_likelihood": prediction.log_likelihood, "out_of_distribution": prediction.out_of_distribution}
    return row | {"unknown_elements": unknown_elements(prediction.quantities), "error": prediction.item.message}


def unseen_elements(quantities: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the elements that heads have never seen, sorted, each with the quantities of these heads."""
    heads: dict[str, list[str]] = {}
    for quantity in quantities:
        for element in quantity.get("unknown_elements", ()):
            heads.setdefault(element, []).append(quantity["name"])
    return dict(sorted(heads.items()))


def unknown_elements(quantities: Sequence[Mapping[str, Any]]) -> str | None:
    """Name the elements that a head has never seen, e.g. `At: band_gap, bulk_modulus; Po: band_gap`; None without."""
    unseen = unseen_elements(quantities)
    return "; ".join(f"{element}: {', '.join(names)}" for element, names in unseen.items()) or None


def shown_value(quantity: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the value of a quantity with few digits, and its interval such as `[1.2, 3.4]`, None without."""
    value = quantity["value"]
    if "low" not in quantity:
        return (f"{value:z.1f}" if quantity["unit"] == "K" else f"{value:z.3f}"), None
    low, high = quantity["low"], quantity["high"]
    places = _places(high - low)
    return f"{value:z.{places}f}", f"[{low:z.{places}f}, {high:z.{places}f}]"


def _places(width: float) -> int:
    """Decimals that show two digits of an interval's width."""
    return 2 if not 0 < width < math.inf else min(max(1 - math.floor(math.log10(width)), 0), 4)

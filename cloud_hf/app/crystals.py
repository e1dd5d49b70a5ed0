"""What the page shows of a crystal, apart from how: predictions, tables and the row to download."""

import threading
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from cloud_hf.app.neighbours import COLUMNS, NearestKnown
from cloud_hf.app.reading import Readers
from cloud_hf.data.inputs import Item
from cloud_hf.errors import CloudError
from cloud_hf.inference.prediction import Prediction, Predictors, predict_encoded
from cloud_hf.inference.prediction_rows import prediction_columns, prediction_row, shown_value, unknown_elements
from cloud_hf.scope import explain

__all__ = ["Answers"]

PAGES = Environment(loader=PackageLoader("cloud_hf.app", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True)


class Answers:
    """Predictions of one crystal at a time, and their tables as HTML.

    Args:
        predictors: The models.
        readers: Read what users give.
        known: Finds known crystals, if there are any for these models.
    """

    def __init__(self, predictors: Predictors, readers: Readers, known: NearestKnown | None = None) -> None:
        self.predictors, self.readers, self.known = predictors, readers, known
        self._one_at_a_time = threading.Lock()  # each takes milliseconds; torch uses every core for it

    def predict(self, item: Item, temperature: float) -> Prediction:
        """Predict.

        Args:
            item: With its string.
            temperature: K.

        Raises:
            CloudError: The models cannot read the string.
        """
        with self._one_at_a_time:
            (prediction,) = predict_encoded(self.predictors, [item], temperature)
        if prediction.item.error is not None:
            raise prediction.item.error
        return prediction

    def summary(self, item: Item) -> str:
        """Name, formula, space group and notes."""
        return _page("summary", item=item)

    def properties(self, prediction: Prediction, temperature: float) -> str:
        """The table of properties, with what to beware of."""
        shown = [
            (_spoken(quantity["name"]), *shown_value(quantity), quantity["unit"])
            for quantity in prediction.quantities
            if not quantity["name"].endswith("_per_cell")
        ]
        level = next((f"{quantity['level']:.0%}" for quantity in prediction.quantities if "level" in quantity), None)
        return _page(
            "properties", rows=shown, level=level, temperature=temperature if self.predictors.has_temperature else None,
            unusual=prediction.out_of_distribution, unknown=unknown_elements(prediction.quantities),
        )  # fmt: skip

    def words(self, item: Item) -> str:
        """The string, word by word."""
        return _page("words", phrases=explain(item.scope or ""), scope=item.scope)

    def neighbours(self, item: Item) -> str:
        """The table of the nearest known crystals; empty where there are none."""
        if self.known is None:
            return ""
        with self._one_at_a_time:
            neighbours = self.known(item)
        columns = [name for name in COLUMNS if any(name in neighbour.values for neighbour in neighbours)]
        same = any(neighbour.same for neighbour in neighbours)
        return _page("neighbours", neighbours=neighbours, columns=columns, same=same, number=len(self.known))

    def download(self, prediction: Prediction, temperature: float) -> str:
        """A link that holds the row as CSV itself, so that no file is kept for it."""
        columns = prediction_columns(self.predictors)
        kelvin = temperature if self.predictors.has_temperature else None
        table = pd.DataFrame([prediction_row(prediction, kelvin)], columns=list(columns)).astype(columns)
        return _page("download", csv=table.to_csv(index=False), name=_file_name(prediction.item.source))

    def failure(self, error: CloudError) -> str:
        """Why there is nothing to show."""
        return _page("failure", message=str(error))


def _page(name: str, /, **values: Any) -> str:
    return PAGES.get_template(f"{name}.html.j2").render(values)


def _spoken(name: str) -> str:
    words = ["Helmholtz" if word == "helmholtz" else word for word in name.split("_")]
    return " ".join([words[0].capitalize(), *words[1:]])


def _file_name(source: str) -> str:
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in source.partition(".")[0])
    return f"{stem or 'crystal'}.csv"

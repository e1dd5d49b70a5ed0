"""`cloud-hf predict`: crystals or strings to physical properties."""

import argparse
from typing import Any

import pandas as pd

from cloud_hf.cli.encode import (
    COLUMNS,
    add_input_arguments,
    check_table_output,
    positive_integer,
    report_failures,
    show,
)
from cloud_hf.data.inputs import collect_items
from cloud_hf.data.tables import check_output, write_table
from cloud_hf.errors import CheckpointError
from cloud_hf.modeling_cloud import CloudForDebye
from cloud_hf.pipeline_cloud import MAX_TEMPERATURE
from cloud_hf.prediction import Prediction, load_predictor, predict_items
from cloud_hf.scope import ScopeEncoder

SHOWN_ROWS = 40
"""Rows on the terminal where a file holds all of them."""

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

__all__ = ["add_model_arguments", "add_predict_parser", "with_max_atoms"]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command loading a property model shares."""
    parser.add_argument(
        "--model", default="default", help="'default' (inside the package), a checkpoint folder, or a Hub id"
    )
    parser.add_argument("--head", help="property, e.g. heat_capacity (default: the model's own)")
    parser.add_argument("--temperature", type=kelvin, default=300.0, help="K, for heat capacities (default 300)")
    parser.add_argument(
        "--batch-size", type=positive_integer, default=256, help="strings per forward pass (default 256)"
    )


def kelvin(text: str) -> float:
    """Read a temperature in K from the command line."""
    value = float(text)
    if not 0 <= value <= MAX_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"a temperature is from 0 to {MAX_TEMPERATURE:g} K, not {text}")
    return value


def add_predict_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("predict", help="crystals to physical properties", description=predict.__doc__)
    add_input_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--n-atoms", help="atoms per primitive cell of bare strings: a number, or a column of the table"
    )
    parser.add_argument("--plot", help="draw Cv(T) of every crystal, 0 to 1000 K, to this .png, .svg or .pdf file")
    parser.set_defaults(run=predict)


def with_max_atoms(predictor: Any, max_atoms: int) -> Any:
    """Give the predictor an encoder with the model's settings and another size limit."""
    encoder: ScopeEncoder = predictor.encoder
    encoder.max_atoms = max_atoms
    return predictor


def predict(arguments: argparse.Namespace) -> int:
    """Predict the properties of crystals, one row each; a crystal that fails keeps its row, with the error."""
    check_table_output(arguments)
    if arguments.plot:
        check_output(arguments.plot, PLOT_SUFFIXES)
    predictor = with_max_atoms(load_predictor(arguments.model, arguments.head), arguments.max_atoms)
    if arguments.plot and not isinstance(predictor.model, CloudForDebye):
        raise CheckpointError(f"{arguments.model}: has no Debye temperature, so there is no Cv(T) to plot.")
    items = collect_items(arguments.inputs, arguments.n_atoms)
    predictions = predict_items(predictor, items, arguments.temperature, arguments.batch_size)
    table = pd.DataFrame([_row(prediction) for prediction in predictions])
    table["error"] = table.pop("error")
    table["space_group"] = table["space_group"].astype("Int64")
    if isinstance(predictor.model, CloudForDebye):
        table.insert(list(table.columns).index("n_atoms") + 1, "temperature (K)", arguments.temperature)
    print(show(_for_terminal(table), SHOWN_ROWS if arguments.output else None))
    if "temperature (K)" in table:
        print(f"At {arguments.temperature:g} K.")
    if arguments.output:
        write_table(table, arguments.output)
        print(f"{len(table)} rows -> {arguments.output}")
    if arguments.plot:
        from cloud_hf.plotting import plot_heat_capacity

        if any(prediction.quantities for prediction in predictions):
            plot_heat_capacity(predictions, arguments.plot)
            print(f"Cv(T) -> {arguments.plot}")
    return report_failures(table)


def _row(prediction: Prediction) -> dict[str, Any]:
    row = {column: getattr(prediction.item, column) for column in COLUMNS}
    row |= {f"{quantity['name']} ({quantity['unit']})": quantity["value"] for quantity in prediction.quantities}
    return row | {"error": prediction.item.error}


def _for_terminal(table: pd.DataFrame) -> pd.DataFrame:
    """Shorten numbers and headings; files keep full precision and one-line names."""
    shown = table.drop(columns=["temperature (K)"], errors="ignore")
    for column in map(str, shown.select_dtypes("float").columns):
        form = ".1f" if column.endswith("(K)") else "g" if column == "n_atoms" else ".3f"
        shown[column] = [None if pd.isna(value) else f"{value:{form}}" for value in shown[column]]
    if shown["formula"].notna().all():
        shown = shown.drop(columns="source")
    return shown.rename(columns=lambda name: name.replace(" (", "\n("))

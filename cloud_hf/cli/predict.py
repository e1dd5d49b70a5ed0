"""`cloud-hf predict`: crystals or strings to physical properties."""

import argparse
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cloud_hf.cli.arguments import PLOT_SUFFIXES, add_input_arguments, add_model_arguments, positive_integer
from cloud_hf.cli.output import check_table_output, open_rows, show
from cloud_hf.cli.prediction_table import OUTSIDE, terminal_table
from cloud_hf.cli.ranking import Best
from cloud_hf.data.inputs import encode_items, iterate_items
from cloud_hf.data.tables import check_output
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.prediction_rows import prediction_columns, prediction_row

if TYPE_CHECKING:  # torch, which the help does not need
    from cloud_hf.inference.prediction import Prediction, Predictors

__all__ = ["add_predict_parser", "with_reading"]


def add_predict_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("predict", help="crystals to physical properties", description=predict.__doc__)
    add_input_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--n-atoms", help="atoms per primitive cell of bare strings: a number, or a column of the table"
    )
    parser.add_argument("--top", type=positive_integer, metavar="K", help="keep only the K best rows, best first")
    parser.add_argument("--by", metavar="QUANTITY", help="what --top compares (default: the first predicted quantity)")
    parser.add_argument("--lowest", action="store_true", help="the best of --top are the lowest, not the highest")
    parser.add_argument(
        "--intervals",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give 90 %% intervals where the checkpoint has a calibration (default: yes)",
    )
    parser.add_argument(
        "--likelihood",
        default="default",
        metavar="MODEL",
        help="masked language model (folder or Hub id) that flags unusual crystals by their exact likelihood, a pass "
        "for each element of a string; 'default': what the checkpoint has learned of it, else the model inside the "
        "package, with its own checkpoints; 'none': no flag",
    )
    parser.add_argument(
        "--plot",
        help="draw Cv(T), 0 to 1000 K, and the phonon density of states if the model gives one, of the crystals on the "
        "terminal to this .png, .svg or .pdf file",
    )
    parser.set_defaults(run=predict)


def with_reading(predictor: Any, max_atoms: int, trust_sites: bool) -> Any:
    """Give the predictor an encoder with the model's settings that reads crystals as the command line says."""
    predictor.encoder.max_atoms = max_atoms
    predictor.encoder.trust_sites = trust_sites
    return predictor


def predict(arguments: argparse.Namespace) -> int:
    """Predict the properties of crystals, one row each; a crystal that fails keeps its row, with the error."""
    from cloud_hf.inference.prediction import load_predictors, predict_encoded

    check_table_output(arguments)
    if arguments.plot:
        check_output(arguments.plot, PLOT_SUFFIXES)
    if arguments.top is None and (arguments.by or arguments.lowest):
        raise CloudError("--by and --lowest say which rows --top keeps; add --top K.")
    likelihood = None if arguments.likelihood == "none" else arguments.likelihood
    predictor = with_reading(
        load_predictors(
            arguments.model, arguments.head, arguments.dtype, arguments.intervals, likelihood, arguments.members
        ),
        arguments.max_atoms,
        arguments.trust_sites,
    )
    if arguments.plot and not (predictor.has_debye_temperature or predictor.has_phonon_dos):
        raise CheckpointError("has no Debye temperature, so there is no Cv(T) to plot.", source=arguments.model)
    best = Best(arguments.top, _quantity(predictor, arguments.by), arguments.lowest) if arguments.top else None
    given = iterate_items(arguments.inputs, arguments.n_atoms, arguments.structure)
    encoded = encode_items(given, predictor.encoder, arguments.processes, arguments.timeout)
    bar = tqdm(encoded, desc="predict", unit="crystal", disable=None)
    temperature = arguments.temperature if predictor.has_temperature else None
    n_items = n_outside = 0
    shown: list[Prediction] = []
    with open_rows(prediction_columns(predictor), arguments.output) as rows:

        def add(prediction: "Prediction") -> None:
            if rows.has_room:
                shown.append(prediction)
            rows.add(prediction_row(prediction, temperature))

        for prediction in predict_encoded(predictor, bar, arguments.temperature, arguments.batch_size):
            n_items += 1
            n_outside += bool(prediction.out_of_distribution)
            rows.failed(prediction.item.error)
            if best is None:
                add(prediction)
            else:
                best.add(prediction)
        for prediction in best.predictions() if best is not None else ():
            add(prediction)
    print(show(terminal_table(shown, predictor.units), rows.n_rows))
    for note in _notes(predictor, arguments.temperature, n_outside):
        print(note)
    if best is not None:
        print(f"Of {n_items} rows {best}.")
    if arguments.output:
        print(f"{rows.n_rows} rows -> {arguments.output}")
    if arguments.plot:
        from cloud_hf.inference.phonon_plot import plot_phonon_dos
        from cloud_hf.inference.plotting import plot_heat_capacity

        if any(prediction.quantities for prediction in shown):
            spectral = predictor.has_phonon_dos
            (plot_phonon_dos if spectral else plot_heat_capacity)(shown, arguments.plot)
            print(f"Cv(T){' and the phonon density of states' if spectral else ''} -> {arguments.plot}")
    return rows.report(n_items)


def _notes(predictor: "Predictors", temperature: float, n_outside: int) -> list[str]:
    """What the reader of the table has to know."""
    notes = [f"At {temperature:g} K."] if predictor.has_temperature else []
    if predictor.interval_names:
        notes.append("In brackets: 90 % intervals.")
    if n_outside:
        notes.append(
            f"{OUTSIDE} {n_outside} with a string that is rare among those that the models learned: do not rely on "
            "the intervals."
        )
    return notes


def _quantity(predictor: "Predictors", text: str | None) -> str:
    """The name of the quantity that `--by` gives, by its name or its heading."""
    headings = {f"{name} ({unit})": name for name, unit in predictor.units.items()}
    names = {name: name for name in predictor.units} | headings
    if text is not None and text not in names:
        raise CloudError(f"--by {text!r}: this model predicts {', '.join(predictor.units)}.")
    return next(iter(names.values())) if text is None else names[text]

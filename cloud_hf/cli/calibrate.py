"""`cloud-hf calibrate`: predictions of unseen rows to the intervals of a checkpoint."""

import argparse
import inspect
from typing import Any

from tabulate import tabulate

from cloud_hf.cli.arguments import kelvin
from cloud_hf.data.tables import check_output
from cloud_hf.files import write_json

__all__ = ["add_calibrate_parser"]

EPILOG = """Example:
  cloud-hf finetune --model default --data gaps.csv --target band_gap:eV --folds 5 --refit true --output-dir runs/gap
  cloud-hf calibrate --predictions runs/gap/predictions.csv --checkpoint runs/gap"""


def add_calibrate_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "calibrate",
        help="intervals for a checkpoint, from predictions of unseen rows",
        description=inspect.getdoc(calibrate),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--predictions", required=True, help="predictions.csv of `cloud-hf finetune`")
    parser.add_argument("--checkpoint", required=True, help="folder that gets calibration.json")
    parser.add_argument("--targets", nargs="+", help="only these (default: every head that the table has)")
    parser.add_argument("--temperature", type=kelvin, default=300.0, help="of heat capacities, K (default 300)")
    parser.add_argument("--data", help="labelled table that the predictions' column 'row' counts the rows of")
    parser.add_argument("--n-atoms", default="n_atoms", help="its column of atoms per cell (default n_atoms)")
    parser.add_argument(
        "--trained-on", nargs="+", default=(), help="further tables with a column 'scope' that were trained on"
    )
    parser.add_argument("--trees", help="folder with NAME.parquet: scope, label and the trees' prediction")
    parser.add_argument("--json", help="write coverage and width to this file, the trees' beside the model's")
    parser.set_defaults(run=calibrate)


def calibrate(arguments: argparse.Namespace) -> int:
    """Fit 90 % intervals to predictions of rows that the models had not seen, and write them beside the weights.

    The rows are those of folds, or of validation and test parts. The table that is printed tells how the recipe does on
    rows that the intervals were not fitted to: the share of the labels inside, and the width. Where the table has
    columns `NAME refitted (UNIT)`, predictions of unseen rows by weights that learned further, as those of the
    checkpoint did, intervals are scaled to their errors. Columns such as `entropy_300K frequency factor (1)`, by what
    all frequencies must be multiplied to give the known value, give that quantity a width of its own.
    """
    from cloud_hf.inference.calibrate import CalibrationRun, calibrate_checkpoint

    if arguments.json:
        read = (arguments.predictions, arguments.data, *arguments.trained_on)
        check_output(arguments.json, inputs=filter(None, read))
    names = ("predictions", "checkpoint", "targets", "temperature", "data", "n_atoms", "trained_on", "trees")
    run = CalibrationRun(**{name: getattr(arguments, name) for name in names})
    path, results = calibrate_checkpoint(run, progress=True)
    print(_shown(results))
    print(f"calibration -> {path}")
    if arguments.json:
        write_json(results, arguments.json)
    return 0


def _shown(results: dict[str, Any]) -> str:
    """Coverage and width of each target, of the model and the trees."""
    lines = []
    for name, row in results.items():
        for method in (method for method in ("model", "refitted", "trees") if method in row):
            figures = row[method]
            band = f"{figures['coverage']:.3f} (0.9 +- {2 * figures['standard_error']:.3f})"
            lines.append(
                [name, method, figures["n"], band, figures["mean_width"], figures["median_width"], row["unit"]]
            )
    headers = ["target", "by", "rows", "inside 90 % intervals", "mean width", "median width", "unit"]
    return tabulate(lines, headers=headers, floatfmt=".4g")

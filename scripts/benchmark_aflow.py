"""Score the model and trees on AFLOW's Debye temperatures and bulk moduli, on which no shipped weight is trained.

    python scripts/benchmark_aflow.py --data DATA_FOLDER

A fifth of the crystals, by string, is kept back; model and trees learn ln of the label from the others. The model
starts from the encoder inside the package that has seen strings but no label. A property that is in the work folder is
not run again; `docs/results/aflow.json` holds the errors, in K and GPa.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from cloud_hf.data.splits import folds_by_string
from cloud_hf.files import write_json
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import read_crystals
from cloud_hf.studies.common.fitting import StudyTarget, fit_arms, training_settings
from cloud_hf.studies.common.folder import StudyFolder, provenance
from cloud_hf.studies.common.scoring import compared, signed

ROOT = Path(__file__).resolve().parents[1]
TABLE = "aflow_agl"
TARGETS = (StudyTarget("debye_temperature", "K", "log"), StudyTarget("bulk_modulus", "GPa", "log"))


def benchmark(arguments: TrainingStudyArguments) -> dict[str, Any]:
    """Errors of model, trees and mean for each property.

    Args:
        arguments: `data` is the table, `out` the work folder.
    """
    crystals = read_crystals(arguments.data[0], [target.name for target in TARGETS], cache=arguments.out + "-strings")
    settings = training_settings(arguments) | {"rows": crystals.digest}
    folder = StudyFolder(arguments.out, "aflow", settings)
    errors = {}
    for target in TARGETS:
        rows = crystals.labelled(target.name)
        fold = folds_by_string(rows.scopes, 5, arguments.seed)
        train, test = np.flatnonzero(fold > 0), np.flatnonzero(fold == 0)
        cell = folder.cell(target.name, lambda: fit_arms(arguments, target, rows, train, test))  # noqa: B023  (run now)
        arms: dict[str, Any] = {name: cell[name] for name in ("model", "trees", "mean")}
        errors[target.name] = {"train_rows": len(train)} | compared(
            rows.labels[target.name][test], arms, target.unit, f"a fifth of {TABLE}, strings kept back"
        )
        model = errors[target.name]["arms"]["model"]
        print(f"{target.name}: MAE {model['mae']:.3g} {target.unit}, model - trees {signed(model['difference'])}")
    return {"settings": settings, "failures": len(crystals.failures), **provenance(), "errors": errors}


def main(arguments: Sequence[str] | None = None) -> None:
    """Score and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--epochs", type=float, default=30, help="passes over the training rows")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "aflow", help="predictions that are kept")
    parser.add_argument("--result", type=Path, default=ROOT / "docs" / "results" / "aflow.json")
    args = parser.parse_args(arguments)
    logging.set_verbosity_error()
    table = str(args.data / f"{TABLE}.parquet")
    result = benchmark(TrainingStudyArguments([table], str(args.work), num_train_epochs=args.epochs))
    write_json(result, args.result)


if __name__ == "__main__":
    main()

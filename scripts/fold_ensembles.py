"""What each run of a fold is worth, and the spectrum: `python scripts/fold_ensembles.py --rows runs/bundle`.

`joint/second_K` goes on from `joint/first_K` and `joint/third_K` from that; all kept the fold K back. Writes the
predictions of the last two together, `joint/together_K/predictions.parquet`, and `docs/results/ensemble.json`: the
errors of each alone and of these two, and what Cv is at other temperatures if one Debye temperature has to give the
third run's Cv at 300 K.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarking import versions
from bundle_results import FEWEST, HEAT_CAPACITIES, RECIPE, ROOT, heads, kept_back
from tqdm import tqdm

from cloud_hf import debye
from cloud_hf.checkpoints.members import join_members
from cloud_hf.checkpoints.registration import AutoModelForSequenceClassification, AutoTokenizer
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.files import write_json
from cloud_hf.training.joint import PREDICTIONS_FILE, predict_joint
from cloud_hf.training.joint_recipe import JointRecipe, read_joint_recipe
from cloud_hf.training.joint_rows import JointRows

TOGETHER = "together"
RUNS = ("first", "second", "third", TOGETHER)
BATCH = 256


def predict(joint: Path, fold: int, recipe: JointRecipe) -> None:
    """Write the predictions of the second and third run together, unless they are there."""
    runs = [joint / f"{name}_{fold}" for name in ("second", "third")]
    folder = joint / f"{TOGETHER}_{fold}"
    if (folder / PREDICTIONS_FILE).is_file():
        return
    rows = read_table(runs[0] / PREDICTIONS_FILE)
    rows = rows.drop(columns=[name for name in rows.columns if name.startswith("predicted_") or name == "dos_area"])
    tokenizer: Any = AutoTokenizer.from_pretrained(runs[0])
    model = join_members([AutoModelForSequenceClassification.from_pretrained(run) for run in runs])
    predictions = predict_joint(model, JointRows(rows, recipe, tokenizer), BATCH, tokenizer.pad_token_id)
    folder.mkdir(exist_ok=True)
    write_table(pd.concat([rows, predictions], axis=1), folder / PREDICTIONS_FILE)


def one_debye_temperature(table: pd.DataFrame) -> pd.DataFrame:
    """Replace predicted Cv at all temperatures by those of the Debye temperature that has the predicted Cv(300 K)."""
    theta = torch.from_numpy(debye.effective_debye_temperature(table["predicted_heat_capacity_300K"], 300, clip=True))
    others = {
        f"predicted_heat_capacity_{kelvin}K": debye.heat_capacity(theta, kelvin).numpy() for kelvin in HEAT_CAPACITIES
    }
    return table.assign(**others)


def errors(table: pd.DataFrame, recipe: JointRecipe) -> dict[str, dict[str, Any]]:
    """Mean absolute error of every head on the crystals that count, and the area of the density of states."""
    table = table[table.scored]
    found = {}
    for name, (column, unit) in heads(recipe).items():
        gaps = (table[f"predicted_{column}"] - table[column]).abs().dropna()
        if len(gaps) >= FEWEST:
            found[name] = {"mae": float(gaps.mean()), "n": len(gaps), "unit": unit}
    areas = table["dos_area"].dropna()
    return found | {"phonon_dos": {"mae": float(areas.mean()), "n": len(areas), "unit": "1/cm"}}


def main() -> None:
    """Predict what is not there and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    arguments = parser.parse_args()
    recipe = read_joint_recipe(RECIPE)
    joint, stage = arguments.rows / "joint", arguments.rows / "multitask.parquet"
    for fold in tqdm(range(len(list(joint.glob("third_*")))), desc="folds", disable=None):
        predict(joint, fold, recipe)
    tables = {name: kept_back(joint, stage, name) for name in RUNS}
    result: dict[str, Any] = {name: errors(table, recipe) for name, table in tables.items()}
    debye_form = errors(one_debye_temperature(tables["third"]), recipe)
    names = [name for name in debye_form if name.startswith("heat_capacity")]
    result["one_debye_temperature"] = {name: debye_form[name] for name in names}
    for name, row in result[TOGETHER].items():
        print(f"{name}: " + ", ".join(f"{run} {result[run][name]['mae']:.4g}" for run in RUNS), row["unit"])
    print({name: row["mae"] for name, row in result["one_debye_temperature"].items()})
    packages = versions(["cloud-hf", "torch", "transformers"])
    write_json({"versions": packages, "errors": result}, ROOT / "docs" / "results" / "ensemble.json", indent=1)


if __name__ == "__main__":
    main()

"""Average the weights of joint runs that went on from one another.

`python scripts/average_runs.py RUN RUN --output FOLDER`: the folder is a copy of the last run with the mean of all
weights; if that run kept rows back, with predictions of these and their errors. Stages of a training that each start
from a high learning rate end in different places of one basin; their mean predicts about as well as the best of
them (Izmailov et al., UAI 2018).
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from bundle_results import RECIPE
from safetensors.torch import save_file
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf.checkpoints.members import average_weights
from cloud_hf.checkpoints.records import TRAINING_DATA_FILE, checksum_of_weights
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.files import write_json
from cloud_hf.models.modeling_properties import CloudForCrystalProperties
from cloud_hf.training.joint import PREDICTIONS_FILE, predict_joint, score_joint
from cloud_hf.training.joint_recipe import read_joint_recipe
from cloud_hf.training.joint_rows import JointRows
from cloud_hf.training.metrics import METRICS_FILE

BATCH = 64


def predict_again(model: CloudForCrystalProperties, folder: Path) -> None:
    """Replace the predictions of the rows that the last run kept back, and their errors."""
    recipe = read_joint_recipe(RECIPE)
    table = read_table(folder / PREDICTIONS_FILE)
    ours = "dos_area", "predicted_", "frequency_factor_"
    kept = table[[name for name in table if not str(name).startswith(ours)]]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    predictions = predict_joint(model, JointRows(kept, recipe, tokenizer), BATCH, tokenizer.pad_token_id)
    write_table(kept.join(predictions), folder / PREDICTIONS_FILE)
    write_json({"validation": score_joint(kept, predictions, recipe)}, folder / METRICS_FILE, indent=2)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="output folders of `cloud-hf joint`, the last stage last")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, which must not be there")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output} is there already.")
    model = average_weights([CloudForCrystalProperties.from_pretrained(run) for run in arguments.runs])
    unfinished = arguments.output.with_name(f"{arguments.output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(arguments.runs[-1], unfinished, ignore=shutil.ignore_patterns("checkpoint-*"))
    save_file(dict(model.state_dict()), unfinished / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    record = json.loads((unfinished / TRAINING_DATA_FILE).read_text("utf-8"))
    write_json(record | {"weights": checksum_of_weights(unfinished)}, unfinished / TRAINING_DATA_FILE, indent=2)
    if (unfinished / PREDICTIONS_FILE).is_file():
        predict_again(model, unfinished)
    unfinished.rename(arguments.output)


if __name__ == "__main__":
    main()

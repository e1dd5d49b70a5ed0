"""Copy a fine-tuned checkpoint into the package: `python scripts/bundle_checkpoint.py RUN HEAD ENCODER`.

Only what `from_pretrained` reads goes along: no code (the package has it), no optimizer state, no pickles.
"""

import json
import shutil
import sys
from pathlib import Path

from transformers import AutoModelForSequenceClassification

import cloud_hf
from cloud_hf.conformal import CALIBRATION_FILE
from cloud_hf.records import METRICS_FILE, TRAINING_DATA_FILE

WEIGHTS = Path(cloud_hf.__file__).with_name("weights")
LIMIT_MB = 20


def bundle(run: Path, head: str, encoder: Path) -> Path:
    """Copy `run` and its encoder's metrics to `cloud_hf/weights/<head>`; check that it loads and is small enough."""
    folder = WEIGHTS / head
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "vocab.txt", METRICS_FILE, TRAINING_DATA_FILE):
        shutil.copyfile(run / name, folder / name)
    if (run / CALIBRATION_FILE).is_file():
        shutil.copyfile(run / CALIBRATION_FILE, folder / CALIBRATION_FILE)
    shutil.copyfile(encoder / "validation_results.json", folder / "pretraining.json")
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((run / name).read_text(encoding="utf-8"))
        for key in ("auto_map", "is_local", "local_files_only"):
            values.pop(key, None)
        (folder / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    AutoModelForSequenceClassification.from_pretrained(folder)
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"The bundled weights take {size:.1f} MB, more than {LIMIT_MB}.")
    print(f"{folder}: all bundled weights take {size:.1f} MB")
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    bundle(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

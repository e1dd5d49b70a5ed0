"""Put what the other steps trained into the package: `python scripts/bundle_checkpoint.py --rows runs/bundle`.

Each folder of `cloud_hf/weights/` gets what `from_pretrained` reads and the records beside it, no code (the package has
it) and no optimizer state. Matrices are stored in bfloat16, half the size; the config has them computed in float32.
Auxiliary targets of the shared encoder are cut off. `metrics.json` holds the errors on crystals that were not trained
on, the trees' beside them.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from bundle_results import RUNS, UNITS
from safetensors.torch import load_file, save_file

import cloud_hf
from cloud_hf.checkpoints.members import join_members
from cloud_hf.checkpoints.records import METRICS_FILE, PRETRAINING_FILE, TRAINING_DATA_FILE, checksum_of_weights
from cloud_hf.checkpoints.registration import AutoModelForMaskedLM, AutoModelForSequenceClassification
from cloud_hf.training.metrics import regression_metrics

WEIGHTS = Path(cloud_hf.__file__).with_name("weights")
LIMIT_MB = 30
PER_TARGET = ("target_names", "target_units", "target_transforms", "target_mean", "target_scale", "target_weights")
BUNDLED = {
    "heat_capacity": (RUNS["heat_capacity"], ("heat_capacity",), "folds"),
    "refractive_index": (RUNS["refractive_index"], ("refractive_index",), "folds"),
    "crystal_properties": (
        ("multitask",),
        (
            "formation_energy_per_atom",
            "band_gap",
            "bulk_modulus",
            "shear_modulus",
            "megnet2018_e_form",
            "megnet2018_gap_pbe",
        ),
        "validation",
    ),
    "likelihood": (("mlm",), (), ""),
}
"""Folder in the package: runs whose models are joined, heads, and the part of the rows that was scored."""

DATA = {
    "materials_project": ("crystals of the Materials Project (2018 to 2022 releases)", "CC-BY-4.0"),
    "lemat": ("crystals of LeMaterial LeMat-Bulk", "CC-BY-4.0"),
    "jarvis": ("crystals of JARVIS-DFT", "public domain (NIST)"),
    "mp_elastic": ("crystals of the Materials Project with elastic tensors", "CC-BY-4.0"),
    "published_scope_10k": ("strings of the paper's pre-training corpus", "MIT"),
    "heat_capacity": ("the paper's CLOUD-DEBYE training rows: Cv at 300 K per primitive cell, from phonons", "MIT"),
    "refractive_index": ("MatBench dielectric, training part of fold 0: strings of the paper's code", "MIT"),
}
"""Name and licence of each table, as its source gives them."""


def steps(rows: dict[str, Any], head: str) -> list[dict[str, Any]]:
    """Training steps of a folder, with the rows that `bundle_rows.py` counted."""

    def step(kind: str, table: str, n: int) -> dict[str, Any]:
        return {"step": kind, "data": [DATA[table][0]], "rows": n, "license": DATA[table][1], "model": None}

    prefix = "corpus: "
    found = [
        step("pre-training", name.removeprefix(prefix), counts["new strings"])
        for name, counts in rows.items()
        if name.startswith(prefix)
    ]
    if head == "crystal_properties":
        found += [
            step("fine-tuning", name, rows[f"multitask: {name}"]["train"])
            for name in ("materials_project", "mp_elastic", "jarvis")
        ]
    elif head != "likelihood":
        found.append(step("fine-tuning", head, rows[head]["rows"]))
    return found


def only_targets(tensors: dict[str, torch.Tensor], config: dict[str, Any], kept: tuple[str, ...]) -> None:
    """Cut the other outputs of a regression head off, in place."""
    order = [config["target_names"].index(name) for name in kept]
    for key in PER_TARGET:
        if config.get(key):
            config[key] = [config[key][place] for place in order]
    config["id2label"] = {str(place): name for place, name in enumerate(kept)}
    config["label2id"] = {name: place for place, name in enumerate(kept)}
    last = max(name for name in tensors if name.startswith(("classifier.", "head.")) and name.endswith(".weight"))
    for name in (last, last.removesuffix("weight") + "bias"):
        tensors[name] = tensors[name][order].contiguous()


def errors_beside_trees(rows: Path, targets: tuple[str, ...], part: str) -> dict[str, Any]:
    """`metrics.json`: errors of the model and the trees on crystals that neither was trained on."""
    found = {}
    for target in targets:
        table = pd.read_parquet(rows / "scored" / f"{target}.parquet")
        label = table.label.to_numpy()
        row = {"unit": UNITS[target], **regression_metrics(label, table.model.to_numpy()), "n": len(table)}
        found[target] = row | {"baselines": {"trees": regression_metrics(label, table.trees.to_numpy())}}
    return {part: found}


def bundle(rows: Path, head: str) -> Path:
    """Write one folder of `cloud_hf/weights/` and check that it loads."""
    names, targets, part = BUNDLED[head]
    run, folder = rows / names[0], WEIGHTS / head
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    configs = {file: json.loads((run / file).read_text("utf-8")) for file in ("config.json", "tokenizer_config.json")}
    if len(names) > 1:
        joined = join_members([AutoModelForSequenceClassification.from_pretrained(rows / name) for name in names])
        tensors, configs["config.json"]["n_members"] = joined.state_dict(), len(names)
    else:
        tensors = load_file(run / "model.safetensors")
    if head == "crystal_properties":
        only_targets(tensors, configs["config.json"], targets)
    tensors = {key: value.to(torch.bfloat16) if value.ndim > 1 else value for key, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file, values in configs.items():
        for key in ("auto_map", "custom_pipelines", "is_local", "local_files_only"):
            values.pop(key, None)
        (folder / file).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(run / "vocab.txt", folder / "vocab.txt")
    shutil.copyfile(rows / "mlm" / "validation_results.json", folder / PRETRAINING_FILE)
    counts = json.loads((rows / "rows.json").read_text("utf-8"))
    records: dict[str, dict[str, Any]] = {TRAINING_DATA_FILE: {"license": "mit", "steps": steps(counts, head)}}
    records[TRAINING_DATA_FILE]["weights"] = checksum_of_weights(folder)
    if targets:
        records[METRICS_FILE] = errors_beside_trees(rows, targets, part)
    for file, values in records.items():
        (folder / file).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    (AutoModelForSequenceClassification if targets else AutoModelForMaskedLM).from_pretrained(folder)
    return folder


def main() -> None:
    """Bundle the runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    parser.add_argument("--heads", nargs="+", choices=BUNDLED, default=list(BUNDLED))
    own = parser.parse_args()
    for head in own.heads:
        print(bundle(own.rows, head))
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"The bundled weights take {size:.1f} MB, more than {LIMIT_MB}.")
    print(f"all bundled weights take {size:.1f} MB")


if __name__ == "__main__":
    main()

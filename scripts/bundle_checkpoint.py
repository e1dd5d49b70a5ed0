"""Put what the other steps trained into the package: `python scripts/bundle_checkpoint.py --rows runs/bundle`.

Each folder of `cloud_hf/weights/` gets what `from_pretrained` reads and the records beside it, no code (the package has
it) and no optimizer state. Matrices are stored in bfloat16, half the size; the config has them computed in float32.
`crystal_properties` joins the runs `joint/member_*`, trained on all rows; its `metrics.json` holds the errors
of the runs that kept a fold back, the trees' beside them.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import cloud_hf
from cloud_hf.checkpoints.bundled import HEADS, LIKELIHOOD_FOLDER
from cloud_hf.checkpoints.members import join_members
from cloud_hf.checkpoints.records import METRICS_FILE, PRETRAINING_FILE, TRAINING_DATA_FILE, checksum_of_weights
from cloud_hf.checkpoints.registration import AutoModelForMaskedLM, AutoModelForSequenceClassification
from cloud_hf.files import write_json

WEIGHTS = Path(cloud_hf.__file__).with_name("weights")
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
LIMIT_MB = 30

PROPERTIES = "crystal_properties"

MATERIALS_PROJECT = "crystals of the Materials Project (2018 to 2022 releases)"
DATA = {
    "materials_project": (MATERIALS_PROJECT, "CC-BY-4.0"),
    "lemat": ("crystals of LeMaterial LeMat-Bulk", "CC-BY-4.0"),
    "jarvis": ("crystals of JARVIS-DFT", "public domain (NIST)"),
    "mp_elastic": ("crystals of the Materials Project with elastic tensors", "CC-BY-4.0"),
    "published_scope_10k": ("strings of the paper's pre-training corpus", "MIT"),
    "matbench_labels": ("MatBench: energies, gaps and moduli of crystals of the Materials Project", "MIT, CC-BY-4.0"),
    "elastic_binaries": ("moduli of binaries of the Materials Project (MatCalc)", "BSD-3, CC-BY-4.0"),
    "acwf_elements": ("bulk moduli of elements (AiiDA common workflows)", "MIT"),
    "dielectric_fold0_train": ("MatBench dielectric, training part of fold 0: strings of the paper's code", "MIT"),
    "elements": ("measured heat capacities and Debye temperatures of elements", "facts from handbooks"),
    "phonons": ("phonon densities of states from force constants of the Kyoto PhononDB", "CC-BY-4.0"),
    "heat_capacity_structures_train": ("the paper's CLOUD-DEBYE training rows: Cv at 300 K, from phonons", "MIT"),
    "phonon_binaries": ("heat capacities of binaries of Alexandria (MatCalc)", "BSD-3, CC-BY-4.0"),
}
"""Name and licence of each table, as its source gives them."""


def steps(rows: dict[str, Any], joint: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Training steps of a folder.

    Args:
        rows: What `bundle_rows.py` counted.
        joint: What the joint table counted; None: of the masked language model.
    """

    def step(kind: str, table: str, n: int) -> dict[str, Any]:
        return {"step": kind, "data": [DATA[table][0]], "rows": n, "license": DATA[table][1], "model": None}

    prefix = "corpus: "
    listed = [
        step("pre-training", name.removeprefix(prefix), counts["new strings"])
        for name, counts in rows.items()
        if name.startswith(prefix)
    ]
    if joint is None:
        return listed
    largest: dict[str, int] = {}  # a table may be a source of several labels
    for name, counts in joint.items():
        if ": " in name and not name.startswith("label: "):
            table = name.partition(": ")[2]
            kept = counts["rows"] - counts["excluded crystals"] - counts["too long"]
            largest[table] = max(largest.get(table, 0), kept)
    return listed + [step("fine-tuning, all heads", table, n) for table, n in largest.items()]


def errors_beside_trees(names: list[str]) -> dict[str, Any]:
    """`metrics.json`: errors on crystals of folds that were kept back, of the model and the trees."""
    heads = json.loads((RESULTS / "heads.json").read_text("utf-8"))["heads"]
    errors = {}
    for name in names:
        if name in heads and "trees" in heads[name]:
            row = heads[name]
            errors[name] = {"unit": row["unit"], **row["model"], "n": row["n"], "baselines": {"trees": row["trees"]}}
    return {"folds": errors}


def write_folder(
    source: Path, name: str, tensors: dict[str, torch.Tensor], changes: dict[str, Any], pretraining: Path
) -> Path:
    """Write weights, configs and vocabulary of a run into a folder of the package, in place of what is there."""
    folder = WEIGHTS / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    tensors = {key: value.to(torch.bfloat16) if value.ndim > 1 else value for key, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in ("config.json", "tokenizer_config.json"):
        values = json.loads((source / file).read_text("utf-8"))
        for key in ("auto_map", "custom_pipelines", "is_local", "local_files_only"):
            values.pop(key, None)
        values |= changes if file == "config.json" else {}
        write_json(dict(sorted(values.items())), folder / file, indent=2)
    shutil.copyfile(source / "vocab.txt", folder / "vocab.txt")
    shutil.copyfile(pretraining, folder / PRETRAINING_FILE)
    return folder


def record(folder: Path, listed: list[dict[str, Any]]) -> None:
    """Write what the weights were trained on."""
    found = {"license": "mit", "steps": listed, "weights": checksum_of_weights(folder)}
    write_json(found, folder / TRAINING_DATA_FILE, indent=2)


def bundle_properties(rows: Path, counts: dict[str, Any]) -> Path:
    """Join the members and write `crystal_properties`."""
    runs = sorted((rows / "joint").glob("member_*/model.safetensors"))
    members = [AutoModelForSequenceClassification.from_pretrained(path.parent) for path in runs]
    joined = join_members(members) if len(members) > 1 else members[0]
    names = ["heat_capacity", *joined.config.target_names]
    changes = {
        "n_members": len(members),
        "auxiliary_targets": [name for name in names if name not in HEADS],
    }
    pretraining = rows / "mlm" / "validation_results.json"
    folder = write_folder(runs[0].parent, PROPERTIES, dict(joined.state_dict()), changes, pretraining)
    joint = json.loads((rows / "joint" / "joint.json").read_text("utf-8"))["counts"]
    record(folder, steps(counts, joint))
    write_json(errors_beside_trees(names), folder / METRICS_FILE, indent=2)
    AutoModelForSequenceClassification.from_pretrained(folder)
    return folder


def bundle_likelihood(rows: Path, counts: dict[str, Any]) -> Path:
    """Write `likelihood`, the masked language model."""
    run = rows / "mlm"
    tensors = load_file(run / "model.safetensors")
    folder = write_folder(run, LIKELIHOOD_FOLDER, tensors, {}, run / "validation_results.json")
    record(folder, steps(counts, None))
    AutoModelForMaskedLM.from_pretrained(folder)
    return folder


BUNDLED = {PROPERTIES: bundle_properties, LIKELIHOOD_FOLDER: bundle_likelihood}


def main() -> None:
    """Bundle the runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    parser.add_argument("--folders", nargs="+", choices=BUNDLED, default=list(BUNDLED))
    arguments = parser.parse_args()
    counts = json.loads((arguments.rows / "rows.json").read_text("utf-8"))
    for name in arguments.folders:
        print(BUNDLED[name](arguments.rows, counts))
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"The bundled weights take {size:.1f} MB, more than {LIMIT_MB}.")


if __name__ == "__main__":
    main()

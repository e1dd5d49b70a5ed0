"""What the parts of the joint training are worth: `python scripts/ablate_joint.py --rows runs/bundle --data DATA`.

The recipe, and the recipe without some of its labels, each trained for a few epochs of its own rows on folds 1 and 2,
from the masked language model, which has seen no label. Scored on the crystals of fold 0 whose labels all of them have;
differences are paired. A run that is finished is not trained again, one that stopped goes on. Writes
`docs/results/joint_ablation.json`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmarking import versions
from bundle_results import RECIPE, ROOT, bundle_parser, heads, paired

from cloud_hf.cli.recipes import parse_recipe
from cloud_hf.data.tables import read_table
from cloud_hf.files import write_json
from cloud_hf.training.joint import PREDICTIONS_FILE, train_joint
from cloud_hf.training.joint_arguments import JointArguments
from cloud_hf.training.joint_recipe import read_joint_recipe

Recipe = dict[str, Any]

NEW_TABLES = ("acwf_elements", "elastic_binaries", "elements", "matbench_labels", "phonon_binaries", "phonons")
"""What the former release, with an encoder for each kind of property, did not have."""

VIBRATIONAL = ("dos", "heat_capacity", "debye_temperature")

NEXT_TO_NOTHING = 1e-6
"""Weight of a target that is only there since a model needs one."""

FEWEST = 100
"""Crystals that a head needs for a figure."""


def whole(recipe: Recipe) -> Recipe:
    """Change nothing."""
    return recipe


def without_new_tables(recipe: Recipe) -> Recipe:
    """Leave out the tables that came with the joint training, and targets that have no other."""
    return _with_sources(recipe, [source for source in recipe["sources"] if source["table"] not in NEW_TABLES])


def vibrations_alone(recipe: Recipe) -> Recipe:
    """Learn from vibrational labels only; a model needs a scalar target, and one weighs next to nothing."""
    vibrational = [source for source in recipe["sources"] if any(kind in source for kind in VIBRATIONAL)]
    vibrational += [source for source in recipe["sources"] if "refractive_index" in _targets(source)]
    changed = _with_sources(recipe, vibrational)
    changed["targets"] = {name: target | {"weight": NEXT_TO_NOTHING} for name, target in changed["targets"].items()}
    return changed


def scalars_alone(recipe: Recipe) -> Recipe:
    """Learn from scalar labels only."""
    plain = [{key: value for key, value in source.items() if key not in VIBRATIONAL} for source in recipe["sources"]]
    return _with_sources(recipe, [source for source in plain if _targets(source)])


def heat_capacity_at_300(recipe: Recipe) -> Recipe:
    """Of vibrations, learn from Cv at room temperature only, as the paper does."""
    sources = []
    for source in recipe["sources"]:
        reduced = {key: value for key, value in source.items() if key not in ("dos", "debye_temperature")}
        room = {column: kelvin for column, kelvin in source.get("heat_capacity", {}).items() if 290 < kelvin < 310}
        reduced["heat_capacity"] = room
        sources.append(reduced if room else {key: value for key, value in reduced.items() if key != "heat_capacity"})
    return _with_sources(recipe, [source for source in sources if _targets(source) or "heat_capacity" in source])


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "whole recipe": whole,
    "without the new tables": without_new_tables,
    "vibrations alone": vibrations_alone,
    "scalar targets alone": scalars_alone,
    "of vibrations only Cv at 300 K": heat_capacity_at_300,
}


def _targets(source: Recipe) -> set[str]:
    return {target for target, _ in source.get("targets", {}).values()} | set(source.get("values", {}))


def _with_sources(recipe: Recipe, sources: list[Recipe]) -> Recipe:
    known = set().union(*(_targets(source) for source in sources))
    targets = {name: target for name, target in recipe["targets"].items() if name in known}
    return recipe | {"sources": sources, "targets": targets}


def train(name: str, arguments: argparse.Namespace) -> Path:
    """Train one variant if it is not there; return the file of its predictions."""
    folder = arguments.rows / "ablation" / name.replace(" ", "_")
    predictions: Path = folder / "run" / PREDICTIONS_FILE
    if not predictions.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = VARIANTS[name](yaml.safe_load(RECIPE.read_text(encoding="utf-8")))
        _recipe_of(predictions).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        split = arguments.split or arguments.rows / "split"
        given = ["--config", RECIPE.with_name("joint.yaml"), "--recipe", _recipe_of(predictions), "--fold", 0]
        given += [
            "--data",
            arguments.data,
            "--split",
            split,
            "--model",
            arguments.rows / "mlm",
            "--output-dir",
            folder / "run",
        ]
        given += ["--num-train-epochs", arguments.epochs, "--logging-steps", 100]
        train_joint(*parse_recipe("joint", JointArguments, [str(value) for value in given]))
    return predictions


def _recipe_of(predictions: Path) -> Path:
    return predictions.parents[1] / "table.yaml"


def compare(files: dict[str, Path]) -> dict[str, Any]:
    """Errors of every variant beside the whole recipe's, on crystals that both predict."""
    tables = {name: read_table(path).set_index("scope") for name, path in files.items()}
    reference = tables[next(iter(VARIANTS))]
    columns = {name: (column, unit) for name, (column, unit) in heads(read_joint_recipe(RECIPE)).items()}
    result: dict[str, Any] = {}
    for name, table in tables.items():
        rows: dict[str, Any] = {}
        weights = {target: about.weight for target, about in read_joint_recipe(_recipe_of(files[name])).targets.items()}
        for head, (column, unit) in columns.items():
            if weights.get(head, 1.0) <= NEXT_TO_NOTHING:
                continue
            if table is reference or (column in table and table[column].notna().sum() >= FEWEST):
                rows[head] = _errors(reference, table, column) | {"unit": unit}
        areas = reference.dos_area.dropna()
        if "dos_area" in table and len(common := areas.index.intersection(table.dos_area.dropna().index)) >= FEWEST:
            errors, others = table.dos_area[common].to_numpy(), areas[common].to_numpy()
            groups = reference.group[common].tolist()
            rows["phonon_dos"] = {"n": len(common), "mae": errors.mean(), "whole": others.mean(), "unit": "1/cm"}
            rows["phonon_dos"]["difference"] = paired(errors, others, groups)
        result[name] = {head: row for head, row in rows.items() if row["n"] >= FEWEST}
    return result


def _errors(reference: Any, table: Any, column: str) -> dict[str, Any]:
    known = reference[reference[column].notna()]
    known = known[known.index.isin(table.index)]
    label = known[column].to_numpy(float)
    errors, others = (
        np.abs(frame.loc[known.index, f"predicted_{column}"].to_numpy(float) - label) for frame in (table, reference)
    )
    figures: dict[str, Any] = {"n": len(known)}
    if len(known) >= FEWEST:
        figures |= {
            "mae": errors.mean(),
            "whole": others.mean(),
            "difference": paired(errors, others, known.group.tolist()),
        }
    return figures


def main() -> None:
    """Train what is not there and write the figures."""
    parser = bundle_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=1, help="of each variant's own rows")
    arguments = parser.parse_args()
    files = {name: train(name, arguments) for name in VARIANTS}
    result = {
        "versions": versions(["cloud-hf", "torch", "transformers"]),
        "epochs": arguments.epochs,
        "variants": compare(files),
    }
    for name, rows in result["variants"].items():
        for head, row in rows.items():
            print(f"{name}: {head}: {row['mae']:.4g}, whole {row['whole']:.4g} {row['unit']} (N {row['n']})")
    write_json(result, ROOT / "docs" / "results" / "joint_ablation.json", indent=1)


if __name__ == "__main__":
    main()

"""What the spectrum and the members are worth: `python scripts/ablate_bundled.py --rows runs/bundle --data DATA`.

Writes `docs/results/bundled_ablation.json`: the errors of Cv of `joint/fold_K`, each on the fold that it kept back;
what Cv is at other temperatures if one Debye temperature has to give the predicted Cv at 300 K; the errors of one, two
and three bundled members on crystals of WBM, which no training saw; and what a member gains over the run of a fold that
it goes on from, by `joint/refit_K`, which goes on as a member does but keeps the validation part of all rows back.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarking import versions
from bundle_results import FEWEST, HEAT_CAPACITIES, RECIPE, ROOT, bundle_parser, heads, kept_back, paired

import cloud_hf
from cloud_hf import debye
from cloud_hf.data.tables import read_table
from cloud_hf.files import write_json
from cloud_hf.training.joint import PREDICTIONS_FILE
from cloud_hf.training.joint_recipe import JointRecipe, read_joint_recipe

MEMBERS = 3
WBM = {"formation_energy_per_atom": "eV/atom", "band_gap": "eV"}
"""Labels of WBM, and units."""


def one_debye_temperature(table: pd.DataFrame) -> pd.DataFrame:
    """Replace predicted Cv at all temperatures by those of the Debye temperature that has the predicted Cv(300 K)."""
    theta = torch.from_numpy(debye.effective_debye_temperature(table["predicted_heat_capacity_300K"], 300, clip=True))
    others = {
        f"predicted_heat_capacity_{kelvin}K": debye.heat_capacity(theta, kelvin).numpy() for kelvin in HEAT_CAPACITIES
    }
    return table.assign(**others)


def errors(table: pd.DataFrame, recipe: JointRecipe) -> dict[str, dict[str, Any]]:
    """Mean absolute errors of Cv at all temperatures."""
    by_head = {}
    for name, (column, unit) in heads(recipe).items():
        if not name.startswith("heat_capacity"):
            continue
        gaps = (table[f"predicted_{column}"] - table[column]).abs().dropna()
        if len(gaps) >= FEWEST:
            by_head[name] = {"mae": float(gaps.mean()), "n": len(gaps), "unit": unit}
    return by_head


def gains_of_members(runs: Path, recipe: JointRecipe) -> dict[str, dict[str, Any]]:
    """Mean absolute errors of `fold_K` and `refit_K` on the crystals of fold K that both kept back."""
    pairs = []
    for path in sorted(runs.glob(f"refit_*/{PREDICTIONS_FILE}")):
        fold = path.parent.name.removeprefix("refit_")
        before = read_table(runs / f"fold_{fold}" / PREDICTIONS_FILE)
        pairs.append(before.merge(read_table(path), on=["scope", "group"], suffixes=("", " of the member")))
    table = pd.concat(pairs, ignore_index=True)
    measured = {name: (f"predicted_{column}", column, unit) for name, (column, unit) in heads(recipe).items()}
    by_head = {}
    for name, (column, label, unit) in {**measured, "phonon_dos": ("dos_area", None, "1/cm")}.items():
        errors = table[[column, f"{column} of the member"]]
        if label is not None:
            errors = errors.sub(table[label], axis=0).abs()
        errors = errors[errors.notna().all(axis=1)]
        if len(errors) >= FEWEST:
            by_fold, by_member = errors.to_numpy(float).T
            gain = paired(by_member, by_fold, table.group[errors.index].tolist())
            row = {"fold": float(by_fold.mean()), "member": float(by_member.mean()), "difference": gain}
            by_head[name] = row | {"n": len(errors), "unit": unit}
    return by_head


def wbm_rows(data: Path, split: Path) -> pd.DataFrame:
    """Strings and labels of the crystals of WBM that are in no other table."""
    rows = read_table(split / "wbm.split.parquet")
    rows = rows[rows.error.isna()]
    others = {
        group
        for path in split.glob("*.split.parquet")
        if path.name != "wbm.split.parquet"
        for group in read_table(path)["group"]
    }
    labels = read_table(data / "wbm.parquet")[list(WBM)].iloc[rows.row.astype(int)]
    rows = rows.reset_index(drop=True).join(labels.reset_index(drop=True))
    return rows[~rows.group.isin(others)].drop_duplicates("group")


def errors_of_members(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Mean absolute errors of the first members of the bundled model together."""
    by_number = {}
    for members in range(1, MEMBERS + 1):
        predicted = cloud_hf.predict(rows.scope.tolist(), members=members)
        gaps = {
            name: (predicted[f"{name} ({unit})"] - rows[name].to_numpy()).abs().dropna() for name, unit in WBM.items()
        }
        by_number[str(members)] = {
            name: {"mae": float(gap.mean()), "n": len(gap), "unit": WBM[name]} for name, gap in gaps.items()
        }
    return by_number


def main() -> None:
    """Write the figures."""
    parser = bundle_parser(__doc__)
    arguments = parser.parse_args()
    recipe = read_joint_recipe(RECIPE)
    table = kept_back(arguments.rows / "joint")
    by_form = {
        "spectrum": errors(table, recipe),
        "one_debye_temperature": errors(one_debye_temperature(table), recipe),
    }
    for name in by_form["spectrum"]:
        print(f"{name}: " + ", ".join(f"{form} {row[name]['mae']:.4g}" for form, row in by_form.items()))
    by_members = errors_of_members(wbm_rows(arguments.data, arguments.split or arguments.rows / "split"))
    for number, row in by_members.items():
        print(f"{number} members on WBM: { ({name: one['mae'] for name, one in row.items()}) }")
    gains = gains_of_members(arguments.rows / "joint", recipe)
    for name, row in gains.items():
        print(f"{name}: fold {row['fold']:.4g}, member {row['member']:.4g} {row['unit']} (N {row['n']})")
    packages = versions(["cloud-hf", "torch", "transformers"])
    result = {"versions": packages, "heat_capacity": by_form, "members_on_wbm": by_members, "refit": gains}
    write_json(result, ROOT / "docs" / "results" / "bundled_ablation.json", indent=1)


if __name__ == "__main__":
    main()

"""Blocks about the bundled heads, from what the scripts of `train_bundled.sh` wrote into docs/results/."""

import json
from typing import Any

from docs_parts import RESULTS, read, sentences, table

from cloud_hf.checkpoints.bundled import HEADS
from cloud_hf.studies.common.published import CLOUD_DEBYE

HEAT_CAPACITIES = {
    kelvin: "heat_capacity" if kelvin == 300 else f"heat_capacity_{kelvin}K"
    for kelvin in (50, 100, 200, 300, 500, 1000)
}
"""Heads of Cv by their temperature, K."""


def scored_heads() -> dict[str, Any]:
    """Errors of each head of the checkpoint that has trees beside it, those that users see first."""
    heads, bands = read("heads.json")["heads"], read("intervals.json")
    others = (name for name in heads if name not in HEADS and "trees" in heads[name] and "trees" in bands.get(name, ()))
    names = [*HEADS, *others]
    return {name: heads[name] for name in names}


def percent(gap: dict[str, float]) -> str:
    """A paired difference with its interval."""
    return f"{gap['percent']:+.0f} % ({gap['low']:+.0f} to {gap['high']:+.0f})"


def heads_block() -> str:
    """Errors of the heads beside the trees' and what the intervals hold."""
    heads, bands = read("heads.json")["heads"], read("intervals.json")
    rows = []
    for name in HEADS:
        row, band = heads[name], bands[name]["model"]
        rows.append(
            [
                f"`{name}`",
                f"{row['model']['mae']:#.3g} {row['unit'] if row['unit'] != '1' else ''}".strip(),
                f"{row['trees']['mae']:#.3g}",
                percent(row["difference"]),
                f"{row['n']:,}",
                f"{band['coverage']:.1%}",
            ]
        )
    headers = ["head", "MAE", "trees", "difference (95 % interval)", "crystals", "inside the 90 % intervals"]
    paper = read("heads.json")["paper_rows"]["model"]["mae_mad"]
    unsure = [f"`{name}`" for name in HEADS if heads[name]["difference"]["high"] >= 0]
    published = CLOUD_DEBYE["CLOUD-DEBYE"]
    return f"{table(rows, headers)}\n\n{sentences('heads', unsure=unsure, here=paper, published=published)}"


def errors_block() -> str:
    """All error measures of model and trees on the same rows."""
    rows = []
    for name, row in scored_heads().items():
        for by in ("model", "trees"):
            errors = row[by]
            measures = (
                f"{errors[key]:.4g}" for key in ("mae", "median_absolute_error", "rmse", "r2", "mad", "mae_mad")
            )
            rows.append([f"`{name}`", row["unit"], by, f"{row['n']:,}", *measures])
        rows[-1].append(percent(row["difference"]))
    headers = ["head", "unit", "by", "N", "MAE", "median error", "RMSE", "R2"]
    headers += ["MAE of the mean", "MAE:MAD", "difference"]
    return table(rows, headers)


def intervals_block() -> str:
    """Coverage and widths, of the folds' runs, of a member on crystals that it had not seen, and of the trees."""
    rows, bands = [], read("intervals.json")
    for name in scored_heads():
        for key, by in (("model", "model"), ("refitted", "member"), ("trees", "trees")):
            if key not in bands[name]:
                continue
            band = bands[name][key]
            held = f"{band['coverage']:.1%} (90 % +- {2 * band['standard_error']:.1%})"
            widths = (f"{band[key]:.3g}" for key in ("mean_width", "median_width"))
            rows.append([f"`{name}`", bands[name]["unit"], by, f"{band['n']:,}", held, *widths])
    headers = ["head", "unit", "by", "N", "inside", "mean width", "median width"]
    further = [bands[name]["refitted"] for name in HEADS if "refitted" in bands[name]]
    return f"{table(rows, headers)}\n\n{sentences('intervals', further=further)}\n\n{_spectral_intervals()}"


def _spectral_intervals() -> str:
    """Coverage of what follows from the density of states, and what it would be with the width of Cv at 300 K."""
    by_quantity = read("intervals.json")["heat_capacity"]["quantities"]
    rows = []
    for quantity, by_kelvin in by_quantity.items():
        shares = (
            by_kelvin if quantity != "zero_point_energy" else dict.fromkeys(map(str, HEAT_CAPACITIES), by_kelvin["0"])
        )
        inside = (shares[str(kelvin)] for kelvin in HEAT_CAPACITIES)
        rows.append([f"`{quantity}`", *(f"{row['coverage']:.1%} ({row['unscaled_coverage']:.0%})" for row in inside)])
    return table(rows, ["quantity", *(f"{kelvin} K" for kelvin in HEAT_CAPACITIES)])


def thermal_block() -> str:
    """Cv at several temperatures, the density of states, and the paper's measure."""
    results, bands = read("heads.json"), read("intervals.json")["heat_capacity"]
    inside = bands["quantities"]["heat_capacity"]
    rows = []
    for kelvin, name in HEAT_CAPACITIES.items():
        row = results["heads"][name]
        trees = row.get("trees")
        beside = [f"{trees['mae']:#.3g}", percent(row["difference"])] if trees else ["", ""]
        errors = [f"{row['model']['mae']:#.3g}", f"{row['model']['median_absolute_error']:#.3g}", *beside]
        rows.append([kelvin, f"{row['n']:,}", *errors, f"{inside[str(kelvin)]['coverage']:.1%}"])
    headers = ["T, K", "crystals", "MAE of Cv, J/(mol atom K)", "median error", "trees", "difference"]
    headers.append("inside the 90 % intervals")
    text = sentences("thermal", dos=results["phonon_dos"], paper=results["paper_rows"])
    return f"{table(rows, headers)}\n\n{text}"


def spectrum_block() -> str:
    """Errors of Cv by the spectrum, and by the one Debye temperature that has its Cv(300 K)."""
    by_form = read("bundled_ablation.json")["heat_capacity"]
    rows = []
    for kelvin, name in HEAT_CAPACITIES.items():
        errors = [f"{by_form[form][name]['mae']:#.3g}" for form in ("spectrum", "one_debye_temperature")]
        rows.append([kelvin, f"{by_form['spectrum'][name]['n']:,}", *errors])
    headers = ["T, K", "crystals", "MAE of Cv, J/(mol atom K)", "by one Debye temperature"]
    return table(rows, headers)


def members_block() -> str:
    """Errors of one, two and three bundled members on crystals of WBM."""
    by_number = read("bundled_ablation.json")["members_on_wbm"]
    rows = []
    for name, first in by_number["1"].items():
        values = [f"{row[name]['mae']:#.3g}" for row in by_number.values()]
        rows.append([f"`{name}`", first["unit"], f"{first['n']:,}", *values])
    headers = ["head", "unit", "N", *(f"{number} member{'s' * (number != '1')}" for number in by_number)]
    return table(rows, headers)


def refit_block() -> str:
    """What a member gains over the run of a fold that it goes on from, on crystals that both kept back."""
    rows = []
    for name, row in read("bundled_ablation.json")["refit"].items():
        errors = [f"{row[run]:#.3g}" for run in ("fold", "member")]
        rows.append([f"`{name}`", row["unit"], f"{row['n']:,}", *errors, percent(row["difference"])])
    headers = ["head", "unit", "N", "two folds", "and nine tenths of all rows", "difference"]
    return table(rows, headers)


def joint_ablation_block() -> str:
    """Change of each error when part of the labels is left out."""
    results = read("joint_ablation.json")
    variants = {name: rows for name, rows in results["variants"].items() if name != "whole recipe"}
    whole = results["variants"]["whole recipe"]
    rows = []
    for name in (*HEADS, "heat_capacity_100K", "heat_capacity_1000K", "phonon_dos"):
        if name in whole:
            changes = [
                percent(changes_of[name]["difference"]) if name in changes_of else ""
                for changes_of in variants.values()
            ]
            rows.append([f"`{name}`", f"{whole[name]['mae']:#.3g} {whole[name]['unit'].removesuffix('1')}", *changes])
    text = table(rows, ["head", "whole recipe", *variants])
    epochs = f"{results['epochs']} epoch{'s' if results['epochs'] > 1 else ''}"
    return f"{epochs} of each variant's own rows.\n\n{text}"


def likelihood_block() -> str:
    """How well the likelihood of a string tells WBM from unseen crystals of the Materials Project."""
    return sentences("likelihood", results=read("ood.json"))


def few_labels_block() -> str:
    """Errors of what `--method auto` chooses against the number of training rows, for three properties."""
    texts = []
    for name in ("heat_capacity", "refractive_index", "thermal_conductivity"):
        curve = read(f"few_labels_{name}.json")["results"]
        texts.append(f"`{name}`, {_learning_curve(curve, 'auto', '--method auto')}")
    return "\n\n".join(texts)


def _learning_curve(curve: dict[str, Any], arm: str, called: str) -> str:
    rows, below = [], []
    for line in curve["sizes"]:
        model, trees = line["arms"][arm], line["arms"]["trees"]
        gap = model["to_trees"]
        if gap["high"] < 0:
            below.append(str(line["train_rows"]))
        spreads = []
        for learner in (model, trees):
            deviation = "" if learner["mae_std"] is None else f" +- {learner['mae_std']:#.3g}"
            spreads.append(f"{learner['mae_mean']:#.3g}{deviation}")
        difference = f"{gap['difference']:+#.2g} ({gap['low']:+#.2g} to {gap['high']:+#.2g})"
        rows.append([f"{line['train_rows']:,}", line["draws"], *spreads, difference])
    headers = ["training rows", "draws", f"MAE of {called}", "of the trees", f"{called} - trees"]
    text = table(rows, headers)
    unit = "" if curve["unit"] == "1" else f"in {curve['unit']}, "
    return (
        f"{unit}{curve['test_rows']} rows of one fold; +-: standard deviation over the draws.\n\n{text}\n\n"
        f"Shown to be below the trees at {', '.join(below) if below else 'no'} training rows."
    )


def benchmarks_block() -> str:
    """Trainings that only serve as benchmarks: AFLOW, and the newest entries of the Materials Project."""
    rows = []
    for name, row in read("aflow.json")["errors"].items():
        rows.append(_arms(f"AFLOW `{name}`, crystals kept back", row["train_rows"], row))
    for path in sorted((RESULTS.parent / "studies").glob("newest-*/results.json"), reverse=True):
        studied = json.loads(path.read_text(encoding="utf-8"))
        what = f"`{studied['settings']['target'].partition(':')[0]}`"
        (split,) = studied["results"]["splits"].values()
        rows.append(_arms(f"{what}, newest entries, never one so new in training", split["train"], split["outside"]))
        rows.append(_arms(f"{what}, others, same training", split["train"], split["inside"]))
    headers = ["labels", "training rows", "N", "unit", "MAE", "trees", "model - trees"]
    return table(rows, headers)


def _arms(what: str, train: int, row: dict[str, Any]) -> list[str]:
    model, trees = row["arms"]["model"], row["arms"]["trees"]
    gap = model["difference"]
    listed = f"{gap['difference']:+.2g} ({gap['low']:+.2g} to {gap['high']:+.2g})"
    return [what, f"{train:,}", f"{row['n']:,}", row["unit"], f"{model['mae']:#.3g}", f"{trees['mae']:#.3g}", listed]


BLOCKS = {
    "benchmarks": benchmarks_block,
    "few_labels": few_labels_block,
    "heads": heads_block,
    "errors": errors_block,
    "intervals": intervals_block,
    "joint_ablation": joint_ablation_block,
    "likelihood": likelihood_block,
    "spectrum": spectrum_block,
    "members": members_block,
    "refit": refit_block,
    "thermal": thermal_block,
}

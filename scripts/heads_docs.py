"""Blocks about the bundled heads, from what the scripts of `train_bundled.sh` wrote into docs/results/."""

import json
from pathlib import Path
from typing import Any

from bundle_checkpoint import BUNDLED
from tabulate import tabulate

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SHOWN = tuple(name for _, names, _ in BUNDLED.values() for name in names)


def read(name: str) -> dict[str, Any]:
    """Content of a result file."""
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def intervals() -> dict[str, Any]:
    """Coverage and width of every head's intervals."""
    found: dict[str, Any] = {}
    for path in sorted(RESULTS.glob("intervals_*.json")):
        found |= read(path.name)
    return found


def percent(gap: dict[str, float]) -> str:
    """A paired difference with its interval."""
    return f"{gap['percent']:+.0f} % ({gap['low']:+.0f} to {gap['high']:+.0f})"


def heads_block() -> str:
    """Errors of the heads beside the trees' and what the intervals hold."""
    heads, bands = read("heads.json")["heads"], intervals()
    rows = []
    for name in SHOWN:
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
    unsure = [f"`{name}`" for name in SHOWN if heads[name]["difference"]["high"] >= 0]
    text = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return text + (f"\n\nNot shown to be better than trees: {', '.join(unsure)}." if unsure else "")


def errors_block() -> str:
    """All error measures of model and trees on the same rows."""
    rows = []
    for name in SHOWN:
        row = read("heads.json")["heads"][name]
        for by in ("model", "trees"):
            one = row[by]
            measures = (f"{one[key]:.4g}" for key in ("mae", "median_absolute_error", "rmse", "r2", "mad", "mae_mad"))
            rows.append([f"`{name}`", row["unit"], by, f"{row['n']:,}", *measures])
        rows[-1].append(percent(row["difference"]))
    headers = [
        "head",
        "unit",
        "by",
        "N",
        "MAE",
        "median error",
        "RMSE",
        "R2",
        "MAE of the mean",
        "MAE:MAD",
        "difference",
    ]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def intervals_block() -> str:
    """Coverage and widths, the trees' beside them."""
    rows = []
    for name in SHOWN:
        for by in ("model", "trees"):
            one = intervals()[name][by]
            held = f"{one['coverage']:.1%} (90 % +- {2 * one['standard_error']:.1%})"
            widths = (f"{one[key]:.3g}" for key in ("mean_width", "median_width"))
            rows.append([f"`{name}`", intervals()[name]["unit"], by, f"{one['n']:,}", held, *widths])
    headers = ["head", "unit", "by", "N", "inside", "mean width", "median width"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def members_block() -> str:
    """What each joined model reaches alone."""
    row = read("heads.json")["heads"]["heat_capacity"]
    starts = {"heat_capacity_run": "the multi-task encoder", "heat_capacity_mlm_run": "the pre-trained encoder"}
    alone = ", ".join(f"{row['members'][run]:.2f} from {start}" for run, start in starts.items())
    return f"Alone the two members have {alone}; their mean has {row['model']['mae']:.2f} {row['unit']}."


def elsewhere_block() -> str:
    """Errors on WBM, raw and without the mean difference."""
    rows = []
    for name, row in read("heads.json")["wbm"].items():
        for what in ("raw", "corrected"):
            one = row[what]
            offset = f"{row['offset']['model']:+.3f}" if what == "raw" else ""
            label = "as predicted" if what == "raw" else "without the mean difference"
            mae = (f"{one[by]['mae']:.3f}" for by in ("model", "trees"))
            rows.append([f"`{name}`", one["unit"], label, f"{one['n']:,}", *mae, percent(one["difference"]), offset])
    headers = ["head", "unit", "WBM labels", "N", "MAE", "trees", "difference", "mean difference to the labels"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def likelihood_block() -> str:
    """How well the likelihood of a string tells WBM from unseen crystals of the Materials Project."""
    found = read("ood.json")
    low, high = found["auroc_95"]
    return (
        f"The masked language model, which never saw WBM, ranks {found['inside']['strings']:,} unseen strings of the "
        f"Materials Project above {found['outside']['strings']:,} of WBM with an AUROC of {found['auroc']:.2f} (95 % "
        f"{low:.2f} to {high:.2f}); at the threshold of the flag, {found['flagged_inside']:.0%} of the former and "
        f"{found['flagged_outside']:.0%} of the latter are flagged."
    )


def transfer_block() -> str:
    """Cv and U at other temperatures, and the elements."""
    found = read("transfer.json")["results"]["other_temperatures"]
    rows = []
    for quantity, name in (("heat_capacity", "Cv"), ("internal_energy", "U(T) - U(0)")):
        for kelvin, row in found[quantity].items():
            gap = row["arms"]["debye"]["difference"]
            errors = (f"{row['arms'][by]['mae']:#.3g}" for by in ("debye", "trees", "label"))
            rows.append(
                [
                    name,
                    row["unit"],
                    kelvin,
                    *errors,
                    f"{gap['difference']:+.2g} ({gap['low']:+.2g} to {gap['high']:+.2g})",
                ]
            )
    headers = ["quantity", "unit", "T, K", "MAE", "trees", "the label's own Debye temperature", "model - trees"]
    text = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"{found['n']:,} crystals.\n\n{text}"


def learning_curve_block() -> str:
    """Heat-capacity errors against the number of training rows."""
    found = read("learning_curve.json")["results"]
    rows, below = [], []
    for line in found["sizes"]:
        model, trees = line["arms"]["model"], line["arms"]["trees"]
        gap = model["to_trees"]
        if gap["high"] < 0:
            below.append(str(line["train_rows"]))
        spreads = []
        for arm in (model, trees):
            deviation = "" if arm["mae_std"] is None else f" +- {arm['mae_std']:.2f}"
            spreads.append(f"{arm['mae_mean']:.2f}{deviation}")
        difference = f"{gap['difference']:+.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})"
        rows.append([f"{line['train_rows']:,}", line["draws"], *spreads, difference])
    headers = ["training rows", "draws", "MAE of the model", "of the trees", "model - trees"]
    text = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return (
        f"{found['unit']}, {found['test_rows']} rows of one fold; +-: standard deviation over the draws.\n\n{text}\n\n"
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
        (found,) = studied["results"]["splits"].values()
        rows.append(_arms(f"{what}, newest entries, never one so new in training", found["train"], found["outside"]))
        rows.append(_arms(f"{what}, others, same training", found["train"], found["inside"]))
    headers = ["labels", "training rows", "N", "unit", "MAE", "trees", "model - trees"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _arms(what: str, train: int, row: dict[str, Any]) -> list[str]:
    model, trees = row["arms"]["model"], row["arms"]["trees"]
    gap = model["difference"]
    listed = f"{gap['difference']:+.2g} ({gap['low']:+.2g} to {gap['high']:+.2g})"
    return [what, f"{train:,}", f"{row['n']:,}", row["unit"], f"{model['mae']:#.3g}", f"{trees['mae']:#.3g}", listed]


BLOCKS = {
    "benchmarks": benchmarks_block,
    "heads": heads_block,
    "errors": errors_block,
    "intervals": intervals_block,
    "members": members_block,
    "elsewhere": elsewhere_block,
    "likelihood": likelihood_block,
    "transfer": transfer_block,
    "learning_curve": learning_curve_block,
}

"""Measure how well a masked language model tells crystals of another kind, and store its threshold.

    python scripts/ood.py --mlm runs/likelihood --inside held_out.parquet --outside wbm.parquet --result ood.json

`--inside` is a table of strings like those that the model learned, which it has not seen, `--outside` one of strings of
another kind; both have a column `scope`, and a split table of `cloud-hf split` may be cut to a part, e.g.
`materials_project.split.parquet:validation`. The AUROC is the probability that a string from inside is the more likely
one of two, with a 95 % bootstrap interval. `--save` writes `likelihood.json` beside the weights: the threshold below
which 1 % of the strings from inside lie.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from transformers.utils.logging import disable_progress_bar

from cloud_hf.data.tables import read_table
from cloud_hf.data.token_classes import TOKEN_CLASSES
from cloud_hf.files import write_text
from cloud_hf.inference.likelihood import LikelihoodSettings, StringLikelihood

SHARE = 0.01


def strings(name: str, most: int | None, seed: int) -> list[str]:
    """The distinct strings of a table, or of one part of a split table, at most so many, chosen at random."""
    path, _, part = name.partition(":")
    table = read_table(path)
    if part:
        table = table[table["part"] == part]
    found = sorted(set(table["scope"].dropna().astype(str)))
    rows = np.random.default_rng(seed).permutation(len(found))[:most]
    return [found[row] for row in rows]


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Probability that a value from inside is the larger one of two; ties count half."""
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def bootstrap(inside: NDArray[np.float64], outside: NDArray[np.float64], repeats: int, seed: int) -> list[float]:
    """95 % interval of the AUROC over strings drawn anew."""
    draw = np.random.default_rng(seed).choice
    found = [auroc(draw(inside, len(inside)), draw(outside, len(outside))) for _ in range(repeats)]
    return [float(end) for end in np.quantile(found, (0.025, 0.975))]


def main() -> None:
    """Score both tables, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlm", required=True, help="folder of a CloudForMaskedLM")
    parser.add_argument("--inside", required=True, help="table[:part] of strings like the training strings, unseen")
    parser.add_argument("--outside", required=True, help="table[:part] of strings of another kind")
    parser.add_argument("--words", nargs="+", choices=TOKEN_CLASSES, default=["elements"], help="words that count")
    parser.add_argument("--most", type=int, help="strings of each table, chosen at random (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write likelihood.json beside the weights")
    parser.add_argument("--result", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    disable_progress_bar()
    likelihood = StringLikelihood.load(args.mlm, args.words)
    inside_strings = strings(args.inside, args.most, args.seed)
    known = set(inside_strings)
    outside_strings = [scope for scope in strings(args.outside, args.most, args.seed) if scope not in known]
    inside, outside = likelihood(inside_strings, progress=True), likelihood(outside_strings, progress=True)
    threshold = float(np.quantile(inside, SHARE))
    result: dict[str, Any] = {
        "words": args.words,
        "inside": {"table": Path(args.inside).name, "strings": len(inside), "mean": float(inside.mean())},
        "outside": {"table": Path(args.outside).name, "strings": len(outside), "mean": float(outside.mean())},
        "auroc": auroc(inside, outside),
        "auroc_95": bootstrap(inside, outside, 200, args.seed),
        "threshold": threshold,
        "flagged_inside": float((inside < threshold).mean()),
        "flagged_outside": float((outside < threshold).mean()),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if args.save:
        LikelihoodSettings(threshold, SHARE, len(inside), tuple(args.words)).save(args.mlm)
    if args.result:
        write_text(text + "\n", args.result)


if __name__ == "__main__":
    main()

"""Numbers of the attention study: shares by class of word against both controls, attributions with intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.metrics.statistics import ratio_interval
from cloud_hf.studies.attention.integrated_gradients import CHANNELS
from cloud_hf.studies.attention.shares import CLASSES, CONTENT, SYMMETRY
from cloud_hf.studies.common.scoring import paired

__all__ = ["mean_with_interval", "ratio_with_interval", "summary"]

RESAMPLES = 2000

Numbers = NDArray[np.float64]


def ratio_with_interval(above: ArrayLike, below: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Return mean(above) / mean(below) over crystals as `value`, with `low` and `high`, a 95 % bootstrap interval.

    Args:
        above: One number per crystal, shape (n,).
        below: Numbers of the same crystals, positive on average, shape (n,).
        seed: Seed of the bootstrap.
    """
    numerator, denominator = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    low, high = ratio_interval(numerator, denominator, resamples=RESAMPLES, seed=seed)
    return {"value": float(numerator.mean() / denominator.mean()), "low": low, "high": high}


def mean_with_interval(values: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Return the mean over crystals as `value`, with `low` and `high`, a 95 % bootstrap interval."""
    numbers = np.asarray(values, dtype=float)
    return ratio_with_interval(numbers, np.ones_like(numbers), seed)


def summary(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `results.json` holds of one model.

    Args:
        cells: `attention`, `controls` and `gradients`, as the study measures them.

    Returns:
        `from_cls`: for each class with words and for `symmetry` (generators and Wyckoff words) `share`, `expected` (the
        share of the words), `random`, and `enrichment`, share over expected; for `symmetry` also the paired differences
        to both controls and the number of heads above the expected share. `symmetry_of_content` is the same without
        the attention to special tokens. `by_layer`, `by_head` and `between` are arrays by `classes`.
    """
    trained, controls = cells["attention"], cells["controls"]
    expected = np.array(trained["expected"])
    present = [index for index in range(len(CLASSES)) if expected[:, index].any()]
    share = np.array(trained["by_layer"]).mean(axis=1)
    random = np.mean([np.array(control["by_layer"]).mean(axis=1) for control in controls], axis=0)
    by_head, error = np.array(trained["from_cls"]), np.array(trained["error_from_cls"])
    result: dict[str, Any] = {
        "classes": [CLASSES[index] for index in present],
        "from_cls": {
            CLASSES[index]: _against(share[:, index], expected[:, index], random[:, index]) for index in present
        },
    }
    symmetry = [part[:, SYMMETRY].sum(axis=1) for part in (share, expected, random)]
    content = [part[:, CONTENT].sum(axis=1) for part in (share, expected, random)]
    result["from_cls"]["symmetry"] = _tested(*symmetry)
    result["symmetry_of_content"] = _tested(*(cell / all_ for cell, all_ in zip(symmetry, content, strict=True)))
    excess = by_head[:, :, SYMMETRY].sum(axis=2) - symmetry[1].mean()
    spread = error[:, :, SYMMETRY].sum(axis=2)  # at most, as errors of two parts may add up
    result["heads"] = {"n": int(excess.size), "above_expected": int((excess > 1.96 * spread).sum()),
                      "below_expected": int((excess < -1.96 * spread).sum())}  # fmt: skip
    result["by_layer"] = {
        "trained": _rounded(np.array(trained["by_layer"]).mean(axis=0), present),
        "random": _rounded(np.mean([np.array(cell["by_layer"]).mean(axis=0) for cell in controls], axis=0), present),
        "expected": _rounded(expected.mean(axis=0), present),
    }
    result["by_head"] = _rounded(by_head, present)
    result["between"] = {
        name: _rounded(np.mean([_matrix(cell) for cell in group], axis=0)[present], present)
        for name, group in (("trained", [trained]), ("random", controls))
    }
    result["gradients"] = [_attributed(cell, expected) for cell in cells["gradients"]]
    return result


def _matrix(cell: Mapping[str, Any]) -> Numbers:
    """Attention between classes, mean over layers and heads, shape (classes, classes)."""
    mean: Numbers = np.array(cell["between"], dtype=float).mean(axis=(0, 1))
    return mean


def _rounded(values: Numbers, present: list[int]) -> Any:
    return np.round(values[..., present], 5).tolist()


def _against(share: Numbers, expected: Numbers, random: Numbers) -> dict[str, Any]:
    return {"share": float(share.mean()), "expected": float(expected.mean()), "random": float(random.mean()),
            "enrichment": ratio_with_interval(share, expected)}  # fmt: skip


def _tested(share: Numbers, expected: Numbers, random: Numbers) -> dict[str, Any]:
    return {**_against(share, expected, random), "share_less_expected": paired(share, expected, RESAMPLES),
            "share_less_random": paired(share, random, RESAMPLES)}  # fmt: skip


def _attributed(pair: Mapping[str, Any], expected: Numbers) -> dict[str, Any]:
    trained, random = pair["trained"], pair["random"]
    shares = {name: _of_total(cell["absolute"]) for name, cell in pair.items()}
    n = len(shares["trained"])
    word_shares = expected[:n, CONTENT] / expected[:n, CONTENT].sum(axis=1, keepdims=True)
    present = [index for index in CONTENT if word_shares[:, index].any()]
    signed, occluded = np.array(trained["signed"]), np.array(trained["occluded"])
    return {
        "output": trained["output"],
        "unit": trained["unit"],
        "n": n,
        "mean_absolute_change": float(np.abs(trained["change"]).mean()),
        "completeness_error": trained["completeness_error"],
        "completeness_error_random": random["completeness_error"],
        "classes": {
            CLASSES[index]: {
                "share": mean_with_interval(shares["trained"][:, index]),
                "expected": float(word_shares[:, index].mean()),
                "random": mean_with_interval(shares["random"][:, index]),
                "signed": mean_with_interval(signed[:, index]),
                "masked": mean_with_interval(np.abs(occluded[:, index])),
            }
            for index in present
        },
        "channels": {
            name: mean_with_interval(_of_total(trained["channels"])[:, column]) for column, name in enumerate(CHANNELS)
        },
    }


def _of_total(values: ArrayLike) -> Numbers:
    """Each row divided by its sum."""
    numbers = np.asarray(values, dtype=float)
    return np.asarray(numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1e-30))

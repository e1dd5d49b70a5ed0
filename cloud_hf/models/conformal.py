"""Intervals around predictions: split conformal over a cheap estimate of each crystal's difficulty.

A calibration holds, for each target, a linear model of ln |error| on what the string says and on the prediction, and
the quantiles of |error| / difficulty on rows that neither the network nor the difficulty model has seen. The interval
prediction -+ quantile * difficulty then holds a new crystal of the same kind with the probability `level`, whatever the
distribution of the errors (Papadopoulos et al. 2002; Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)). Crystals of
another kind have no such promise: for these see `cloud_hf.inference.likelihood`. Flat: ships as Hub remote code.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import CheckpointError, CloudError
from .saving_cloud import write_whole

__all__ = [
    "CALIBRATION_FILE", "DEFAULT_LEVEL", "ELEMENTS", "LEVELS", "SCALES", "STRING_FEATURES", "Calibration", "Difficulty",
    "TargetCalibration", "count_elements", "element_amounts", "head_fingerprint", "string_features",
    "width_at",
]  # fmt: skip

CALIBRATION_FILE = "calibration.json"
"""Lies beside the weights that it belongs to."""

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95, 0.99)
"""Probabilities with which an interval may hold the true value."""

DEFAULT_LEVEL = 0.9

SCALES = ("linear", "log", "debye")
"""What the error is the difference of: values, their logarithms, or logarithms of Debye temperatures."""

ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce",
    "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc",
    "Lv", "Ts", "Og",
)  # fmt: skip
"""Symbols by atomic number, from 1."""

STRING_FEATURES = (
    *(f"fraction_{symbol}" for symbol in ELEMENTS),
    "ln_multiplicity", "n_elements", "ln_positions", "centrosymmetric", "n_generators",
)  # fmt: skip
"""Columns of `string_features`."""

_COLUMN = {symbol: column for column, symbol in enumerate(ELEMENTS)}
_COLD = 1e-3  # K; as good as 0, and has a logarithm
_MOST = 50.0  # largest exponent: keeps intervals finite


def element_amounts(scope: str) -> dict[str, float]:
    """Return what each element's share of the atoms is proportional to, by a SCOPE string of any grammar."""
    parts = scope.split("|")
    tail = parts[-1].split()
    counts: dict[str, float] = {}
    if len(parts) == 2:
        amounts = [float(word[:-1]) for word in tail[1::2]]
    elif all(map(str.isalpha, tail)):
        amounts, tail = [1.0] * len(tail), [word for element in tail for word in (element, "")]
    else:
        amounts = [float(word) for word in tail[1::2]]
    for element, amount in zip(tail[::2], amounts, strict=False):
        counts[element] = counts.get(element, 0.0) + amount
    return counts


def string_features(scopes: Sequence[str]) -> NDArray[np.float64]:
    """Describe SCOPE strings by `STRING_FEATURES`: atomic fractions, size and symmetry.

    `ln_multiplicity` is the logarithm of the sum of the multiplicities of the listed positions, in the grammar `sites`
    the number of atoms in the conventional cell.

    Args:
        scopes: Strings of one grammar.

    Returns:
        Shape (len(scopes), len(STRING_FEATURES)).
    """
    features = np.zeros((len(scopes), len(STRING_FEATURES)))
    for row, scope in enumerate(scopes):
        parts = scope.split("|")
        generators, tail = parts[0].split(), parts[1].split()
        counts = element_amounts(scope)
        total = sum(counts.values()) or 1.0
        for element, amount in counts.items():
            if element in _COLUMN:
                features[row, _COLUMN[element]] = amount / total
        positions = tail[1::2] if len(parts) == 2 else tail
        multiplicity = sum(float(word[:-1]) for word in positions)
        features[row, len(ELEMENTS) :] = (
            np.log(max(multiplicity, 1.0)),
            len(counts),
            np.log(max(len(positions), 1)),
            generators[:1] == ["1"],
            float(generators[1]) if len(generators) > 1 and generators[1].isdigit() else 0.0,
        )
    return features


@dataclass(frozen=True)
class Difficulty:
    """A linear model of ln |error|; its exponential, to some power, is how hard a crystal is.

    Attributes:
        centre: Subtracted from each string feature.
        scale: Divides it.
        knots: Predictions at which the slope on the prediction may change.
        knot_scale: Divides predictions and knots.
        coefficients: Of the string features, the prediction and max(0, prediction - knot) of each knot.
        intercept: Value of the model where all else is zero.
        lowest: Smaller values are raised to this.
        highest: Larger values are lowered to this.
        exponent: 0: all crystals are equally hard; 1: errors are taken to be proportional to the estimate.
    """

    centre: list[float]
    scale: list[float]
    knots: list[float]
    knot_scale: float
    coefficients: list[float]
    intercept: float
    lowest: float
    highest: float
    exponent: float

    def design(self, features: NDArray[np.float64], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the coefficients multiply, shape (n, len(coefficients))."""
        strings = (features - np.array(self.centre)) / np.array(self.scale)
        values = predictions[:, None] / self.knot_scale
        hinges = np.maximum(values - np.array(self.knots)[None, :] / self.knot_scale, 0.0)
        return np.hstack([strings, values, hinges])

    def __call__(self, features: NDArray[np.float64], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positive numbers, shape (n,), proportional to the expected size of the error."""
        logarithm = self.design(features, predictions) @ np.array(self.coefficients) + self.intercept
        sizes: NDArray[np.float64] = np.exp(self.exponent * np.clip(logarithm, self.lowest, self.highest))
        return sizes


@dataclass(frozen=True)
class TargetCalibration:
    """The calibration of one target.

    Attributes:
        unit: Of the target.
        scale: One of `SCALES`. `log` and `debye` need positive predictions; for `debye` these are Debye temperatures.
        quantiles: Level to quantile of |error| / difficulty; infinite (null in JSON) where the rows are too few.
        difficulty: Estimate of the error's size.
        n_rows: Rows that the quantiles were taken of.
        n_difficulty_rows: Other rows, which the difficulty was fitted to.
        nonnegative: No label is negative, so that no interval needs to be.
        per_atom: Predictions are of whole cells and the errors are taken per atom.
        elements: Symbol to number of training rows that hold the element; empty if not recorded.
        quantity_widths: For what follows from a phonon density of states, name of a quantity to temperature in K to
            what the half width is multiplied by; those that are missing have the half width as it is.
    """

    unit: str
    scale: str
    quantiles: dict[str, float | None]
    difficulty: Difficulty
    n_rows: int
    n_difficulty_rows: int
    nonnegative: bool = False
    per_atom: bool = False
    elements: dict[str, int] = field(default_factory=dict)
    quantity_widths: dict[str, dict[str, float]] = field(default_factory=dict)

    def check_numbers(self) -> None:
        """Raise a ValueError or TypeError unless levels, quantiles and widths are numbers from 0 on."""
        quantiles = {level: quantile for level, quantile in self.quantiles.items() if quantile is not None}
        for table in (quantiles, *self.quantity_widths.values()):
            for key, value in table.items():
                if not (0 <= float(key) < np.inf and 0 <= float(value) < np.inf):
                    raise ValueError(f"{key}: {value!r} is not a number from 0 on")

    def half_width(
        self, features: NDArray[np.float64], predictions: NDArray[np.float64], level: float = DEFAULT_LEVEL
    ) -> NDArray[np.float64]:
        """Return half the width on the scale of the errors, shape (n,).

        Args:
            features: From `string_features`, shape (n, n_features).
            predictions: In `unit`, per atom if `per_atom`, shape (n,); K for the scale `debye`.
            level: One of `LEVELS`.

        Raises:
            CloudError: Another level.
        """
        if f"{level:g}" not in self.quantiles:
            raise CloudError(f"level must be one of {', '.join(self.quantiles)}, not {level!r}.")
        quantile = self.quantiles[f"{level:g}"]
        return (np.inf if quantile is None else quantile) * self.difficulty(features, self._scaled(predictions))

    def interval(
        self, features: NDArray[np.float64], predictions: NDArray[np.float64], level: float = DEFAULT_LEVEL
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends of the intervals in the unit of the predictions, each of shape (n,); arguments as above."""
        predictions = np.asarray(predictions, dtype=float)
        half = self.half_width(features, predictions, level)
        if self.scale == "linear":
            low, high = predictions - half, predictions + half
            return (np.where(predictions >= 0, np.maximum(low, 0.0), low), high) if self.nonnegative else (low, high)
        growth = np.exp(np.minimum(half, _MOST))
        return predictions / growth, predictions * growth

    def unknown_elements(self, features: NDArray[np.float64]) -> list[list[str]]:
        """Return the elements of each row of `string_features` that no training row holds, if these are recorded."""
        if not self.elements:
            return [[] for _ in features]
        known = np.array([element in self.elements for element in ELEMENTS])
        unknown: list[list[str]] = [[] for _ in features]
        for row, column in zip(*np.nonzero((features[:, : len(ELEMENTS)] > 0) & ~known), strict=True):
            unknown[row].append(ELEMENTS[column])
        return unknown

    def _scaled(self, predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scale == "linear":
            return np.asarray(predictions, dtype=float)
        return np.log(np.maximum(predictions, np.finfo(float).tiny))


def width_at(widths: Mapping[str, float], kelvin: Any) -> NDArray[np.float64]:
    """Return widths at other temperatures: linear in ln T between those given, constant beyond; 1 if there are none.

    Args:
        widths: Temperature in K to width, as one of `quantity_widths`.
        kelvin: Temperatures, K; 0 and infinity too.

    Returns:
        Of the shape of `kelvin`.
    """
    temperatures = np.asarray(kelvin, dtype=float)
    if not widths:
        return np.ones_like(temperatures)
    known = sorted((max(float(temperature), _COLD), width) for temperature, width in widths.items())
    places = np.log([temperature for temperature, _ in known])
    found = np.interp(np.log(np.maximum(temperatures, _COLD)), places, [width for _, width in known])
    return np.asarray(found)


@dataclass(frozen=True)
class Calibration:
    """What `calibration.json` holds.

    Attributes:
        targets: Name of the target to its calibration; for a `CloudForDebye` model the name of what it learned, e.g.
            `heat_capacity`.
        fingerprints: Name of a dtype to `head_fingerprint` of the weights that the calibration belongs to in that
            dtype; empty: it fits any weights.
    """

    targets: dict[str, TargetCalibration]
    fingerprints: dict[str, str] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `calibration.json` into a folder and return its path."""
        path = Path(folder) / CALIBRATION_FILE
        write_whole(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Calibration":
        """Read a `calibration.json`.

        Raises:
            CheckpointError: It cannot be read, or holds something else.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            targets = {
                name: TargetCalibration(**{**values, "difficulty": Difficulty(**values["difficulty"])})
                for name, values in record["targets"].items()
            }
            for target in targets.values():
                target.check_numbers()
            calibration = cls(targets, dict(record.get("fingerprints", {})))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unreadable(path, str(error)) from error
        if any(target.scale not in SCALES for target in targets.values()):
            raise _unreadable(path, "it has an unknown scale")
        return calibration

    def fits(self, model: Any) -> bool:
        """Tell whether the calibration was made for the weights of this model's head."""
        return not self.fingerprints or head_fingerprint(model) in self.fingerprints.values()


def _unreadable(path: str | os.PathLike[str], reason: str) -> CheckpointError:
    return CheckpointError(
        f"the calibration cannot be read ({reason}). Make it again with `cloud-hf calibrate`, or delete it to predict "
        "without intervals.",
        source=str(path),
    )


def head_fingerprint(model: Any, dtype: torch.dtype | None = None) -> str:
    """Return the SHA-256 of the weights of a model's head.

    Args:
        model: A model with a head, `classifier`.
        dtype: Cast the weights to this first; None: as they are.
    """
    digest = hashlib.sha256()
    head: Any = model.classifier
    for name, weight in sorted(head.state_dict().items()):
        values = (weight if dtype is None else weight.to(dtype)).detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def count_elements(scopes: Sequence[str]) -> Mapping[str, int]:
    """Return how many of the strings hold each element, most frequent first."""
    return dict(Counter(element for scope in scopes for element in element_amounts(scope)).most_common())

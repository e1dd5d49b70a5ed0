"""The metrics themselves, on arrays."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.constants import R as GAS_CONSTANT
from scipy.interpolate import CubicSpline

from cloud_hf.errors import CloudError

__all__ = ["regression_metrics", "thermodynamic_consistency"]

ROUNDING = 1e-6
"""Share of a curve's largest value by which it may cross a bound or fall: the rounding of float32 predictions."""


def regression_metrics(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float | None]:
    """Compare predictions with labels.

    Args:
        labels: Finite numbers, shape (n,).
        predictions: Finite numbers, shape (n,).

    Returns:
        `mae`, `rmse` and `median_absolute_error` in the unit of the labels; `mae_mad` = MAE / MAD, where MAD = mean
        `abs(y - mean(y))` over the same rows is the error of the mean predictor; `r2`; `mad`; `n`. A ratio whose
        denominator is zero, and everything for n = 0, is None.

    Raises:
        CloudError: Vectors of different lengths, or values that are not finite.
    """
    y: NDArray[np.float64] = np.asarray(labels, dtype=np.float64)
    p: NDArray[np.float64] = np.asarray(predictions, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 1:
        raise CloudError(f"labels {y.shape} and predictions {p.shape} must be vectors of the same length.")
    bad = np.flatnonzero(~(np.isfinite(y) & np.isfinite(p)))
    if len(bad):
        row = int(bad[0])
        raise CloudError(f"label {y[row]} and prediction {p[row]} must be finite; drop such rows.", row=row)
    if len(y) == 0:
        return dict.fromkeys(("mae", "mae_mad", "rmse", "r2", "median_absolute_error", "mad")) | {"n": 0}
    error = np.abs(p - y)
    mad = float(np.abs(y - y.mean()).mean())
    variance = float(((y - y.mean()) ** 2).sum())
    return {
        "mae": float(error.mean()),
        "mae_mad": float(error.mean()) / mad if mad > 0 else None,
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1.0 - float((error**2).sum()) / variance if variance > 0 else None,
        "median_absolute_error": float(np.median(error)),
        "mad": mad,
        "n": len(y),
    }


def thermodynamic_consistency(
    temperature: ArrayLike,
    heat_capacity: ArrayLike,
    internal_energy: ArrayLike,
    entropy: ArrayLike,
    helmholtz_energy: ArrayLike,
    n_atoms: float | None = None,
) -> dict[str, float | int]:
    """Check that thermal properties of one crystal belong together and stay within the bounds of a harmonic solid.

    Derivatives are those of a cubic spline through the given points, so that the errors of the first two contain the
    spline's, which falls with the cube of the step: for a Debye solid 3e-3 at steps of theta/30, 4e-4 at theta/60.

    Args:
        temperature: T in K, at least 0 and increasing, shape (n,) with n >= 4.
        heat_capacity: Cv in J/(mol K), shape (n,).
        internal_energy: U in J/mol, shape (n,).
        entropy: S in J/(mol K), shape (n,).
        helmholtz_energy: F in J/mol, shape (n,).
        n_atoms: N, atoms per formula or cell that the values stand for; None: the bound Cv <= 3NR is not checked.

    Returns:
        `heat_capacity_error` = max `abs(dU/dT - Cv)` / max Cv, `entropy_error` = max `abs(dF/dT + S)` / max S,
        `helmholtz_energy_error` = max `abs(F - (U - TS))` / the largest of the three, and `bounds_violations`, the
        number of points where Cv or S is negative, Cv above 3NR, or Cv, U or S below its value at the temperature
        before.

    Raises:
        CloudError: Values that are not finite, of another shape, or a grid that does not increase.
    """
    t, c, u, s, f = (
        np.asarray(values, dtype=np.float64)
        for values in (temperature, heat_capacity, internal_energy, entropy, helmholtz_energy)
    )
    if t.ndim != 1 or len(t) < 4 or any(values.shape != t.shape for values in (c, u, s, f)):
        shapes = ", ".join(str(values.shape) for values in (t, c, u, s, f))
        raise CloudError(f"T, Cv, U, S and F must be vectors of one length, at least 4, not of shapes {shapes}.")
    if not all(np.isfinite(values).all() for values in (t, c, u, s, f)):
        raise CloudError("T, Cv, U, S and F must be finite.")
    if t[0] < 0 or not (np.diff(t) > 0).all():
        raise CloudError("The temperatures must be at least 0 K and increase.")
    violations: Any = np.zeros(len(t), dtype=bool)
    for values in (c, s):
        violations |= values < -ROUNDING * np.abs(values).max()
    for values in (c, u, s):
        violations[1:] |= np.diff(values) < -ROUNDING * np.abs(values).max()
    if n_atoms is not None:
        violations |= c > 3 * n_atoms * GAS_CONSTANT * (1 + ROUNDING)
    return {
        "heat_capacity_error": _relative(CubicSpline(t, u)(t, 1) - c, c),
        "entropy_error": _relative(CubicSpline(t, f)(t, 1) + s, s),
        "helmholtz_energy_error": _relative(f - (u - t * s), f, u, t * s),
        "bounds_violations": int(violations.sum()),
    }


def _relative(difference: NDArray[np.float64], *values: NDArray[np.float64]) -> float:
    """Largest difference over the largest value; 0 where both are 0."""
    largest = max(float(np.abs(value).max()) for value in values)
    error = float(np.abs(difference).max())
    return error / largest if largest > 0 else float("inf") if error > 0 else 0.0

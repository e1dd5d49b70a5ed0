"""The Einstein model of a solid, differentiable in its temperature theta_E and in the temperature T.

With x = theta_E/T and N atoms per formula, 3N oscillators of one frequency (Einstein 1907; Ashcroft & Mermin, ch. 23),
in kelvin, J/mol and J/(mol K):

    Cv = 3NR x^2 e^x / (e^x - 1)^2                  S = 3NR [x/(e^x - 1) - ln(1 - e^-x)]
    U  = 3NR [theta_E/2 + theta_E/(e^x - 1)]        F = U - TS = 3NR [theta_E/2 + T ln(1 - e^-x)]

Functions and `*_unchecked` twins are those of the Debye model, which see. Below x = 1 the Bernoulli series of
ln(2 sinh(x/2)) and what follows from it, above it the closed forms in e^-x: neither cancels nor overflows, and the
slopes that automatic differentiation makes of them do not either. Flat: ships as Hub remote code.
"""

from typing import Any

import torch
from torch import Tensor

from .debye import _checked, bernoulli, polynomial, quantity, unchecked

__all__ = [
    "entropy", "entropy_unchecked", "heat_capacity", "heat_capacity_unchecked", "helmholtz_energy",
    "helmholtz_energy_unchecked", "internal_energy", "internal_energy_unchecked",
]  # fmt: skip

_SPLIT = 1.0  # x = theta/T where series and closed forms meet
_SERIES_TERMS = 11  # (1 / 2 pi)^(2 * 11) = 3e-18
_DEEP = 800.0  # e^-800 is 0 in float64
_COLDEST = 1e-30  # K; keeps theta/T finite in float32


def _series() -> dict[str, list[float]]:
    """Coefficients of x^2k: u = x/2 coth(x/2) = sum B_2k x^2k / (2k)!, the rest from f = ln(2 sinh(x/2)), x f' = u."""
    b = bernoulli(_SERIES_TERMS)
    f = [0.0] + [b[k] / (2 * k) for k in range(1, _SERIES_TERMS)]  # beside ln x
    c = [(1 - 2 * k) * b[k] for k in range(_SERIES_TERMS)]
    return {"u": b, "f": f, "c": c, "s": [u - free for u, free in zip(b, f, strict=True)]}


_SERIES = _series()


def _evaluate(name: str, theta: Tensor, temperature: Tensor) -> Tensor:
    """Cv or S (`c`, `s`) over 3NR, U or F (`u`, `f`) over 3NR in K, for tensors of one shape."""
    x = theta / temperature.clamp(min=_COLDEST)
    small, large = x.clamp(min=torch.finfo(x.dtype).tiny, max=_SPLIT), x.clamp(min=_SPLIT, max=_DEEP)
    high = polynomial(_SERIES[name], small * small)
    if name in ("f", "s"):
        high = high + (small.log() if name == "f" else -small.log())
    decay = torch.exp(-large)
    if name == "f":
        low = torch.log1p(-decay)
    else:
        g = large * decay / (1 - decay)  # x / (e^x - 1)
        low = {"u": g, "c": g * (g + large), "s": g - torch.log1p(-decay)}[name]
    if name in ("u", "f"):
        high, low = temperature * high, theta / 2 + temperature * low
    return torch.where(x < _SPLIT, high, low)


heat_capacity_unchecked = unchecked(_evaluate, "c", "heat_capacity")
internal_energy_unchecked = unchecked(_evaluate, "u", "internal_energy")
entropy_unchecked = unchecked(_evaluate, "s", "entropy")
helmholtz_energy_unchecked = unchecked(_evaluate, "f", "helmholtz_energy")


def _public(name: str, theta: Any, temperature: Any, n_atoms: Any) -> Tensor:
    return quantity(_evaluate, name, *_checked(einstein_temperature=theta, temperature=temperature, n_atoms=n_atoms))


def heat_capacity(einstein_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Heat capacity at constant volume (Einstein 1907).

    Args:
        einstein_temperature: theta_E > 0 in K; any shapes that broadcast.
        temperature: T >= 0 in K.
        n_atoms: N >= 1, atoms per formula or cell.

    Returns:
        Cv in J/(mol K), of the broadcast shape: 0 at T = 0, below 3NR everywhere. Types as in the Debye model.

    Raises:
        DebyeInputError: A value out of range, not finite or no real number.

    >>> heat_capacity(1320.0, [0.0, 300.0])  # diamond, as Einstein fitted it
    tensor([0.0000, 6.0771], dtype=torch.float64)
    """
    return _public("c", einstein_temperature, temperature, n_atoms)


def internal_energy(einstein_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Internal energy in J/mol, zero-point energy 3/2 NR theta_E included; see `heat_capacity`, which is dU/dT."""
    return _public("u", einstein_temperature, temperature, n_atoms)


def entropy(einstein_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Entropy in J/(mol K), the integral of Cv/T; arguments and errors are those of `heat_capacity`."""
    return _public("s", einstein_temperature, temperature, n_atoms)


def helmholtz_energy(einstein_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Helmholtz energy F = U - TS in J/mol; arguments and errors are those of `heat_capacity`."""
    return _public("f", einstein_temperature, temperature, n_atoms)

"""The Debye model of a solid, differentiable in its Debye temperature theta and in the temperature T.

With x = theta/T, D the third Debye function and N atoms per formula (Debye 1912; Abramowitz & Stegun 27.1;
Ashcroft & Mermin, ch. 23), in kelvin, J/mol and J/(mol K):

    Cv = 3NR [4 D(x) - 3x/(e^x - 1)]                S = 3NR [4/3 D(x) - ln(1 - e^-x)]
    U  = 9/8 NR theta + 3NRT D(x)                   F = U - TS

`heat_capacity`, `internal_energy`, `entropy` and `helmholtz_energy` check what they are given. Their
`*_unchecked` twins take tensors and never look at the data, for code that is compiled or vmapped.

Taken literally these formulas overflow, cancel and divide 0 by 0. Two expansions do not: below x = 3 the
Bernoulli series of D, above it the low-temperature law plus a sum over e^-kx. With ' for T d/dT the functions
s = S/3NR, c = s' = Cv/3NR, c1 = c', c2 = c1', ... form a chain in which both expansions stay explicit. Beside
it u = U/3NR, f = F/3NR and the slopes h = df/dtheta = u/theta and w = du/dtheta = h - (T/theta) c are needed;
they have expansions of their own, since putting them together from u and c can lose all digits.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .errors import DebyeInputError

__all__ = [
    "GAS_CONSTANT", "LARGEST_SHARE", "DebyeInputError", "debye_temperature_from_heat_capacity",
    "effective_debye_temperature", "entropy", "entropy_unchecked", "heat_capacity", "heat_capacity_unchecked",
    "helmholtz_energy", "helmholtz_energy_unchecked", "internal_energy", "internal_energy_unchecked",
]  # fmt: skip

GAS_CONSTANT = 8.314462618  # J/(mol K), CODATA 2018

LARGEST_SHARE = 1 - 1e-4
"""Largest share of the Dulong-Petit limit 3NR that is turned into a Debye temperature.

With d = 1 - Cv/3NR the temperature is theta = T sqrt(20 d) near the limit, so that an error of d changes ln(theta) by
half its relative size: the closer to the limit, the less theta means. 1e-4 is the largest round distance that keeps
every harmonic heat capacity at hand: of 8309 + 1213 crystals at 50 to 1000 K the nearest to the limit has d = 3.7e-4
(theta = 86 K at 1000 K); 1e-3 would drop the 77 softest of them at 1000 K. It stands for theta = 13 K at 300 K and 45 K
at 1000 K, below the softest known solids (caesium 38 K, AFLOW's softest crystal 44 K), and ln(theta) there is good to 5
% if Cv is good to 1e-5. Closer cut-offs would let one value at the limit, where anharmonic solids lie at room
temperature, stand for 0.04 K, seventeen standard deviations of ln(theta) below the rest.
"""

_SPLIT = 3.0  # x = theta/T where the two expansions meet
_SERIES_TERMS = 26  # (3 / 2 pi)^(2 * 26) = 4e-17
_TAIL_TERMS = 13  # e^(-3 * 13) = 1e-17
_SMALLEST_SHARE = 1e-290  # of 3NR; for a smaller Cv, t^3 would vanish on the way to theta
_DEEP = 800.0  # e^-800 is 0 in float64, so that the tail is exactly 0 from there on
_COLDEST = 1e-30  # K; quotients by T that vanish at T = 0 are cut here so that none overflows in float32
_CHAIN = ("s", "c", "c1", "c2", "c3", "c4")
_Real = Tensor | float
Kernel = Callable[[str, Tensor, Tensor], Tensor]


class ThermalFunction(Protocol):
    """A quantity as a function of a characteristic temperature theta in K, T in K and the number of atoms."""

    def __call__(self, theta: Tensor, temperature: Tensor, n_atoms: _Real = 1, /) -> Tensor: ...


class _Form(NamedTuple):
    series: list[float]  # x < 3:  sum_k series[k] x^2k, times x if odd, plus log * ln x
    law: float  # x > 3:  g = law t^3 + sum_k tail(kx) e^-kx / k  with t = T/theta, and ...
    tail: list[float]  # ... tail(y) = tail[0] y^top + tail[1] y^(top - 1) + ...
    top: int
    zero_point: bool = False  # then 3/8 + t g is meant, per theta; otherwise g
    odd: bool = False
    log: float = 0.0


def bernoulli(terms: int) -> list[float]:
    """B_2k / (2k)! for k = 0, 1, ..., by Euler's recurrence: a sum of terms of one sign."""
    b = [1.0, 1 / 12]
    for k in range(2, terms):
        b.append(-math.fsum(b[j] * b[k - j] for j in range(1, k)) / (2 * k + 1))
    return b


def _forms() -> dict[str, _Form]:
    b = bernoulli(_SERIES_TERMS)
    orders = range(1, _SERIES_TERMS)
    u = [1.0] + [3 * b[k] / (2 * k + 3) for k in orders]  # U/3NRT; the zero-point energy removes its odd term
    c = [(1 - 2 * k) * u[k] for k in range(_SERIES_TERMS)]  # Cv = dU/dT
    s, f = [4 / 3] + [-c[k] / (2 * k) for k in orders], [-1 / 3] + [u[k] / (2 * k) for k in orders]
    w, p = [2 * k * u[k] for k in orders], math.pi**4 / 15
    forms = {
        "s": _Form(s, 4 * p, [-3.0, -12.0, -24.0, -24.0], 0, log=-1.0),
        "u": _Form(u, 3 * p, [-3.0, -9.0, -18.0, -18.0], 0, zero_point=True),
        "f": _Form(f, -p, [3.0, 6.0, 6.0], -1, zero_point=True, log=1.0),
        "w": _Form(w, -9 * p, [3.0, 9.0, 27.0, 54.0, 54.0], 1, zero_point=True, odd=True),
    }
    forms["h"] = forms["u"]
    for n, link in enumerate(_CHAIN[1:]):
        last = forms[_CHAIN[n]]  # T d/dT makes 3 t^3 of t^3 and e^-y (y^(m + 1) - m y^m) of e^-y y^m
        tail = [*last.tail, 0.0]
        for j, a in enumerate(last.tail):
            tail[j + 1] -= (last.top - j) * a
        series = [(-2.0 * k) ** n * c[k] for k in range(_SERIES_TERMS)]
        forms[link] = _Form(series, 3 * last.law, tail, last.top + 1)
    return forms


_FORMS = _forms()


def polynomial(coefficients: list[float], z: Tensor) -> Tensor:
    """Sum of coefficients[k] z^k, by Horner's scheme."""
    total = torch.full_like(z, coefficients[-1])
    for a in reversed(coefficients[:-1]):
        total = total * z + a
    return total


def _evaluate(name: str, theta: Tensor, temperature: Tensor) -> Tensor:
    """One function, for two tensors of one shape; each expansion is clamped to where it is finite."""
    form = _FORMS[name]
    x = (theta / temperature).clamp(max=_SPLIT)
    high = polynomial(form.series, x * x) * (x if form.odd else 1.0)
    if form.log:  # the quotient may underflow where its logarithm is an ordinary number
        underflow = x < torch.finfo(x.dtype).tiny
        high = high + form.log * torch.where(underflow, theta.log() - temperature.log(), x.log())
    t = (temperature / theta).clamp(max=1 / _SPLIT)
    k = torch.arange(1, _TAIL_TERMS + 1, dtype=t.dtype, device=t.device)
    y = t.reciprocal().clamp(max=_DEEP).unsqueeze(-1) * k
    low = form.law * t**3 + (polynomial(form.tail, 1 / y) * y**form.top * torch.exp(-y) / k).sum(-1)
    low = 0.375 + t * low if form.zero_point else low
    if name in ("u", "f"):  # energies: times T or theta, whichever is the larger scale, without a quotient
        high, low = temperature * high, theta * low
    elif name == "h":
        high = high * (temperature / theta)
    return torch.where(theta < _SPLIT * temperature, high, low)


class _Debye(torch.autograd.Function):
    """`_evaluate` with slopes in closed form, made of the same functions and so differentiable again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(theta: Tensor, temperature: Tensor, name: str) -> Tensor:
        return _evaluate(name, theta, temperature)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        theta, temperature, ctx.name = inputs
        ctx.save_for_backward(theta, temperature)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        theta, temperature = ctx.saved_tensors
        slopes = [
            grad * _slope(ctx.name, theta, temperature, by_theta) if wanted else None
            for by_theta, wanted in zip((True, False), ctx.needs_input_grad, strict=False)
        ]
        return slopes[0], slopes[1], None


class _ForwardDebye(_Debye):
    """The same with forward mode (`torch.func.jvp`, `jacfwd`, `hessian`), which torch.compile cannot trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        _Debye.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def jvp(ctx: Any, by_theta: Tensor | None, by_temperature: Tensor | None, _: Any) -> Tensor:
        if _forward_levels() > 1:  # torch keeps no tangents inside this method: the second derivative would be 0
            raise NotImplementedError("forward mode within forward mode: take one of them in reverse (jacrev)")
        theta, temperature = ctx.saved_tensors
        total = torch.zeros_like(theta)
        for tangent, is_theta in ((by_theta, True), (by_temperature, False)):
            if tangent is not None:
                total = total + tangent * _slope(ctx.name, theta, temperature, is_theta)
        return total


def _forward_levels() -> int:
    """How many torch.func transforms in forward mode are at work."""
    try:
        from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
    except ImportError:  # pragma: no cover  (a torch whose functorch is organised otherwise)
        return 1
    return sum(level.key().name == "Jvp" for level in retrieve_all_functorch_interpreters())


def _debye(name: str, theta: Tensor, temperature: Tensor) -> Tensor:
    kind = _Debye if torch.compiler.is_compiling() else _ForwardDebye
    return cast(Tensor, kind.apply(theta, temperature, name))


def _slope(name: str, theta: Tensor, temperature: Tensor, by_theta: bool) -> Tensor:
    """The partial derivative of one function by theta or by T."""
    if name == "f":  # df = h dtheta - s dT
        return _debye("h", theta, temperature) if by_theta else -_debye("s", theta, temperature)
    if name == "u":  # du = w dtheta + c dT
        return _debye("w" if by_theta else "c", theta, temperature)
    if name in ("h", "w"):  # functions of t = T/theta alone with t h' = t c and t w' = -t c1
        slope = _debye("c", theta, temperature) if name == "h" else -_debye("c1", theta, temperature)
        return -slope / theta * (temperature / theta) if by_theta else slope / theta
    if name == _CHAIN[-1]:
        raise NotImplementedError("the Debye functions are not differentiable this often")
    link = _debye(_CHAIN[_CHAIN.index(name) + 1], theta, temperature)
    return -link / theta if by_theta else link / temperature.clamp(min=_COLDEST)


def _align(*values: _Real) -> list[Tensor]:
    """Tensors of one dtype and device: accelerators win, numbers adapt, half precision becomes float32."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    device = next((v.device for v in tensors if v.device.type != "cpu"), None)
    dtype = tensors[0].dtype if tensors else torch.float64
    for v in tensors[1:]:
        dtype = torch.promote_types(dtype, v.dtype)
    dtype = torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else torch.float64
    return [torch.as_tensor(v, dtype=dtype, device=device) for v in values]


def quantity(kernel: Kernel, symbol: str, theta: Tensor, temperature: Tensor, n_atoms: _Real) -> Tensor:
    """3NR times one function of a model of vibrations, of the broadcast shape; `kernel` takes tensors of one shape."""
    theta, temperature, n_atoms = _align(theta, temperature, n_atoms)
    # not torch.broadcast_shapes, which imports torch's symbolic shapes and sympy
    return 3 * GAS_CONSTANT * n_atoms * kernel(symbol, *torch.broadcast_tensors(theta, temperature))


def unchecked(kernel: Kernel, symbol: str, name: str) -> ThermalFunction:
    """Make a function of theta, T and N that never looks at the data, of the model that `kernel` computes.

    Args:
        kernel: Function of a symbol and of theta and T of one shape: Cv or S (`c`, `s`) over 3NR, U or F (`u`, `f`)
            over 3NR in K.
        symbol: One of these.
        name: What the function is called, without `_unchecked`.
    """

    def function(theta: Tensor, temperature: Tensor, n_atoms: _Real = 1) -> Tensor:
        return quantity(kernel, symbol, theta, temperature, n_atoms)

    function.__module__ = kernel.__module__  # where pickle finds it
    function.__name__ = function.__qualname__ = f"{name}_unchecked"
    function.__doc__ = f"`{name}` of tensors with theta > 0 and T >= 0, without checks."
    return function


heat_capacity_unchecked = unchecked(_debye, "c", "heat_capacity")
internal_energy_unchecked = unchecked(_debye, "u", "internal_energy")
entropy_unchecked = unchecked(_debye, "s", "entropy")
helmholtz_energy_unchecked = unchecked(_debye, "f", "helmholtz_energy")


def _refuse(bad: Tensor, name: str, value: Tensor, remedy: str) -> None:
    if bool(bad.any()):
        index = bad.nonzero()[0].tolist()
        where = f" at index {index}" if index else ""
        raise DebyeInputError(f"{name} is {value[tuple(index)].item():.17g}{where}: pass {remedy}")


def _checked(**values: Any) -> list[Tensor]:
    """The arguments as aligned tensors, refused by name where the model has no value for them."""
    for name, value in values.items():
        try:
            if not isinstance(value, Tensor | float | int):  # a copy has no negative numpy strides
                value = value.copy() if hasattr(value, "copy") else value
                values[name] = torch.tensor(value, dtype=torch.float64)
            elif isinstance(value, Tensor) and value.is_complex():
                raise TypeError("complex")
        except (TypeError, ValueError, RuntimeError) as error:
            raise DebyeInputError(f"{name} is {value!r:.60} ({error}): pass real numbers") from error
    aligned = dict(zip(values, _align(*values.values()), strict=True))
    for name, v in aligned.items():
        least = 1 if name == "n_atoms" else 0
        closed = name == "n_atoms" or (name == "temperature" and "heat_capacity" not in aligned)
        good = torch.isfinite(v) & ((v >= least) if closed else (v > least))
        _refuse(~good, name, v, f"finite numbers {'>=' if closed else '>'} {least}")
    return list(aligned.values())


def _public(name: str, theta: Any, temperature: Any, n_atoms: Any) -> Tensor:
    return quantity(_debye, name, *_checked(debye_temperature=theta, temperature=temperature, n_atoms=n_atoms))


def heat_capacity(debye_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Heat capacity at constant volume, 3NR [4 D(x) - 3x/(e^x - 1)] with x = theta/T (Debye 1912).

    Floating tensors keep their dtype (half precision gives float32) and promote each other as in torch,
    Python numbers adapt to them, all else counts as float64. Slopes are closed forms, differentiable again.

    Args:
        debye_temperature: theta > 0 in K; any shapes that broadcast, such as theta[:, None] and T[None, :].
        temperature: T >= 0 in K.
        n_atoms: N >= 1, atoms per formula or cell.

    Returns:
        Cv in J/(mol K), of the broadcast shape: 0 at T = 0, below 3NR everywhere.

    Raises:
        DebyeInputError: A value out of range, not finite or no real number.

    >>> heat_capacity(343.0, [0.0, 298.15])  # copper
    tensor([ 0.0000, 23.3677], dtype=torch.float64)
    """
    return _public("c", debye_temperature, temperature, n_atoms)


def internal_energy(debye_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Internal energy U = 9/8 NR theta + 3NRT D(x) in J/mol, zero-point energy included (Debye 1912).

    Arguments, shape and errors (`DebyeInputError`) are those of `heat_capacity`, which is dU/dT.

    >>> internal_energy(343.0, [0.0, 298.15])
    tensor([3208.3433, 7921.4312], dtype=torch.float64)
    """
    return _public("u", debye_temperature, temperature, n_atoms)


def entropy(debye_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Entropy S = 3NR [4/3 D(x) - ln(1 - e^-x)] in J/(mol K), the integral of Cv/T (A. & M., ch. 23).

    Arguments, shape and errors (`DebyeInputError`) are those of `heat_capacity`.

    >>> entropy(343.0, [0.0, 298.15])
    tensor([ 0.0000, 30.5688], dtype=torch.float64)
    """
    return _public("s", debye_temperature, temperature, n_atoms)


def helmholtz_energy(debye_temperature: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """Helmholtz energy F = U - TS = 9/8 NR theta + NRT [3 ln(1 - e^-x) - D(x)] in J/mol (A. & M., ch. 23).

    Arguments, shape and errors (`DebyeInputError`) are those of `heat_capacity`.

    >>> helmholtz_energy(343.0, [0.0, 298.15])
    tensor([ 3208.3433, -1192.6435], dtype=torch.float64)
    """
    return _public("f", debye_temperature, temperature, n_atoms)


def debye_temperature_from_heat_capacity(heat_capacity: Any, temperature: Any, n_atoms: Any = 1) -> Tensor:
    """The theta in K at which the Debye heat capacity at T is the given one, the inverse of `heat_capacity`.

    Cv in J/(mol K) lies strictly between 0 and 3NR and T above 0 K, or `DebyeInputError` is raised; shapes
    and dtypes as in `heat_capacity`, no gradient. Newton's method in float64 on ln Cv as a function of ln x,
    which is concave: the steps come from one side. Close to 3NR, theta is as uncertain as Cv makes it.

    >>> debye_temperature_from_heat_capacity(23.3677, 298.15)
    tensor(343.0033, dtype=torch.float64)
    """
    given = _checked(heat_capacity=heat_capacity, temperature=temperature, n_atoms=n_atoms)
    with torch.no_grad():
        broadcast: list[Tensor] = list(torch.broadcast_tensors(*(v.double() for v in given)))
        cv, t, n = broadcast
        ratio = cv / (3 * GAS_CONSTANT * n)
        outside = (ratio >= 1) | (ratio < _SMALLEST_SHARE)
        _refuse(outside, "heat_capacity", cv, "heat capacities between 0 and 3 n_atoms GAS_CONSTANT")
        x = torch.where(ratio > 0.5, (40 * (1 - ratio)).sqrt(), (_FORMS["c"].law / ratio) ** (1 / 3))
        for _ in range(8):  # 5 reach rounding error for every x
            c, slope = (_evaluate(name, x, torch.ones_like(x)) for name in ("c", "c1"))
            x = x * torch.exp((c.log() - ratio.log()) * (c / slope))
        return (x * t).to(given[0].dtype)


def effective_debye_temperature(
    heat_capacity: ArrayLike, temperature: ArrayLike, n_atoms: ArrayLike = 1, *, clip: bool = False
) -> NDArray[np.float64]:
    """Return the Debye temperatures at which Cv is the given one.

    Args:
        heat_capacity: Cv in J/(mol K), any shapes that broadcast.
        temperature: T > 0 in K.
        n_atoms: N >= 1, atoms that Cv is meant for.
        clip: Take values above `LARGEST_SHARE` of 3NR for that share, as the softest solid there is. Otherwise they
            have no Debye temperature.

    Returns:
        theta in K, of the broadcast shape; NaN at 0 (or 1e-290 of 3NR) and below, where Cv is NaN, and above
        `LARGEST_SHARE` of the limit unless `clip`.

    Raises:
        DebyeInputError: A temperature or a number of atoms that cannot be.
    """
    cv, kelvin, atoms = np.broadcast_arrays(
        *(np.asarray(values, dtype=float) for values in (heat_capacity, temperature, n_atoms))
    )
    most = LARGEST_SHARE * 3 * GAS_CONSTANT * atoms
    if clip:
        cv = np.minimum(cv, most)
    theta = np.full(cv.shape, np.nan)
    inside = (cv > _SMALLEST_SHARE * most) & (cv <= most)
    if inside.any():
        solved = debye_temperature_from_heat_capacity(cv[inside], kelvin[inside], atoms[inside])
        theta[inside] = solved.numpy()
    return theta

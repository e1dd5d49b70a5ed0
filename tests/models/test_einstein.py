"""The Einstein model: values, slopes and consistency, from x = theta/T = 1e-3 to 3000 and at T = 0."""

from __future__ import annotations

import doctest

import mpmath
import pytest
import torch

from cloud_hf.models import einstein
from cloud_hf.models.debye import GAS_CONSTANT, DebyeInputError

X = torch.logspace(-3, 3.47, 60, dtype=torch.float64)
LIMIT = 3 * GAS_CONSTANT
FUNCTIONS = {
    "heat_capacity": lambda x: (x / mpmath.expm1(x)) * (x / mpmath.expm1(x) + x),
    "internal_energy": lambda x: x / mpmath.expm1(x) + x / 2,
    "entropy": lambda x: x / mpmath.expm1(x) - mpmath.log(-mpmath.expm1(-x)),
    "helmholtz_energy": lambda x: mpmath.log(-mpmath.expm1(-x)) + x / 2,
}


@pytest.fixture(params=FUNCTIONS)
def name(request: pytest.FixtureRequest) -> str:
    """Each quantity."""
    return request.param


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)], ids=str)
def test_values_and_slopes_against_fifty_digits(name: str, dtype: torch.dtype, tolerance: float) -> None:
    theta = X.to(dtype).requires_grad_()
    values = getattr(einstein, name)(theta, torch.ones((), dtype=dtype))
    (slopes,) = torch.autograd.grad(values.sum(), theta)
    with mpmath.workdps(50):
        for x, value, slope in zip(theta.tolist(), values.tolist(), slopes.tolist(), strict=True):
            exact = LIMIT * FUNCTIONS[name](mpmath.mpf(x))
            exact_slope = LIMIT * mpmath.diff(FUNCTIONS[name], mpmath.mpf(x))
            tiny = 1e-30  # below, float32 underflows
            assert abs(value - exact) <= tolerance * abs(exact) + tiny, x
            assert abs(slope - exact_slope) <= tolerance * abs(exact_slope) + tiny, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_at_zero_kelvin(dtype: torch.dtype) -> None:
    theta, kelvin = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (500.0, 0.0))
    zero_point = 1.5 * GAS_CONSTANT * 500.0
    expected = {"heat_capacity": 0.0, "internal_energy": zero_point, "entropy": 0.0, "helmholtz_energy": zero_point}
    for name, value in expected.items():
        found = getattr(einstein, name)(theta, kelvin)
        assert found.item() == pytest.approx(value, rel=1e-6)
        assert all(slope.isfinite() for slope in torch.autograd.grad(found, (theta, kelvin)))


@pytest.mark.parametrize("theta", [10.0, 300.0, 3000.0])
def test_thermodynamics_is_consistent(theta: float) -> None:
    kelvin = torch.logspace(0, 4, 50, dtype=torch.float64, requires_grad=True)
    cv, u, s, f = (getattr(einstein, name)(theta, kelvin, 3) for name in FUNCTIONS)
    (du,) = torch.autograd.grad(u.sum(), kelvin)
    (df,) = torch.autograd.grad(f.sum(), kelvin)
    (ds,) = torch.autograd.grad(s.sum(), kelvin)
    torch.testing.assert_close(du, cv, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(df, -s, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ds * kelvin, cv, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(f, u - kelvin * s, rtol=1e-9, atol=1e-6)
    assert (cv >= 0).all()
    assert (cv < 3 * LIMIT).all()
    assert (cv.diff() >= 0).all()


def test_slopes_are_differentiable_again() -> None:
    theta, kelvin = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (700.0, 300.0))
    for name in FUNCTIONS:
        assert torch.autograd.gradgradcheck(getattr(einstein, name), (theta, kelvin))


def test_it_is_extensive_and_broadcasts(name: str) -> None:
    function = getattr(einstein, name)
    theta, kelvin = torch.tensor([[100.0], [500.0]]), torch.tensor([50.0, 300.0, 900.0])
    assert function(theta, kelvin).shape == (2, 3)
    torch.testing.assert_close(function(theta, kelvin, 7), 7 * function(theta, kelvin))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0.0, 300.0), "einstein_temperature"), ((500.0, -1.0), "temperature"), ((500.0, 300.0, 0), "n_atoms")],
)
def test_what_has_no_value_is_refused(name: str, arguments: tuple[float, ...], named: str) -> None:
    with pytest.raises(DebyeInputError, match=named):
        getattr(einstein, name)(*arguments)


def test_the_examples_are_true() -> None:
    assert doctest.testmod(einstein).failed == 0

"""From head outputs to quantities: transforms and their inverse, losses, and two branches of vibrations."""

from __future__ import annotations

import math

import pytest
import torch

from cloud_hf.models import einstein
from cloud_hf.models.configuration_cloud import TARGET_TRANSFORMS
from cloud_hf.models.debye import GAS_CONSTANT, entropy, heat_capacity, helmholtz_energy, internal_energy
from cloud_hf.models.heads_cloud import inverse_transform_targets, masked_loss, thermal_properties, transform_targets

LABELS = torch.tensor([[2.0, 8.0, 30.0, 500.0], [0.5, math.nan, 4.0, 1e-3]])
ATOMS = torch.tensor([10, 4])

# ------------------------------------------------------------------------------------------------ transforms


def test_each_transform_is_what_its_name_says() -> None:
    found = transform_targets(LABELS, list(TARGET_TRANSFORMS), ATOMS)
    expected = torch.stack(
        [LABELS[:, 0], LABELS[:, 1].log(), LABELS[:, 2] / ATOMS, (LABELS[:, 3] / ATOMS).log()], dim=1
    )
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_the_inverse_gives_the_labels_back() -> None:
    there = inverse_transform_targets(
        transform_targets(LABELS, list(TARGET_TRANSFORMS), ATOMS), list(TARGET_TRANSFORMS), ATOMS
    )
    torch.testing.assert_close(there, LABELS, equal_nan=True)


@pytest.mark.parametrize("transforms", [None, ["standardise"] * 4])
def test_without_a_transform_nothing_changes(transforms: list[str] | None) -> None:
    assert transform_targets(LABELS, transforms) is LABELS
    assert inverse_transform_targets(LABELS, transforms) is LABELS


@pytest.mark.parametrize("transform", ["per_atom", "log_per_atom"])
def test_atoms_are_asked_for_where_they_are_needed(transform: str) -> None:
    for function in (transform_targets, inverse_transform_targets):
        with pytest.raises(ValueError, match=f"{transform}.*n_atoms"):
            function(torch.ones(2, 1), [transform])


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_a_label_without_logarithm_is_refused_by_row(value: float) -> None:
    labels = torch.tensor([[1.0, -1.0], [2.0, 3.0], [value, -1.0]])
    with pytest.raises(ValueError, match=rf"Row 2, target 0.*{value:g}"):
        transform_targets(labels, ["log", "standardise"])


def test_gradients_of_the_columns_do_not_mix() -> None:
    values = torch.tensor([[1.0, 200.0, 1.0]], requires_grad=True)  # exp(200) overflows in float32
    out = inverse_transform_targets(values, ["log", "standardise", "log_per_atom"], torch.tensor([3.0]))
    out.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([[math.e, 1.0, 3 * math.e]]))
    assert inverse_transform_targets(torch.tensor([[1e4]]), ["log"]).isfinite()


# ------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("kind", ["l1", "huber", "mse"])
def test_losses_are_torch_s_over_the_labels_that_are_there(kind: str) -> None:
    predicted = torch.tensor([[0.2, 3.0], [1.0, -2.0], [0.0, 0.5]], requires_grad=True)
    labels = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [0.5, math.nan]])
    there = ~labels.isnan()
    function = {
        "l1": torch.nn.functional.l1_loss, "huber": torch.nn.functional.huber_loss, "mse": torch.nn.functional.mse_loss,
    }[kind]  # fmt: skip
    expected = function(predicted[there], labels[there])
    found = masked_loss(predicted, labels, kind)
    torch.testing.assert_close(found, expected)
    (mine,), (theirs,) = torch.autograd.grad(found, predicted), torch.autograd.grad(expected, predicted)
    torch.testing.assert_close(mine, theirs)


def test_weights_count_by_their_ratio() -> None:
    predicted, labels = torch.tensor([[1.0, 4.0], [3.0, 9.0]]), torch.tensor([[0.0, 0.0], [0.0, math.nan]])
    assert masked_loss(predicted, labels, "l1", [1.0, 3.0]).item() == pytest.approx((1 + 3 + 3 * 4) / (1 + 1 + 3))
    torch.testing.assert_close(
        masked_loss(predicted, labels, "l1", [2.0, 6.0]), masked_loss(predicted, labels, "l1", [1.0, 3.0])
    )
    assert masked_loss(predicted, labels, "l1", [1.0, 0.0]).item() == pytest.approx(2.0)


def test_no_label_no_loss() -> None:
    predicted = torch.ones(2, 1, requires_grad=True)
    for kind in ("l1", "huber", "mse"):
        loss = masked_loss(predicted, torch.full((2, 1), math.nan), kind)
        assert loss == 0
        assert torch.autograd.grad(loss, predicted)[0].eq(0).all()


# ------------------------------------------------------------------------------------------------ two branches

THETA = torch.tensor([350.0], dtype=torch.float64)
SECOND = torch.tensor([1800.0], dtype=torch.float64)
WEIGHT = torch.tensor([0.3], dtype=torch.float64)
FOUR = torch.tensor([4.0], dtype=torch.float64)


def test_one_branch_is_the_debye_model() -> None:
    kelvin = torch.tensor([77.0], dtype=torch.float64)
    found = thermal_properties(THETA, kelvin, FOUR)
    for value, function in zip(found, (heat_capacity, internal_energy, entropy, helmholtz_energy), strict=True):
        torch.testing.assert_close(value, function(THETA, kelvin, FOUR))


@pytest.mark.parametrize("branch", ["einstein", "debye"])
def test_two_branches_are_consistent(branch: str) -> None:
    kelvin = torch.logspace(-1, 4, 60, dtype=torch.float64, requires_grad=True)
    cv, u, s, f = thermal_properties(THETA, kelvin, FOUR, branch, SECOND, WEIGHT)
    (du,) = torch.autograd.grad(u.sum(), kelvin, retain_graph=True)
    (df,) = torch.autograd.grad(f.sum(), kelvin, retain_graph=True)
    torch.testing.assert_close(du, cv, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(df, -s, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(f, u - kelvin * s, rtol=1e-9, atol=1e-6)
    assert (cv > 0).all()
    assert (cv < 12 * GAS_CONSTANT).all()
    assert (cv.diff() > 0).all()
    assert cv[-1].item() == pytest.approx(12 * GAS_CONSTANT, rel=5e-3), "Dulong and Petit"


@pytest.mark.parametrize(("branch", "factor"), [("einstein", 3 / 2), ("debye", 9 / 8)])
def test_at_zero_kelvin_the_zero_point_energy_is_left(branch: str, factor: float) -> None:
    cv, u, s, f = thermal_properties(THETA, torch.zeros(1, dtype=torch.float64), FOUR, branch, SECOND, WEIGHT)
    expected = 4 * GAS_CONSTANT * (0.7 * 9 / 8 * 350.0 + 0.3 * factor * 1800.0)
    assert (cv.item(), s.item()) == (0, 0)
    assert u.item() == f.item() == pytest.approx(expected)


@pytest.mark.parametrize("branch", ["einstein", "debye"])
def test_the_weight_mixes_the_branches(branch: str) -> None:
    kelvin = torch.tensor([300.0], dtype=torch.float64)
    none, all_of_it = (torch.tensor([w], dtype=torch.float64) for w in (0.0, 1.0))
    first = thermal_properties(THETA, kelvin, FOUR)
    second = einstein.heat_capacity if branch == "einstein" else heat_capacity
    torch.testing.assert_close(thermal_properties(THETA, kelvin, FOUR, branch, SECOND, none)[0], first[0])
    torch.testing.assert_close(
        thermal_properties(THETA, kelvin, FOUR, branch, SECOND, all_of_it)[0], second(SECOND, kelvin, FOUR)
    )

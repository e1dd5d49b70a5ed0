"""Phonon densities of states: their thermodynamics, limits and derivatives, and what is refused."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.errors import CloudError, PhononDOSError
from cloud_hf.models import debye, phonon_dos
from cloud_hf.models.debye import GAS_CONSTANT
from cloud_hf.models.phonon_dos import DOS_EDGES, KELVIN_CM, PhononDOS, share_of_modes
from cloud_hf.studies.debye.phonons import phonon_energy, phonon_heat_capacity

LIMIT = 3 * GAS_CONSTANT  # Dulong and Petit
N_BINS = len(DOS_EDGES) - 1
QUANTITIES = ("heat_capacity", "internal_energy", "entropy", "helmholtz_energy")
temperatures = st.floats(min_value=0.5, max_value=5000)


def made(seed: int = 0, batch: tuple[int, ...] = (), atoms: int = 5, dtype: torch.dtype = torch.float64) -> PhononDOS:
    """A random one with modes up to 1500 1/cm."""
    chance = torch.Generator().manual_seed(seed)
    weights = torch.rand(*batch, N_BINS, generator=chance, dtype=torch.float64) ** 6
    weights[..., 75:] = 0
    cutoff = 60 + 400 * torch.rand(*batch, 3, generator=chance, dtype=torch.float64)
    return phonon_dos.phonon_dos(weights.to(dtype), cutoff.to(dtype), torch.full(batch, atoms))


def test_doctests():
    assert doctest.testmod(phonon_dos).failed == 0


def test_bins_hold_the_stretching_modes_of_hydrogen():
    assert DOS_EDGES[0] == 0
    assert DOS_EDGES[75] == 1500
    assert DOS_EDGES[-1] == 4200
    assert (np.diff(DOS_EDGES) > 0).all()
    assert N_BINS == 85


# --- consistency


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), kelvin=temperatures, atoms=st.integers(1, 200))
def test_quantities_are_one_thermodynamics(seed, kelvin, atoms):
    dos = made(seed, atoms=atoms)
    t = torch.tensor(kelvin, dtype=torch.float64, requires_grad=True)
    cv, u, s, f = (getattr(dos, name)(t) for name in QUANTITIES)
    (du,) = torch.autograd.grad(u, t, retain_graph=True)
    (df,) = torch.autograd.grad(f, t, retain_graph=True)
    (ds,) = torch.autograd.grad(s, t)
    assert du.item() == pytest.approx(cv.item(), rel=1e-11, abs=1e-12)
    assert -df.item() == pytest.approx(s.item(), rel=1e-11, abs=1e-12)
    assert ds.item() * kelvin == pytest.approx(cv.item(), rel=1e-10, abs=1e-12)
    assert f.item() == pytest.approx(u.item() - kelvin * s.item(), rel=1e-11, abs=1e-8)
    assert 0 < cv.item() < LIMIT


def test_heat_capacity_ascends_with_the_temperature():
    dos = made(3)
    cv = dos.heat_capacity(torch.logspace(-1, 4, 200, dtype=torch.float64))
    assert (cv.diff() > 0).all()


def test_at_absolute_zero():
    dos = made(1, batch=(4,))
    for name in ("heat_capacity", "entropy"):
        assert getattr(dos, name)(0.0).tolist() == [0.0] * 4
    for name in ("internal_energy", "helmholtz_energy"):
        torch.testing.assert_close(getattr(dos, name)(0.0), dos.zero_point_energy(), rtol=1e-12, atol=0)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for name in ("internal_energy", "helmholtz_energy"):
        assert torch.autograd.grad(getattr(dos, name)(t).sum(), t)[0].item() == 0


def test_cold_crystals_follow_debyes_cube():
    dos = made(2, batch=(5,), atoms=7)
    theta = dos.low_temperature_debye_temperature()
    for kelvin in (0.01, 0.1):
        law = 12 * math.pi**4 / 5 * GAS_CONSTANT * (kelvin / theta) ** 3
        torch.testing.assert_close(dos.heat_capacity(kelvin), law, rtol=1e-6, atol=0)
        torch.testing.assert_close(dos.entropy(kelvin), law / 3, rtol=1e-6, atol=0)


def test_hot_crystals_follow_dulong_and_petit():
    dos = made(4)
    square = dos.moment_debye_temperature(2) ** 2
    for kelvin in (3e4, 1e5):
        assert dos.heat_capacity(kelvin).item() == pytest.approx(
            LIMIT * (1 - square.item() / (20 * kelvin**2)), rel=1e-6
        )
    log = dos.moment_debye_temperature(0).item()
    entropy = LIMIT * (4 / 3 + math.log(1e5 / log))
    assert dos.entropy(1e5).item() == pytest.approx(entropy, rel=1e-6)


def test_quantities_are_extensive_and_broadcast():
    dos = made(5, batch=(3,))
    n_atoms = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)
    kelvin = torch.tensor([[0.0], [300.0]], dtype=torch.float64)
    for name in QUANTITIES:
        one = getattr(dos, name)(kelvin)
        assert one.shape == (2, 3)
        torch.testing.assert_close(getattr(dos, name)(kelvin, n_atoms), one * n_atoms)
        torch.testing.assert_close(getattr(dos, name)(300.0), one[1])
    torch.testing.assert_close(dos.zero_point_energy(n_atoms), dos.zero_point_energy() * n_atoms)


# --- known cases


def test_one_atom_in_the_cell_has_acoustic_modes_only():
    dos = phonon_dos.phonon_dos(torch.zeros(N_BINS, dtype=torch.float64), [238.4, 238.4, 238.4], 1)
    theta = 238.4 * KELVIN_CM
    assert dos.optical.abs().sum() == 0
    assert dos.acoustic_share == 1
    kelvin = torch.tensor([0.0, 5.0, 100.0, 300.0, 2000.0], dtype=torch.float64)
    for name in QUANTITIES:
        torch.testing.assert_close(getattr(dos, name)(kelvin), getattr(debye, name)(theta, kelvin))
    for order in (-2, -1, 0, 1, 2, 4):
        assert dos.moment_debye_temperature(order).item() == pytest.approx(theta, rel=1e-12)
    assert dos.low_temperature_debye_temperature().item() == pytest.approx(theta, rel=1e-12)
    assert dos.debye_temperature_from_heat_capacity().item() == pytest.approx(theta, rel=1e-9)
    assert dos.debye_temperature_from_heat_capacity(40.0).item() == pytest.approx(theta, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), kelvin=st.floats(min_value=0.5, max_value=1e6), atoms=st.integers(1, 200))
def test_the_effective_debye_temperature_has_the_heat_capacity(seed, kelvin, atoms):
    dos = made(seed, atoms=atoms)
    theta = dos.debye_temperature_from_heat_capacity(kelvin)
    cv = dos.heat_capacity(kelvin).item()
    assert debye.heat_capacity(theta.item(), kelvin).item() == pytest.approx(cv, rel=1e-7)


def test_soft_crystals_have_the_debye_temperature_of_their_second_moment():
    """Rounding gives some of them Cv >= 3R; they must not stop the other crystals of a batch either."""
    soft = phonon_dos.phonon_dos([0.0, 1.0], [[1e-5], [0.3], [100.0]], 1e12, edges=[0.0, 1e-6, 2e-6])
    soft = soft._replace(acoustic_share=torch.ones(3, dtype=torch.float64), optical=torch.zeros(3, 2).double())
    theta = soft.debye_temperature_from_heat_capacity(300.0)
    torch.testing.assert_close(theta, KELVIN_CM * soft.acoustic_cutoff[:, 0], rtol=1e-6, atol=0)


def test_without_a_heat_capacity_there_is_no_debye_temperature():
    stiff = phonon_dos.phonon_dos([0.0, 1.0], [1.0], 1e12, edges=[0.0, 3000.0, 3010.0])
    stiff = stiff._replace(acoustic_share=torch.zeros((), dtype=torch.float64))
    assert stiff.heat_capacity(1.0) == 0
    assert stiff.debye_temperature_from_heat_capacity(1.0).isnan()
    assert stiff.debye_temperature_from_heat_capacity(300.0).isfinite()


def test_optical_modes_count_as_uniform_in_their_bin():
    edges = [0.0, 300.0, 360.0]
    dos = phonon_dos.phonon_dos([0.0, 1.0], [100.0], 1e12, edges=edges)
    fine = np.linspace(300, 360, 20_001)
    for kelvin in (100.0, 300.0):
        assert dos.heat_capacity(kelvin).item() == pytest.approx(
            phonon_heat_capacity(fine, np.ones_like(fine), kelvin), rel=1e-3
        )
        assert (dos.internal_energy(kelvin) - dos.zero_point_energy()).item() == pytest.approx(
            phonon_energy(fine, np.ones_like(fine), kelvin), rel=1e-3
        )
    assert dos.moment_debye_temperature(2).item() == pytest.approx(
        KELVIN_CM * math.sqrt(5 / 3 * (360**3 - 300**3) / (3 * 60)), rel=1e-9
    )


def test_acoustic_share_is_one_of_n_and_starts_with_the_square():
    dos = made(6, batch=(4,), atoms=8)
    torch.testing.assert_close(dos.optical.sum(-1) + dos.acoustic_share, torch.ones(4, dtype=torch.float64))
    assert dos.acoustic_share.tolist() == [1 / 8] * 4
    low = torch.tensor([1.0, 2.0], dtype=torch.float64)
    acoustic = PhononDOS(dos.edges, torch.zeros_like(dos.optical), dos.acoustic_share, dos.acoustic_cutoff)
    below = acoustic.cumulative(low)
    torch.testing.assert_close(below[:, 1], 8 * below[:, 0])


def test_cumulative_density_of_states():
    dos = made(7, batch=(2,))
    edges = torch.tensor(DOS_EDGES, dtype=torch.float64)
    whole = dos.cumulative(edges)
    assert whole.shape == (2, N_BINS + 1)
    assert (whole.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(whole[:, -1], torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(dos.shares().sum(-1), torch.ones(2, dtype=torch.float64))
    middle = dos.cumulative(torch.tensor([30.0], dtype=torch.float64))  # half of the second bin
    optical = dos.optical[:, 0] + dos.optical[:, 1] / 2
    acoustic = 0.2 * ((30 / dos.acoustic_cutoff).clamp(max=1) ** 3).mean(-1)
    torch.testing.assert_close(middle[:, 0], optical + acoustic)


# --- accuracy and derivatives


@pytest.mark.parametrize("name", QUANTITIES)
def test_float32_is_as_exact_as_the_debye_model(name):
    fine = made(8, batch=(6,))
    coarse = PhononDOS(*(part.float() for part in fine))
    kelvin = torch.logspace(-1, 4, 60, dtype=torch.float64)[:, None]
    wanted, got = getattr(fine, name)(kelvin), getattr(coarse, name)(kelvin.float())
    assert got.dtype == torch.float32
    floor = (LIMIT * kelvin).clamp(min=1) if name == "helmholtz_energy" else 1e-30  # F changes its sign
    assert ((got - wanted).abs() / wanted.abs().clamp(min=floor)).max() < 3e-6


@pytest.mark.parametrize("name", QUANTITIES)
def test_derivatives_match_finite_differences(name):
    dos = made(9)

    def function(optical, cutoff, kelvin):
        return getattr(dos._replace(optical=optical, acoustic_cutoff=cutoff), name)(kelvin)

    leaves = (
        dos.optical.clone().requires_grad_(),
        dos.acoustic_cutoff.clone().requires_grad_(),
        torch.tensor(140.0, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_functional_transforms():
    dos = made(10, batch=(3,))
    kelvin = torch.tensor(250.0, dtype=torch.float64)
    cv = torch.func.jacrev(dos.internal_energy)(kelvin)
    torch.testing.assert_close(cv, dos.heat_capacity(kelvin))
    slope = torch.func.jacrev(torch.func.jacrev(dos.helmholtz_energy))(kelvin)
    torch.testing.assert_close(slope, -dos.heat_capacity(kelvin) / kelvin)
    one = torch.ones_like(kelvin)
    torch.testing.assert_close(torch.func.jvp(dos.helmholtz_energy, (kelvin,), (one,))[1], -dos.entropy(kelvin))
    torch.testing.assert_close(torch.func.hessian(dos.helmholtz_energy)(kelvin), slope)
    rows = torch.vmap(lambda optical, share, cutoff: PhononDOS(dos.edges, optical, share, cutoff).entropy(kelvin))
    torch.testing.assert_close(rows(*dos[1:]), dos.entropy(kelvin))


@pytest.mark.parametrize("name", QUANTITIES)
def test_nothing_overflows_from_cold_to_hot(name):
    dos = made(11, dtype=torch.float32)
    optical = dos.optical.clone().requires_grad_()
    kelvin = torch.tensor([0.0, 1e-3, 1.0, 300.0, 1e5], requires_grad=True)
    value = getattr(dos._replace(optical=optical), name)(kelvin)
    value.sum().backward()
    for tensor in (value, optical.grad, kelvin.grad):
        assert torch.isfinite(tensor).all()


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([-0.1, 1.0], [100.0], 2, [0, 10, 20]), "negative"),
        (([0.0, 0.0], [100.0], 2, [0, 10, 20]), "cannot be normalised"),
        (([math.nan, 1.0], [100.0], 2, [0, 10, 20]), "not finite"),
        (([1.0, 1.0], [0.0], 2, [0, 10, 20]), "above 0"),
        (([1.0, 1.0], [100.0], 0.5, [0, 10, 20]), "1 or more"),
        (([1.0, 1.0], [100.0], 2, [0, 20, 10]), "ascend"),
        (([1.0, 1.0], [100.0], 2, [-10, 0, 20]), "ascend"),
        (([1.0, 1.0, 1.0], [100.0], 2, [0, 10, 20]), "shape"),
        (([1.0, 1.0], [], 2, [0, 10, 20]), "shape"),
        (([1.0, 1.0], "abc", 2, [0, 10, 20]), "acoustic_cutoff"),
        (([1.0, 1.0j], [1.0], 2, [0, 10, 20]), "optical"),
        (([[1.0, 1.0]] * 2, [[100.0]] * 3, 2, [0, 10, 20]), "do not fit"),
    ],
)
def test_what_is_no_density_of_states_is_refused(arguments, reason):
    with pytest.raises(PhononDOSError, match=reason):
        phonon_dos.phonon_dos(*arguments)


def test_moments_that_diverge_are_refused():
    with pytest.raises(PhononDOSError, match="diverges"):
        made(0).moment_debye_temperature(-3)


def test_tables_are_normalised_to_shares():
    shares = share_of_modes([[1.0, 3.0], [0.0, 2.0]])
    assert shares.tolist() == [[0.25, 0.75], [0.0, 1.0]]
    assert share_of_modes(torch.ones(4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([[1.0, 1.0], [1.0, -1e-9]], "negative"),
        ([[1.0, 1.0], [0.0, 0.0]], "zero in every bin"),
        ([[1.0, 1.0], [1.0, math.inf]], "not finite"),
    ],
)
def test_tables_that_cannot_be_normalised_are_refused_by_row(table, reason):
    with pytest.raises(PhononDOSError, match=reason) as refused:
        share_of_modes(table, source="phonons.parquet")
    assert refused.value.row == 1
    assert refused.value.source == "phonons.parquet"
    assert isinstance(refused.value, CloudError)

"""Enrichment, AUROC and what is found, on scores whose order is known."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_hf.studies.screening.neighbours import composition_vectors, neighbour_predictions
from cloud_hf.studies.screening.ranking import (
    enrichment,
    found_curve,
    random_enrichment,
    ranked,
    stiffest_found,
    window_found,
)


def test_a_perfect_and_a_reversed_order() -> None:
    unknown = np.arange(1000.0)
    assert enrichment(np.full(10, -1.0), unknown, 0.01) == pytest.approx(100)
    assert enrichment(np.full(10, -1.0), unknown, 0.05) == pytest.approx(20)
    assert enrichment(np.full(10, 2000.0), unknown, 0.05) == 0
    found = ranked({"model": np.full(10, -1.0), "trees": np.full(10, 2000.0)}, {"model": unknown, "trees": unknown})
    assert found["arms"]["model"]["auroc"] == {"value": 1, "low": 1, "high": 1}
    assert found["arms"]["trees"]["auroc"]["value"] == 0
    assert found["arms"]["model"]["difference"] == {"difference": 1, "low": 1, "high": 1}


def test_equal_energies_are_in_random_order() -> None:
    unknown = np.concatenate([np.full(50, -0.25), np.arange(950.0)])
    known = np.array([-0.25, -0.25, 2000.0, 2000.0])
    assert enrichment(known, unknown, 0.01) == pytest.approx(0.5 * 0.01 / 0.05 / 0.01)  # a fifth of those at the limit
    assert enrichment(known, unknown, 0.05) == pytest.approx(10)
    assert enrichment(np.stack([known, known + 1]), np.stack([unknown, unknown + 1]), 0.05).tolist() == [10, 10]
    assert enrichment(unknown, unknown, 0.01) == pytest.approx(1)


def test_a_random_order_lies_in_its_range() -> None:
    chance = np.random.default_rng(0)
    known, unknown = {"model": chance.random(200)}, {"model": chance.random(3000)}
    found = ranked(known, unknown)["arms"]["model"]
    assert found["auroc"]["value"] == pytest.approx(0.5, abs=0.06)
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    expected = random_enrichment(200, 0.05)
    assert expected["low"] <= found["enrichment_5"]["value"] <= expected["high"]
    assert expected["value"] == 1


def test_the_same_order_has_no_difference() -> None:
    values = {"model": np.arange(20.0), "trees": np.arange(20.0) * 3}
    found = ranked(values, {name: numbers + 7.5 for name, numbers in values.items() if name == "model"} | {
        "trees": values["trees"] + 22.5
    })  # fmt: skip
    assert found["arms"]["model"]["difference"] == {"difference": 0, "low": 0, "high": 0}


def test_nothing_known_gives_no_scores() -> None:
    assert ranked({"model": np.zeros(0)}, {"model": np.arange(3.0)}) == {"n_known": 0, "n_other": 3, "arms": {}}


def test_the_curve_rises_to_all() -> None:
    curve = found_curve(np.array([0.0, 5, 9]), np.arange(10.0), np.array([0.01, 0.6, 1.0]))
    assert curve == pytest.approx([1 / 3, 2 / 3, 1])


def test_windows_and_stiff_crystals() -> None:
    labels = np.array([0.0, 1.2, 1.8, 3.0])
    found = window_found(labels, np.array([1.5, 1.5, 2.5, 0.0]), 1, 2)
    assert (found["inside"], found["predicted"], found["both"]) == (2, 2, 1)
    assert (found["precision"], found["recall"], found["base"]) == (0.5, 0.5, 0.5)
    assert window_found(labels, np.zeros(4), 1, 2)["precision"] is None
    stiff = stiffest_found(np.array([10.0, 200, 300, 50]), np.array([1.0, 5, 2, 3]), 150)
    assert (stiff["inside"], stiff["found"], stiff["precision"], stiff["base"]) == (2, 1, 0.5, 0.5)
    assert stiff["auroc"]["value"] == pytest.approx(0.75)
    assert stiff["auroc"]["low"] <= 0.75 <= stiff["auroc"]["high"]
    assert stiffest_found(np.array([10.0]), np.array([1.0]), 150)["auroc"] is None


def test_neighbours_are_near() -> None:
    pytest.importorskip("sklearn")
    from cloud_hf.screening.prototypes import bundled_prototypes

    salt = bundled_prototypes()["rock-salt"]
    scopes = [salt.string(pair) for pair in (("Na", "Cl"), ("K", "Br"), ("Fe", "O"), ("Ni", "O"))]
    vectors = composition_vectors([*scopes, bundled_prototypes()["caesium-chloride"].string(("Na", "Cl"))])
    assert (vectors[0] == vectors[-1]).all()  # nothing of the symmetry
    predicted = neighbour_predictions(vectors[:4], np.array([1.0, 2.0, np.nan, 4.0]), vectors[2:3], k=1)
    assert predicted.tolist() == [4.0]

"""Known crystals that ship with the package, and their compact vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloud_hf
from cloud_hf import ScopeEncoder
from cloud_hf.checkpoints.bundled import bundled_model
from cloud_hf.inference.api import EMBEDDING_HEAD
from cloud_hf.inference.fast_model import FastPredictor
from cloud_hf.inference.prediction import load_predictors
from cloud_hf.scope import parse
from cloud_hf.screening.known_crystals import (
    CompactVectors,
    known_crystals,
    known_record,
    vectors_of,
    weights_digest,
)
from cloud_hf.screening.search import Collection, nearest, same_first


@pytest.fixture(scope="module")
def known() -> Collection:
    return Collection.known()


def row(scope: str) -> dict[str, object]:
    table = known_crystals()
    return table[table["scope"] == scope].iloc[0].to_dict()


def test_the_table_is_what_its_record_says() -> None:
    table, record = known_crystals(), known_record()
    values = table.drop(columns=["id", "formula", "space_group", "scope"])
    assert len(table) == record["crystals"]
    assert {name: int(number) for name, number in values.notna().sum().items()} == record["with"]
    assert record["license"] == "CC-BY-4.0"
    assert values.notna().any(axis=1).all()
    for name in ("id", "scope"):
        assert table[name].is_unique


def test_every_tenth_string_is_canonical() -> None:
    for scope in known_crystals()["scope"][::100]:
        assert str(parse(scope)) == scope


def test_well_known_values(root: Path) -> None:
    """PBE's band gap of MgO is 4.4 eV, its bulk modulus 150 GPa; its heat capacity 18.6 J/(mol atom K)."""
    oxide = row(ScopeEncoder().encode(root / "examples" / "MgO.cif"))
    assert oxide["id"] == "mp-1265"
    assert oxide["formula"] == "MgO"
    assert oxide["formation_energy_per_atom (eV/atom)"] == pytest.approx(-3.0, abs=0.1)
    assert oxide["energy_above_hull (eV/atom)"] == 0
    assert oxide["band_gap (eV)"] == pytest.approx(4.4, abs=0.3)
    assert oxide["heat_capacity_per_atom_300K (J/(mol atom K))"] == pytest.approx(18.6, abs=0.5)


def test_the_vectors_are_of_the_weights_that_ship(known: Collection) -> None:
    """After a change of the weights: python scripts/build_known_crystals.py."""
    assert known.compact is not None
    assert known.compact.fits(bundled_model(EMBEDDING_HEAD))
    assert len(known.compact.steps) == len(known)


def test_compact_vectors_find_what_whole_ones_find(known: Collection) -> None:
    (predictor,) = load_predictors(bundled_model(EMBEDDING_HEAD), likelihood=None, members=1).pipelines
    assert isinstance(predictor, FastPredictor)
    some = list(range(0, len(known), len(known) // 60))
    vectors = vectors_of(predictor, [known.scopes[place] for place in some])
    queries = vectors + 0.05 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    compact = CompactVectors(known.compact.basis, known.compact.steps[some], known.compact.digest)
    places, cosines = nearest(compact.project(queries), compact.table, 3)
    right, exact = nearest(queries, vectors, 3)
    assert (places[:, 0] == np.arange(len(some))).all()
    assert cosines == pytest.approx(exact, abs=0.02)
    assert np.mean([len({*one} & {*other}) / 3 for one, other in zip(places, right, strict=True)]) > 0.9


def test_vectors_survive_the_file_and_know_their_weights(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    folder = tmp_path / "model"
    folder.mkdir()
    assert weights_digest(str(folder)) is None
    (folder / "model.safetensors").write_bytes(b"weights")
    CompactVectors.of(vectors, 8, weights_digest(str(folder)) or "").save(tmp_path / "v.safetensors")
    kept = CompactVectors.load(tmp_path / "v.safetensors")
    assert kept.fits(str(folder))
    assert nearest(kept.project(vectors), kept.table, 1)[0][:, 0].tolist() == list(range(30))
    whole, few = nearest(vectors, vectors, 30)[1], nearest(kept.project(vectors), kept.table, 30)[1]
    assert few == pytest.approx(whole, abs=0.03)
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert not kept.fits(str(folder))


def test_the_very_string_comes_first(known: Collection) -> None:
    places, cosines = np.array([[3, 7, 5], [1, 2, 0]]), np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], dtype=np.float32)
    first, second = same_first([known.scopes[5], "0 | another"], known, places, cosines)
    assert first == ([5, 3, 7], pytest.approx([1.0, 0.9, 0.8]))
    assert second == ([1, 2, 0], pytest.approx([0.6, 0.5, 0.4]))
    (far,) = same_first([known.scopes[9]], known, places[:1], cosines[:1])
    assert far[0] == [9, 3, 7]


def test_search_without_a_table(root: Path) -> None:
    found = cloud_hf.search(root / "examples" / "MgO.cif", k=3, progress=False)
    assert found["source"].tolist()[0] == "mp-1265"
    assert found["similarity"].is_monotonic_decreasing
    assert "space group" in found["shared"].tolist()[0]
    assert found["band_gap (eV)"].notna().any()

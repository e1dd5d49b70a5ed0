"""Which crystals are hidden, what is known of a candidate, and the hull without the hidden ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_hf.errors import StudyError
from cloud_hf.screening.hull import KnownPhases
from cloud_hf.screening.prototypes import bundled_prototypes
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.screening.candidates import Background, family_candidates
from cloud_hf.studies.screening.rows import BULK, ENERGY, GAP, families_of, family_prototypes, read_labelled

COLUMNS = {ENERGY: ["crystals:energy", "labels:energy"], GAP: ["labels:gap"], BULK: ["labels:bulk"]}


def string(name: str, *elements: str) -> str:
    return bundled_prototypes()[name].string(elements)


def labelled(*rows: tuple[str, float]) -> Crystals:
    scopes = [scope for scope, _ in rows]
    crystals = Crystals.of_scopes(scopes, scopes)
    return Crystals(**{**vars(crystals), "labels": {ENERGY: np.array([energy for _, energy in rows])}})


class TestFamilies:
    def test_any_elements_in_any_slot(self) -> None:
        families = family_prototypes(["rock-salt", "half-heusler"])
        scopes = [
            string("rock-salt", "K", "Br"), string("rock-salt", "O", "Mg"), string("half-heusler", "Ti", "Ni", "Sn"),
            string("half-heusler", "Ni", "Sn", "Ti"), string("fluorite", "Ca", "F"), string("zinc-blende", "Zn", "S"),
        ]  # fmt: skip
        assert families_of(scopes, families).tolist() == [
            "rock-salt", "rock-salt", "half-heusler", "half-heusler", None, None,
        ]  # fmt: skip

    def test_every_textbook_prototype_is_of_its_own_family(self) -> None:
        for name, prototype in bundled_prototypes().items():
            assert families_of([prototype.scope], {name: prototype}).tolist() == [name]

    @pytest.mark.parametrize(
        ("names", "words"), [([], "choose from"), (["quartz"], "choose from"), (["fluorite", "antifluorite"], "same")]
    )
    def test_refusals(self, names: list[str], words: str) -> None:
        with pytest.raises(StudyError, match=words):
            family_prototypes(names)


class TestLabels:
    def test_the_first_number_counts_and_ids_join(self, tables: list[Path], tmp_path: Path) -> None:
        found = read_labelled([*map(str, tables)], COLUMNS, tmp_path)
        assert len(found) > 50
        assert set(found.labels) == {ENERGY, GAP, BULK}
        gap, energy = found.labels[GAP], found.labels[ENERGY]
        assert gap == pytest.approx(-np.minimum(energy, 0) / 2)
        assert not np.isnan(energy).any()  # rows without any label are not read

    @pytest.mark.parametrize(
        ("column", "words"), [("energy", "names no label column"), ("others:energy", "no table 'others'")]
    )
    def test_refusals(self, tables: list[Path], tmp_path: Path, column: str, words: str) -> None:
        with pytest.raises(StudyError, match=words):
            read_labelled([*map(str, tables)], {ENERGY: [column]}, tmp_path)


class TestBackground:
    phases = KnownPhases(["NaCl", "KCl", "MgO", "MgS"], [-2.0, -2.2, -3.0, -1.8], "made up", "some")
    rows = (
        (string("rock-salt", "Na", "Cl"), -2.0),
        (string("caesium-chloride", "Na", "Cl"), -1.9),
        (string("rock-salt", "K", "Cl"), -2.2),
        (string("rock-salt", "Mg", "O"), -2.5),
        (string("caesium-chloride", "Mg", "O"), -3.0),
    )

    @property
    def background(self) -> Background:
        crystals = labelled(*self.rows)
        hidden = families_of(crystals.scopes, family_prototypes(["rock-salt"])) != None  # noqa: E711  (of each)
        return Background.of(crystals, hidden, self.phases)

    def test_hidden_phases_are_gone_and_others_stay(self) -> None:
        found = self.background
        # NaCl falls back to its other crystal; KCl has none; MgO was no rock salt
        assert found.before.energies == {"NaCl": -1.9, "MgO": -3.0, "MgS": -1.8}
        assert found.removed == 2

    def test_what_is_known_of_a_candidate(self) -> None:
        prototype = bundled_prototypes()["rock-salt"]
        cell = family_candidates(prototype, self.background, 40, 0, [scope for scope, _ in self.rows])
        known = dict(zip(cell["scope"], zip(cell["status"], cell["distance"], cell["hull"], strict=True), strict=True))
        assert known[string("rock-salt", "Na", "Cl")] == ("stable", pytest.approx(0), pytest.approx(-1.9))
        assert known[string("rock-salt", "K", "Cl")] == ("stable", pytest.approx(0), pytest.approx(0))
        assert known[string("rock-salt", "Mg", "O")] == ("unstable", pytest.approx(0.5), pytest.approx(-3.0))
        # MgS is a phase whose structure is not among the rows
        assert string("rock-salt", "Mg", "S") not in known
        assert cell["status"].count("unknown") == 40
        assert cell["statuses"]["stable"] == 2
        assert cell["statuses"]["unknown"] > 40
        again = family_candidates(prototype, self.background, 40, 0, [])
        assert again == cell | {"against_rules": again["against_rules"]}

    def test_energies_of_another_vintage(self) -> None:
        with pytest.raises(StudyError, match="vintage"):
            Background.of(labelled((self.rows[0][0], -2.2)), np.array([True]), self.phases)

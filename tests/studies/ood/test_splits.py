"""Splits into crystals of one kind and others: nothing on two sides, and what is outside is really of that kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_hf.data.assignment import protostructure
from cloud_hf.errors import StudyError
from cloud_hf.scope import parse
from cloud_hf.studies.common.crystals import Crystals, read_crystals
from cloud_hf.studies.ood.splits import CRYSTAL_SYSTEMS, OodSplit, ood_split


@pytest.fixture(scope="module")
def rows(crystals: Callable[[int], pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Crystals:
    """180 crystals with ids of the Materials Project, ten of them again under a newer number."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    table = crystals(180)
    table = pd.concat([table, table.iloc[:10]], ignore_index=True)
    table["id"] = [f"mp-{1000 + row}" for row in range(len(table))]
    table.to_parquet(path)
    found = read_crystals(path, ["energy"])
    sizes = np.arange(190.0) % 180  # real ones are all 2
    return Crystals(**{**vars(found), "n_atoms": sizes})


def has(rows: Crystals, part: np.ndarray, element: str) -> list[bool]:
    return [element in parse(rows.scopes[row]).elements for row in part]


@pytest.mark.parametrize(
    ("name", "group"), [("element", None), ("space_group", "225"), ("prototype", None), ("time", None), ("size", None)]
)
class TestEverySplit:
    def test_no_string_on_two_sides(self, rows: Crystals, name: str, group: str | None) -> None:
        split = ood_split(rows, name, group, 0.4, 0)
        parts = [{rows.scopes[row] for row in part} for part in (split.train, split.inside, split.outside)]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        whole = np.concatenate([split.train, split.inside, split.outside])
        assert len({*whole.tolist()}) == len(whole) == len(rows) - split.left_out

    def test_the_same_rows_in_another_order(self, rows: Crystals, name: str, group: str | None) -> None:
        order = np.random.default_rng(3).permutation(len(rows))
        shuffled = rows.take(order)
        one, two = ood_split(rows, name, group, 0.4, 0), ood_split(shuffled, name, group, 0.4, 0)
        for part in ("train", "inside", "outside"):
            ids = {rows.ids[row] for row in getattr(one, part)}
            assert ids == {shuffled.ids[row] for row in getattr(two, part)}
        assert (one.group, one.description) == (two.group, two.description)


class TestWhatIsOutside:
    def test_an_element(self, rows: Crystals) -> None:
        split = ood_split(rows, "element", "F,Cl", 0.1, 0)
        assert all(np.array(has(rows, split.outside, "F")) | has(rows, split.outside, "Cl"))
        for part in (split.train, split.inside):
            assert not any(has(rows, part, "F") + has(rows, part, "Cl"))
        assert split.description == "crystals with F or Cl"

    def test_the_element_nearest_to_the_share(self, rows: Crystals) -> None:
        split = ood_split(rows, "element", None, 0.17, 0)
        assert split.group in {"F", "Cl", "Br", "I", "O", "S"}  # each in 30 of 180; cations in 18

    def test_space_groups(self, rows: Crystals) -> None:
        split = ood_split(rows, "space_group", "221,225", 0.1, 0)
        assert {*rows.space_group[split.outside].tolist()} == {221, 225}
        assert {*rows.space_group[split.train].tolist()} == {216}
        again = ood_split(rows, "space_group", "217-230", 0.1, 0)
        assert again.outside.tolist() == split.outside.tolist()

    def test_crystal_systems_cover_all_groups(self) -> None:
        numbers = [number for low, high in CRYSTAL_SYSTEMS.values() for number in range(low, high + 1)]
        assert numbers == [*range(1, 231)]

    def test_prototypes_are_new(self, rows: Crystals) -> None:
        split = ood_split(rows, "prototype", None, 0.4, 0)
        prototypes = [{protostructure(rows.scopes[row]) for row in part} for part in (split.train, split.outside)]
        assert prototypes[1]
        assert not prototypes[0] & prototypes[1]

    def test_the_newest(self, rows: Crystals) -> None:
        split = ood_split(rows, "time", None, 0.2, 0)
        newest = [int(rows.ids[row][3:]) for row in split.outside]
        assert min(newest) > max(int(rows.ids[row][3:]) for row in split.train if int(rows.ids[row][3:]) < 1180)
        # a known crystal under a new number is not new
        assert all(number < 1180 for number in newest)
        assert len(split.outside) == pytest.approx(0.2 * len(rows), abs=3)

    def test_ids_of_other_databases_are_left_out(self, rows: Crystals) -> None:
        ids = ["mvc-5" if row < 4 else text for row, text in enumerate(rows.ids)]
        mixed = Crystals(**{**vars(rows), "ids": ids, "scopes": [*rows.scopes]})
        # rows 0 to 3 stand in the table again, under an id of the Materials Project
        assert ood_split(mixed, "time", None, 0.2, 0).left_out == 0
        only = mixed.take(np.arange(180))
        assert ood_split(only, "time", None, 0.2, 0).left_out == 4

    def test_the_largest_cells(self, rows: Crystals) -> None:
        sizes, split = rows.n_atoms, ood_split(rows, "size", None, 0.25, 0)
        assert sizes[split.outside].min() > max(sizes[split.train].max(), sizes[split.inside].max())
        assert len(split.outside) == pytest.approx(0.25 * len(rows), abs=2)

    def test_as_many_inside_but_no_more_than_a_third(self, rows: Crystals) -> None:
        split: OodSplit = ood_split(rows, "element", "F", 0.1, 0)
        assert len(split.inside) == pytest.approx(len(split.outside), abs=1)
        split = ood_split(rows, "space_group", "221,225", 0.1, 0)
        assert len(split.inside) <= (len(split.inside) + len(split.train)) // 3 + 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "group", "words"),
        [
            ("element", "Xx", "is no element"),
            ("element", "fluorine", "is no element"),
            ("element", "U", "only 0 of 190 rows are outside"),
            ("space_group", "kubic", "neither a crystal system"),
            ("space_group", "0-300", "numbers from 1 to 230"),
            ("space_group", "cubic", "left to train on"),
            ("time", "F", "takes no group"),
            ("colour", None, "there are: element"),
        ],
    )
    def test_what_cannot_be_split(self, rows: Crystals, name: str, group: str | None, words: str) -> None:
        with pytest.raises(StudyError, match=words):
            ood_split(rows, name, group, 0.1, 0)

    def test_cells_of_one_size(self, rows: Crystals) -> None:
        with pytest.raises(StudyError, match="only 0 of 190 rows are outside"):
            ood_split(Crystals(**{**vars(rows), "n_atoms": np.full(190, 2.0)}), "size", None, 0.1, 0)

    def test_ids_without_numbers(self, rows: Crystals, tmp_path: Path) -> None:
        nameless = Crystals(**{**vars(rows), "ids": [f"sample {row}" for row in range(len(rows))]})
        with pytest.raises(StudyError, match=r"sample 0.*leave this split out"):
            ood_split(nameless, "time", None, 0.1, 0)

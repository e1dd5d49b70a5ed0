"""Files and strings that users give, read in processes of their own."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hf.app.reading import MAX_BYTES, FileReader, Readers
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, CrystalReadError
from cloud_hf.scope import ScopeEncoder

POSCAR = b"Cu\n1.0\n3.6 0 0\n0 3.6 0\n0 0 3.6\nCu\n4\nDirect\n0 0 0\n0 0.5 0.5\n0.5 0 0.5\n0.5 0.5 0\n"


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    made = Readers(ScopeEncoder(), processes=1)
    yield made
    made.close()


def test_every_example_has_the_string_of_the_encoder(examples: list[Path]) -> None:
    reader = FileReader(ScopeEncoder())
    for path in examples:
        read = reader.describe(Raw(path.name, "file", (path.name, path.read_bytes())))
        assert read.item.scope == ScopeEncoder().encode(path)
        assert read.item.source == path.name
        assert read.scene is not None


@pytest.mark.parametrize("name", ["POSCAR", "copper.vasp", "copper.txt", "no suffix at all", "copper.vasp.gz"])
def test_the_content_tells_what_a_file_is(name: str) -> None:
    content = gzip.compress(POSCAR) if name.endswith(".gz") else POSCAR
    read = FileReader(ScopeEncoder()).describe(Raw(name, "file", (name, content)))
    assert (read.item.formula, read.item.space_group) == ("Cu", 225)


def test_of_several_crystals_the_first_is_taken_and_said_so(examples: list[Path]) -> None:
    content = b"\n".join(path.read_bytes() for path in examples[:2])
    read = FileReader(ScopeEncoder()).describe(Raw("two.cif", "file", ("two.cif", content)))
    assert read.item.scope == ScopeEncoder().encode(examples[0])
    assert "first" in read.item.note


ALLOY = b"""data_alloy
_cell_length_a 3.75
_cell_length_b 3.75
_cell_length_c 3.75
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_space_group_symop_operation_xyz
x,y,z
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cu1 Cu 0 0 0 0.5
Au1 Au 0 0 0 0.5
"""


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"Dear all,\nhere is the structure.\n", "no CIF, as it has no data block, and no POSCAR either"),
        ("POSCAR", b"Cu\n1.0\n", "not a readable POSCAR"),
        ("paper.pdf", b"%PDF-1.4\n", "this is no text"),
        ("word.docx", b"PK\x03\x04\x00\x00", "this is no text"),
        ("alloy.cif", ALLOY, "order it first"),
        ("typo.vasp", POSCAR.replace(b"Cu\n4", b"Xx\n4"), "'Xx' is not a chemical element"),
    ],
    ids=["text", "short", "pdf", "office", "disorder", "element"],
)
def test_careless_files_get_a_reason(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(CloudError) as caught:
        FileReader(ScopeEncoder()).describe(Raw(name, "file", (name, content)))
    assert str(caught.value).startswith(f"{name}: ")
    assert reason in str(caught.value)
    assert "grammar" not in str(caught.value)


class TestReaders:
    def test_good_and_bad_files_in_turn(self, readers: Readers) -> None:
        for _ in range(2):
            assert readers.file("POSCAR", POSCAR).item.formula == "Cu"
            with pytest.raises(CloudError, match=r"^photo\.png: "):
                readers.file("photo.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00")

    def test_a_file_that_is_too_large(self, readers: Readers) -> None:
        with pytest.raises(CrystalReadError, match=r"large\.cif: more than 2 MB"):
            readers.file("large.cif", b" " * (MAX_BYTES + 1))

    def test_a_string(self, readers: Readers) -> None:
        read = readers.string("  1 0 0 |\n Cu  2i ")
        assert (read.item.scope, read.item.source, read.scene) == ("1 0 0 | Cu 2i", "Cu", None)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (" ", "Nothing was given"),
            ("copper", "'copper' is no SCOPE string"),
            ("1 0 0 | Cu 9z", "'9z'"),
            ("1 0 0 | Cu", "Cu"),
            ("1 0 0 | Cuu 1a", "'Cuu': not the symbol"),
            ("| " * 20_000, "too long"),
        ],
    )
    def test_a_string_that_is_none(self, readers: Readers, text: str, reason: str) -> None:
        with pytest.raises(CloudError, match=reason):
            readers.string(text)

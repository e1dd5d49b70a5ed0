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

    @pytest.mark.parametrize("text", ["", "copper", "1 0 0 | Cu 9z", "1 0 0 | Cu", "| " * 20_000])
    def test_a_string_that_is_none(self, readers: Readers, text: str) -> None:
        with pytest.raises(CloudError):
            readers.string(text)

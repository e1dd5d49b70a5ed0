"""What crystal files hold is unpacked, and refused where parsers would not come back from it."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_hf.crystals.files import check_content, packing_of, read_content
from cloud_hf.errors import CrystalReadError


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".BZ2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files_have_the_content_and_the_name_of_plain_ones(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"Salt.cif{suffix}"
    path.write_bytes(pack(b"data_salt"))
    assert read_content(str(path)) == (b"data_salt", str(path), "salt.cif")
    assert packing_of(str(path))[0] == "salt.cif"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b" \n", "empty"),
        (b"_cell_length_a 1" + b"0" * 70, "more than 60 digits"),
        (b"data_x\n" + b"'" * 1001, "quotation marks"),
        (b'data_x\n"' + b'"' * 1001, "quotation marks"),
    ],
)
def test_content_that_no_parser_should_see_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CrystalReadError, match=rf"salt.cif: .*{reason}"):
        check_content(data, "salt.cif")


def test_quoted_text_is_let_through() -> None:
    check_content(b"_symmetry_space_group_name_H-M 'F m -3 m'\n" * 2000, "salt.cif")

"""The content of crystal files: unpacked, and refused where no parser should see it."""

import bz2
import gzip
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable
from typing import Any

from cloud_hf.errors import CloudError, CrystalReadError, CrystalTooLargeError

__all__ = ["COMPRESSED", "MAX_FILE_BYTES", "check_content", "packing_of", "read_content"]

MAX_FILE_BYTES = 50_000_000
"""The CIF of a cell with 1000 sites has 0.1 MB, with its reflections up to 20 MB."""

COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Suffix of each packing, and what opens such a file."""

_ENDLESS_NUMBER = b"0" * 60
"""Parsers that turn such a number into a fraction or a list do not come back."""

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)

_ENDLESS_QUOTES = (b"'" * 1000, b'"' * 1000)
"""pymatgen's search for quoted text takes a time that grows with the square of their number."""

_FORMULA_OR_ID = re.compile(r"(?!POSCAR|CONTCAR)(?:[A-Z][a-z]?|[()\d.])+|[A-Za-z]+-\d+")


def packing_of(path: str) -> tuple[str, Callable[..., Any]]:
    """Return the name of a file in lower case, without the suffix of gzip, bzip2 or xz, and what opens the file."""
    name = os.path.basename(path).lower()  # noqa: PTH119  (pathlib takes a tenth of the whole time here)
    for suffix, unpack in COMPRESSED.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), unpack
    return name, open


def read_content(path: str) -> tuple[bytes, str, str]:
    """Return the content of a file, unpacked, its path, and its name in lower case without the packing's suffix.

    Raises:
        CrystalReadError: There is no such file, or it cannot be read or unpacked, or `check_content` refuses it.
        CrystalTooLargeError: It has more than `MAX_FILE_BYTES`, as it is or unpacked.
    """
    name, opener = packing_of(path)
    data = _bytes(path, opener)
    check_content(data, path)
    return data, path, name


def check_content(data: bytes, path: str) -> None:
    """Refuse content that parsers do not come back from.

    Raises:
        CrystalReadError: It is empty, or holds an endless number or an endless row of quotation marks.
    """
    if not data or data.isspace():
        raise CrystalReadError("the file is empty.", source=str(path))
    if _ENDLESS_NUMBER in data.translate(_DIGITS_TO_ZERO):
        raise CrystalReadError("holds a number of more than 60 digits, so it is damaged.", source=str(path))
    if any(mark in data for mark in _ENDLESS_QUOTES):
        raise CrystalReadError("holds a row of more than 1000 quotation marks, so it is damaged.", source=str(path))


def _bytes(path: str, opener: Callable[..., Any]) -> bytes:
    """Return the content of a file, unpacked, after a look at its size."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise CrystalReadError(
                f"is {'a folder' if stat.S_ISDIR(status.st_mode) else 'a device'}, not a file.", source=str(path)
            )
        data = b""
        if status.st_size <= MAX_FILE_BYTES:
            with opener(path, "rb") as file:
                data = file.read(status.st_size + 1 if opener is open else MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        hint = ""
        if "|" in path:
            hint = " A SCOPE string is read by cloud_hf.scope.parse."
        elif _FORMULA_OR_ID.fullmatch(path):
            hint = " A formula or a database's id alone leaves the structure open: give a crystal's file, e.g. a CIF."
        raise CrystalReadError(f"there is no such file.{hint}", source=str(path)) from error
    except CloudError:
        raise
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise CrystalReadError(
            f"cannot be read ({getattr(error, 'strerror', None) or error}).", source=str(path)
        ) from error
    if max(status.st_size, len(data)) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES / 1e6
        raise CrystalTooLargeError(f"the file has more than {limit:.0f} MB; no crystal needs that.", source=str(path))
    return data

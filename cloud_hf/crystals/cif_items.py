"""CIF text to data blocks and their items: gemmi parses, after mending what does not change the meaning."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import gemmi

from cloud_hf.crystals.space_groups import OVERBAR
from cloud_hf.errors import CrystalReadError, EmptyCrystalError

__all__ = ["ATOM_TAGS", "CELL_TAGS", "UNKNOWN", "Items", "block_name", "read_items", "split_blocks", "unused_name"]

Items: TypeAlias = dict[str, list[str]]
"""Values of each item, quotes removed; the tag in lower case, dots as underscores, one value for a pair."""

CELL_TAGS = tuple(f"_cell_length_{i}" for i in "abc") + tuple(f"_cell_angle_{i}" for i in ("alpha", "beta", "gamma"))
"""Items of the cell: lengths in Å, angles in degrees."""
ATOM_TAGS = (
    *("_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"),
    *("_atom_site_occupancy", "_atom_site_attached_hydrogens", "_atom_site_calc_flag"),
    *("_atom_site_disorder_group", "_atom_site_disorder_assembly"),
)
"""Items of the loop of atoms."""
UNKNOWN = frozenset({"?", ".", ""})
"""Values that say nothing."""
_WANTED = frozenset(
    (
        *CELL_TAGS,
        *ATOM_TAGS,
        *("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz_"),
        *("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz"),
        *("_symmetry_space_group_name_hall", "_space_group_name_hall"),
        *("_symmetry_space_group_name_h-m", "_symmetry_space_group_name_h_m", "_space_group_name_h-m"),
        *("_space_group_name_h-m_alt", "_space_group_name_h-m_full", "_space_group_name_h-m_ref"),
        *("_symmetry_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m_full"),
        *("_symmetry_int_tables_number", "_space_group_it_number"),
        *("_chemical_formula_sum", "_cell_formula_units_z", "_cell_modulation_dimension"),
        *("_cell_wave_vectors_meaning", "_space_group_ssg_name", "_space_group_symop_ssg_operation_algebraic"),
    )
)

_DATA = re.compile(r"^[ \t]*data_", re.IGNORECASE | re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLANKS = re.compile(r"\s{100,}")
"""Patterns for symbols and formulas take a time that grows with the square or the cube of such a row."""
_UNQUOTED = re.compile(r"^([ \t]*_\S+[ \t]+)(?!['\"#;])(\S.*?)[ \t]*$")
_READABLE = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-") | dict.fromkeys("‘’", "'"))


def split_blocks(text: str, name: str) -> list[str]:
    """Return the data blocks that name atom sites, each as text; what stands before the first one is dropped.

    Raises:
        CrystalReadError: There is no data block, or the atoms have neither label nor type symbol.
        EmptyCrystalError: No block names atom sites.
    """
    if text.count("data_") == 1 and "DATA_" not in text and "_atom_site_label" in text:  # nearly every file
        start = text.find("data_")
        if not text[text.rfind("\n", 0, start) + 1 : start].strip():
            return [text[start:]]
    starts = [match.start() for match in _DATA.finditer(text)]
    if len(starts) > 1:
        starts = list(_outside_text_fields(text, starts))
    if not starts:
        raise CrystalReadError("not a CIF (it has no data_ block).", source=name)
    blocks = [text[start:stop].lstrip() for start, stop in zip(starts, [*starts[1:], len(text)], strict=True)]
    held = [block for block in blocks if _names_atoms(block)]
    if not held:
        if "_atom_site" in text.lower():
            raise CrystalReadError("the atoms have neither _atom_site_label nor _atom_site_type_symbol.", source=name)
        raise EmptyCrystalError("the CIF has no _atom_site loop, so it holds no atoms.", source=name)
    return held


def _outside_text_fields(text: str, starts: list[int]) -> Iterator[int]:
    """Text fields, between lines that begin with a semicolon, may quote another CIF."""
    fences = [match.start() for match in re.finditer(r"^;", text, re.MULTILINE)]
    passed = 0
    for start in starts:
        while passed < len(fences) and fences[passed] < start:
            passed += 1
        if passed % 2 == 0:
            yield start


_ATOMS = re.compile(r"_atom_site[_.](label|type_symbol)\s", re.IGNORECASE)


def _names_atoms(block: str) -> bool:
    return _ATOMS.search(block) is not None and "powder_pattern" not in block.partition("\n")[0]


def block_name(block: str) -> str:
    """Return what stands behind `data_`."""
    words = block.partition("\n")[0].split(maxsplit=1)
    return words[0][len("data_") :]


def unused_name(name: str, taken: Any) -> str:
    """Return `name`, or with `-2`, `-3` and so on what is not yet in `taken`."""
    number, other = 1, name
    while other in taken:
        number += 1
        other = f"{name}-{number}"
    return other


def read_items(block: str, name: str) -> Items:
    """Return the items of a block that matter to a crystal.

    Raises:
        CrystalReadError: The block cannot be parsed, or says an item twice and differently.
    """
    if not block.isascii():
        block = OVERBAR.sub(r"-\1", block.translate(_READABLE)).encode("ascii", "ignore").decode()
    try:
        document = gemmi.cif.read_string(block, check_level=0)
    except (ValueError, RuntimeError):
        try:
            document = gemmi.cif.read_string(_mended(block), check_level=0)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).removeprefix("string:").split())[:200]
            raise CrystalReadError(f"not a readable CIF (line {reason}).", source=name) from error
    if len(document) != 1:
        raise CrystalReadError("not a readable CIF (a data_ block begins inside a line).", source=name)
    items: Items = {}
    item: Any
    for item in document[0]:
        if (pair := item.pair) is not None:
            tag = _wanted_tag(pair[0])
            if tag is not None:
                _add(items, tag, _plain_values([pair[1] or "?"]), name)
        elif (loop := item.loop) is not None:
            tags = [_wanted_tag(tag) for tag in loop.tags]
            if any(tags):
                values, width = loop.values, len(tags)
                for i, tag in enumerate(tags):
                    if tag is not None:
                        _add(items, tag, _plain_values(values[i::width]), name)
    return items


@lru_cache(maxsize=4096)
def _wanted_tag(tag: str) -> str | None:
    plain = tag.lower().replace(".", "_")
    return plain if plain in _WANTED else None


def _plain_values(values: list[str]) -> list[str]:
    """Without quotes and the semicolons of text fields."""
    return [_plain_value(value) if value[0] in "'\";" else value for value in values]


def _plain_value(value: str) -> str:
    text: str = gemmi.cif.as_string(value)
    return _BLANKS.sub(" ", text) if len(text) >= 100 else text


def _add(items: Items, tag: str, values: list[str], name: str) -> None:
    before = items.setdefault(tag, values)
    if before is not values and (before != values or len(values) > 1):
        shown = [" ".join(each)[:40] for each in (before, values)]
        raise CrystalReadError(
            f"{tag} is given twice ({shown[0]}; {shown[1]}); leave the one that is meant.", source=name
        )


def _mended(block: str) -> str:
    """Take control characters for blanks, and put quotes around values of several words that have none."""
    lines = [_BLANKS.sub(" ", line) for line in _CONTROL.sub(" ", block).split("\n")]
    inside = False
    for i, line in enumerate(lines):
        if line.startswith(";"):
            inside = not inside
        elif not inside and (match := _UNQUOTED.match(line)):
            value = match[2].partition(" #")[0].rstrip()
            if " " in value and not re.search(r"\s_|'|\"", value):
                lines[i] = f"{match[1]}'{value}'"
    return "\n".join(lines)

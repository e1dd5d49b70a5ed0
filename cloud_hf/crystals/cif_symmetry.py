"""The symmetry that a CIF states: its list of operations, Hall symbol, Hermann-Mauguin symbol and number, in agreement.

Files give up to four statements. The list is used where there is one, and the others must name the same group. Without
a list the names must single out one setting, with the metric of the cell. What is left open (two origins) or
contradicts itself is settled only where every reading gives the same sites, or the formula and the number of formula
units fit one of them alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.cif_items import UNKNOWN, Items
from cloud_hf.crystals.cif_sites import same_sites
from cloud_hf.crystals.space_groups import (
    Group,
    Setting,
    group_of_hall,
    group_of_operations,
    preferred,
    settings_of_name,
    settings_of_number,
)
from cloud_hf.errors import CrystalReadError

__all__ = ["LISTS", "Candidates", "candidate_groups", "symmetry_of"]

_LISTS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz_")
_MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz")
LISTS = frozenset((*_LISTS, *_MAGNETIC))
"""Tags of lists of operations."""
_HALL = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
_NAMES = (
    *("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_symmetry_space_group_name_h_m"),
    *("_space_group_name_h-m", "_space_group_name_h-m_full", "_space_group_name_h-m_ref"),
    *("_symmetry_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m_full"),
)
_NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")
_MODULATED = ("_space_group_symop_ssg_operation_algebraic", "_space_group_ssg_name")

_METRIC = 2e-2
"""Relative tolerance of the metric: about one degree, or one percent of a length."""

_MOST_IMAGES = 200_000
"""Images of sites that are compared to tell whether two readings are one."""

Key = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Candidates:
    """Readings of a file's symmetry.

    Attributes:
        groups: One where the file is clear.
        doubt: Why there are several, naming both sides, and the way out.
        note: What was taken without a statement of the file.
    """

    groups: tuple[Group, ...]
    doubt: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Stated:
    """The statements of a file that can be read.

    Attributes:
        listed: The operations of the list.
        closed: Whether the list is a group.
        halls: Hall symbols.
        names: Hermann-Mauguin symbols and the settings that each may mean.
        numbers: Space group numbers.
        unread: Statements that mean nothing.
        broken: What is wrong with the list; empty if nothing is.
    """

    listed: Group | None
    closed: bool
    halls: tuple[tuple[str, Group], ...]
    names: tuple[tuple[str, tuple[Setting, ...]], ...]
    numbers: tuple[int, ...]
    unread: tuple[str, ...]
    broken: str = ""


def candidate_groups(items: Items, lattice: NDArray[np.float64], name: str, trust_sites: bool) -> Candidates:
    """Return the readings of a file's symmetry that fit its cell.

    Args:
        items: Items of the data block.
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        name: What error messages call the file.
        trust_sites: Take a file without any symmetry for P 1.

    Raises:
        CrystalReadError: No symmetry is stated, a statement cannot be read, or none fits the cell.
    """
    modulated = items.get("_cell_modulation_dimension", ["0"])[0]
    if modulated not in UNKNOWN | {"0"} or any(tag in items for tag in _MODULATED):
        raise CrystalReadError(
            "the crystal is modulated (it has superspace symmetry), and its average is another crystal; give a "
            "commensurate approximant.",
            source=name,
        )
    key = tuple([(tag, tuple(items[tag])) for tag in _STATEMENTS if tag in items])
    stated, clear = _read(key)
    if stated.broken:
        raise CrystalReadError(stated.broken, source=name)
    if clear is not None:
        if not clear.fits(lattice, _METRIC):
            raise _unfit(stated, name)
        return Candidates((clear,))
    if stated.listed is None and not (stated.halls or stated.names or stated.numbers):
        if trust_sites:
            return Candidates((_IDENTITY,), note="the file does not state its symmetry, so P 1 is assumed")
        unread = f" that can be read ({', '.join(stated.unread)} cannot)" if stated.unread else ""
        raise CrystalReadError(
            f"the file states no space group{unread}; give the operations or the symbol ('P 1' if every atom of the "
            "cell is listed), or take the sites as they are with `trust_sites=True`.",
            source=name, flag="trust_sites",
        )  # fmt: skip
    return _open(stated, lattice, name)


_STATEMENTS = (*_LISTS, *_MAGNETIC, *_HALL, *_NAMES, *_NUMBERS)
_IDENTITY = Group(np.eye(3)[None], np.zeros((1, 3)), 1)


@lru_cache(maxsize=512)
def _read(key: Key) -> tuple[_Stated, Group | None]:
    stated = _stated(key)
    return stated, None if stated.broken else _clear(stated)


def _stated(key: Key) -> _Stated:
    items = {tag: [value.strip() for value in values if value.strip() not in UNKNOWN] for tag, values in key}
    listed, closed, broken = None, True, ""
    lists = [items[tag] for tag in _LISTS if items.get(tag)]
    if magnetic := [items[tag] for tag in _MAGNETIC if items.get(tag)]:
        lists = [_products(magnetic)] if len(magnetic) == 2 else magnetic[:1]
    read: list[tuple[Group, bool]] = []
    for texts in lists:
        try:
            read.append(group_of_operations(texts))
        except CrystalReadError as error:
            broken = error.reason
    if read:
        listed, closed = read[0]
        if any(not other.same_as(listed) for other, _ in read[1:]):
            broken = "the file has two lists of symmetry operations, which differ; leave the one that is meant."
    halls, names, unread = [], [], []
    for tag in _HALL:
        for text in items.get(tag, ()):
            group = group_of_hall(text)
            if group is not None:
                halls.append((text, group))
            else:
                unread.append(f"Hall symbol {text!r}")
    for tag in _NAMES:
        for text in items.get(tag, ()):
            settings = settings_of_name(text)
            if settings:
                names.append((text, settings))
            else:
                unread.append(f"symbol {text!r}")
    numbers = []
    for tag in _NUMBERS:
        for text in items.get(tag, ()):
            if text.isdecimal() and 1 <= int(text[:9]) <= 230:
                numbers.append(int(text))
            else:
                unread.append(f"number {text!r}")
    return _Stated(
        listed, closed, tuple(dict(halls).items()), tuple(dict(names).items()), tuple(dict.fromkeys(numbers)),
        tuple(unread), broken,
    )  # fmt: skip


def _products(magnetic: Sequence[Sequence[str]]) -> list[str]:
    """Operations of a magnetic group times its centrings, time reversal left out."""
    operations, centrings = ([text.split(",")[:3] for text in texts] for texts in magnetic)
    products = []
    for centring in centrings:
        shifts = [re.sub(r"\+?[xyz]", "", part.strip().lower()) for part in centring]
        shifts = [f"+{shift}" if shift[:1].isdigit() else shift for shift in shifts]
        products += [
            ",".join(part.strip() + shift for part, shift in zip(operation, shifts, strict=True))
            for operation in operations
            if len(operation) == len(shifts) == 3
        ]
    return products or [",".join(text) for text in operations]


def _clear(stated: _Stated) -> Group | None:
    """The group of the list, the Hall symbol or a symbol of one setting, where all agree whatever the cell."""
    numbers = [{group.number} for _, group in stated.halls] + [
        {s.number for s in settings} for _, settings in stated.names
    ]
    numbers += [{number} for number in stated.numbers]
    if stated.listed is not None:
        if not stated.closed or any(
            stated.listed.number not in possible for possible in numbers if stated.listed.number
        ):
            return None
        if stated.listed.number is None and numbers and len(stated.listed) <= 192:
            return None
        return stated.listed if _settings_agree(stated.listed, stated) else None
    exact = [group for _, group in stated.halls]
    exact += [settings[0].group for _, settings in stated.names if len(settings) == 1]
    if exact and all(group.same_as(exact[0]) for group in exact) and all(exact[0].number in n for n in numbers):
        if all(any(setting.group.same_as(exact[0]) for setting in settings) for _, settings in stated.names):
            return exact[0]
        return None
    return None


def _settings_agree(listed: Group, stated: _Stated) -> bool:
    """Whether the symbols agree with the listed setting; one that agrees is enough.

    Settings without a symbol decide nothing. Short monoclinic symbols, which are used for any setting, do not either.
    """
    exact = [group.same_as(listed) for _, group in stated.halls]
    for text, settings in stated.names:
        is_short = 3 <= settings[0].number <= 15 and len(text.split()) < 4
        if not is_short:
            exact.append(any(setting.group.same_as(listed) for setting in settings))
    if not exact or any(exact):
        return True
    tabulated = any(setting.group.same_as(listed) for setting in settings_of_number(listed.number or 0))
    return not tabulated


def _unfit(stated: _Stated, name: str) -> CrystalReadError:
    return CrystalReadError(
        f"the space group ({_said(stated)}) does not fit the cell lengths and angles; correct one of them.",
        source=name,
    )


def _said(stated: _Stated) -> str:
    """What the file says, for a message."""
    parts = []
    if stated.listed is not None:
        number = f" of space group {stated.listed.number}" if stated.listed.number else ""
        parts.append(f"a list of {len(stated.listed)} operations{number}")
    parts += [f"Hall symbol {text!r}" for text, _ in stated.halls]
    parts += [f"symbol {text!r}" for text, _ in stated.names]
    parts += [f"number {number}" for number in stated.numbers]
    return ", ".join(parts)


def _open(stated: _Stated, lattice: NDArray[np.float64], name: str) -> Candidates:
    """The readings of statements that leave something open, or contradict one another."""
    readings: list[Group] = []
    named = _named(stated, lattice)
    numbers = [{group.number} for _, group in stated.halls] + [
        {s.number for s in settings} for _, settings in stated.names
    ]
    numbers += [{number} for number in stated.numbers]
    agree = bool(set.intersection(*numbers)) if numbers else True
    if stated.listed is not None:
        if stated.closed:
            readings.append(stated.listed)
        elif not named:
            raise CrystalReadError(
                "the listed symmetry operations are no group (products of them are missing); complete the list, or "
                "give the symbol of the space group.",
                source=name,
            )
        else:
            named = [group for group in named if stated.listed.keys <= group.keys] or named
    readings += [group for group in named if not any(group.same_as(other) for other in readings)]
    fitting = [group for group in readings if group.fits(lattice, _METRIC)]
    if not fitting:
        raise _unfit(stated, name)
    contradicts = stated.listed is not None or not agree
    if contradicts and len(readings) == 1:
        return Candidates((fitting[0],))
    if contradicts:
        doubt = f"the statements about the space group contradict one another ({_said(stated)}); leave those that hold"
    else:
        names = ", ".join(setting.name for setting in _settings(stated) if _is_among(setting.group, fitting))
        doubt = (
            f"the space group ({_said(stated)}) leaves open which setting is meant ({names}); write it behind the "
            "symbol, or list the operations"
        )
    return Candidates(tuple(fitting), doubt=doubt)


def _is_among(group: Group, groups: Iterable[Group]) -> bool:
    return any(group.same_as(other) for other in groups)


def _settings(stated: _Stated) -> list[Setting]:
    given = [setting for _, settings in stated.names for setting in settings]
    if not given:
        given = [setting for number in stated.numbers for setting in settings_of_number(number)]
    return list(dict.fromkeys(given))


def _named(stated: _Stated, lattice: NDArray[np.float64]) -> list[Group]:
    """The groups that names, in the order of their precision, may mean in this cell."""
    readings = [group for _, group in stated.halls]
    if stated.names:
        common = set.intersection(*({s.hall for s in settings} for _, settings in stated.names))
        for _, settings in stated.names:
            meant = [s for s in settings if s.hall in common] if common else list(settings)
            chosen = preferred(meant, lattice, standard=False) or meant
            if not (readings and any(_is_among(s.group, readings) for s in chosen)):
                readings += [setting.group for setting in chosen]
    known = {group.number for group in readings}
    for number in stated.numbers:
        if number not in known:
            settings = settings_of_number(number)
            readings += [s.group for s in (preferred(settings, lattice, standard=True) or settings[:1])]
    return readings


def symmetry_of(
    candidates: Candidates,
    groups: Sequence[Group],
    cells: Sequence[Cell],
    reasons: Sequence[str | None],
    name: str,
) -> int:
    """Choose between readings of the symmetry by what they make of the sites.

    Args:
        candidates: All readings.
        groups: Those that give a cell.
        cells: The cells.
        reasons: What is wrong with each of them by the formula of the file, `None` where it fits.
        name: What error messages call the file.

    Returns:
        Place of the reading in `cells`.

    Raises:
        CrystalReadError: More than one reading is left, and they differ.
    """
    if len(candidates.groups) == 1:
        return 0
    fitting = [i for i, reason in enumerate(reasons) if reason is None]
    if len(fitting) == 1 and len(cells) > 1:
        return fitting[0]
    left = fitting or range(len(cells))
    least = min(left, key=lambda i: len(groups[i]))
    if all(group is groups[least] or _keeps(group, cells[least]) for group in candidates.groups):
        return least
    raise CrystalReadError(f"{candidates.doubt}.", source=name)


def _keeps(group: Group, cell: Cell) -> bool:
    """Whether the operations map the sites of a cell onto one another, so that both readings mean it."""
    if len(group) * len(cell) > _MOST_IMAGES:
        return False
    rotations, translations = group.operations
    for rotation, translation in zip(rotations, translations, strict=True):
        places = same_sites(cell.frac_coords @ rotation.T + translation, cell.frac_coords)
        if places is None or any(cell.contents[i] != cell.contents[j] for i, j in enumerate(places.tolist())):
            return False
    return True

"""Space groups by any of their names: operations, Hall symbol, Hermann-Mauguin symbol, number, through gemmi's tables.

A Hermann-Mauguin symbol is read as files spell it: short (`P 21/c`), full (`F 4/m -3 2/m`), older (`C m c a`,
`F m 3 m`), with the setting behind it (`:1 :2 :H :R`, the `S Z H R` of the ICSD, `(origin choice 2)`), with screw axes
as `63`, `6_3`, `6(3)` or `6~3~`, with a typographic minus or an overbar. What a name leaves open (two origins, an axis)
gives several settings; the caller decides between them, or refuses.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache

import gemmi
import numpy as np
import spglib
from numpy.typing import NDArray

from cloud_hf.crystals.cif_sites import Operations
from cloud_hf.errors import CrystalReadError

__all__ = [
    "OVERBAR",
    "Group",
    "Setting",
    "group_of_hall",
    "group_of_operations",
    "settings_of_name",
    "settings_of_number",
]

_GRID = 5040
"""Translations are compared in these parts of a lattice vector: halves to tenths, twelfths, sixteenths are whole."""
_ROUNDED = 5e-4
"""A decimal translation this near to a fraction is meant to be it: 0.333 is 1/3."""
_MOST_OPERATIONS = 20_000
_MOST_CHECKED = 400
"""Operations of a list that is checked for closure; the largest group of a conventional cell has 192."""

_MINUS = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-"))
OVERBAR = re.compile("([1-9])[\u0304\u0305]")
"""A digit with a bar over it, which is a minus before it."""


@dataclass(frozen=True)
class Group:
    """A list of symmetry operations, modulo whole lattice vectors.

    Attributes:
        rotations: Shape (m, 3, 3), acting on columns of fractional coordinates.
        translations: Shape (m, 3), fractions of the lattice vectors.
        number: Space group number in the International Tables; `None` if no table or search tells it.
    """

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    number: int | None = None

    @property
    def operations(self) -> Operations:
        """Rotations and translations."""
        return self.rotations, self.translations

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def keys(self) -> frozenset[tuple[int, ...]]:
        """One tuple of integers per operation, for comparing lists."""
        return frozenset(map(tuple, _keys(self.rotations, self.translations).tolist()))

    def same_as(self, other: "Group") -> bool:
        """Whether both hold the same operations."""
        return self.keys == other.keys

    def fits(self, lattice: NDArray[np.float64], tolerance: float) -> bool:
        """Whether the operations keep the metric of a lattice (rows, Å) to a relative tolerance."""
        if len(self) == 1:
            return True
        metric = lattice @ lattice.T
        moved = self.rotations.transpose(0, 2, 1) @ metric @ self.rotations
        lengths = np.sqrt(np.diag(metric))
        return bool((np.abs(moved - metric) <= tolerance * np.outer(lengths, lengths)).all())


@dataclass(frozen=True)
class Setting:
    """A tabulated setting of a space group.

    Attributes:
        number: Number in the International Tables.
        symbol: Hermann-Mauguin symbol, e.g. `F d -3 m`.
        choice: `1` or `2` for an origin, `H` or `R` for axes, else empty.
        qualifier: gemmi's word for axes and cell choice, e.g. `b1`.
        hall: Hall symbol.
    """

    number: int
    symbol: str
    choice: str
    qualifier: str
    hall: str

    @property
    def name(self) -> str:
        """Symbol and choice, e.g. `F d -3 m :2`."""
        return f"{self.symbol} :{self.choice}" if self.choice else self.symbol

    @cached_property
    def group(self) -> Group:
        """The operations of the setting."""
        operations = gemmi.symops_from_hall(self.hall)
        return Group(*_arrays(operations), self.number)


# ------------------------------------------------------------------------------------------------ operations


_TERM = re.compile(r"([+-]*)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+(?:\.\d*)?))?\*?)?([xyz]?)")


def _component(text: str) -> tuple[list[float], float] | None:
    """Read one of the three parts of `x-y,x,z+1/3`: coefficients of x, y and z, and translation; None if it is none."""
    row, shift, at = [0.0, 0.0, 0.0], 0.0, 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or match.end() == at or not (match[2] or match[4]):
            return None
        sign, number, divisor, axis = match.groups()
        if (at and not sign) or (divisor and not float(divisor)):
            return None
        value = -1.0 if sign.count("-") % 2 else 1.0
        if number:
            value *= float(number) / (float(divisor) if divisor else 1.0)
        if axis:
            row["xyz".index(axis)] += value
        else:
            shift += value
        at = match.end()
    return (row, _rounded(shift)) if text else None


def _rounded(shift: float) -> float:
    near = float(Fraction(shift).limit_denominator(24))
    return near if abs(near - shift) < _ROUNDED else shift


def _operation(text: str) -> tuple[list[list[float]], list[float]]:
    parts = re.sub(r"\s+", "", text.translate(_MINUS)).lower().split(",")
    if len(parts) == 4 and parts[3] in {"+1", "-1", "1"}:  # time reversal of a magnetic group
        parts.pop()
    components = [component for component in map(_component, parts) if component is not None]
    if len(parts) == len(components) == 3:
        rows, shifts = [row for row, _ in components], [shift for _, shift in components]
        small = all(value in (-2, -1, 0, 1, 2) for row in rows for value in row)
        if small and abs(abs(np.linalg.det(rows)) - 1) <= 1e-6:
            return rows, shifts
    raise CrystalReadError(
        f"the symmetry operation {text} cannot be read; mend it, or remove the list and give the symbol."
    )


def group_of_operations(texts: Sequence[str]) -> tuple[Group, bool]:
    """Read a list of operations such as `-x, y+1/2, -z`.

    Args:
        texts: One operation each.

    Returns:
        The list without repeats, the identity first if it was missing, and whether it is closed (a group).

    Raises:
        CrystalReadError: An operation cannot be read.
    """
    if len(texts) > _MOST_OPERATIONS:
        texts = texts[:_MOST_OPERATIONS]
    read = [_operation(text) for text in texts]
    rotations, translations = np.array([r for r, _ in read]), np.array([t for _, t in read])
    keys = _keys(rotations, translations)
    identity = ((rotations == np.eye(3)).all((1, 2)) & (keys[:, 9:] == 0).all(1)).any()
    if not identity:
        rotations = np.concatenate([np.eye(3)[None], rotations])
        translations = np.concatenate([np.zeros((1, 3)), translations])
        keys = _keys(rotations, translations)
    _, first = np.unique(keys, axis=0, return_index=True)
    first = np.sort(first)
    rotations, translations, keys = rotations[first], translations[first], keys[first]
    closed = _is_closed(rotations, translations, keys)
    number = _number_of(rotations, translations, keys) if closed and len(rotations) <= _MOST_CHECKED else None
    return Group(rotations, translations, number), closed


def _keys(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    shifts = np.rint(translations * _GRID).astype(np.int64) % _GRID
    return np.concatenate([np.rint(rotations).astype(np.int64).reshape(-1, 9), shifts], axis=1)


def _is_closed(rotations: NDArray[np.float64], translations: NDArray[np.float64], keys: NDArray[np.int64]) -> bool:
    """Whether products stay in the list; centrings by other fractions than the grid's are not looked at."""
    if len(rotations) > _MOST_CHECKED or (np.abs(translations * _GRID - np.rint(translations * _GRID)) > 1e-6).any():
        return True
    known = set(map(tuple, keys.tolist()))
    for rotation, translation in zip(rotations, translations, strict=True):
        products = _keys(rotation @ rotations, translations @ rotation.T + translation)
        if not known.issuperset(map(tuple, products.tolist())):
            return False
    return True


def _number_of(
    rotations: NDArray[np.float64], translations: NDArray[np.float64], keys: NDArray[np.int64]
) -> int | None:
    """Number of a closed list, from gemmi's settings or, for any other setting, from spglib."""
    if not (keys[:, 9:] % (_GRID // gemmi.Op.DEN)).any():
        operations = []
        for row in keys.tolist():
            operation = gemmi.Op("x,y,z")
            operation.rot = [[gemmi.Op.DEN * value for value in row[i : i + 3]] for i in (0, 3, 6)]
            operation.tran = [value * gemmi.Op.DEN // _GRID for value in row[9:]]
            operations.append(operation)
        known = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operations))
        if known is not None:
            return int(known.number)
    metric = (rotations.transpose(0, 2, 1) @ rotations).mean(axis=0)  # one that every operation keeps
    try:
        lattice = np.linalg.cholesky(metric)
        kind = spglib.get_spacegroup_type_from_symmetry(
            np.rint(rotations).astype(np.intc), translations % 1.0, lattice, symprec=1e-4
        )
    except (ValueError, np.linalg.LinAlgError, spglib.SpglibError):
        return None
    return None if kind is None else int(kind.number)


@lru_cache(maxsize=1024)
def group_of_hall(symbol: str) -> Group | None:
    """Return the operations of a Hall symbol, `None` if it is none."""
    text = _plain(symbol).replace("_", " ").strip()
    try:
        parsed = gemmi.symops_from_hall(text)
    except (ValueError, RuntimeError):
        return None
    operations = list(parsed)
    if not 1 <= len(operations) <= 192:
        return None
    rotations, translations = _arrays(operations)
    table = gemmi.find_spacegroup_by_ops(parsed)
    if table is not None:
        return Group(rotations, translations, int(table.number))
    return Group(rotations, translations, _number_of(rotations, translations, _keys(rotations, translations)))


def _arrays(operations: Iterable[gemmi.Op]) -> Operations:
    listed = list(operations)
    return (
        np.array([operation.rot for operation in listed], dtype=float) / gemmi.Op.DEN,
        np.array([operation.tran for operation in listed], dtype=float) / gemmi.Op.DEN,
    )


# ------------------------------------------------------------------------------------------------ names


def _plain(text: str) -> str:
    """A name in ASCII: dashes of any kind as minus, overbars as a minus before the digit, no mark-up."""
    text = OVERBAR.sub(r"-\1", text.translate(_MINUS))
    return text.encode("ascii", "ignore").decode()


@cache
def _table() -> tuple[Setting, ...]:
    return tuple(
        Setting(int(g.number), g.hm, g.ext if g.ext.isalnum() else "", g.qualifier, g.hall)
        for g in gemmi.spacegroup_table()
    )


def _compact(symbol: str) -> str:
    return re.sub(r"[\s_]", "", symbol).lower()


@cache
def _by_name() -> dict[str, tuple[Setting, ...]]:
    """The symbols of gemmi's table, short and older ones among them, and the settings that each may mean."""
    names: list[tuple[str, Setting]] = []
    for setting in _table():
        names.append((setting.symbol, setting))
        centring, *axes = setting.symbol.split()
        if 3 <= setting.number <= 15 and axes.count("1") == 2:
            names.append((centring + next(axis for axis in axes if axis != "1"), setting))
        if setting.number >= 195:
            names.append((setting.symbol.replace("-3", "3"), setting))  # until 1992
    return _gathered(names)


@cache
def _by_full_name() -> dict[str, tuple[Setting, ...]]:
    """The full symbols of spglib's table, such as `F 4/m -3 2/m`; short symbols with `e` for a double glide plane."""
    by_hall = {setting.hall: setting for setting in _table()}
    names: list[tuple[str, Setting]] = []
    for hall_number in range(1, 531):
        kind = spglib.get_spacegroup_type(hall_number)
        setting = None if kind is None else by_hall.get(kind.hall_symbol)
        if kind is not None and setting is not None:
            names.append((kind.international_full, setting))
            if setting.number > 15:  # before, the standard symbol stands in front of that of the setting
                names += [(name, setting) for name in kind.international.split("=")]
    return _gathered(names)


def _gathered(names: Iterable[tuple[str, Setting]]) -> dict[str, tuple[Setting, ...]]:
    """Settings by name, without blanks and in lower case."""
    settings_of: dict[str, dict[Setting, None]] = {}
    for name, setting in names:
        settings_of.setdefault(_compact(name), {})[setting] = None
    return {name: tuple(settings) for name, settings in settings_of.items()}


@cache
def settings_of_number(number: int) -> tuple[Setting, ...]:
    """Return every tabulated setting of a space group, the standard one first; empty for no group."""
    return tuple(setting for setting in _table() if setting.number == number)


_CHOICES = {
    "1": "1", "2": "2", "s": "1", "z": "2", "h": "H", "r": "R", "hr": "H", "rs": "R", "hex": "H", "rho": "R",
}  # fmt: skip
_SPELLED = re.compile(
    r"[\s:;,(\[]*(?:(?:origin|setting)?\s*(?:at|choice|no\.?)?\s*[:#]?\s*(?P<origin>[12])"
    r"|(?P<axes>hex|rho)[a-z]*\s*(?:axes|setting|cell)?)\s*[)\]]*\s*$",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r"\s*:\s*(?P<colon>[12shrz]|hr|rs|-?[abc]\d?|[abc-]{3,5})\s*$|(?P<bare>hr|rs|[szhr])\s*$", re.IGNORECASE
)
_NUMBER_BEHIND = re.compile(r"\s+\(?\s*(?:no\.?|#)\s*\d+\s*\)?\s*$|\s+\(\s*\d+\s*\)\s*$", re.IGNORECASE)


def _without_choice(text: str) -> tuple[str, str, str]:
    """Split a name into the symbol, what follows it about origin or axes (`1 2 H R`), and gemmi's qualifier."""
    words = re.search(r"origin|setting|choice|axes|hexa|rhomb", text, re.IGNORECASE)
    if words and (match := _SPELLED.search(text)):
        choice = match["origin"] or match["axes"].lower()
        return text[: match.start()], _CHOICES[choice], ""
    match = _SUFFIX.search(text)
    if match is None or match.start() == 0:
        return text, "", ""
    word = (match["colon"] or match["bare"]).lower()
    if word in _CHOICES:
        return text[: match.start()], _CHOICES[word], ""
    return text[: match.start()], "", word


@lru_cache(maxsize=1024)
def settings_of_name(name: str) -> tuple[Setting, ...]:
    """Return the settings that a Hermann-Mauguin symbol may mean; none if it is unknown.

    Several are left where the symbol does not say the origin (`F d -3 m`), the axes (`R -3 m`), or the unique axis
    (`P 21/m`).
    """
    text = re.sub(r"<[^>]*>|[$\\{}~'\"]|bar|overline", _markup, _plain(name)).strip()
    text = _NUMBER_BEHIND.sub("", text)
    text, choice, qualifier = _without_choice(text)
    text = re.sub(r"([2346])\((\d)\)", r"\1\2", text)  # 6(3) is a screw axis
    key = _compact(text).rstrip(".,;:")
    settings = _by_name().get(key) or _by_full_name().get(key, ())
    if not settings:
        known = gemmi.find_spacegroup_by_name(text) if re.fullmatch(r"[A-Za-z][A-Za-z0-9/ -]*", text) else None
        if known is None:
            return ()
        settings = tuple(s for s in settings_of_number(int(known.number)) if s.symbol == known.hm)
        if key.startswith("h") and not choice:
            choice = "H"
    if choice and any(setting.choice for setting in settings):
        settings = tuple(setting for setting in settings if setting.choice == choice)
    if qualifier:
        settings = tuple(s for s in settings if s.qualifier in {qualifier, f"{qualifier}1"}) or settings
    return settings


def _markup(match: re.Match[str]) -> str:
    return "-" if match[0] in {"bar", "overline"} else ""


def preferred(settings: Iterable[Setting], lattice: NDArray[np.float64], standard: bool) -> list[Setting]:
    """Return the settings that fit the cell, where only convention decides between axes the conventional one.

    Args:
        settings: What a name or a number may mean.
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        standard: Whether a number was given: then axes and cell choice are the standard ones.

    Returns:
        None where no setting fits; two or more where the cell cannot tell them apart.
    """
    settings = list(settings)
    fitting: list[Setting] = []
    for tolerance in (2e-3, 2e-2):  # exact metrics first: 90.5 degrees is no right angle
        fitting = [setting for setting in settings if setting.group.fits(lattice, tolerance)]
        if fitting:
            break
    if len(fitting) < 2:
        return fitting
    number = fitting[0].number
    if number > 15:
        return [s for s in fitting if s.symbol == settings[0].symbol] if standard else fitting
    for axis in "bca":  # b is the convention where all angles are right
        along = [setting for setting in fitting if setting.qualifier.strip("-").startswith(axis)]
        if along:
            first = [setting for setting in along if setting.qualifier == "b1"]
            return first if standard and first else along
    return fitting

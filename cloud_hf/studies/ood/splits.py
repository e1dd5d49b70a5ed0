"""Splits of a table into crystals unlike those trained on, others held back from among the like, and the rest."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hf.data.assignment import database_entry, protostructure
from cloud_hf.errors import StudyError
from cloud_hf.scope import parse
from cloud_hf.scope.canonical import ELEMENT_RANK
from cloud_hf.studies.common.crystals import Crystals

__all__ = ["CRYSTAL_SYSTEMS", "SPLITS", "OodSplit", "ood_split"]

SPLITS = ("element", "space_group", "prototype", "time", "size")
"""What the crystals outside have that no training row has."""

CRYSTAL_SYSTEMS = {
    "triclinic": (1, 2), "monoclinic": (3, 15), "orthorhombic": (16, 74), "tetragonal": (75, 142),
    "trigonal": (143, 167), "hexagonal": (168, 194), "cubic": (195, 230),
}  # fmt: skip
"""First and last space group of each, International Tables A."""

FEWEST = 20
"""Rows for which the errors outside mean anything; a split with fewer is refused."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class OodSplit:
    """Rows of one split; no string stands in two of the parts.

    Attributes:
        name: One of `SPLITS`.
        group: What is outside, short, e.g. `F` or `cubic`: with `name` the name of the result.
        description: What is outside, in words.
        train: Rows to learn from.
        inside: Random rows, by string, of the kind that is trained on; about as many as outside.
        outside: Rows of the other kind.
        left_out: Rows that no part takes, e.g. without a number in their id.
    """

    name: str
    group: str
    description: str
    train: Indices
    inside: Indices
    outside: Indices
    left_out: int


def ood_split(crystals: Crystals, name: str, group: str | None, share: float, seed: int) -> OodSplit:
    """Split rows into training, inside and outside.

    Args:
        crystals: Labelled rows.
        name: One of `SPLITS`.
        group: Element symbols joined by commas (`F,Cl`); a crystal system, or space-group numbers (`62,225`,
            `195-230`); None: the one element or crystal system whose share of rows is nearest to `share`. Prototypes,
            time and size take none.
        share: Share of the rows that are to be outside, roughly: it cannot be exact for elements and space groups; as
            many rows go inside.
        seed: Seed of the choice of prototypes and of the rows inside; the same rows in any order give the same split.

    Raises:
        StudyError: An unknown name or group, too few rows outside or left to train on, or ids without numbers.
    """
    if name == "element":
        group, description, is_outside = _elements(crystals, group, share)
    elif name == "space_group":
        group, description, is_outside = _space_groups(crystals, group, share)
    elif name not in SPLITS:
        raise StudyError(f"There is no split {name!r}; there are: {', '.join(SPLITS)}.")
    elif group is not None:
        raise StudyError(f"The split {name!r} takes no group, but {group!r} is given.")
    elif name == "prototype":
        group, description, is_outside = _prototypes(crystals, share, seed)
    else:
        group, description, is_outside = _highest(crystals, name, share)
    known = is_outside >= 0
    outside = np.flatnonzero(is_outside == 1)
    rest = np.flatnonzero(is_outside == 0)
    inside, train = _as_many(crystals.scopes, rest, len(outside), seed)
    for part, rows, fewest in (("outside", outside, FEWEST), ("left to train on", train, FEWEST)):
        if len(rows) < fewest:
            raise StudyError(
                f"split {name!r} ({description}): only {len(rows)} of {len(crystals)} rows are {part}; at least "
                f"{fewest} are needed. Give more rows, another group, or another --share."
            )
    return OodSplit(name, group, description, train, inside, outside, int((~known).sum()))


def _as_many(scopes: Sequence[str], rest: Indices, wanted: int, seed: int) -> tuple[Indices, Indices]:
    """Take strings in the order of their hashes until there are as many rows as wanted, but no more than a third."""
    wanted = min(wanted, len(rest) // 3)
    rows: list[int] = []
    rows_of = _rows_of([scopes[row] for row in rest])
    for string in sorted(rows_of, key=lambda string: _hash(seed, "inside", string)):
        if len(rows) >= wanted:
            break
        rows += rows_of[string]
    taken = np.zeros(len(rest), dtype=bool)
    taken[rows] = True
    return rest[taken], rest[~taken]


def _elements(crystals: Crystals, group: str | None, share: float) -> tuple[str, str, Indices]:
    elements = [set(parse(scope).elements) for scope in crystals.scopes]
    if group is None:
        present = sorted(set().union(*elements))
        rows = {symbol: sum(symbol in symbols for symbols in elements) for symbol in present}
        group = min(present, key=lambda symbol: (abs(rows[symbol] - share * len(crystals)), symbol))
    chosen = [text.strip() for text in group.split(",")]
    for text in chosen:
        if text not in ELEMENT_RANK:
            raise StudyError(f"{text!r} in the elements {group!r} is no element; write symbols joined by commas, F,Cl.")
    return (
        ",".join(chosen),
        f"crystals with {' or '.join(chosen)}",
        _flags(bool(symbols & {*chosen}) for symbols in elements),
    )


def _space_groups(crystals: Crystals, group: str | None, share: float) -> tuple[str, str, Indices]:
    numbers = crystals.space_group
    if group is None:
        rows = {name: ((numbers >= low) & (numbers <= high)).mean() for name, (low, high) in CRYSTAL_SYSTEMS.items()}
        group = min((name for name in rows if rows[name] > 0), key=lambda name: abs(rows[name] - share))
    if group in CRYSTAL_SYSTEMS:
        low, high = CRYSTAL_SYSTEMS[group]
        return group, f"{group} crystals", _flags((numbers >= low) & (numbers <= high))
    chosen: set[int] = set()
    for text in group.split(","):
        span = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", text)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not 1 <= first <= last <= 230:
            raise StudyError(
                f"{text!r} in the space groups {group!r} is neither a crystal system ({', '.join(CRYSTAL_SYSTEMS)}) "
                "nor numbers from 1 to 230 such as 62,225 or 195-230."
            )
        chosen |= {*range(first, last + 1)}
    return group.replace(" ", ""), f"crystals of the space groups {group}", _flags(np.isin(numbers, [*chosen]))


def _prototypes(crystals: Crystals, share: float, seed: int) -> tuple[str, str, Indices]:
    """Choose prototypes at random, none of them larger than what is still wanted."""
    labels = [protostructure(scope) or "" for scope in crystals.scopes]
    rows_of = _rows_of(labels)
    wanted, chosen = round(share * len(crystals)), set[str]()
    taken = 0
    for label in sorted(rows_of, key=lambda label: _hash(seed, "prototype", label)):
        if label and taken + len(rows_of[label]) <= wanted:
            chosen.add(label)
            taken += len(rows_of[label])
    flags = _flags(label in chosen for label in labels)
    flags[[label == "" for label in labels]] = -1
    of = f"{len(chosen):,} of {len(rows_of):,} prototypes"
    return "random", f"crystals of {of} (space group and occupied positions without elements), at random", flags


def _highest(crystals: Crystals, name: str, share: float) -> tuple[str, str, Indices]:
    """Take the newest or the largest crystals; a string is as old as its oldest row and as large as its smallest."""
    values = crystals.n_atoms if name == "size" else _entry_numbers(crystals.ids)
    if np.isnan(values).all():
        raise StudyError(
            f"split {name!r}: no id of the table holds the number of a database entry, such as mp-149 (the first is "
            f"{crystals.ids[0]!r}), so its age is not known; leave this split out with --splits."
        )
    smallest: dict[str, float] = {}
    for string, value in zip(crystals.scopes, values, strict=True):
        smallest[string] = float(np.fmin(value, smallest.get(string, np.nan)))
    by_row = np.array([smallest[string] for string in crystals.scopes])
    known = ~np.isnan(by_row)
    # the threshold that leaves the share outside nearest to the wanted one
    steps = np.unique(by_row[known])
    counts = known.sum() - np.searchsorted(np.sort(by_row[known]), steps, side="right")
    limit = steps[np.abs(counts - share * known.sum()).argmin()]
    flags = np.where(known, by_row > limit, -1).astype(np.int64)
    what = f"more than {limit:g} atoms per primitive cell" if name == "size" else f"entry numbers above {limit:.0f}"
    return f"above_{limit:.0f}", f"crystals with {what}", flags


def _entry_numbers(ids: Sequence[str]) -> NDArray[np.float64]:
    """Numbers of the entries in the database that most ids name, which gives them out in order; NaN for other ids."""
    entries = [re.fullmatch(r"(\D+)(\d+)", database_entry(text) or "") for text in ids]
    databases = Counter(match[1] for match in entries if match)
    database = max(databases, key=lambda name: (databases[name], name), default=None)
    return np.array([float(match[2]) if match and match[1] == database else np.nan for match in entries])


def _flags(values: Iterable[bool]) -> Indices:
    """1 outside, 0 inside; -1, set by who knows, for rows that neither part may take."""
    return np.array([*values], dtype=bool).astype(np.int64)


def _rows_of(names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


def _hash(seed: int, purpose: str, name: str) -> bytes:
    """An order that does not depend on that of the rows."""
    return hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest()

"""Elements by symbol or by the name of a group, and what may fill each slot of a prototype."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache

from pymatgen.core import Element

from cloud_hf.errors import CloudError
from cloud_hf.scope.canonical import ELEMENT_RANK

__all__ = ["GROUPS", "group_elements", "parse_elements", "parse_slots"]

NOBLE = ("He", "Ne", "Ar", "Kr", "Xe")
RADIOACTIVE = ("Tc", "Pm")
LAST_STABLE = 83

GROUPS = {
    "all": "hydrogen to bismuth without noble gases, Tc and Pm",
    "metals": "of these, the metals",
    "nonmetals": "of these, B, C, N, O, F, Si, P, S, Cl, Ge, As, Se, Br, Sb, Te, I and H",
    "alkali": "Li to Cs",
    "alkaline-earths": "Be to Ba",
    "transition-metals": "groups 3 to 12 without lanthanides and Tc",
    "3d": "Sc to Zn",
    "4d": "Y to Cd without Tc",
    "5d": "Hf to Hg",
    "post-transition-metals": "Al, Ga, In, Sn, Tl, Pb and Bi",
    "lanthanides": "La to Lu without Pm",
    "rare-earths": "the lanthanides, Sc and Y",
    "actinides": "Ac to Pu",
    "metalloids": "B, Si, Ge, As, Sb and Te",
    "pnictogens": "N to Bi",
    "chalcogens": "O to Te",
    "halogens": "F to I",
    "noble-gases": "He to Xe",
}
"""Names of groups and what they hold."""


@cache
def group_elements(name: str) -> tuple[str, ...]:
    """Return the elements of a group of `GROUPS` by atomic number.

    Raises:
        CloudError: There is no such group.
    """
    if name not in GROUPS:
        like = get_close_matches(name.lower(), GROUPS, 1)
        hint = f"did you mean {like[0]}? " if like else ""
        raise CloudError(
            f"{name!r} is neither the symbol of an element nor a group of elements; {hint}Groups: {', '.join(GROUPS)}."
        )
    table = [Element.from_Z(number) for number in range(1, 95)]
    stable = [element for element in table if element.Z <= LAST_STABLE and element.symbol not in (*NOBLE, *RADIOACTIVE)]
    nonmetals = ["H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Sb", "Te", "I"]
    chosen = {
        "all": stable,
        "metals": [element for element in stable if element.symbol not in nonmetals],
        "nonmetals": [element for element in stable if element.symbol in nonmetals],
        "alkali": [element for element in stable if element.is_alkali],
        "alkaline-earths": [element for element in stable if element.is_alkaline],
        "transition-metals": [
            element
            for element in stable
            if 3 <= element.group <= 12 and not element.is_lanthanoid and not element.is_actinoid
        ],
        "post-transition-metals": [
            element for element in stable if element.symbol in ("Al", "Ga", "In", "Sn", "Tl", "Pb", "Bi")
        ],
        "lanthanides": [element for element in stable if element.is_lanthanoid],
        "rare-earths": [element for element in stable if element.is_lanthanoid or element.symbol in ("Sc", "Y")],
        "actinides": [element for element in table if element.is_actinoid],
        "metalloids": [element for element in stable if element.symbol in ("B", "Si", "Ge", "As", "Sb", "Te")],
        "pnictogens": [element for element in stable if element.group == 15],
        "chalcogens": [element for element in stable if element.group == 16],
        "halogens": [element for element in stable if element.group == 17],
        "noble-gases": [element for element in table if element.symbol in NOBLE],
    }
    for row, period in (("3d", 4), ("4d", 5), ("5d", 6)):
        chosen[row] = [element for element in chosen["transition-metals"] if element.row == period]
    return tuple(element.symbol for element in chosen[name])


def parse_elements(text: str) -> tuple[str, ...]:
    """Read a list such as `Li,transition-metals,-Cd`: symbols and groups, a minus takes away.

    Raises:
        CloudError: An unknown name, or nothing is left.
    """
    chosen: dict[str, None] = {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts and all(part.startswith("-") for part in parts):
        parts = ["all", *parts]
    for part in parts:
        name = part.removeprefix("-")
        symbols = (name,) if name in ELEMENT_RANK else group_elements(name)
        for symbol in symbols:
            if part.startswith("-"):
                chosen.pop(symbol, None)
            else:
                chosen[symbol] = None
    if not chosen:
        raise CloudError(f"{text!r} names no element.")
    return tuple(chosen)


def parse_slots(given: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Read what `--elements` says, e.g. `["A=Li,Na", "X=O,S"]`: elements of each named slot.

    Raises:
        CloudError: No `=`, a slot that is named twice, or what `parse_elements` refuses.
    """
    slots: dict[str, tuple[str, ...]] = {}
    for text in given:
        slot, equals, names = text.partition("=")
        slot = slot.strip()
        if not equals or not slot:
            raise CloudError(f"{text!r}: say which slot the elements are for, e.g. A=Li,Na or X=chalcogens.")
        if slot in slots:
            raise CloudError(f"the slot {slot} is given twice; name all its elements at once.")
        slots[slot] = parse_elements(names)
    return slots

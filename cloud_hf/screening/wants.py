"""What is wanted of a crystal: `band_gap=1.1:1.7`, `bulk_modulus>=100`, `energy_above_hull<=0.1`."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from cloud_hf.errors import CloudError

__all__ = ["HULL", "Want", "parse_wants"]

HULL = "energy_above_hull"
"""Computed from a head of formation energies and known phases, eV/atom."""

_WANT = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Want:
    """Limits of a quantity, both of them included.

    Attributes:
        quantity: Its name.
        low: In its unit; minus infinity without a limit.
        high: Likewise.
    """

    quantity: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{self.quantity}>={self.low:g}"
        return (
            f"{self.quantity}<={self.high:g}" if math.isinf(self.low) else f"{self.quantity}={self.low:g}:{self.high:g}"
        )

    @property
    def direction(self) -> int:
        """1: the more the better, -1: the less the better, 0: a window."""
        return int(math.isinf(self.high)) - int(math.isinf(self.low))


def parse_wants(texts: Iterable[str], quantities: Collection[str]) -> list[Want]:
    """Read wants; several of one quantity must hold together and become one.

    Args:
        texts: `NAME>=NUMBER`, `NAME<=NUMBER` or `NAME=NUMBER:NUMBER`.
        quantities: Names that can be asked for.

    Raises:
        CloudError: None given, one that cannot be read, a name that nothing gives, or limits that exclude each other.
    """
    wants: dict[str, Want] = {}
    for text in texts:
        match = _WANT.fullmatch(text)
        if match is None:
            raise CloudError(f"{text!r}: say what is wanted as NAME>=NUMBER, NAME<=NUMBER or NAME=NUMBER:NUMBER.")
        name, sign, rest = match.groups()
        if name not in quantities:
            like = get_close_matches(name, quantities, 1)
            hint = f" Did you mean {like[0]}?" if like else ""
            raise CloudError(f"{text!r}: no head gives {name!r}; there is {', '.join(quantities)}.{hint}")
        low, high = _limits(text, sign, rest)
        before = wants.get(name, Want(name))
        want = Want(name, max(low, before.low), min(high, before.high))
        if want.low > want.high:
            raise CloudError(f"{text!r}: nothing can be both at least {want.low:g} and at most {want.high:g}.")
        wants[name] = want
    if not wants:
        raise CloudError("say what is wanted, e.g. band_gap=1.1:1.7 or bulk_modulus>=100.")
    return list(wants.values())


def _limits(text: str, sign: str, rest: str) -> tuple[float, float]:
    low, colon, high = rest.partition(":")
    if sign == "=" and not colon:
        raise CloudError(f"{text!r}: a single value is met by nothing; give a window such as 1.1:1.7.")
    try:
        if sign == "=":
            limits = float(low) if low else -math.inf, float(high) if high else math.inf
        else:
            limits = (float(rest), math.inf) if ">" in sign else (-math.inf, float(rest))
    except ValueError:
        raise CloudError(f"{text!r}: {rest!r} is no number, nor two with a colon between them.") from None
    if any(map(math.isnan, limits)) or all(map(math.isinf, limits)):
        raise CloudError(f"{text!r}: gives no limit.")
    return limits

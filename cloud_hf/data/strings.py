"""Crystals to a table of SCOPE strings: what `cloud-hf encode` writes, and `cloud_hf.encode` returns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cloud_hf.data.inputs import ITEM_COLUMNS, Item, encode_items, item_row, iterate_items
from cloud_hf.data.tables import ENCODER_COLUMN
from cloud_hf.scope import TIMEOUT, ScopeEncoder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STRING_COLUMNS", "encode", "string_rows"]

STRING_COLUMNS = {**ITEM_COLUMNS, "error": "object", ENCODER_COLUMN: "object"}
"""Columns of the table and their dtypes."""


def encode(
    inputs: Any,
    grammar: str = "sites",
    *,
    encoder: ScopeEncoder | None = None,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    structure: str | None = None,
    progress: bool | None = None,
) -> "pd.DataFrame":
    """Write crystals as SCOPE strings.

    Args:
        inputs: One or several (a list, an iterator, a column of a table, ...) of: paths of crystal files, folders,
            globs, archives or tables, SCOPE strings, texts of CIF or POSCAR files, a `DataFrame` of crystals, pymatgen
            `Structure`, ASE `Atoms`, or anything else that `cloud_hf.scope.read_cell` takes.
        grammar: `sites`, `composition` or `full`, if no encoder is given.
        encoder: An encoder with settings of its own.
        processes: Worker processes.
        timeout: Longest time for one crystal, s; None sets no limit. A crystal that takes longer is a failed row.
        structure: Column of tables that holds the crystals: paths, absolute or relative to the table's folder, texts
            of CIF or POSCAR files, dicts, or SCOPE strings; None: the column that is named after what it holds.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        A row for each crystal, in order: `source`, `formula`, `space_group` (number), `space_group_symbol`, `scope`,
        `n_atoms` (in the primitive cell), `error` (why there is no string) and `encoder` (the settings behind it).

    Raises:
        CloudError: An argument that cannot work. What is wrong with a crystal is in its row.
    """
    import pandas as pd  # here, as the command writes strings without it

    encoder = ScopeEncoder(grammar) if encoder is None else encoder
    rows = (row for _, row in string_rows(inputs, encoder, processes, timeout, structure))
    shown = tqdm(rows, desc="encode", unit="crystal", disable=None if progress is None else not progress)
    return pd.DataFrame(list(shown), columns=list(STRING_COLUMNS)).astype(STRING_COLUMNS)


def string_rows(
    inputs: Any,
    encoder: ScopeEncoder,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    structure: str | None = None,
) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Yield each crystal's item and its row, as they come; arguments as for `encode`."""
    settings = encoder.settings
    for item in encode_items(iterate_items(inputs, structure=structure), encoder, processes, timeout):
        # strings that were given were made by an encoder that is not known here
        made_by = f"{settings} ({item.note})" if item.note else settings
        row = item_row(item) | {"error": item.message, ENCODER_COLUMN: made_by if item.is_encoded else None}
        yield item, (row | {"scope": None} if item.error else row)  # a given string that was refused is no result

"""Files of MatBench Discovery: the summary of WBM with distances to the hull, and its structures."""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloud_hf.data.inputs import Item, table_items
from cloud_hf.data.kept_strings import ONE_WORKER, Workers, encode_once
from cloud_hf.data.tables import numeric_column, read_chunks, read_table
from cloud_hf.errors import StudyError, TableError, one_line
from cloud_hf.studies.common.crystals import Crystals, crystals_from_strings, read_crystals
from cloud_hf.studies.common.folder import digest_of

__all__ = [
    "DISTANCE", "DOWNLOADS", "ENERGY", "IDENTIFIER", "UNIQUE", "checksum", "entry_ids", "read_hull",
    "read_test_crystals",
]  # fmt: skip

IDENTIFIER = "material_id"
ENERGY = "e_form_per_atom_mp2020_corrected"
"""Formation energy, eV/atom, with the corrections of the Materials Project of 2020: the benchmark's label."""
DISTANCE = "e_above_hull_mp2020_corrected_ppd_mp"
"""Energy above the hull of the Materials Project, eV/atom; stable up to 0."""
UNIQUE = "unique_prototype"
STRUCTURE = "initial_structure"

SUMMARY_MD5 = "1555268d3aa59d20262cb9d01ce0994b"
STRUCTURES_MD5 = "b809f101dd42a745ec2baabe7eb16f11"

DOWNLOADS = (
    "Distances to the hull: `2023-12-13-wbm-summary.csv.gz` (256,963 rows; --hull reads it as it is) from "
    "https://figshare.com/files/64706751, MD5 " + SUMMARY_MD5 + "; its size is not stated. Structures before "
    "relaxation: `2022-10-19-wbm-init-structs.jsonl.gz` (49,537,334 bytes; may stand as the second table of --data) "
    "from https://figshare.com/files/53161835, MD5 " + STRUCTURES_MD5 + ". Both belong to the figshare article "
    "https://doi.org/10.6084/m9.figshare.22715158; the checksums are those in the benchmark's list of files "
    "(`matbench_discovery/data-files.yml`), which has changed with the files before."
)
"""What to download for the classification metrics."""

_KNOWN_MD5 = {SUMMARY_MD5: "the benchmark's WBM summary", STRUCTURES_MD5: "the benchmark's initial structures of WBM"}


def checksum(path: str | Path) -> dict[str, Any]:
    """Return name, size, SHA-256 and MD5 of a file, and which file of the benchmark it is by its MD5, if any."""
    sums = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            size += len(block)
            for digest in sums:
                digest.update(block)
    md5 = sums[1].hexdigest()
    return {
        "file": Path(path).name, "bytes": size, "sha256": sums[0].hexdigest(), "md5": md5,
        "known_as": _KNOWN_MD5.get(md5),
    }  # fmt: skip


def read_hull(path: str | Path) -> pd.DataFrame:
    """Read distances to the hull.

    Args:
        path: The benchmark's summary (`.csv`, `.csv.gz`), or a `.parquet` or `.jsonl` table with its columns.

    Returns:
        Columns `ENERGY`, `DISTANCE` (eV/atom, finite) and `UNIQUE` (bool), the `IDENTIFIER` as index.

    Raises:
        TableError: There is no such file, it is damaged, or a column is missing, not numeric or not yes or no.
        StudyError: An id stands twice, or no row is complete.
    """
    path = Path(path)
    if path.name.lower().endswith(".csv.gz"):
        if not path.is_file():
            raise TableError(f"there is no such file. {DOWNLOADS}", source=str(path))
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={IDENTIFIER: str})
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise TableError(f"cannot be read ({one_line(error)}).", source=str(path)) from error
    else:
        table = read_table(path)
    missing = [name for name in (IDENTIFIER, ENERGY, DISTANCE, UNIQUE) if name not in table.columns]
    if missing:
        raise TableError(
            f"has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.", source=str(path)
        )
    flags = {"true": True, "false": False, "1": True, "0": False}
    unique = table[UNIQUE].map(lambda value: flags.get(str(value).strip().lower().removesuffix(".0")))
    if unique.isna().any():
        row = int(unique.isna().to_numpy().argmax())
        raise TableError(
            f"column {UNIQUE!r} must say True or False, not {table[UNIQUE][row]!r}.", source=str(path), row=row
        )
    values = {name: numeric_column(table, name, path).to_numpy() for name in (ENERGY, DISTANCE)}
    hull = pd.DataFrame(
        values | {UNIQUE: unique.to_numpy(dtype=bool)}, index=pd.Index(table[IDENTIFIER].astype(str), name=IDENTIFIER)
    )
    if hull.index.has_duplicates:
        raise StudyError(
            f"{hull.index[hull.index.duplicated()][0]!r} stands in several rows of {IDENTIFIER!r}.", source=str(path)
        )
    hull = hull.dropna()
    if not len(hull):
        raise StudyError(f"no row has both {ENERGY!r} and {DISTANCE!r}.", source=str(path))
    return hull


def read_test_crystals(path: str | Path, label: str | None, cache: Path, workers: Workers = ONE_WORKER) -> Crystals:
    """Read the crystals to be predicted.

    Args:
        path: A table as `read_crystals` takes, or the benchmark's JSON lines (`.jsonl.gz`): objects with `material_id`
            and a pymatgen dict under `initial_structure`.
        label: Column of labels; None: they come from elsewhere. JSON lines of the benchmark have none.
        cache: Folder that keeps the strings.
        workers: Processes that encode crystals.

    Raises:
        StudyError: No crystal can be encoded.
        TableError: The table or its label column cannot be read, or JSON lines are damaged or of other crystals.
    """
    path = Path(path)
    if not path.name.lower().endswith(".jsonl.gz"):
        return read_crystals(path, [] if label is None else [label], cache, workers)
    if label is not None:
        raise StudyError(
            "structures of the benchmark have no labels; give the summary of WBM with --hull.", source=str(path)
        )
    strings = encode_once(_items(path), cache, path.stem, digest_of(path), workers)
    return crystals_from_strings(strings, strings["source"].tolist(), {}, path)


def _items(path: Path) -> Iterator[Item]:
    """Yield the crystal of each line, named by its id."""
    for lines in read_chunks(path, 1024):
        missing = [name for name in (IDENTIFIER, STRUCTURE) if name not in lines.columns]
        if missing:
            raise TableError(
                f"has no {' and no '.join(map(repr, missing))}, so it does not hold the structures of WBM.",
                source=str(path),
            )
        yield from table_items(lines.rename(columns={IDENTIFIER: "id"}), path, column=STRUCTURE)


def entry_ids(crystals: Crystals) -> np.ndarray[Any, Any]:
    """Return what the benchmark knows the crystals by: their `material_id` where the table has it, or their ids."""
    if IDENTIFIER in crystals.table.columns:
        return crystals.table[IDENTIFIER].astype(str).to_numpy()
    return np.array(crystals.ids, dtype=object)

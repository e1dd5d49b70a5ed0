"""Files of MatBench and UnconvBench: tables, whatever their columns are called, data sets as JSON, and fold files.

A data set is what `DataFrame.to_json(orient="split")` writes: `{"index": [...], "columns": [...], "data": [[...]]}`,
a pymatgen dict and a number in each row. All of 132,752 structures would be gigabytes of objects in memory; as a stream
it is one row at a time.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.inputs import Item, table_items
from cloud_hf.data.kept_strings import Workers, encode_once
from cloud_hf.data.tables import (
    SCOPE_COLUMN,
    STRUCTURE_COLUMNS,
    has_structures,
    is_missing,
    numeric_column,
    read_table,
    structure_keys,
)
from cloud_hf.errors import StudyError

__all__ = [
    "SplitJson", "encode_split_json", "open_split_json", "read_fold_file", "read_items", "read_labelled_table",
    "target_column",
]  # fmt: skip

BLOCK = 1 << 22
"""Characters that are read at a time."""

DAMAGED = (OSError, EOFError, ValueError, zlib.error)
"""What damaged files raise."""

T = TypeVar("T")

NAMES_OF_STRINGS = (SCOPE_COLUMN, "gen_str", "string")
"""Columns of strings that are looked for, in this order; `gen_str` is the paper's code's."""

NOT_TARGETS = {"id", "nsites", "n_atoms", "natoms", "index", "fold", "split", "space_group", *STRUCTURE_COLUMNS}


class SplitJson:
    """A data set whose rows are still to be read, once.

    Attributes:
        index: The rows' names, usually 0 to n - 1.
        columns: Names of the columns.
        rows: Yields each row's values, in the order of `columns`; raises `StudyError` where the file is damaged.
        close: Closes the file; reading the last row does too.
    """

    def __init__(
        self, index: list[Any], columns: list[str], rows: Iterator[list[Any]], close: Callable[[], None]
    ) -> None:
        self.index, self.columns, self.rows, self.close = index, columns, rows, close

    def __len__(self) -> int:
        return len(self.index)


def open_split_json(path: str | Path) -> SplitJson:
    """Open a data set, `.json` or `.json.gz`, and read what comes before its rows.

    Raises:
        StudyError: There is no such file, or it is damaged or of another form.
    """
    path = Path(path)
    stream = _Stream(path)
    index: list[Any] | None = None
    columns: list[str] | None = None
    try:
        stream.expect("{")
        while (key := stream.value()) != "data":
            stream.expect(":")
            value = stream.value()
            if key == "index":
                index = value
            elif key == "columns":
                columns = value
            stream.expect(",")
        stream.expect(":")
        if not isinstance(index, list) or not isinstance(columns, list):
            raise _damaged(path, "'index' and 'columns' must stand before 'data'")
    except StudyError:
        stream.close()
        raise
    return SplitJson(index, columns, _rows(path, stream, len(index), len(columns)), stream.close)


def _rows(path: Path, stream: "_Stream", n: int, width: int) -> Iterator[list[Any]]:
    count = 0
    try:
        stream.expect("[")
        while stream.next() != "]":
            if count:
                stream.expect(",")
            row = stream.value()
            if not isinstance(row, list) or len(row) != width:
                raise _damaged(path, f"row {count} does not hold one value for each of {width} columns")
            count += 1
            yield row
        if count != n:
            raise _damaged(path, f"'index' names {n} rows, 'data' holds {count}")
    finally:
        stream.close()


def read_fold_file(path: str | Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Read the official folds: task to `fold_0` ... to `train` and `test` to ids of rows.

    Args:
        path: `matbench_v0.1_validation.json` or UnconvBench's `metadata_validation.json`, or either as `.gz`.

    Raises:
        StudyError: There is no such file, or it holds no folds.
    """
    path = Path(path)
    with _opened(path) as file:
        content = _guarded(path, lambda: json.load(file))
    splits: Any = content.get("splits") if isinstance(content, dict) else None
    nested = isinstance(splits, dict) and all(isinstance(task, dict) for task in splits.values())
    folds = [fold for task in splits.values() for fold in task.values()] if nested else []
    if not folds or not all(isinstance(fold, dict) and {"train", "test"} <= fold.keys() for fold in folds):
        raise StudyError(
            "is no fold file of this benchmark; it must hold 'splits', and in it each task's 'fold_0' and so "
            "on with the ids of 'train' and 'test'.",
            source=str(path),
        )
    return dict(splits)


class _Stream:
    """Values of a JSON text, one after the other, of which a few blocks are in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, _opened(path)
        self.text = ""
        self.at = 0
        self.decoder = json.JSONDecoder()

    def close(self) -> None:
        self.file.close()

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        block = _guarded(self.path, lambda: self.file.read(BLOCK))
        self.text = self.text[self.at :] + block
        self.at = 0
        return bool(block)

    def next(self) -> str:
        """The next character that is no white space."""
        while True:
            while self.at < len(self.text):
                if not self.text[self.at].isspace():
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                raise _damaged(self.path, "it ends too early")

    def expect(self, character: str) -> None:
        if self.next() != character:
            raise _damaged(self.path, f"{self.next()!r} where {character!r} is due")
        self.at += 1

    def value(self) -> Any:
        self.next()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except ValueError as error:
                if not self.more():
                    raise _damaged(self.path, str(error)) from error
                continue
            if end == len(self.text) and self.more():  # a number may go on
                continue
            self.at = end
            return value


def _opened(path: Path) -> io.TextIOBase:
    if not path.is_file():
        raise StudyError("there is no such file.", source=str(path))
    return _guarded(
        path,
        lambda: gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8"),
    )


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except DAMAGED as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> StudyError:
    reason = " ".join(reason.split())[:160]
    return StudyError(f"cannot be read as a file of this benchmark ({reason}); download it again.", source=str(path))


def read_labelled_table(
    path: str | Path, target: str | None = None, structure: str | None = None, names: Sequence[str] = ()
) -> tuple[list[Item], list[str], NDArray[np.float64]]:
    """Read a table of crystals with one target.

    Args:
        path: `.csv`, `.jsonl` or `.parquet`.
        target: Column of the target; None: that of `names` which is there, or the only column of numbers.
        structure: Column of strings, CIF text, paths or pymatgen dicts; None: structure columns, a column of a usual
            name, or the first one.
        names: Usual names of the target.

    Returns:
        One item a row to encode, the ids (`id`, or `file:row`), and the labels, NaN where a cell is empty.

    Raises:
        StudyError: The table has no rows, or does not say which column is which.
        TableError: It cannot be read, or a column is missing or holds text for numbers.
    """
    path = Path(path)
    table = read_table(path)
    if table.empty:
        raise StudyError("the table has no rows.", source=str(path))
    column = target or target_column(table, path, names)
    labels = numeric_column(table, column, path).to_numpy()
    items = read_items(table, path, structure, column)
    identifiers = table["id"].tolist() if "id" in table.columns else [None] * len(table)
    ids = [
        f"{path.name}:{row}" if is_missing(identifier) else str(identifier)
        for row, identifier in enumerate(identifiers)
    ]
    return items, ids, labels


def target_column(table: pd.DataFrame, path: str | Path, names: Sequence[str] = ()) -> str:
    """Return the name of the target's column.

    Raises:
        StudyError: None or several could be it.
    """
    usual = [name for name in (*names, "target", "label") if name in table.columns]
    if usual:
        return usual[0]
    numbers = [
        str(name)
        for name in table.select_dtypes("number").columns
        if str(name).lower() not in NOT_TARGETS and not str(name).startswith("Unnamed")
    ]
    if len(numbers) != 1:
        columns = ", ".join(map(str, table.columns))
        what = f"columns {', '.join(numbers)} could each be the target" if numbers else "no column holds numbers only"
        raise StudyError(f"{what}; name it with --target-column (the table has {columns}).", source=str(path))
    return numbers[0]


def read_items(table: pd.DataFrame, path: str | Path, structure: str | None, target: str) -> list[Item]:
    """Return one item a row.

    Raises:
        StudyError: No column holds crystals.
        TableError: There is no column `structure`.
    """
    column = structure or _structure_column(table)
    if column in table.columns:
        values = [value for value in table[column] if not is_missing(value)][:100]
        if not values or column == target or not all(isinstance(value, str | dict) for value in values):
            raise StudyError(
                f"the column {column!r} holds no strings or crystals; name theirs with --structure-column "
                f"(the table has {', '.join(map(str, table.columns))}).",
                source=str(path),
            )
    return list(table_items(table, path, column=column))


def _structure_column(table: pd.DataFrame) -> str | None:
    """Return the column that holds the crystals, in other tables the first one; None: several hold them together."""
    names = {str(name).lower(): str(name) for name in table.columns}
    if has_structures(table):
        return None
    strings = [names[name] for name in NAMES_OF_STRINGS if name in names]
    keys = structure_keys(names)
    if not strings and keys is not None and len(keys) > 1:
        return None
    return [*strings, *(names[key] for key in keys or ()), str(table.columns[0])][0]


def encode_split_json(
    path: Path,
    sha256: str,
    target: str | None,
    identify: Callable[[SplitJson], list[str]],
    folder: Path,
    workers: Workers,
    name: str,
) -> tuple[pd.DataFrame, list[str], NDArray[np.float64]]:
    """Read a data set in split-oriented JSON row by row and encode it, or read what an earlier call kept.

    Args:
        path: Path of the data set, with pymatgen dicts in a column `structure`.
        sha256: Its SHA-256.
        target: Column of the target; None: the only other one.
        identify: Gives the rows' ids.
        folder: Keeps strings and labels.
        workers: Processes that encode crystals.
        name: What the kept file and the progress bar are called.

    Returns:
        What `encode_once` returns, the ids, and the labels, shape (n,), NaN where there is none.

    Raises:
        StudyError: The file is damaged or of another task, or a target is no number.
    """
    with closing(open_split_json(path)) as data:
        ids = identify(data)
        if target is None and len(data.columns) == 2:
            target = next(column for column in data.columns if column != "structure")
        if target not in data.columns or "structure" not in data.columns:
            raise StudyError(
                f"has the columns {', '.join(map(str, data.columns))}, not 'structure' and {target!r}; it is "
                "the file of another task, or was renamed.",
                source=str(path),
            )
        crystal, number = data.columns.index("structure"), data.columns.index(target)
        labels: list[float] = []

        def items() -> Iterator[Item]:
            for identifier, row in zip(ids, data.rows, strict=True):
                labels.append(_number(row[number], f"{path}: the row {identifier}", str(target)))
                yield Item(source=identifier, crystal=row[crystal])

        strings = encode_once(items(), folder, name, f"{sha256} {target}", workers, total=len(data), labels=labels)
    return strings, ids, strings["label"].to_numpy()


def _number(value: Any, where: str, column: str) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StudyError(f"{where} holds {value!r} in {column!r}, not a number.")
    return float(value)

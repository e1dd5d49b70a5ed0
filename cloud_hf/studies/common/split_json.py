"""Benchmark files of MatBench and UnconvBench, read row by row: data sets as split-oriented JSON, and fold files.

A data set is what `DataFrame.to_json(orient="split")` writes: `{"index": [...], "columns": [...], "data": [[...]]}`,
a pymatgen dict and a number in each row. All of 132,752 structures would be gigabytes of objects in memory; as a stream
it is one row at a time.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cloud_hf.errors import StudyError

__all__ = ["SplitJson", "open_split_json", "read_fold_file"]

BLOCK = 1 << 22
"""Characters that are read at a time."""

DAMAGED = (OSError, EOFError, ValueError, zlib.error)
"""What damaged files raise."""

T = TypeVar("T")


class SplitJson:
    """A data set whose rows are still to be read, once.

    Attributes:
        index: The rows' names, usually 0 to n - 1.
        columns: Names of the columns.
        rows: Yields each row's values, in the order of `columns`; raises `StudyError` where the file is damaged.
    """

    def __init__(self, path: Path, index: list[Any], columns: list[str], rows: Iterator[list[Any]]) -> None:
        self.path = path
        self.index = index
        self.columns = columns
        self.rows = rows

    def __len__(self) -> int:
        return len(self.index)


def open_split_json(path: str | Path) -> SplitJson:
    """Open a data set, `.json` or `.json.gz`, and read what comes before its rows.

    Raises:
        StudyError: There is no such file, or it is damaged or of another form.
    """
    path = Path(path)
    stream = _Stream(_opened(path))
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
    except DAMAGED as error:
        stream.close()
        raise _damaged(path, error) from error
    if not isinstance(index, list) or not isinstance(columns, list):
        stream.close()
        raise _damaged(path, ValueError("'index' and 'columns' must stand before 'data'"))
    return SplitJson(path, index, columns, _rows(path, stream, len(index), len(columns)))


def _rows(path: Path, stream: "_Stream", n: int, width: int) -> Iterator[list[Any]]:
    found = 0
    try:
        stream.expect("[")
        while stream.next() != "]":
            if found:
                stream.expect(",")
            row = stream.value()
            if not isinstance(row, list) or len(row) != width:
                raise ValueError(f"row {found} does not hold one value for each of {width} columns")
            found += 1
            yield row
        if found != n:
            raise ValueError(f"'index' names {n} rows, 'data' holds {found}")
    except DAMAGED as error:
        raise _damaged(path, error) from error
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
        found = _guarded(path, lambda: json.load(file))
    splits: Any = found.get("splits") if isinstance(found, dict) else None
    nested = isinstance(splits, dict) and all(isinstance(task, dict) for task in splits.values())
    folds = [fold for task in splits.values() for fold in task.values()] if nested else []
    if not folds or not all(isinstance(fold, dict) and {"train", "test"} <= fold.keys() for fold in folds):
        raise StudyError(
            f"{path}: is no fold file of this benchmark; it must hold 'splits', and in it each task's 'fold_0' and so "
            "on with the ids of 'train' and 'test'."
        )
    return dict(splits)


class _Stream:
    """Values of a JSON text, one after the other, of which a few blocks are in memory."""

    def __init__(self, file: io.TextIOBase) -> None:
        self.file = file
        self.text = ""
        self.at = 0
        self.decoder = json.JSONDecoder()

    def close(self) -> None:
        self.file.close()

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        block = self.file.read(BLOCK)
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
                raise EOFError("it ends too early")

    def expect(self, character: str) -> None:
        if self.next() != character:
            raise ValueError(f"{self.next()!r} where {character!r} is due")
        self.at += 1

    def value(self) -> Any:
        self.next()
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
            except ValueError:
                if not self.more():
                    raise
                continue
            if end == len(self.text) and self.more():  # a number may go on
                continue
            self.at = end
            return found


def _opened(path: Path) -> io.TextIOBase:
    if not path.is_file():
        raise StudyError(f"{path}: there is no such file.")
    return _guarded(
        path,
        lambda: gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8"),
    )


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StudyError:
    reason = " ".join(str(error).split())[:160]
    return StudyError(f"{path}: cannot be read as a file of this benchmark ({reason}); download it again.")

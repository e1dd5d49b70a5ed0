"""Rows of a command: to the file as they come, the first of them to the terminal, failures to stderr."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cloud_hf.data.tables import TABLE_SUFFIXES, check_output
from cloud_hf.errors import CloudError, one_line, summary

if TYPE_CHECKING:  # pandas and Arrow, which the terminal does not need
    from cloud_hf.data.writers import TableWriter

__all__ = [
    "Rows",
    "check_table_output",
    "file_errors",
    "open_rows",
    "report_failures",
    "show",
    "show_reasons",
]

SHOWN_ROWS = 40
"""Rows on the terminal where a file holds all of them."""

MOST_ROWS = 1000
"""Rows on the terminal where no file was asked for."""

SHOWN_FAILURES = 10
"""Failed rows that are named on the terminal; the output file names all."""


@contextmanager
def file_errors() -> Iterator[None]:
    """Files that cannot be read or written end in one line."""
    try:
        yield
    except OSError as error:
        raise CloudError(one_line(error, None)) from error


def check_table_output(arguments: argparse.Namespace) -> None:
    """Refuse, before the work, an output that cannot be written or that is one of the inputs."""
    if arguments.output:
        check_output(arguments.output, TABLE_SUFFIXES, arguments.inputs)


class Rows:
    """Takes the rows of a command; from `open_rows`.

    Attributes:
        shown: The first rows, those for the terminal.
        n_rows: Rows taken so far.
        n_failed: Rows that failed so far, whether they were taken or not.
    """

    def __init__(self, writer: "TableWriter | None" = None) -> None:
        self.shown: list[Mapping[str, Any]] = []
        self.n_rows = 0
        self.n_failed = 0
        self._writer = writer
        self._errors: list[str] = []
        self._kinds: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        """Whether the next row will be shown on the terminal."""
        return len(self.shown) < (MOST_ROWS if self._writer is None else SHOWN_ROWS)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row."""
        if self.has_room:
            self.shown.append(row)
        if self._writer is not None:
            self._writer.write(row)
        self.n_rows += 1

    def failed(self, error: CloudError | str | None) -> None:
        """Count a failure, if `error` is one."""
        if error is None:
            return
        if self.n_failed < SHOWN_FAILURES:
            self._errors.append(str(error))
        self.n_failed += 1
        if isinstance(error, CloudError):
            self._kinds[type(error).__name__] += 1

    def report(self, total: int) -> int:
        """Tell on stderr which of `total` rows failed, and for which reasons; return the exit status, 1 if any did."""
        for error in self._errors:
            print(f"cloud-hf: {error}", file=sys.stderr)
        if self.n_failed:
            more = self.n_failed - len(self._errors)
            note = f", {more} of them not shown" if more else ""
            print(f"cloud-hf: {self.n_failed} of {total} rows failed{note}.", file=sys.stderr)
            show_reasons(self._kinds)
        return int(self.n_failed > 0)


def show_reasons(counts: Mapping[str, int]) -> None:
    """Tell on stderr how many rows failed for which reason, and the way out of each."""
    for line in summary(counts):
        print(f"  {line}", file=sys.stderr)


def report_failures(errors: Iterable[str], total: int) -> int:
    """Tell on stderr what failed of `total` rows; return the exit status, 1 if there is any."""
    rows = Rows()
    for error in errors:
        rows.failed(error)
    return rows.report(total)


@contextmanager
def open_rows(columns: Mapping[str, str], output: str | None = None) -> Iterator[Rows]:
    """Collect rows, and write them as they come; the file appears at the end of the block.

    Args:
        columns: Name and dtype of each column, as for `open_writer`.
        output: The file, if there is to be one.
    """
    if not output:
        yield Rows()
        return
    from cloud_hf.data.writers import open_writer

    with open_writer(output, columns) as writer:
        yield Rows(writer)


def show(rows: Sequence[Mapping[str, Any]], total: int) -> str:
    """Format rows for the terminal, one line each, without errors and empty columns.

    Args:
        rows: The first rows, all with the same columns; None is an empty cell.
        total: How many rows there are.
    """
    columns = list(rows[0]) if rows else []
    names = [name for name in columns if name != "error" and any(row[name] is not None for row in rows)]
    cells = [["" if row[name] is None else row[name] for name in names] for row in rows]
    text = tabulate(cells, headers=names, tablefmt="simple", disable_numparse=True)
    return text if total == len(rows) else f"{text}\n... and {total - len(rows)} more rows"

"""What the blocks of the documents are made of: result files, tables, and sentences from `docs_prose.md.j2`."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

__all__ = ["RESULTS", "read", "sentences", "table"]

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


@cache
def read(name: str) -> dict[str, Any]:
    """Content of a result file in `docs/results/`."""
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str], floatfmt: str | None = None) -> str:
    """A table in Markdown; without `floatfmt` every cell stands as it is given."""
    if floatfmt is None:
        return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=floatfmt)


def sentences(name: str, **values: Any) -> str:
    """A paragraph of `docs_prose.md.j2` in one line.

    Args:
        name: Of the macro there.
        values: Its arguments.
    """
    return " ".join(str(getattr(_prose(), name)(**values)).split())


@cache
def _prose() -> Any:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined)  # noqa: S701
    environment.filters["fmt"] = format
    return environment.get_template("docs_prose.md.j2").module

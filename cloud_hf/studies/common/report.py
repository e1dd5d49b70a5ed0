"""Reports of studies: prose and tables from the study's `report.md.j2`, numbers from its `results.json`, and pictures.

A template is plain Markdown in lines of any length: the lines of a paragraph are joined. A table is a block
`{% filter table %}`, one row a line, headings first, cells separated by `|`.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate

from cloud_hf.files import save_figure
from cloud_hf.studies import study_module
from cloud_hf.studies.common import published
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.scoring import signed, verdict

__all__ = ["ARM_STYLES", "finish", "new_figure", "render_report"]

ARM_STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": "#1f5fa8", "marker": "o", "label": "CLOUD"},
    "direct": {"color": "#7a3fa0", "marker": "s", "label": "direct head"},
    "scratch": {"color": "#45a3c9", "marker": "v", "label": "CLOUD without pre-training"},
    "auto": {"color": "#b3307a", "marker": "P", "label": "frozen encoder and trees"},
    "trees": {"color": "#d1682a", "marker": "^", "label": "trees"},
    "mean": {"color": "0.5", "marker": "x", "label": "mean of the training labels"},
    "published": {"color": "#3d8b40", "marker": "D", "label": "published"},
}
"""The same colour, marker and name for an arm in every picture."""

STUDIES_FOLDER = Path(__file__).resolve().parents[1]


def finish(folder: StudyFolder, results: Mapping[str, Any], figures: Mapping[str, Figure]) -> Path:
    """Write `results.json`, the pictures and the report of a study, and return the path of the report.

    Args:
        folder: Folder of the study.
        results: All that its report says, as JSON can hold it.
        figures: Name of the file of each picture to the picture.

    Raises:
        CloudError: Something cannot be written.
    """
    path = folder.write_results(results)
    for name, figure in figures.items():
        save_figure(figure, str(folder.path / name))
    return folder.write_report(render_report(json.loads(path.read_text(encoding="utf-8"))))


def render_report(record: Mapping[str, Any]) -> str:
    """Return the report that results make, in Markdown.

    Args:
        record: Content of a `results.json`: `study`, `settings` and `results`. The template of the study also sees
            `published` results and what the study's module has as `REPORT_VALUES`.
    """
    study = str(record["study"])
    template = _environment().get_template(f"{study.replace('-', '_')}/report.md.j2")
    values = getattr(import_module(study_module(study)), "REPORT_VALUES", {})
    text = template.render(settings=record["settings"], results=record["results"], record=record, **values)
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(_joined(block) for block in blocks if block.strip()) + "\n"


def new_figure(width: float = 7.0, height: float = 4.8) -> Figure:
    """Return an empty figure of this many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="compressed")
    FigureCanvasAgg(figure)
    return figure


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(STUDIES_FOLDER), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=lambda value: "" if value is None else value,
    )  # fmt: skip
    environment.filters |= {"table": _table, "fmt": format, "signed": signed, "verdict": verdict}
    environment.globals["published"] = published
    return environment


def _table(text: str, digits: int | None = 4) -> str:
    r"""Lay out a table; `\|` is a bar in a cell, numbers get this many significant digits, None: stay as they are."""
    headings, *rows = (
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in text.splitlines() if line.strip()
    )
    form: dict[str, Any] = {"disable_numparse": True} if digits is None else {"floatfmt": f".{digits}g"}
    return tabulate(rows, headers=headings, tablefmt="github", missingval="", **form) + "\n"


def _joined(block: str) -> str:
    """Join the lines of a paragraph, and of each item of a list."""
    lines: list[str] = []
    for line in block.strip().splitlines():
        if line.startswith("|"):
            lines.append(line.rstrip())
        elif lines and not line.startswith("- "):
            lines[-1] += f" {' '.join(line.split())}"
        else:
            lines.append(" ".join(line.split()))
    return "\n".join(lines)

"""What a study is read as: a Markdown report with tables and pictures, and the colours of its arms."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate

from cloud_hf.inference.plotting import save_figure
from cloud_hf.studies.common.scoring import signed

__all__ = ["ARM_STYLES", "Report", "comparison_table", "new_figure"]

ARM_STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": "#1f5fa8", "marker": "o", "label": "CLOUD"},
    "direct": {"color": "#7a3fa0", "marker": "s", "label": "direct head"},
    "scratch": {"color": "#45a3c9", "marker": "v", "label": "CLOUD without pre-training"},
    "trees": {"color": "#d1682a", "marker": "^", "label": "trees"},
    "mean": {"color": "0.5", "marker": "x", "label": "mean of the training labels"},
    "published": {"color": "#3d8b40", "marker": "D", "label": "published"},
}
"""The same colour, marker and name for an arm in every picture."""

NAMES = {"model": "model", "trees": "trees", "mean": "mean of the training labels"}


class Report:
    """A Markdown report that grows from top to bottom.

    Args:
        title: Of the study.
        summary: What was asked and how it was measured, in a few sentences.
    """

    def __init__(self, title: str, summary: str) -> None:
        self.parts = [f"# {title}", summary]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.parts.append(f"## {text}")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 4) -> None:
        """Add a table; numbers with so many significant digits, None as an empty cell."""
        self.parts.append(
            tabulate([list(row) for row in rows], headers=list(headers), tablefmt="github", floatfmt=f".{digits}g",
                     missingval="")
        )  # fmt: skip

    def picture(self, figure: Figure, folder: Path, name: str, caption: str) -> None:
        """Write a picture into the folder of the study, and show it.

        Raises:
            CloudError: It cannot be written.
        """
        save_figure(figure, str(folder / name))
        self.parts.append(f"![{caption}]({name})\n\n*{caption}*")

    def __str__(self) -> str:
        return "\n\n".join(part.rstrip() for part in self.parts) + "\n"


def new_figure(width: float = 7.0, height: float = 4.8) -> Figure:
    """Return an empty figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="compressed")
    FigureCanvasAgg(figure)
    return figure


def comparison_table(
    report: Report, scores: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Add one line per task and arm, with the paired difference to the trees and published results below the arms.

    Args:
        report: To add to.
        scores: Task to what `compared` returned.
        published: Task to name of a published model to its MAE in the same unit.
    """
    lines: list[list[Any]] = []
    for task, found in scores.items():
        for arm, errors in found["arms"].items():
            difference = errors.get("difference")
            lines.append(
                [task, NAMES.get(arm, arm), found["n"], errors["mae"], errors["median_absolute_error"], errors["rmse"],
                 errors["mae_mad"], signed(difference) if difference else None, found["unit"], found["rows"]]
            )  # fmt: skip
        for name, mae in ((published or {}).get(task) or {}).items():
            lines.append([task, f"{name} (published)", None, mae, *[None] * 4, found["unit"], None])
    references = dict.fromkeys(str(found.get("reference", "trees")) for found in scores.values())
    whose = " or ".join("trees'" if name == "trees" else f"{name}'s" for name in references)
    headers = ["task", "by", "N", "MAE", "median error", "RMSE", "MAE:MAD", f"MAE - {whose} (95 %)", "unit", "rows"]
    report.table(headers, lines)

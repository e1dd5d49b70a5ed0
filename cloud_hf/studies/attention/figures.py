"""Pictures of the attention study."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cloud_hf.studies.common.report import new_figure

__all__ = ["figures"]

ANNOTATED = 60
"""Heads up to which every share is written into the map."""

CONTENT_NAMES = ("generators", "wyckoff", "elements", "fractions")


def figures(models: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the attention of every model, and the attributions of those that have a head.

    Args:
        models: Name of each model to its results, as in `results.json`.
    """
    drawn: dict[str, Figure] = {}
    for name, measured in models.items():
        file = "".join(sign if sign.isalnum() else "_" for sign in name)
        drawn |= {
            f"heads_{file}.png": _heads_figure(name, measured),
            f"classes_{file}.png": _classes_figure(name, measured),
        }
    drawn["layers.png"] = _layers_figure(models)
    outputs = [(name, output) for name, model in models.items() for output in model["gradients"]]
    return drawn | ({"gradients.png": _gradients_figure(outputs)} if outputs else {})


def _heads_figure(name: str, measured: Mapping[str, Any]) -> Figure:
    by_head, expected = np.array(measured["by_head"]), np.array(measured["by_layer"]["expected"])
    layers, heads, _ = by_head.shape
    kinds = measured["classes"]
    content = [index for index, kind in enumerate(kinds) if kind in CONTENT_NAMES]
    rest = [index for index in range(len(kinds)) if index not in content]
    panels = [(kinds[index], [index]) for index in content] + [("special", rest)]
    figure = new_figure(2.3 * len(panels) + 0.8, 1.3 + max(0.3 * layers, 1.0))
    for place, (kind, columns) in enumerate(panels):
        shares = by_head[:, :, columns].sum(axis=2)
        axes = figure.add_subplot(1, len(panels), place + 1)
        image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_title(f"{kind} (words {expected[columns].sum():.2f})", fontsize=9)
        _axis_numbers(axes, heads, layers, place == 0)
        if layers * heads <= ANNOTATED:
            _annotate(axes, shares, 0.6)
    figure.suptitle(f"{name}: share of the attention of [CLS]", fontsize=10)
    figure.colorbar(image, ax=figure.axes, shrink=0.9)
    return figure


def _axis_numbers(axes: Any, heads: int, layers: int, left: bool) -> None:
    axes.set_xticks(range(heads), range(1, heads + 1), fontsize=8)
    axes.set_yticks(range(layers), range(1, layers + 1) if left else [], fontsize=8)
    axes.set_xlabel("head", fontsize=8)
    if left:
        axes.set_ylabel("layer", fontsize=8)


def _annotate(axes: Any, values: Any, dark_below: float, digits: int = 2) -> None:
    for row, column in np.ndindex(values.shape):
        colour = "white" if values[row, column] < dark_below else "black"
        axes.text(column, row, f"{values[row, column]:.{digits}f}", ha="center", va="center", fontsize=7, color=colour)


def _classes_figure(name: str, measured: Mapping[str, Any]) -> Figure:
    names = measured["classes"]
    trained, expected = np.array(measured["between"]["trained"]), np.array(measured["by_layer"]["expected"])
    figure = new_figure(8.6, 3.7)
    axes = figure.add_subplot(1, 2, 1)
    image = axes.imshow(trained, cmap="viridis", vmin=0)
    _annotate(axes, trained, 0.6 * trained.max())
    _axis_names(axes, names, f"{name}: share of attention", True)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes = figure.add_subplot(1, 2, 2)
    enrichment = trained / expected
    image = axes.imshow(np.log2(enrichment), cmap="RdBu_r", vmin=-2, vmax=2)
    for row, column in np.ndindex(enrichment.shape):
        strong = abs(np.log2(max(enrichment[row, column], 1e-9))) > 1.3
        axes.text(column, row, f"{enrichment[row, column]:.2f}", ha="center", va="center", fontsize=7,
                  color="white" if strong else "black")  # fmt: skip
    _axis_names(axes, names, "over the share of words", False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="log2 of the ratio")
    return figure


def _axis_names(axes: Any, names: list[str], title: str, left: bool) -> None:
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names if left else [], fontsize=8)
    axes.set_xlabel("looked at", fontsize=9)
    if left:
        axes.set_ylabel("looking", fontsize=9)
    axes.set_title(title, fontsize=10)


COLOURS = {"generators": "#7a3fa0", "wyckoff": "#1f5fa8", "elements": "#d1682a", "fractions": "#3d8b40",
           "separator": "0.45", "[CLS]": "0.2", "[SEP]": "#b8a000"}  # fmt: skip


def _layers_figure(models: Mapping[str, Any]) -> Figure:
    figure = new_figure(3.0 * len(models) + 1.3, 3.4)
    first: Any = None
    for place, (name, measured) in enumerate(models.items()):
        axes = figure.add_subplot(1, len(models), place + 1)
        first = first or axes
        by_layer = {which: np.array(measured["by_layer"][which]) for which in ("trained", "random", "expected")}
        layers = np.arange(1, len(by_layer["trained"]) + 1)
        for index, kind in enumerate(measured["classes"]):
            colour = COLOURS[kind]
            axes.plot(layers, by_layer["trained"][:, index], "o-", color=colour, label=kind, markersize=4)
            axes.plot(layers, by_layer["random"][:, index], ":", color=colour, linewidth=1.2)
            axes.axhline(by_layer["expected"][index], color=colour, linestyle="--", linewidth=0.8)
        axes.set(xlabel="layer", title=name, ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    first.set_ylabel("share of the attention of [CLS]")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    return figure


def _gradients_figure(outputs: list[tuple[str, Mapping[str, Any]]]) -> Figure:
    figure = new_figure(3.6 * len(outputs) + 0.6, 3.6)
    for place, (name, output) in enumerate(outputs):
        axes = figure.add_subplot(1, len(outputs), place + 1)
        kinds = [kind for kind in CONTENT_NAMES if kind in output["classes"]]
        for index, kind in enumerate(kinds):
            values = output["classes"][kind]
            for shift, which, colour in ((-0.2, "share", COLOURS[kind]), (0.2, "random", "0.75")):
                bar = values[which]
                ends = [[bar["value"] - bar["low"]], [bar["high"] - bar["value"]]]
                axes.bar(index + shift, bar["value"], 0.38, color=colour, yerr=ends, capsize=3,
                         label="random weights" if which == "random" and index == 0 else None)  # fmt: skip
            axes.plot([index - 0.42, index + 0.42], [values["expected"]] * 2, "k--", linewidth=1.2,
                      label="share of words" if index == 0 else None)  # fmt: skip
        axes.set_xticks(range(len(kinds)), kinds)
        axes.set(ylabel="share of |attribution|", title=f"{name}\n{output['output']}", ylim=(0, 1))
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.25, axis="y")
        axes.legend(fontsize=8, loc="upper left")
    return figure

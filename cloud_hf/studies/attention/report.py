"""Report and pictures of the attention study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cloud_hf.studies.common.report import Report, new_figure
from cloud_hf.studies.common.scoring import signed

__all__ = ["write_report"]

ANNOTATED = 60
"""Heads up to which every share is written into the map."""

CONTENT_NAMES = ("generators", "wyckoff", "elements", "fractions")


def write_report(results: Mapping[str, Any], folder: Path) -> str:
    """Draw the pictures into the folder and return the report.

    Args:
        results: What `results.json` holds.
        folder: Of the study.
    """
    models = results["models"]
    report = Report(
        "Attention: what the models look at",
        f"Rows: {results['rows']}. {results['rows_without_a_string']:,} rows that were read had no usable string"
        + (" (failures.csv). " if results["rows_without_a_string"] else ". ")
        + "Shares are means over crystals, heads and, where not said otherwise, layers; of an ensemble its first "
        "encoder. Two controls stand beside each: the share of the words that a class has, which uniform attention "
        "would give, and the share in models of the same architecture with random weights. Generators and Wyckoff "
        "words write the symmetry.",
    )
    _claim_section(report, results)
    for name, found in models.items():
        report.heading(f"Attention of {name}")
        rows = [
            [kind, one["share"], one["expected"], one["random"], _range(one["enrichment"])]
            for kind, one in found["from_cls"].items()
        ]
        headers = [
            "attention of [CLS] to",
            "share",
            "share of words",
            "random weights",
            "share : share of words (95 %)",
        ]
        report.table(headers, rows, digits=3)
        report.picture(
            _heads_figure(name, found), folder, f"heads_{_file(name)}.png",
            f"{name}: share of the attention of [CLS] on each class by layer and head; uniform attention would give "
            "the share above each map.",
        )  # fmt: skip
        report.picture(
            _classes_figure(name, found), folder, f"classes_{_file(name)}.png",
            f"{name}: share of the attention of the words of a class (row) that each class (column) receives; right, "
            "this over the share of words.",
        )  # fmt: skip
    report.heading("By layer")
    report.picture(
        _layers_figure(models), folder, "layers.png",
        "Share of the attention of [CLS] by layer; dashed: share of words; dotted: random weights.",
    )  # fmt: skip
    _gradients_section(report, results, folder)
    return str(report)


def _claim_section(report: Report, results: Mapping[str, Any]) -> None:
    report.heading("Does attention concentrate on the symmetry?")
    report.text(
        "The paper says so of its model, without a number that could stand here. Symmetry words are a large part of "
        "every string, so that the question is whether they get more than their part (enrichment: share of the "
        "attention over share of the words)."
    )
    rows = []
    for name, found in results["models"].items():
        for text, one in (("all", found["from_cls"]["symmetry"]), ("content words", found["symmetry_of_content"])):
            rows.append(
                [name, text, results["n"], one["share"], one["expected"], one["random"], _range(one["enrichment"]),
                 signed(one["share_less_expected"], 2), signed(one["share_less_random"], 2), _verdict(one)]
            )  # fmt: skip
    report.table(
        ["model", "of attention to", "N", "on symmetry", "share of words", "random weights", "enrichment (95 %)",
         "less share of words (95 %)", "less random (95 %)", "concentrates"],
        rows, digits=3,
    )  # fmt: skip
    lines = [
        f"- {name}: {found['heads']['above_expected']} of {found['heads']['n']} heads look at symmetry words more than "
        f"their number, {found['heads']['below_expected']} less."
        for name, found in results["models"].items()
    ]
    claims = {name: _verdict(found["from_cls"]["symmetry"]) == "yes" for name, found in results["models"].items()}
    report.text(
        f"By both controls it holds here for: {_listed(claims, True)}; not for: {_listed(claims, False)}.\n\n"
        "`concentrates` is yes where the attention of [CLS] exceeds both controls with 95 % confidence. `content "
        "words` leaves out what goes to [CLS], [SEP] and the separator. Nothing reads [CLS] in a masked language "
        "model; heads that pool read the states of elements and Wyckoff words beside it, so that [CLS] need not carry "
        "all.\n\n" + "\n".join(lines)
    )


def _listed(claims: Mapping[str, bool], wanted: bool) -> str:
    return ", ".join(name for name, holds in claims.items() if holds == wanted) or "none"


def _verdict(found: Mapping[str, Any]) -> str:
    gaps = [found["share_less_expected"], found["share_less_random"]]
    if all(gap["low"] > 0 for gap in gaps):
        return "yes"
    return "no, avoids" if all(gap["high"] < 0 for gap in gaps) else "no"


def _range(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"


def _file(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def _gradients_section(report: Report, results: Mapping[str, Any], folder: Path) -> None:
    found = [(name, one) for name, model in results["models"].items() for one in model["gradients"]]
    report.heading("What predictions depend on")
    if not found:
        report.text("None of the models has a head.")
        return
    report.text(
        f"Integrated gradients ({results['steps']} points of Gauss-Legendre quadrature) from a string whose words are "
        f"all {'[MASK]' if results['baseline'] == 'mask' else 'padding'} but [CLS], [SEP] and the separator, over all "
        "that the model reads: word embeddings, element descriptors and multiplicities, and the weights of the pooled "
        "mean. The attributions must add up to the change of the output; the error is the mean of |sum - change| over "
        "the mean of |change|. `masked` is the mean |change| of the output when all words of a class are masked."
    )
    rows = []
    for name, one in found:
        for kind, values in one["classes"].items():
            rows.append(
                [name, one["output"], kind, one["n"], _range(values["share"]), values["expected"],
                 _range(values["random"]), _range(values["signed"]), _range(values["masked"]), one["unit"]]
            )  # fmt: skip
    report.table(
        ["model", "output", "words", "N", "share of absolute attribution (95 %)", "share of words",
         "random weights (95 %)", "sum, mean (95 %)", "masked (95 %)", "unit"],
        rows, digits=3,
    )  # fmt: skip
    for name, one in found:
        channels = ", ".join(f"{channel} {_range(values)}" for channel, values in one["channels"].items())
        report.text(
            f"{name}, {one['output']}: mean |change| {one['mean_absolute_change']:.3g}"
            f"{'' if one['unit'] == '1' else ' ' + one['unit']}, completeness error "
            f"{one['completeness_error']:.1e} (random weights {one['completeness_error_random']:.1e}). Share of "
            f"|attribution| by input: {channels}."
        )
    report.picture(
        _gradients_figure(found), folder, "gradients.png",
        "Share of the absolute attribution by class of word, with 95 % intervals over crystals, and both controls.",
    )  # fmt: skip


def _heads_figure(name: str, found: Mapping[str, Any]) -> Figure:
    by_head, expected = np.array(found["by_head"]), np.array(found["by_layer"]["expected"])
    layers, heads, _ = by_head.shape
    kinds = found["classes"]
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


def _classes_figure(name: str, found: Mapping[str, Any]) -> Figure:
    names = found["classes"]
    trained, expected = np.array(found["between"]["trained"]), np.array(found["by_layer"]["expected"])
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
    for place, (name, found) in enumerate(models.items()):
        axes = figure.add_subplot(1, len(models), place + 1)
        first = first or axes
        by_layer = {which: np.array(found["by_layer"][which]) for which in ("trained", "random", "expected")}
        layers = np.arange(1, len(by_layer["trained"]) + 1)
        for index, kind in enumerate(found["classes"]):
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


def _gradients_figure(found: list[tuple[str, Mapping[str, Any]]]) -> Figure:
    figure = new_figure(3.6 * len(found) + 0.6, 3.6)
    for place, (name, one) in enumerate(found):
        axes = figure.add_subplot(1, len(found), place + 1)
        kinds = [kind for kind in CONTENT_NAMES if kind in one["classes"]]
        for index, kind in enumerate(kinds):
            values = one["classes"][kind]
            for shift, which, colour in ((-0.2, "share", COLOURS[kind]), (0.2, "random", "0.75")):
                bar = values[which]
                ends = [[bar["value"] - bar["low"]], [bar["high"] - bar["value"]]]
                axes.bar(index + shift, bar["value"], 0.38, color=colour, yerr=ends, capsize=3,
                         label="random weights" if which == "random" and index == 0 else None)  # fmt: skip
            axes.plot([index - 0.42, index + 0.42], [values["expected"]] * 2, "k--", linewidth=1.2,
                      label="share of words" if index == 0 else None)  # fmt: skip
        axes.set_xticks(range(len(kinds)), kinds)
        axes.set(ylabel="share of |attribution|", title=f"{name}\n{one['output']}", ylim=(0, 1))
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.25, axis="y")
        axes.legend(fontsize=8, loc="upper left")
    return figure

"""Interactive figures of the demo page: a crystal, its heat capacity and its phonon density of states."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from pymatgen.analysis.graphs import EL_COLORS
from pymatgen.core import Element

from cloud_hf.app.scene import Scene
from cloud_hf.inference.curves import (
    DULONG_PETIT,
    binned_dos,
    excited_share,
    heat_capacity_curve,
    highest_wavenumber,
)
from cloud_hf.inference.prediction import Prediction

__all__ = ["HIGHEST", "crystal_figure", "dos_figure", "heat_capacity_figure"]

HIGHEST = 1000.0
"""K; end of the temperature axis and of the slider."""

BLUE, BAND, MARK, GREY = "#2563eb", "rgba(37, 99, 235, 0.18)", "#c2410c", "#6b7280"
"""Told apart without colour too: a line, a band, a point and dashes; each is legible on white and on black."""

LAYOUT: dict[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": GREY, "size": 13},
    "margin": {"l": 60, "r": 15, "t": 55, "b": 50},
    "height": 340,
    "showlegend": False,
    "dragmode": False,
}
AXIS: dict[str, Any] = {"gridcolor": "rgba(107, 114, 128, 0.25)", "zeroline": False, "fixedrange": True}


def crystal_figure(scene: Scene) -> go.Figure:
    """Draw the atoms of a cell with its edges and the bonds between them; it can be turned and zoomed."""
    positions = scene.positions
    figure = go.Figure()
    figure.add_trace(_segments(scene.edges, GREY, 2, "cell"))
    bonds = [(positions[i], positions[j]) for i, j in scene.bonds]
    if bonds:
        figure.add_trace(_segments(bonds, "#9ca3af", 5, "bonds"))
    for symbol in dict.fromkeys(scene.symbols):
        chosen = [place for place, other in enumerate(scene.symbols) if other == symbol]
        x, y, z = positions[chosen].T
        texts = [
            f"{scene.labels[place]} ({', '.join(f'{value:.3f}' for value in scene.fractions[place])})"
            for place in chosen
        ]
        marker = {
            "size": _size(symbol), "color": _colour(symbol), "opacity": 1.0, "line": {"color": "#374151", "width": 1}
        }  # fmt: skip
        figure.add_trace(
            go.Scatter3d(
                x=x, y=y, z=z, mode="markers", name=symbol, marker=marker, text=texts,
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    hidden = {axis: {"visible": False} for axis in ("xaxis", "yaxis", "zaxis")}
    camera = {"eye": {"x": 1.5, "y": 1.1, "z": 0.7}, "projection": {"type": "orthographic"}}
    figure.update_layout(
        LAYOUT,
        height=420,
        margin={"l": 0, "r": 0, "t": 10, "b": 0},
        showlegend=True,
        dragmode="orbit",
        legend={"orientation": "h", "y": 0, "itemsizing": "constant"},
        scene={**hidden, "aspectmode": "data", "camera": camera, "bgcolor": "rgba(0,0,0,0)"},
    )
    return figure


def _segments(pairs: Any, colour: str, width: float, name: str) -> go.Scatter3d:
    """Lines between pairs of points, in one trace."""
    gap = np.full(3, np.nan)
    x, y, z = np.array([point for one, other in pairs for point in (one, other, gap)]).T
    line = {"color": colour, "width": width}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, name=name, hoverinfo="skip", showlegend=False)


def _colour(symbol: str) -> str:
    red, green, blue = EL_COLORS["Jmol"].get(symbol, (160, 160, 160))
    return f"rgb({red}, {green}, {blue})"


def _size(symbol: str) -> float:
    """Diameter on the screen, by the atomic radius (Slater), which a few elements lack."""
    radius = Element(symbol).atomic_radius
    return 8.0 + 7.0 * float(radius or 1.5)


def heat_capacity_figure(prediction: Prediction, temperature: float) -> go.Figure | None:
    """Draw Cv(T) with its 90 % band, if there is one, and mark a temperature; None where nothing gives Cv(T)."""
    kelvin = torch.linspace(0.0, HIGHEST, 201, dtype=torch.float64)
    curve = heat_capacity_curve(prediction, kelvin)
    point = heat_capacity_curve(prediction, torch.tensor([temperature], dtype=torch.float64), banded=False)
    if curve is None or point is None:
        return None
    here = float(point.values)
    figure = go.Figure()
    if curve.softest is not None and curve.stiffest is not None:
        outline = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=kelvin.numpy(), y=curve.stiffest.numpy(), **outline))
        figure.add_trace(
            go.Scatter(x=kelvin.numpy(), y=curve.softest.numpy(), fill="tonexty", fillcolor=BAND, **outline)
        )
    unit = "J/(mol atom K)"
    figure.add_trace(
        go.Scatter(
            x=kelvin.numpy(), y=curve.values.numpy(), mode="lines", line={"color": BLUE, "width": 2.5},
            hovertemplate=f"%{{x:.0f}} K: %{{y:.2f}} {unit}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[temperature], y=[here], mode="markers+text", marker={"color": MARK, "size": 11}, name="now",
            text=[f"{here:.1f} at {temperature:g} K"], textfont={"color": MARK},
            textposition="bottom right" if temperature < HIGHEST / 2 else "bottom left", hoverinfo="skip",
        )
    )  # fmt: skip
    figure.add_hline(
        DULONG_PETIT, line={"color": GREY, "dash": "dash", "width": 1}, annotation_text=f"3R = {DULONG_PETIT:.1f}",
        annotation_position="top left",
    )  # fmt: skip
    figure.update_layout(
        LAYOUT,
        title={"text": f"Heat capacity Cv, {unit}", "font": {"size": 15}},
        xaxis={**AXIS, "title": "Temperature, K", "range": [0, HIGHEST]},
        yaxis={**AXIS, "range": [0, 1.15 * DULONG_PETIT]},
    )
    return figure


def dos_figure(prediction: Prediction, temperature: float) -> go.Figure | None:
    """Draw the phonon density of states, and by colour how far each mode is excited; None where there is none.

    Args:
        prediction: Of a crystal.
        temperature: K; the share of its classical heat capacity that each mode has there is drawn too.
    """
    dos = prediction.phonon_dos
    if dos is None:
        return None
    edges, density = binned_dos(dos)
    last = highest_wavenumber(edges, density)
    middle = (edges[1:] + edges[:-1]) / 2
    excited = density * excited_share(middle, temperature)
    figure = go.Figure()
    for height, fill, name in ((density, BAND, "all modes"), (excited, BLUE, "excited")):
        figure.add_trace(
            go.Scatter(
                x=middle.numpy(), y=height.numpy(), mode="lines", line={"shape": "hvh", "width": 1, "color": BLUE},
                fill="tozeroy", fillcolor=fill, name=name,
                hovertemplate="%{x:.0f} 1/cm: %{y:.4f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        LAYOUT,
        title={
            "text": "Phonon density of states",
            "subtitle": {"text": f"dark: what heat excites at {temperature:g} K", "font": {"size": 13}},
            "font": {"size": 15},
        },
        xaxis={**AXIS, "title": "Wavenumber, 1/cm", "range": [0, 1.05 * last]},
        yaxis={**AXIS, "title": "Modes per atom and 1/cm", "rangemode": "tozero"},
    )
    return figure

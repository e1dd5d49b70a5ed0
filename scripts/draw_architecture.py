"""Draw `docs/architecture.png`: the rooms of the package, in the layers that import-linter holds, and who imports whom.

Nothing is typed in: layers come from `pyproject.toml`, imports and first lines of docstrings from the code. An arrow
that follows from others (A imports B, B imports C, and A imports C) is left out, as few would see through all of them.
"""

import ast
import textwrap
import tomllib
from itertools import chain, count, product
from pathlib import Path

import grimp
import matplotlib as mpl
import networkx as nx

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cloud_hf"

WIDTH, HEIGHT, GAP, LANE = 4.3, 1.0, 0.6, 0.22
"""Inch: a box, the space between rows, the distance of two lines."""

COLOURS = ("#dbe9f6", "#e3f1de", "#fdebd0", "#f5dfe4", "#e9e3f3")


def layers() -> list[list[str]]:
    """Rooms from the top down, those of one layer together."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return [[name.strip().removeprefix(f"{PACKAGE}.") for name in layer.split("|")] for layer in contract["layers"]]


def room_imports(rooms: list[str]) -> nx.DiGraph:
    """Which room imports which."""
    code, graph = grimp.build_graph(PACKAGE), nx.DiGraph()
    graph.add_nodes_from(rooms)
    for importer in code.modules:
        for imported in code.find_modules_directly_imported_by(importer):
            ends = [name.removeprefix(f"{PACKAGE}.").split(".")[0] for name in (importer, imported)]
            if ends[0] != ends[1] and set(ends) <= set(rooms):
                graph.add_edge(*ends)
    return graph


def what_lives_there(room: str) -> str:
    """First line of the docstring of a room."""
    folder = ROOT / PACKAGE / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


class Picture:
    """Boxes in rows, and lines between them that cross no box.

    Args:
        rows: Names of the boxes.
    """

    def __init__(self, rows: list[list[str]]) -> None:
        self.rows = rows
        self.row_of = {room: index for index, row in enumerate(rows) for room in row}
        self.width, self.height = max(map(len, rows)) * (WIDTH + 0.9), len(rows) * (HEIGHT + GAP)
        self.centres = {
            room: (self.width * (place + 0.5) / len(row), -(index + 0.5) * (HEIGHT + GAP))
            for index, row in enumerate(rows)
            for place, room in enumerate(row)
        }
        self.lanes: list[tuple[float, int, int]] = []  # taken by lines: where, from and to which row
        self.figure, self.axes = plt.subplots(figsize=(self.width, self.height))
        self.axes.set(xlim=(0, self.width), ylim=(-self.height, 0))
        self.axes.axis("off")

    def box(self, room: str) -> None:
        """Draw a room."""
        x, y = self.centres[room]
        text = textwrap.fill(what_lives_there(room).replace("`", ""), 52)
        colour = COLOURS[self.row_of[room] % len(COLOURS)]
        shape = FancyBboxPatch((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, "round,pad=0,rounding_size=0.08")
        shape.set(facecolor=colour, edgecolor="#555")
        self.axes.add_patch(shape)
        self.axes.text(x, y + 0.31, room, ha="center", va="center", fontsize=14, weight="bold")
        self.axes.text(x, y + 0.17, text, ha="center", va="top", fontsize=8.5)

    def arrow(self, importer: str, imported: str) -> None:
        """Draw a line from the lower edge of one room to another below it."""
        (x, y), (to_x, to_y) = self.centres[importer], self.centres[imported]
        bottom, top = y - HEIGHT / 2, to_y + HEIGHT / 2
        if self.row_of[imported] == self.row_of[importer] + 1:
            points = [(x, bottom), (to_x, top)]
        else:
            lane = self._free_lane(importer, imported)
            bend = bottom - GAP / 3
            if abs(lane - to_x) < WIDTH / 2:  # ends on the upper edge
                points = [(x, bottom), (lane, bend), (lane, top)]
            else:
                side = to_x + WIDTH / 2 * (1 if lane > to_x else -1)
                points = [(x, bottom), (lane, bend), (lane, to_y), (side, to_y)]
        self.axes.add_patch(
            FancyArrowPatch(path=Line(points), arrowstyle="-|>", mutation_scale=13, color="#333", lw=1.1)
        )

    def _free_lane(self, importer: str, imported: str) -> float:
        """The nearest place where a line can go down past the rows between two rooms."""
        start, x = self.row_of[importer], self.centres[importer][0]
        for offset in chain.from_iterable((LANE * step, -LANE * step) for step in count()):
            lane = x + offset
            ends_on_top = abs(lane - self.centres[imported][0]) < WIDTH / 2
            stop = self.row_of[imported] - ends_on_top
            boxes = [self.centres[room][0] for row in self.rows[start + 1 : stop + 1] for room in row]
            target = self.centres[imported][0]
            between = [] if ends_on_top else self.rows[stop]
            crossed = [room for room in between if min(lane, target) < self.centres[room][0] < max(lane, target)]
            taken = [place for place, first, last in self.lanes if first <= stop and start <= last]
            if crossed or any(abs(lane - place) < 0.1 for place in taken):
                continue
            if all(abs(lane - box) > WIDTH / 2 + 0.1 for box in boxes):
                self.lanes.append((lane, start, stop))
                return lane
        raise AssertionError("count() has no end")


def draw(path: Path) -> None:
    """Write the picture."""
    picture = Picture(layers())
    graph = room_imports(list(picture.row_of))
    down = nx.DiGraph()
    down.add_nodes_from(graph)
    down.add_edges_from((a, b) for a, b in graph.edges if picture.row_of[a] < picture.row_of[b])  # see ignore_imports
    shown = nx.transitive_reduction(down)
    for room in picture.row_of:
        picture.box(room)
    for importer, imported in product(picture.row_of, repeat=2):  # in one order, so that the picture is always the same
        if shown.has_edge(importer, imported):
            picture.arrow(importer, imported)
    picture.figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.1)
    print(
        f"{len(graph)} rooms, {graph.number_of_edges()} arrows between them, {shown.number_of_edges()} drawn -> {path}"
    )


if __name__ == "__main__":
    draw(ROOT / "docs" / "architecture.png")

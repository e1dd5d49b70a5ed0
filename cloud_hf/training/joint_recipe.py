"""The recipe of a joint training: which column of which table is a label of what, in which unit and of which vintage.

A target has one unit and one vintage (functional and release of the database), and a source that says otherwise is
refused, since energies of two vintages differ by more than a model's error.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from cloud_hf.errors import CloudError, one_line
from cloud_hf.models.configuration_cloud import TARGET_TRANSFORMS
from cloud_hf.models.phonon_dos import DOS_EDGES

__all__ = ["Dos", "JointRecipe", "JointTarget", "Source", "Vibrations", "read_joint_recipe"]


@dataclass(frozen=True)
class JointTarget:
    """A scalar target.

    Attributes:
        unit: Of its labels and predictions.
        vintage: What computed or measured it, in the words of the recipe.
        transform: One of `TARGET_TRANSFORMS`.
        weight: In the loss.
    """

    unit: str
    vintage: str
    transform: str = "standardise"
    weight: float = 1.0


@dataclass(frozen=True)
class Vibrations:
    """What the phonon density of states is learned from.

    Attributes:
        vintages: Those that sources may have.
        scales: Errors that weigh as much as one standard deviation of a scalar target, see `CloudConfig`.
        edges: Of the bins, 1/cm.
    """

    vintages: tuple[str, ...]
    scales: Mapping[str, float] = field(default_factory=dict)
    edges: tuple[float, ...] = DOS_EDGES


@dataclass(frozen=True)
class Dos:
    """A column of densities of states.

    Attributes:
        column: A list of numbers in each row, of any scale.
        edges: Edges of its bins, 1/cm; or
        wavenumber: the column of the wavenumbers at which it was sampled, 1/cm.
    """

    column: str
    edges: tuple[float, ...] | None = None
    wavenumber: str | None = None


@dataclass(frozen=True)
class Source:
    """Labels in one table.

    Attributes:
        table: Name of its file, without `.parquet`.
        vintage: Of all its labels.
        targets: Column to (target, unit).
        heat_capacity: Column of Cv in J/(mol atom K) to its temperature in K.
        per_cell: Columns whose labels are of the whole cell of their row; they are divided by its `nsites`.
        debye_temperature: Column of Debye temperatures of low temperatures, K.
        dos: Densities of states.
        values: Constants as labels of every row: target to value.
        where: Column to the value that a row must have.
        without: Column to the values that a row must not have.
        within: Column to the closed range that a row must be in for any label (`null`: no end).
        label_within: Column to the closed range outside which its own label is left out.
        strings_of: Table that has the crystals of its rows, by `id`; None: the table itself.
    """

    table: str
    vintage: str
    targets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    heat_capacity: Mapping[str, float] = field(default_factory=dict)
    per_cell: tuple[str, ...] = ()
    debye_temperature: str | None = None
    dos: Dos | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    within: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    label_within: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    strings_of: str | None = None


@dataclass(frozen=True)
class JointRecipe:
    """What a joint table is made of.

    Attributes:
        targets: Scalar targets by name, in the order of the outputs.
        vibrations: Of the density of states.
        sources: Where labels come from.
        exclude: Tables whose crystals take no part, since a model will be scored on them.
    """

    targets: Mapping[str, JointTarget]
    vibrations: Vibrations
    sources: tuple[Source, ...]
    exclude: tuple[str, ...] = ()

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All temperatures of heat capacities, ascending, K."""
        return tuple(sorted({kelvin for source in self.sources for kelvin in source.heat_capacity.values()}))

    def weighted(self, weights: Mapping[str, float]) -> "JointRecipe":
        """The same recipe with other weights of some targets in the loss.

        Raises:
            CloudError: There is no such target.
        """
        unknown = [name for name in weights if name not in self.targets]
        if unknown:
            known = ", ".join(self.targets)
            raise CloudError(f"the recipe has no target {', '.join(unknown)}; it has {known}.")
        others = {name: replace(self.targets[name], weight=weight) for name, weight in weights.items()}
        return replace(self, targets={**self.targets, **others})


T = TypeVar("T")


def read_joint_recipe(path: Path) -> JointRecipe:
    """Read a recipe.

    Raises:
        CloudError: It cannot be read, has unknown or missing entries, or its sources do not have the units and vintages
            of their targets; the message names the entry.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CloudError(f"the recipe cannot be read ({one_line(error)}).", source=str(path)) from error
    name = str(path)
    if not isinstance(given, Mapping):
        raise CloudError("a joint recipe is a mapping with targets, vibrations and sources.", source=name)
    parts = dict(given)
    targets = {
        str(key): _make(JointTarget, value, name, f"targets.{key}")
        for key, value in _mapping(parts.pop("targets", None), name, "targets").items()
    }
    vibrations = _mapping(parts.pop("vibrations", None), name, "vibrations")
    vibrations["vintages"] = _texts(vibrations.get("vintages"), name, "vibrations.vintages")
    vibrations["scales"] = _numbers(vibrations.get("scales"), name, "vibrations.scales")
    if "edges" in vibrations:
        vibrations["edges"] = _edges(vibrations["edges"], name, "vibrations.edges")
    given_sources = _list(parts.pop("sources", None), name, "sources")
    sources = tuple(_source(value, name, place) for place, value in enumerate(given_sources))
    exclude = _texts(parts.pop("exclude", None), name, "exclude")
    if parts:
        raise CloudError(f"unknown entries: {', '.join(map(str, parts))}.", source=name)
    recipe = JointRecipe(targets, _make(Vibrations, vibrations, name, "vibrations"), sources, exclude)
    _check(recipe, name)
    return recipe


def _make(kind: type[T], value: Any, name: str, where: str) -> T:
    """A dataclass of a mapping, with every entry known and none missing."""
    if not isinstance(value, Mapping):
        raise CloudError(f"{where} must be a mapping, not {value!r}.", source=name)
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    unknown = [str(key) for key in value if key not in known]
    missing = [
        key
        for key, one in known.items()
        if one.default is MISSING and one.default_factory is MISSING and not value.get(key)
    ]
    if unknown or missing:
        wrong = f"does not know {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise CloudError(f"{where} {wrong}.", source=name)
    for key, entry in value.items():
        if known[key].type in (str, str | None) and not isinstance(entry, str | None):
            raise CloudError(f"{where}.{key} must be a text, not {entry!r}; quotes make it one.", source=name)
        if known[key].type is float:
            _number(entry, name, f"{where}.{key}")
    return kind(**value)


def _mapping(value: Any, name: str, where: str) -> dict[Any, Any]:
    """A copy of a mapping, empty where nothing is given."""
    if not isinstance(value, Mapping | None):
        raise CloudError(f"{where} must be a mapping, not {value!r}.", source=name)
    return dict(value or {})


def _list(value: Any, name: str, where: str) -> list[Any]:
    """A copy of a list, empty where nothing is given."""
    if not isinstance(value, list | tuple | None):
        raise CloudError(f"{where} must be a list, not {value!r}.", source=name)
    return list(value or [])


def _texts(value: Any, name: str, where: str) -> tuple[str, ...]:
    return tuple(str(text) for text in _list(value, name, where))


def _number(value: Any, name: str, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CloudError(f"{where} must be a number, not {value!r}.", source=name)
    return value


def _numbers(value: Any, name: str, where: str) -> dict[Any, float]:
    return {key: _number(number, name, f"{where}.{key}") for key, number in _mapping(value, name, where).items()}


def _range(value: Any, name: str, where: str) -> tuple[float, float]:
    """The two ends of a range, infinite where `null` stands."""
    ends = _list(value, name, where)
    if len(ends) != 2:
        raise CloudError(f"{where} must be a list of two ends, not {value!r}.", source=name)
    low, high = (None if end is None else float(_number(end, name, where)) for end in ends)
    return -math.inf if low is None else low, math.inf if high is None else high


def _source(value: Any, name: str, place: int) -> Source:
    if not isinstance(value, Mapping):
        raise CloudError(f"sources[{place}] must be a mapping, not {value!r}.", source=name)
    where = f"sources[{place}] ({value.get('table')})"
    entries = dict(value)
    labels: dict[str, tuple[str, str]] = {}
    for column, label in _mapping(entries.get("targets"), name, f"{where}.targets").items():
        if not (isinstance(label, list | tuple) and len(label) == 2 and all(label)):
            raise CloudError(f"{where}: column {column!r} needs [target, unit], not {label!r}.", source=name)
        labels[str(column)] = (str(label[0]), str(label[1]))
    entries["targets"] = labels
    if "dos" in entries:
        dos = _mapping(entries["dos"], name, f"{where}.dos")
        if "edges" in dos:
            dos["edges"] = _edges(dos["edges"], name, f"{where}.dos.edges")
        entries["dos"] = _make(Dos, dos, name, f"{where}.dos")
    entries["per_cell"] = _texts(entries.get("per_cell"), name, f"{where}.per_cell")
    entries["where"] = _mapping(entries.get("where"), name, f"{where}.where")
    for entry in ("heat_capacity", "values"):
        entries[entry] = _numbers(entries.get(entry), name, f"{where}.{entry}")
    for entry in ("within", "label_within", "without"):
        read: Callable[[Any, str, str], Any] = _list if entry == "without" else _range
        given = _mapping(entries.get(entry), name, f"{where}.{entry}")
        entries[entry] = {
            str(column): read(limits, name, f"{where}.{entry}.{column}") for column, limits in given.items()
        }
    return _make(Source, entries, name, where)


def _edges(value: Any, name: str, where: str) -> tuple[float, ...]:
    """Edges from a list of [start, stop, step], each stop excluded but the last."""
    try:
        pieces = [np.arange(start, stop, step, dtype=float) for start, stop, step in value]
        edges = np.concatenate([*pieces, [float(value[-1][1])]])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CloudError(f"{where} is a list of [start, stop, step] in 1/cm, not {value!r}.", source=name) from error
    if len(edges) < 2 or edges[0] < 0 or not (np.diff(edges) > 0).all():
        raise CloudError(f"{where} must ascend from 0 or above.", source=name)
    return tuple(float(edge) for edge in edges)


def _check(recipe: JointRecipe, name: str) -> None:
    """Refuse sources that are of another unit or vintage than what they are labels of."""
    for target, about in recipe.targets.items():
        if about.transform not in TARGET_TRANSFORMS:
            raise CloudError(f"targets.{target}: transform must be one of {', '.join(TARGET_TRANSFORMS)}.", source=name)
        if not (float(about.weight) >= 0):
            raise CloudError(f"targets.{target}: weight must not be negative.", source=name)
    if not recipe.targets or not recipe.sources:
        raise CloudError("a joint recipe needs targets and sources.", source=name)
    for place, source in enumerate(recipe.sources):
        where = f"sources[{place}] ({source.table})"
        labels = list(source.targets.values()) + [(target, "") for target in source.values]
        for target, unit in labels:
            known = recipe.targets.get(target)
            if known is None:
                raise CloudError(f"{where}: there is no target {target!r}.", source=name)
            if unit and unit != known.unit:
                raise CloudError(f"{where}: {target} is in {unit} here and in {known.unit} as a target.", source=name)
            if source.vintage != known.vintage:
                raise CloudError(
                    f"{where}: the vintage {source.vintage!r} is not that of {target} ({known.vintage!r}); give the "
                    "labels a target of their own.",
                    source=name,
                )
        vibrational = source.heat_capacity or source.dos or source.debye_temperature
        if vibrational and source.vintage not in recipe.vibrations.vintages:
            raise CloudError(
                f"{where}: the vintage {source.vintage!r} is not among vibrations.vintages "
                f"({', '.join(recipe.vibrations.vintages)}).",
                source=name,
            )
        unknown = set(source.per_cell) - {*source.targets, *source.heat_capacity}
        if unknown:
            raise CloudError(f"{where}: per_cell names {', '.join(sorted(unknown))}, no column of labels.", source=name)
        if source.dos is not None and (source.dos.edges is None) == (source.dos.wavenumber is None):
            raise CloudError(f"{where}.dos needs either edges or the column of wavenumbers.", source=name)

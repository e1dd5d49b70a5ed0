"""What the outputs of a model mean: named quantities with units and intervals, for whole batches.

Serves the pipeline and every other way to run a checkpoint. Flat: ships as Hub remote code.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .conformal import DEFAULT_LEVEL, Calibration, string_features, width_at
from .debye import DebyeInputError
from .errors import CloudError
from .heads_cloud import thermal_properties
from .phonon_dos import DEBYE_TEMPERATURES, THERMAL_UNITS, PhononDOS

__all__ = ["BRANCH", "SPECTRUM", "Quantity", "QuantityReader", "checked_temperature"]

MAX_TEMPERATURE = 1e6
"""K; far above any solid, and small enough for float32 energies."""

MOST_LN_FACTOR = 20.0
"""Debye temperatures are given to a factor of e^20 at worst, which keeps all that follows finite."""

Quantity = dict[str, Any]
"""`{"name": str, "value": float, "unit": str}`; with a calibration also `"low"`, `"high"` in that unit and `"level"`,
and `"unknown_elements"` where no training row held some elements of the crystal."""

BRANCH = ("second_temperature", "second_weight")
"""Outputs of a second branch of a Debye model."""

SPECTRUM = ("optical_dos", "acoustic_share", "acoustic_cutoff")
"""Outputs that are a phonon density of states."""

Values = NDArray[np.float64]


def checked_temperature(temperature: float | str) -> float:
    """Return a temperature in K for which every quantity can be computed.

    Raises:
        DebyeInputError: It is no number from 0 to `MAX_TEMPERATURE`.
    """
    try:
        kelvin = float(temperature)
    except (TypeError, ValueError):  # several temperatures, a text with a unit
        kelvin = math.nan
    if not 0 <= kelvin <= MAX_TEMPERATURE:
        raise DebyeInputError(f"temperature must be one number from 0 to {MAX_TEMPERATURE:g} K, not {temperature!r}.")
    return kelvin


class Interval(NamedTuple):
    """Of one quantity in a batch.

    Attributes:
        low: Lower ends, shape (batch,).
        high: Upper ends, shape (batch,).
        unknown: Elements of each crystal that no training row held.
    """

    low: Values
    high: Values
    unknown: list[list[str]]


class QuantityReader(ABC):
    """Collates strings for a model and makes named quantities of its outputs.

    Attributes:
        tokenizer: Of the model.
        calibration: What gives the intervals; None: there are none.
    """

    tokenizer: Any
    calibration: Calibration | None

    @property
    @abstractmethod
    def settings(self) -> Any:
        """The model's configuration."""

    @property
    @abstractmethod
    def is_debye(self) -> bool:
        """Whether the model is a `CloudForDebye`."""

    @property
    @abstractmethod
    def has_spectrum(self) -> bool:
        """Whether the model is a `CloudForCrystalProperties`."""

    def _string_features(self, scopes: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the intervals need to know of the strings, shape (batch, n_features)."""
        if self.calibration is None:
            return {}
        return {"string_features": torch.from_numpy(string_features(scopes)).float()}

    def _atoms(self, scope: str, n_atoms: Any) -> float:
        """Atoms per primitive cell, NaN if unknown and not needed."""
        atoms = _number_of_atoms(n_atoms)
        if math.isnan(atoms) and self._needs_atoms():
            raise CloudError(
                f"{scope!r} does not say how many atoms the primitive cell has, and this model predicts "
                f"{', '.join(self.settings.target_names)} of whole cells: pass n_atoms, or the crystal itself."
            )
        return atoms

    def _needs_atoms(self) -> bool:
        """Whether a target is extensive, predicted per atom and given per cell, or the acoustic share is not known."""
        if self.has_spectrum and self.settings.grammar != "sites":
            return True
        return any("per_atom" in transform for transform in self.settings.target_transforms or [])

    @property
    def units(self) -> dict[str, str]:
        """The unit of every quantity that may be predicted, in the order of the predictions."""
        config = self.settings
        units = dict(zip(config.target_names, config.target_units, strict=True))
        for target in config.debye_targets if self.is_debye else ():
            kelvin = " K" if target == "heat_capacity" else ""
            units[f"{target}_per_atom"] = f"J/(mol atom{kelvin})"
            units[f"{target}_per_cell"] = f"J/(mol primitive cell{kelvin})"
        if self.has_spectrum:
            for name, unit in THERMAL_UNITS.items():
                units[f"{name}_per_atom"] = unit.format("atom")
                units[f"{name}_per_cell"] = unit.format("primitive cell")
            units |= dict.fromkeys(DEBYE_TEMPERATURES, "K")
        return units

    def quantities(
        self,
        outputs: Mapping[str, torch.Tensor],
        level: float = DEFAULT_LEVEL,
        names: Collection[str] | None = None,
    ) -> list[list[Quantity]]:
        """Tensors of a batch to a list of quantities for each of its inputs, with their intervals if there are any.

        Args:
            outputs: What the model gave.
            level: Of the intervals.
            names: Of the quantities that are wanted; None: all.
        """
        units, wanted = self.units, self.units.keys() if names is None else names
        every = self._not_negative(self._columns(outputs))
        columns = {name: values for name, values in every.items() if name in wanted}
        intervals: dict[str, Interval] = {}
        if self.calibration is not None and "string_features" in outputs:
            if not self.is_debye:
                intervals |= self._intervals(columns, outputs, self.calibration, level)
            if (self.is_debye or self.has_spectrum) and not columns.keys() <= set(self.settings.target_names):
                intervals |= self._bands(every, outputs, self.calibration, level)
        by_quantity: list[list[Quantity]] = []
        for name, values in columns.items():
            unit, interval = units[name], intervals.get(name)
            if interval is None:
                by_quantity.append([{"name": name, "value": value, "unit": unit} for value in values.tolist()])
                continue
            low, high = (ends.tolist() for ends in (np.fmin(interval.low, values), np.fmax(interval.high, values)))
            by_quantity.append(
                [
                    {"name": name, "value": value, "unit": unit, "low": one, "high": two, "level": level}
                    for value, one, two in zip(values.tolist(), low, high, strict=True)
                ]
            )
            for quantity, unknown in zip(by_quantity[-1], interval.unknown, strict=True):
                if unknown:
                    quantity["unknown_elements"] = unknown
        rows = [list(row) for row in zip(*by_quantity, strict=True)] if by_quantity else [[] for _ in outputs["logits"]]
        if self.is_debye:
            for place in torch.isnan(outputs["n_atoms"]).nonzero().flatten().tolist():
                rows[place] = [quantity for quantity in rows[place] if not quantity["name"].endswith("_per_cell")]
        return rows

    def _columns(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, Values]:
        """Every quantity of a batch, shape (batch,); per cell NaN where a Debye model is not told the atoms."""
        config = self.settings
        scalars = outputs["logits"].double().reshape(-1, len(config.target_names)).cpu().numpy()
        columns: dict[str, Values] = dict(zip(config.target_names, scalars.T, strict=True))
        for target in config.debye_targets if self.is_debye else ():
            values = outputs[target].double().reshape(-1).cpu().numpy()
            columns[f"{target}_per_atom"] = values
            columns[f"{target}_per_cell"] = values * outputs["n_atoms"].double().cpu().numpy()
        if self.has_spectrum:
            theta = self._debye_temperatures(outputs)
            columns |= {name: values.numpy() for name, values in self._thermal(outputs, theta).items()}
        return columns

    def _debye_temperatures(self, outputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of `DEBYE_TEMPERATURES` of the densities of states of a batch, in float64."""
        dos: Any = self.phonon_dos(outputs)
        return dos.debye_temperature_from_heat_capacity(), dos.low_temperature_debye_temperature()

    def _thermal(
        self,
        outputs: Mapping[str, torch.Tensor],
        debye_temperatures: tuple[torch.Tensor, ...],
        factors: Callable[[str], Any] = lambda _: 1.0,
    ) -> dict[str, torch.Tensor]:
        """Thermal quantities after all frequencies are multiplied by a factor, that of the quantity, float64.

        Cv and S at T are those of the predicted spectrum at T/factor, energies are the factor times those at T/factor.
        Of the shape (batch,), or that of factors of the shape (..., batch).
        """
        dos: Any = self.phonon_dos(outputs)
        kelvin, atoms = (outputs[name].double().cpu() for name in ("temperature", "n_atoms"))
        zero = dos.zero_point_energy()
        cv, entropy, energy, helmholtz, still = (factors(name) for name in THERMAL_UNITS)
        per_atom = {
            "heat_capacity": dos.heat_capacity(kelvin / cv),
            "entropy": dos.entropy(kelvin / entropy),
            "thermal_energy": energy * (dos.internal_energy(kelvin / energy) - zero),
            "thermal_helmholtz_energy": helmholtz * (dos.helmholtz_energy(kelvin / helmholtz) - zero),
            "zero_point_energy": still * zero,
        }
        atoms = torch.where(atoms.isnan(), 1 / dos.acoustic_share, atoms)
        thermal: dict[str, torch.Tensor] = {}
        for name, values in per_atom.items():
            thermal |= {f"{name}_per_atom": values, f"{name}_per_cell": values * atoms}
        named = zip(DEBYE_TEMPERATURES, debye_temperatures, strict=True)
        return thermal | {name: factors(name) * theta for name, theta in named}

    def _debye_thermal(
        self, outputs: Mapping[str, torch.Tensor], theta: torch.Tensor, factor: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What a Debye model predicts with its characteristic temperatures times a factor, float64, shape (batch,)."""
        kelvin, atoms = (outputs[name].double().cpu() for name in ("temperature", "n_atoms"))
        second, weight = (outputs[name].double().cpu() if name in outputs else None for name in BRANCH)
        other, one = None if second is None else second * factor, torch.ones_like(theta)
        thermal = thermal_properties(theta * factor, kelvin, one, self.settings.second_branch, other, weight)
        scaled = {"debye_temperature": theta * factor}
        for name, values in thermal._asdict().items():
            scaled |= {f"{name}_per_atom": values, f"{name}_per_cell": values * atoms}
        return scaled

    @property
    def gives_phonon_dos(self) -> bool:
        """Whether the model predicts phonon densities of states."""
        return self.has_spectrum

    def phonon_dos(self, outputs: Mapping[str, torch.Tensor]) -> PhononDOS | None:
        """The densities of states of a batch that `forward` gave, in float64; None of a model without them."""
        if not self.has_spectrum:
            return None
        edges = torch.tensor(self.settings.dos_edges, dtype=torch.float64)
        return PhononDOS(edges, *(outputs[name].double().cpu() for name in SPECTRUM))

    def _not_negative(self, columns: Mapping[str, Values]) -> dict[str, Values]:
        """Raise what came out below zero to zero, such as the band gap of a metal, where no label is negative."""
        targets = {} if self.calibration is None else self.calibration.targets
        return {
            name: np.maximum(values, 0.0) if name in targets and targets[name].nonnegative else values
            for name, values in columns.items()
        }

    def gives_interval(self, name: str) -> bool:
        """Tell whether a quantity of `units` comes with an interval."""
        targets = set() if self.calibration is None else set(self.calibration.targets)
        if self.has_spectrum and name not in self.settings.target_names:
            return "heat_capacity" in targets
        return bool(targets & set(self.settings.debye_targets)) if self.is_debye else name in targets

    def _intervals(
        self,
        columns: Mapping[str, Values],
        outputs: Mapping[str, torch.Tensor],
        calibration: Calibration,
        level: float,
    ) -> dict[str, Interval]:
        """Intervals of the scalar targets that have a calibration."""
        features = outputs["string_features"].double().cpu().numpy()
        atoms = outputs["n_atoms"].double().cpu().numpy()
        intervals = {}
        for name in self.settings.target_names:
            target = calibration.targets.get(name)
            if target is None or name not in columns:
                continue
            cells = atoms if target.per_atom else np.ones(len(features))
            low, high = target.interval(features, columns[name] / cells, level)
            intervals[name] = Interval(low * cells, high * cells, target.unknown_elements(features))
        return intervals

    def _bands(
        self,
        columns: Mapping[str, Values],
        outputs: Mapping[str, torch.Tensor],
        calibration: Calibration,
        level: float,
    ) -> dict[str, Interval]:
        """Intervals of everything that follows from the phonon frequencies: all of them are multiplied by one factor.

        The size of the factor was calibrated on errors of ln(Debye temperature): of the predicted one, or of the one
        that Cv at 300 K gives. With a density of states each quantity has one of its own (`quantity_widths`).
        """
        labels = self.settings.debye_targets if self.is_debye else ("heat_capacity",)
        target = next((calibration.targets[name] for name in labels if name in calibration.targets), None)
        if target is None:
            return {}
        theta = (
            outputs["logits"].double().reshape(-1).cpu().numpy() if self.is_debye else columns[DEBYE_TEMPERATURES[0]]
        )
        features = outputs["string_features"].double().cpu().numpy()
        half, kelvin = target.half_width(features, theta, level), outputs["temperature"].double().cpu().numpy()

        def factors(name: str) -> torch.Tensor:
            """By what the frequencies may be divided and multiplied, shape (2, batch)."""
            widths, temperature = target.quantity_widths.get(name, {}), kelvin
            if name == DEBYE_TEMPERATURES[1]:  # that of Cv as T goes to 0
                widths, temperature = target.quantity_widths.get("heat_capacity", {}), np.zeros_like(kelvin)
            logarithm = np.minimum(half * width_at(widths, temperature), MOST_LN_FACTOR)
            return torch.from_numpy(np.exp([-logarithm, logarithm]))

        if self.is_debye:
            ends = self._debye_thermal(outputs, torch.from_numpy(theta), factors("debye_temperature"))
        else:
            debye_temperatures = tuple(torch.from_numpy(columns[name]) for name in DEBYE_TEMPERATURES)
            ends = self._thermal(outputs, debye_temperatures, factors)
        unknown = target.unknown_elements(features)
        return {
            name: Interval(values.amin(0).numpy(), values.amax(0).numpy(), unknown)
            for name, values in ends.items()
            if name in columns
        }

    def collate(
        self, items: Sequence[Any], shared: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Ids of shape (batch, longest), padded, and atoms per primitive cell of shape (batch,), NaN if unknown.

        Args:
            items: Objects with a `scope` whose words and grammar have been checked and with `n_atoms` or None.
            shared: What this method of a pipeline with an equal tokenizer gave for the same items: the strings are then
                not read again.

        Raises:
            UnknownWordError, ScopeTooLongError: A string that the model cannot read.
            DebyeInputError: A number of atoms below 1.
        """
        atoms = [self._atoms(item.scope, item.n_atoms) for item in items]
        scopes, shared = [item.scope for item in items], shared or {}
        tokenizer: Any = self.tokenizer
        tokens = {name: shared[name] for name in tokenizer.model_input_names if name in shared}
        if not tokens:
            tokens = dict(tokenizer(scopes, padding=True, return_tensors="pt"))
        features = {name: shared[name] for name in ("string_features",) if name in shared}
        if self.calibration is None or not features:
            features = self._string_features(scopes)
        return {**tokens, "n_atoms": torch.tensor(atoms), **features}


def _number_of_atoms(value: Any) -> float:
    """Atoms per primitive cell as a number, NaN if it is not given."""
    if value is None:
        return math.nan
    try:
        atoms = float(value)
    except (TypeError, ValueError):
        atoms = math.nan
    if not 1 <= atoms < math.inf:
        raise DebyeInputError(f"n_atoms must be at least 1 atom per primitive cell, not {value!r}.")
    return atoms

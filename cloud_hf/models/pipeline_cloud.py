"""The `crystal-property` pipeline: crystals or SCOPE strings in, named quantities with units out.

Flat: ships as Hub remote code. Without the package it takes SCOPE strings and names the install for files.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from transformers import Pipeline
from transformers.utils import logging

from .conformal import CALIBRATION_FILE, DEFAULT_LEVEL, Calibration, TargetCalibration, string_features
from .debye import DebyeInputError
from .errors import CheckpointError, CloudError, GrammarError
from .heads_cloud import thermal_properties
from .phonon_dos import DEBYE_TEMPERATURES, THERMAL_UNITS, PhononDOS
from .saving_cloud import PushedWithCard
from .tokenization_scope import grammar_of

__all__ = ["MAX_TEMPERATURE", "CrystalPropertyPipeline", "Quantity"]

MAX_TEMPERATURE = 1e6
"""K; far above any solid, and small enough for float32 energies."""

MOST_LN_FACTOR = 20.0
"""Debye temperatures are given to a factor of e^20 at worst, which keeps all that follows finite."""

Quantity = dict[str, Any]
"""`{"name": str, "value": float, "unit": str}`; with a calibration also `"low"`, `"high"` in that unit and `"level"`,
and `"unknown_elements"` where no training row held some elements of the crystal."""

_BRANCH = ("second_temperature", "second_weight")
_SPECTRUM = ("optical_dos", "acoustic_share", "acoustic_cutoff")

logger = logging.get_logger(__name__)


class CrystalPropertyPipeline(PushedWithCard, Pipeline):
    """Predict the properties of crystals.

    An input is a SCOPE string, the path of a CIF or POSCAR file, a pymatgen `Structure`, or a mapping
    `{"scope": ..., "n_atoms": ...}`; a list of inputs gives a list of results. The result of one input is a list of
    quantities `{"name", "value", "unit"}`. A `CloudForDebye` model gives the Debye temperature, and the heat capacity
    or the internal energy or both, as it learned, per atom and, where the number of atoms of the primitive cell is
    known, per primitive cell. A `CloudForCrystalProperties` model gives its scalar targets and what follows
    from the phonon density of states (`THERMAL_UNITS`).

    A checkpoint with a `calibration.json` adds `"low"`, `"high"` and `"level"` to each quantity: an interval that holds
    the true value of a crystal like those that it was measured on with the probability `level`. The interval of a
    Debye model is one of its Debye temperature, and a band of heat capacity and energy at every temperature.

    Call arguments:
        temperature: K, for thermal properties; 300 K by default.
        n_atoms: Atoms per primitive cell of a bare SCOPE string; files and structures know theirs.
        level: Of the intervals, one of `cloud_hf.models.conformal.LEVELS`; 0.9 by default.
        auxiliary: Whether to give `config.auxiliary_targets` too; they are left out by default.
        batch_size: Crystals per forward pass; 1 by default.

    Argument of the constructor and of `pipeline(...)`:
        members: Run only the first members of the model's ensemble, which drops the others from the model.

    Attributes:
        calibration: What gives the intervals; None: there are none. `calibration=` of the constructor and of
            `pipeline(...)` sets it, by default to what lies beside the weights, if it belongs to them.

    Raises:
        CheckpointError: The model has no named targets with units, or its calibration cannot be read.
        CrystalError: A file or structure that cannot be encoded.
        GrammarError: A string of another grammar than the model reads.
        UnknownWordError, ScopeTooLongError: A string that the model cannot read.
    """

    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(
        self,
        *args: Any,
        calibration: Calibration | str | None = "checkpoint",
        members: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if members is not None:
            self.model.keep_members(members)
        if not self.model.config.target_names or not self.model.config.target_units:
            raise CheckpointError(
                f"{type(self.model).__name__} names no targets with units (config.target_names, config.target_units); "
                "give a checkpoint that `cloud-hf finetune` wrote."
            )
        self.model.eval()  # the base class leaves dropout on when it is given a model object
        self._encoder: Any = None
        self.calibration = calibration_of(self.model) if isinstance(calibration, str) else calibration

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as every pipeline does, and the calibration beside the weights."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.calibration is not None:
            self.calibration.save(save_directory)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Predict for one input or a list of inputs; see the class."""
        if isinstance(inputs, list | tuple):
            return super().__call__(list(inputs), **kwargs) if inputs else []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        temperature: float | None = None,
        n_atoms: float | None = None,
        level: float | None = None,
        auxiliary: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(
                f"crystal-property takes temperature, n_atoms, level, auxiliary and batch_size, not "
                f"{', '.join(kwargs)}."
            )
        forward: dict[str, Any] = {}
        if temperature is not None:
            if not 0 <= float(temperature) <= MAX_TEMPERATURE:
                raise DebyeInputError(f"temperature must be from 0 to {MAX_TEMPERATURE:g} K, not {temperature}.")
            forward["temperature"] = float(temperature)
        return (
            {} if n_atoms is None else {"n_atoms": n_atoms},
            forward,
            {name: value for name, value in (("level", level), ("auxiliary", auxiliary)) if value is not None},
        )

    def preprocess(self, input_: Any, n_atoms: float | None = None) -> dict[str, torch.Tensor]:
        """One input to token ids of shape (1, length) and atoms per primitive cell of shape (1,), NaN if unknown."""
        if isinstance(input_, Mapping):
            if not isinstance(input_.get("scope"), str):
                raise GrammarError(f"A mapping needs a string under the key 'scope', not {input_.get('scope')!r}.")
            scope, n_atoms = input_["scope"], input_.get("n_atoms", n_atoms)
        elif isinstance(input_, str) and "|" in input_:
            scope = input_
        else:
            encoded = self.encoder.describe(input_)
            scope, n_atoms = encoded.scope, encoded.n_atoms
        scope = self.in_grammar(scope)
        atoms = self._atoms(scope, n_atoms)
        tokens = self.tokenizer(scope, return_tensors="pt")
        _refuse_contradictions(scope)
        return {**tokens, "n_atoms": torch.tensor([atoms]), **self._string_features([scope])}

    def _string_features(self, scopes: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the intervals need to know of the strings, shape (batch, n_features)."""
        if self.calibration is None:
            return {}
        return {"string_features": torch.from_numpy(string_features(scopes)).float()}

    def in_grammar(self, scope: str) -> str:
        """Return a string that the model reads: a model of `sites` strings reads the others by way of `sites_scope`.

        Raises:
            GrammarError: A string of another grammar than the model was trained to read.
            ScopeError: A `composition` string that leaves open who sits where.
        """
        grammar, wanted = grammar_of(scope), self.model.config.grammar
        if grammar == wanted:
            return scope
        advice = "Encode the crystal itself with the model's grammar, or choose another model."
        if wanted == "sites":
            try:
                from cloud_hf.scope.pairing import sites_scope
            except ImportError:
                advice = "With the package (pip install cloud-hf) it would be translated."
            else:
                return str(sites_scope(scope))
        raise GrammarError(
            f"{scope!r} is written in the grammar {grammar!r}, but this model reads {wanted!r}. {advice}"
        )

    @property
    def encoder(self) -> Any:
        """The `ScopeEncoder` with the settings that the model was trained with."""
        if self._encoder is None:
            try:
                from cloud_hf.scope import ScopeEncoder
            except ImportError as error:
                raise CloudError(
                    "Reading crystal files and structures needs the package: pip install cloud-hf. "
                    "Without it, pass SCOPE strings such as '1 0 0 | 2i | Cu 1.0'."
                ) from error
            self._encoder = ScopeEncoder.from_config(self.model.config)
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: Any) -> None:
        self._encoder = encoder

    def _forward(self, inputs: dict[str, torch.Tensor], temperature: float = 300.0) -> dict[str, torch.Tensor]:
        inputs = dict(inputs)
        n_atoms = inputs.pop("n_atoms")
        inputs.pop("token_type_ids", None)
        kept = {"n_atoms": n_atoms}
        if "string_features" in inputs:
            kept["string_features"] = inputs.pop("string_features")
        if _has_spectrum(self.model):
            atoms = {"n_atoms": n_atoms} if self._needs_atoms() else {}
            primitive = {} if self.model.config.grammar == "sites" else {"n_atoms_primitive": n_atoms}
            outputs = self.model(**inputs, **atoms, **primitive)
            kept |= {name: outputs[name] for name in _SPECTRUM}
            return {"logits": outputs.logits, **kept, "temperature": torch.full_like(n_atoms, temperature)}
        if not _is_debye(self.model):
            atoms = {"n_atoms": n_atoms} if self._needs_atoms() else {}
            return {"logits": self.model(**inputs, **atoms).logits, **kept}
        kelvin = torch.full_like(n_atoms, temperature)
        outputs = self.model(**inputs, temperature=kelvin)
        targets = {name: outputs[name] for name in self.model.config.debye_targets}
        kept |= {name: outputs[name] for name in _BRANCH if name in outputs}
        return {"logits": outputs.logits, **kept, "temperature": kelvin, **targets}

    def _atoms(self, scope: str, n_atoms: Any) -> float:
        """Atoms per primitive cell, NaN if unknown and not needed."""
        atoms = _number_of_atoms(n_atoms)
        if math.isnan(atoms) and self._needs_atoms():
            raise CloudError(
                f"{scope!r} does not say how many atoms the primitive cell has, and this model predicts "
                f"{', '.join(self.model.config.target_names)} of whole cells: pass n_atoms, or the crystal itself."
            )
        return atoms

    def _needs_atoms(self) -> bool:
        """Whether a target is extensive, predicted per atom and given per cell, or the acoustic share is not known."""
        if _has_spectrum(self.model) and self.model.config.grammar != "sites":
            return True
        return any("per_atom" in transform for transform in self.model.config.target_transforms or [])

    def postprocess(
        self, outputs: dict[str, torch.Tensor], level: float = DEFAULT_LEVEL, auxiliary: bool = False
    ) -> list[Quantity]:
        """Tensors of one input to its list of quantities, auxiliary targets left out unless they are asked for."""
        hidden = set() if auxiliary else set(self.model.config.auxiliary_targets or ())
        return [quantity for quantity in self.quantities(outputs, level)[0] if quantity["name"] not in hidden]

    @property
    def units(self) -> dict[str, str]:
        """The unit of every quantity that may be predicted, in the order of the predictions."""
        config = self.model.config
        units = dict(zip(config.target_names, config.target_units, strict=True))
        for target in config.debye_targets if _is_debye(self.model) else ():
            kelvin = " K" if target == "heat_capacity" else ""
            units[f"{target}_per_atom"] = f"J/(mol atom{kelvin})"
            units[f"{target}_per_cell"] = f"J/(mol primitive cell{kelvin})"
        if _has_spectrum(self.model):
            for name, unit in THERMAL_UNITS.items():
                units[f"{name}_per_atom"] = unit.format("atom")
                units[f"{name}_per_cell"] = unit.format("primitive cell")
            units |= dict.fromkeys(DEBYE_TEMPERATURES, "K")
        return units

    def quantities(self, outputs: dict[str, torch.Tensor], level: float = DEFAULT_LEVEL) -> list[list[Quantity]]:
        """Tensors of a batch to a list of quantities for each of its inputs, with their intervals if there are any."""
        config, units = self.model.config, self.units
        rows = outputs["logits"].float().reshape(-1, len(config.target_names)).tolist()
        found = [dict(zip(config.target_names, row, strict=True)) for row in rows]
        atoms = outputs["n_atoms"].tolist()
        for target in config.debye_targets if _is_debye(self.model) else ():
            values = outputs[target].float().reshape(-1).tolist()
            for row, per_atom, n_atoms in zip(found, values, atoms, strict=True):
                row[f"{target}_per_atom"] = per_atom
                if not math.isnan(n_atoms):
                    row[f"{target}_per_cell"] = per_atom * n_atoms
        if _has_spectrum(self.model):
            self._add_thermal(found, outputs)
        quantities = [
            [{"name": name, "value": value, "unit": units[name]} for name, value in row.items()] for row in found
        ]
        if self.calibration is not None and "string_features" in outputs:
            add = self._add_debye_band if _is_debye(self.model) else self._add_intervals
            add(quantities, outputs, self.calibration, level)
            if _has_spectrum(self.model):
                self._add_spectral_band(quantities, outputs, self.calibration, level)
        return quantities

    @property
    def gives_phonon_dos(self) -> bool:
        """Whether the model predicts phonon densities of states."""
        return _has_spectrum(self.model)

    def phonon_dos(self, outputs: dict[str, torch.Tensor]) -> PhononDOS | None:
        """The densities of states of a batch that `forward` gave, in float64; None of a model without them."""
        if not _has_spectrum(self.model):
            return None
        edges = torch.tensor(self.model.config.dos_edges, dtype=torch.float64)
        return PhononDOS(edges, *(outputs[name].double().cpu() for name in _SPECTRUM))

    def _add_thermal(self, rows: list[dict[str, float]], outputs: dict[str, torch.Tensor]) -> None:
        """Give each row what follows from its phonon density of states, in float64."""
        dos: Any = self.phonon_dos(outputs)
        kelvin, atoms = (outputs[name].double().cpu() for name in ("temperature", "n_atoms"))
        columns = {name: values.tolist() for name, values in self._thermal_values(dos, kelvin, atoms).items()}
        for place, row in enumerate(rows):
            row |= {name: values[place] for name, values in columns.items()}

    @staticmethod
    def _thermal_values(
        dos: PhononDOS, kelvin: torch.Tensor, atoms: torch.Tensor, factor: torch.Tensor | float = 1.0
    ) -> dict[str, torch.Tensor]:
        """What follows from densities of states with all their frequencies times a factor, each of shape (batch,)."""
        cooler = kelvin / factor
        zero = dos.zero_point_energy()
        per_atom = {
            "heat_capacity": dos.heat_capacity(cooler),
            "entropy": dos.entropy(cooler),
            "thermal_energy": factor * (dos.internal_energy(cooler) - zero),
            "thermal_helmholtz_energy": factor * (dos.helmholtz_energy(cooler) - zero),
            "zero_point_energy": factor * zero,
        }
        atoms = torch.where(atoms.isnan(), 1 / dos.acoustic_share, atoms)
        found: dict[str, torch.Tensor] = {}
        for name, values in per_atom.items():
            found |= {f"{name}_per_atom": values, f"{name}_per_cell": values * atoms}
        temperatures = (dos.debye_temperature_from_heat_capacity(), dos.low_temperature_debye_temperature())
        return found | {name: factor * values for name, values in zip(DEBYE_TEMPERATURES, temperatures, strict=True)}

    def gives_interval(self, name: str) -> bool:
        """Tell whether a quantity of `units` comes with an interval."""
        targets = set() if self.calibration is None else set(self.calibration.targets)
        if _has_spectrum(self.model) and name not in self.model.config.target_names:
            return "heat_capacity" in targets
        return bool(targets & set(self.model.config.debye_targets)) if _is_debye(self.model) else name in targets

    def _add_intervals(
        self, rows: list[list[Quantity]], outputs: dict[str, torch.Tensor], calibration: Calibration, level: float
    ) -> None:
        features = outputs["string_features"].double().cpu().numpy()
        atoms = outputs["n_atoms"].double().cpu().numpy()
        for place, name in enumerate(self.model.config.target_names):
            target = calibration.targets.get(name)
            if target is None:
                continue
            cells = atoms if target.per_atom else np.ones(len(rows))
            values = np.array([row[place]["value"] for row in rows]) / cells
            low, high = target.interval(features, values, level)
            unknown = target.unknown_elements(features)
            for index, row in enumerate(rows):
                _add(row[place], low[index] * cells[index], high[index] * cells[index], level, unknown[index])

    def _add_debye_band(
        self, rows: list[list[Quantity]], outputs: dict[str, torch.Tensor], calibration: Calibration, level: float
    ) -> None:
        """One factor on all characteristic temperatures of a crystal gives the band of every property."""
        config = self.model.config
        target = next((calibration.targets[name] for name in config.debye_targets if name in calibration.targets), None)
        if target is None:
            return
        features = outputs["string_features"].double().cpu().numpy()
        theta = outputs["logits"].double().reshape(-1).cpu()
        factor = debye_factor(target, features, theta.numpy(), level)
        kelvin = outputs["temperature"].double().cpu()
        second, weight = (
            outputs[name].double().cpu() if name in outputs else None
            for name in ("second_temperature", "second_weight")
        )
        ends = []
        for scale in (1 / factor, factor):
            other = None if second is None else second * scale
            one = torch.ones_like(theta)
            thermal = thermal_properties(theta * scale, kelvin, one, config.second_branch, other, weight)
            ends.append({"debye_temperature": theta * scale, **thermal._asdict()})
        unknown = target.unknown_elements(features)
        for index, (row, n_atoms) in enumerate(zip(rows, outputs["n_atoms"].tolist(), strict=True)):
            for quantity in row:
                name = quantity["name"].removesuffix("_per_atom").removesuffix("_per_cell")
                cells = n_atoms if quantity["name"].endswith("_per_cell") else 1.0
                low, high = sorted(float(end[name][index]) * cells for end in ends)
                _add(quantity, low, high, level, unknown[index])

    def _add_spectral_band(
        self, rows: list[list[Quantity]], outputs: dict[str, torch.Tensor], calibration: Calibration, level: float
    ) -> None:
        """One factor on all frequencies of a crystal gives the band of everything that follows from them.

        With all frequencies times f, Cv and S at T are those of the predicted spectrum at T/f, energies f times those
        at T/f. How large f may be was learned from Cv at 300 K, as differences of ln(Debye temperature).
        """
        target = calibration.targets.get("heat_capacity")
        dos = self.phonon_dos(outputs)
        if target is None or dos is None:
            return
        features = outputs["string_features"].double().cpu().numpy()
        theta = dos.debye_temperature_from_heat_capacity()
        factor = debye_factor(target, features, theta.numpy(), level)
        atoms = outputs["n_atoms"].double().cpu()
        ends = [
            self._thermal_values(dos, outputs["temperature"].double().cpu(), atoms, scale)
            for scale in (1 / factor, factor)
        ]
        unknown = target.unknown_elements(features)
        for index, row in enumerate(rows):
            for quantity in row:
                if quantity["name"] in ends[0]:
                    low, high = sorted(float(end[quantity["name"]][index]) for end in ends)
                    _add(quantity, low, high, level, unknown[index])

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


def _add(quantity: Quantity, low: float, high: float, level: float, unknown: list[str]) -> None:
    """Give a quantity its interval; rounding must not leave the value itself outside."""
    value = quantity["value"]
    quantity |= {"low": min(float(low), value), "high": max(float(high), value), "level": level}
    if unknown:
        quantity["unknown_elements"] = unknown


def debye_factor(target: TargetCalibration, features: Any, theta: Any, level: float = DEFAULT_LEVEL) -> torch.Tensor:
    """Return by what the Debye temperatures may be divided and multiplied, shape (batch,), at least 1."""
    return torch.from_numpy(np.exp(np.minimum(target.half_width(features, theta, level), MOST_LN_FACTOR)))


def calibration_of(model: Any) -> Calibration | None:
    """Return the calibration beside the weights that a model was loaded from; None where there is none for them."""
    name = model.name_or_path
    if not name:
        return None
    path = Path(name) / CALIBRATION_FILE
    if not path.parent.is_dir():
        try:
            path = Path(hf_hub_download(name, CALIBRATION_FILE, revision=getattr(model.config, "_commit_hash", None)))
        except (OSError, ValueError):  # no such file or repository, no Hub to ask, or not even the name of one
            return None
    if not path.is_file():
        return None
    calibration = Calibration.load(path)
    if calibration.fits(model):
        return calibration
    logger.warning(f"{path}: was made for other weights than these, so predictions have no intervals.")
    return None


def _refuse_contradictions(scope: str) -> None:
    """Refuse known words that no crystal can have; without the package only form and words are checked."""
    try:
        from cloud_hf.scope.grammar import parse
    except ImportError:
        return
    parse(scope)


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


def _has_spectrum(model: Any) -> bool:
    """By name, likewise."""
    return any(kind.__name__ == "CloudForCrystalProperties" for kind in type(model).__mro__)


def _is_debye(model: Any) -> bool:
    """By name: the class may come from the package or from remote code; a user's own may derive from it."""
    return any(kind.__name__ == "CloudForDebye" for kind in type(model).__mro__)

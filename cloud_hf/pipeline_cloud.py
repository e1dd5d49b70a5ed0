"""The `crystal-property` pipeline: crystals or SCOPE strings in, named quantities with units out.

Flat: ships as Hub remote code. Without the package it takes SCOPE strings and names the install for files.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Pipeline

from .debye import DebyeInputError
from .errors import CheckpointError, CloudError, GrammarError
from .tokenization_scope import grammar_of

__all__ = ["MAX_TEMPERATURE", "CrystalPropertyPipeline", "Quantity"]

MAX_TEMPERATURE = 1e6
"""K; far above any solid, and small enough for float32 energies."""

Quantity = dict[str, Any]
"""`{"name": str, "value": float, "unit": str}`."""


class CrystalPropertyPipeline(Pipeline):
    """Predict the properties of crystals.

    An input is a SCOPE string, the path of a CIF or POSCAR file, a pymatgen `Structure`, or a mapping
    `{"scope": ..., "n_atoms": ...}`; a list of inputs gives a list of results. The result of one input is a list of
    quantities `{"name", "value", "unit"}`. A `CloudForDebye` model gives the Debye temperature, and the heat capacity
    or the internal energy or both, as it learned, per atom and, where the number of atoms of the primitive cell is
    known, per primitive cell.

    Call arguments:
        temperature: K, for models with a Debye head; 300 K by default.
        n_atoms: Atoms per primitive cell of a bare SCOPE string; files and structures know theirs.
        batch_size: Crystals per forward pass; 1 by default.

    Raises:
        CheckpointError: The model has no named targets with units.
        CrystalError: A file or structure that cannot be encoded.
        GrammarError: A string of another grammar than the model reads.
        UnknownWordError, ScopeTooLongError: A string that the model cannot read.
    """

    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.model.config.target_names or not self.model.config.target_units:
            raise CheckpointError(
                f"{type(self.model).__name__} names no targets with units (config.target_names, config.target_units); "
                "give a checkpoint that `cloud-hf finetune` wrote."
            )
        self.model.eval()  # the base class leaves dropout on when it is given a model object
        self._encoder: Any = None

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Predict for one input or a list of inputs; see the class."""
        if isinstance(inputs, list | tuple):
            return super().__call__(list(inputs), **kwargs) if inputs else []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, temperature: float | None = None, n_atoms: float | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"crystal-property takes temperature, n_atoms and batch_size, not {', '.join(kwargs)}.")
        forward: dict[str, Any] = {}
        if temperature is not None:
            if not 0 <= float(temperature) <= MAX_TEMPERATURE:
                raise DebyeInputError(f"temperature must be from 0 to {MAX_TEMPERATURE:g} K, not {temperature}.")
            forward["temperature"] = float(temperature)
        return {} if n_atoms is None else {"n_atoms": n_atoms}, forward, {}

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
        return {**tokens, "n_atoms": torch.tensor([atoms])}

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
        if not _is_debye(self.model):
            atoms = {"n_atoms": n_atoms} if self._needs_atoms() else {}
            return {"logits": self.model(**inputs, **atoms).logits, "n_atoms": n_atoms}
        kelvin = torch.full_like(n_atoms, temperature)
        outputs = self.model(**inputs, temperature=kelvin)
        targets = {name: outputs[name] for name in self.model.config.debye_targets}
        return {"logits": outputs.logits, "n_atoms": n_atoms, **targets}

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
        """Whether a target is extensive: predicted per atom, given per cell."""
        return any("per_atom" in transform for transform in self.model.config.target_transforms or [])

    def postprocess(self, outputs: dict[str, torch.Tensor]) -> list[Quantity]:
        """Tensors of one input to its list of quantities."""
        return self.quantities(outputs)[0]

    @property
    def units(self) -> dict[str, str]:
        """The unit of every quantity that may be predicted, in the order of the predictions."""
        config = self.model.config
        units = dict(zip(config.target_names, config.target_units, strict=True))
        for target in config.debye_targets if _is_debye(self.model) else ():
            kelvin = " K" if target == "heat_capacity" else ""
            units[f"{target}_per_atom"] = f"J/(mol atom{kelvin})"
            units[f"{target}_per_cell"] = f"J/(mol primitive cell{kelvin})"
        return units

    def quantities(self, outputs: dict[str, torch.Tensor]) -> list[list[Quantity]]:
        """Tensors of a batch to a list of quantities for each of its inputs."""
        config, units = self.model.config, self.units
        rows = outputs["logits"].float().reshape(-1, len(config.target_names)).tolist()
        found = [dict(zip(config.target_names, row, strict=True)) for row in rows]
        for target in config.debye_targets if _is_debye(self.model) else ():
            values, atoms = outputs[target].float().reshape(-1).tolist(), outputs["n_atoms"].tolist()
            for row, per_atom, n_atoms in zip(found, values, atoms, strict=True):
                row[f"{target}_per_atom"] = per_atom
                if not math.isnan(n_atoms):
                    row[f"{target}_per_cell"] = per_atom * n_atoms
        return [[{"name": name, "value": value, "unit": units[name]} for name, value in row.items()] for row in found]

    def collate(self, items: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Ids of shape (batch, longest), padded, and atoms per primitive cell of shape (batch,), NaN if unknown.

        Args:
            items: Objects with a `scope` whose words and grammar have been checked and with `n_atoms` or None.

        Raises:
            UnknownWordError, ScopeTooLongError: A string that the model cannot read.
            DebyeInputError: A number of atoms below 1.
        """
        atoms = [self._atoms(item.scope, item.n_atoms) for item in items]
        tokens = self.tokenizer([item.scope for item in items], padding=True, return_tensors="pt")
        return {**tokens, "n_atoms": torch.tensor(atoms)}


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


def _is_debye(model: Any) -> bool:
    """By name: the class may come from the package or from remote code."""
    return type(model).__name__ == "CloudForDebye"

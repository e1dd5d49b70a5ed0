"""The `crystal-property` pipeline: crystals or SCOPE strings in, named quantities with units out.

Flat: ships as Hub remote code. Without the package it takes SCOPE strings and names the install for files.
"""

import math
from collections.abc import Mapping
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
        self.check_grammar(scope)
        atoms = _number_of_atoms(n_atoms)
        if math.isnan(atoms) and self._needs_atoms():
            raise CloudError(
                f"{scope!r} does not say how many atoms the primitive cell has, and this model predicts "
                f"{', '.join(self.model.config.target_names)} of whole cells: pass n_atoms, or the crystal itself."
            )
        tokens = self.tokenizer(scope, return_tensors="pt")
        _refuse_contradictions(scope)
        return {**tokens, "n_atoms": torch.tensor([atoms])}

    def check_grammar(self, scope: str) -> None:
        """Refuse a string that the model was not trained to read."""
        grammar = grammar_of(scope)
        if grammar != self.model.config.grammar:
            raise GrammarError(
                f"{scope!r} is written in the grammar {grammar!r}, but this model reads {self.model.config.grammar!r}. "
                "Encode the crystal itself with the model's grammar, or choose another model."
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

    def _needs_atoms(self) -> bool:
        """Whether a target is extensive: predicted per atom, given per cell."""
        return any("per_atom" in transform for transform in self.model.config.target_transforms or [])

    def postprocess(self, outputs: dict[str, torch.Tensor]) -> list[Quantity]:
        """Tensors of one input to its list of quantities."""
        config = self.model.config
        values = outputs["logits"].reshape(-1).tolist()
        quantities = [
            {"name": name, "value": value, "unit": unit}
            for name, value, unit in zip(config.target_names, values, config.target_units, strict=True)
        ]
        if _is_debye(self.model):
            n_atoms = float(outputs["n_atoms"].reshape(-1)[0])
            for target in config.debye_targets:
                kelvin = " K" if target == "heat_capacity" else ""
                per_atom = float(outputs[target].reshape(-1)[0])
                quantities.append({"name": f"{target}_per_atom", "value": per_atom, "unit": f"J/(mol atom{kelvin})"})
                if not math.isnan(n_atoms):
                    per_cell = {"name": f"{target}_per_cell", "value": per_atom * n_atoms}
                    quantities.append({**per_cell, "unit": f"J/(mol primitive cell{kelvin})"})
        return quantities


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

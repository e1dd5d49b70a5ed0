"""The `crystal-property` pipeline: crystals or SCOPE strings in, named quantities with units out.

Flat: ships as Hub remote code. Without the package it takes SCOPE strings and names the install for files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from transformers import Pipeline
from transformers.utils import logging

from .conformal import CALIBRATION_FILE, DEFAULT_LEVEL, Calibration
from .errors import CheckpointError, CloudError, GrammarError
from .quantities_cloud import BRANCH, SPECTRUM, Quantity, QuantityReader, checked_temperature
from .saving_cloud import PushedWithCard
from .tokenization_scope import grammar_of

__all__ = ["CrystalPropertyPipeline", "Quantity"]

logger = logging.get_logger(__name__)


class CrystalPropertyPipeline(PushedWithCard, QuantityReader, Pipeline):
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
        n_atoms: Atoms per primitive cell of a bare SCOPE string that does not tell them (`sites` strings do).
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
            model: Any = self.model
            model.keep_members(members)
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
        """Predict for one input or a list, array or pandas series of inputs; see the class."""
        if isinstance(inputs, list | tuple) or getattr(inputs, "ndim", None) == 1:
            return super().__call__(list(inputs), **kwargs) if len(inputs) else []
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
            forward["temperature"] = checked_temperature(temperature)
        return (
            {} if n_atoms is None else {"n_atoms": n_atoms},
            forward,
            {name: value for name, value in (("level", level), ("auxiliary", auxiliary)) if value is not None},
        )

    @property
    def settings(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def is_debye(self) -> bool:
        """Whether the model is a `CloudForDebye`."""
        return _is_of(self.model, "CloudForDebye")

    @property
    def has_spectrum(self) -> bool:
        """Whether the model is a `CloudForCrystalProperties`."""
        return _is_of(self.model, "CloudForCrystalProperties")

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
        told = _told_atoms(scope)
        atoms = atoms if told is None else float(told)
        return {**tokens, "n_atoms": torch.tensor([atoms]), **self._string_features([scope])}

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
                from cloud_hf.scope import sites_scope
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
        auxiliary = {"n_atoms": n_atoms}
        if "string_features" in inputs:
            auxiliary["string_features"] = inputs.pop("string_features")
        if self.has_spectrum:
            atoms = {"n_atoms": n_atoms} if self._needs_atoms() else {}
            primitive = {} if self.model.config.grammar == "sites" else {"n_atoms_primitive": n_atoms}
            outputs = self.model(**inputs, **atoms, **primitive)
            auxiliary |= {name: outputs[name] for name in SPECTRUM}
            return {"logits": outputs.logits, **auxiliary, "temperature": torch.full_like(n_atoms, temperature)}
        if not self.is_debye:
            atoms = {"n_atoms": n_atoms} if self._needs_atoms() else {}
            return {"logits": self.model(**inputs, **atoms).logits, **auxiliary}
        kelvin = torch.full_like(n_atoms, temperature)
        outputs = self.model(**inputs, temperature=kelvin)
        targets = {name: outputs[name] for name in self.model.config.debye_targets}
        auxiliary |= {name: outputs[name] for name in BRANCH if name in outputs}
        return {"logits": outputs.logits, **auxiliary, "temperature": kelvin, **targets}

    def postprocess(
        self, outputs: dict[str, torch.Tensor], level: float = DEFAULT_LEVEL, auxiliary: bool = False
    ) -> list[Quantity]:
        """Tensors of one input to its list of quantities, auxiliary targets left out unless they are asked for."""
        hidden = set() if auxiliary else set(self.model.config.auxiliary_targets or ())
        return [quantity for quantity in self.quantities(outputs, level)[0] if quantity["name"] not in hidden]


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


def _told_atoms(scope: str) -> int | None:
    """Atoms per primitive cell of a string that tells them; known words that no crystal can have are refused.

    Without the package only form and words are checked, and nothing is told.
    """
    try:
        from cloud_hf.scope import parse
    except ImportError:
        return None
    told: int | None = parse(scope).n_atoms_primitive
    return told


def _is_of(model: Any, name: str) -> bool:
    """By name: the class may come from the package or from remote code; a user's own may derive from it."""
    return any(kind.__name__ == name for kind in type(model).__mro__)

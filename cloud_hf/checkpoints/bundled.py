"""The checkpoints that ship inside the package: folders under `weights/`, each with one or several heads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_hf.errors import CheckpointError

__all__ = ["DEFAULT_HEAD", "HEADS", "bundled_heads", "bundled_likelihood", "bundled_model", "heads_in"]

HEADS = (
    "heat_capacity",
    "refractive_index",
    "formation_energy_per_atom",
    "band_gap",
    "bulk_modulus",
    "shear_modulus",
)
"""The order of the heads in tables; others follow by name. `bundled_heads()` tells which ship with this version."""

DEFAULT_HEAD = "heat_capacity"

LIKELIHOOD_FOLDER = "likelihood"

_WEIGHTS = Path(__file__).parents[1] / "weights"


def bundled_heads() -> list[str]:
    """Return the heads that ship inside this version of the package, in the order of the tables, auxiliary ones not."""
    return sorted(
        _folders(auxiliary=False), key=lambda head: (HEADS.index(head) if head in HEADS else len(HEADS), head)
    )


def bundled_model(head: str = DEFAULT_HEAD) -> str:
    """Return the folder of a bundled checkpoint, to be given to `from_pretrained` or `pipeline`.

    Args:
        head: Name of a head, see `bundled_heads()`, or of an auxiliary target; the checkpoint has others beside it.

    Raises:
        CheckpointError: No such head ships with this version; the message lists those that do.
    """
    folders = _folders()
    if head not in folders:
        raise CheckpointError(
            f"No checkpoint for the head {head!r} ships with this version; there is: {', '.join(bundled_heads())}. "
            "Train one with `cloud-hf finetune`."
        )
    return str(folders[head])


def bundled_likelihood() -> str | None:
    """Return the folder of the bundled masked language model that tells unusual strings; None if none ships."""
    folder = _WEIGHTS / LIKELIHOOD_FOLDER
    return str(folder) if (folder / "config.json").is_file() else None


def _folders(auxiliary: bool = True) -> dict[str, Path]:
    """Each head and the folder of its checkpoint; of two with the same head the one that is named after it."""
    folders: dict[str, Path] = {}
    for path in sorted(_WEIGHTS.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        hidden = () if auxiliary else config.get("auxiliary_targets") or ()
        for head in heads_in(config):
            if head not in hidden and (head not in folders or path.parent.name == head):
                folders[head] = path.parent
    return folders


def heads_in(config: Mapping[str, Any]) -> list[str]:
    """Return the names of what a checkpoint was trained for.

    Args:
        config: What its `config.json` holds; read without transformers, which takes seconds to import.
    """
    architectures = config.get("architectures") or []
    if "CloudForDebye" in architectures:
        return list(config.get("debye_targets") or ["heat_capacity"])
    if "CloudForCrystalProperties" in architectures:
        return ["heat_capacity", *(config.get("target_names") or [])]
    return list(config.get("target_names") or []) if "CloudForPropertyRegression" in architectures else []

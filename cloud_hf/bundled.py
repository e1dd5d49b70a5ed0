"""The checkpoints that ship inside the package: one folder a head under `weights/`."""

from pathlib import Path

from cloud_hf.errors import CheckpointError

__all__ = ["DEFAULT_HEAD", "HEADS", "bundled_heads", "bundled_model"]

HEADS = (
    "heat_capacity",
    "refractive_index",
    "formation_energy_per_atom",
    "band_gap",
    "bulk_modulus",
    "shear_modulus",
)
"""Names of heads that the command line knows; `bundled_heads()` tells which ship with this version."""

DEFAULT_HEAD = "heat_capacity"

_WEIGHTS = Path(__file__).with_name("weights")


def bundled_heads() -> list[str]:
    """Return the names of the heads whose checkpoint ships inside this version of the package."""
    return sorted(path.parent.name for path in _WEIGHTS.glob("*/config.json"))


def bundled_model(head: str = DEFAULT_HEAD) -> str:
    """Return the folder of a bundled checkpoint, to be given to `from_pretrained` or `pipeline`.

    Args:
        head: Name of the head, see `bundled_heads()`.

    Raises:
        CheckpointError: No such checkpoint ships with this version; the message lists those that do.
    """
    if head not in bundled_heads():
        raise CheckpointError(
            f"No checkpoint for the head {head!r} ships with this version; there is: {', '.join(bundled_heads())}. "
            "Train one with `cloud-hf finetune`."
        )
    return str(_WEIGHTS / head)

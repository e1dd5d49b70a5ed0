"""Reading checkpoints, with errors that say what is wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoConfig

from cloud_hf.configuration_cloud import CloudConfig
from cloud_hf.errors import CheckpointError

__all__ = ["loading", "read_config"]


@contextmanager
def loading(path: str) -> Iterator[None]:
    """Turn whatever transformers raises while loading `path` into a `CheckpointError` that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: the checkpoint is missing, damaged or incomplete ({reason}).") from error


def read_config(path: str) -> CloudConfig:
    """Read the config of a CLOUD checkpoint.

    Args:
        path: Folder or Hub id.

    Raises:
        CheckpointError: There is none, or it is of another model type.
    """
    folder = Path(path)
    with loading(path):
        exists = folder.exists()
    if exists and folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(f"{path}: the folder holds no config.json, so it is not a checkpoint.")
    if not exists and (folder.is_absolute() or len(folder.parts) != 2 or path.startswith(".")):
        raise CheckpointError(f"{path}: there is no such folder, and a Hub id has the form 'owner/name'.")
    with loading(path):
        config = AutoConfig.from_pretrained(path)
    if not isinstance(config, CloudConfig):
        raise CheckpointError(f"{path}: a checkpoint of model type {config.model_type!r}, not 'cloud'.")
    return config

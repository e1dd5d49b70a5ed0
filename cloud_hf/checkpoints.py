"""Reading checkpoints, with errors that say what is wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
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
        refusal = _hub_refusal(path, error)
        if refusal:
            raise CheckpointError(refusal) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: the checkpoint is missing, damaged or incomplete ({reason}).") from error


def _hub_refusal(path: str, error: BaseException) -> str | None:
    """Say what to do where the Hub refused or could not be asked; None if the error has another cause."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for found in chain:
        if isinstance(found, GatedRepoError):
            return f"{path}: access to this repository has to be granted; ask for it on its page, then `hf auth login`."
        if isinstance(found, RepositoryNotFoundError):
            return (
                f"{path}: there is no such repository on {constants.ENDPOINT}, or it is private. Check the name; for a "
                "private one log in with `hf auth login`, or set HF_TOKEN to a token that may read it."
            )
        if isinstance(found, RevisionNotFoundError):
            return f"{path}: the repository has no such revision; give a branch, tag or commit of it."
    if any(isinstance(found, OfflineModeIsEnabled) for found in chain) or (
        constants.is_offline_mode() and any(isinstance(found, LocalEntryNotFoundError) for found in chain)
    ):
        return f"{path}: not in the cache, and HF_HUB_OFFLINE is set; load it once without, or give a folder."
    if any(isinstance(found, HfHubHTTPError | LocalEntryNotFoundError) for found in chain):
        reason = str(chain[-1]).strip().splitlines()[0]
        return f"{path}: neither a folder nor in the cache, and {constants.ENDPOINT} does not answer ({reason})."
    return None


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

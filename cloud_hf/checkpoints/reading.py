"""Reading checkpoints, our own and foreign ones, with errors that say what is wrong with them; writing folders."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from cloud_hf import files
from cloud_hf.errors import CheckpointError, CloudError, about, first_line, one_line
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.models.errors import missing_weights

__all__ = [
    "ENCODER",
    "ForeignCheckpoint",
    "check_output_folder",
    "loading",
    "new_folder",
    "read_config",
    "read_foreign",
    "refuse_missing_weights",
]

WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
"""What transformers calls the weights in a folder, in the order of preference."""

ENCODER = "bert."
"""What the names of an encoder's weights begin with in a model with a head."""

PICKLES = (".pth", ".pt", ".bin", ".ckpt")

PAPER_CONFIGS = ("config.yaml", "config_debye.yaml", "config_mp.yaml")
"""What the paper's training code writes beside its `.pth` files."""

NUMPY_SCALARS: list[Any] = [
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8")},
    *[
        (function, f"numpy.{core}.multiarray.{function.__name__}")  # numpy 1 and 2
        for core in ("core", "_core")
        for function in (np._core.multiarray.scalar, np._core.multiarray._reconstruct)  # type: ignore[attr-defined]
    ],
]
"""What a `.pth` file of the paper holds beside tensors: the numpy scalars of its normaliser."""


@contextmanager
def loading(path: str) -> Iterator[None]:
    """Turn whatever transformers raises while loading `path` into a `CheckpointError` that names it.

    An error of ours keeps its type, and is said to be of `path` where it names nothing.
    """
    try:
        yield
    except CloudError as error:
        if not isinstance(error, CheckpointError):
            about(error, path)
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        refusal = _hub_refusal(error)
        if refusal:
            raise CheckpointError(refusal, source=path) from error
        if isinstance(error.__cause__, CloudError):  # of a config, which a strict dataclass hands on
            raise CheckpointError(f"its configuration cannot be used: {error.__cause__.reason}", source=path) from error
        reason = one_line(error, None) if isinstance(error, StrictDataclassError) else first_line(error)
        raise CheckpointError(f"the checkpoint is missing, damaged or incomplete ({reason}).", source=path) from error


def _hub_refusal(error: BaseException) -> str | None:
    """Say what to do where the Hub refused or could not be asked; None if the error has another cause."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for link in chain:
        if isinstance(link, GatedRepoError):
            return "access to this repository has to be granted; ask for it on its page, then `hf auth login`."
        if isinstance(link, RepositoryNotFoundError):
            return (
                f"there is no such repository on {constants.ENDPOINT}, or it is private. Check the name; for a private "
                "one log in with `hf auth login`, or set HF_TOKEN to a token that may read it."
            )
        if isinstance(link, RevisionNotFoundError):
            return "the repository has no such revision; give a branch, tag or commit of it."
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain) or (
        constants.is_offline_mode() and any(isinstance(link, LocalEntryNotFoundError) for link in chain)
    ):
        return "not in the cache, and HF_HUB_OFFLINE is set; load it once without, or give a folder."
    if any(isinstance(link, HfHubHTTPError | LocalEntryNotFoundError) for link in chain):
        reason = first_line(chain[-1])
        return f"neither a folder nor in the cache, and {constants.ENDPOINT} does not answer ({reason})."
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
        raise CheckpointError("the folder holds no config.json, so it is not a checkpoint.", source=path)
    if not exists and (folder.is_absolute() or len(folder.parts) != 2 or path.startswith(".")):
        raise CheckpointError("there is no such folder, and a Hub id has the form 'owner/name'.", source=path)
    with loading(path):
        fields, _ = PreTrainedConfig.get_config_dict(path)
        if fields.get("model_type") == CloudConfig.model_type:
            return CloudConfig.from_pretrained(path)
        from cloud_hf.checkpoints.registration import AutoConfig  # the import takes seconds

        config = AutoConfig.from_pretrained(path)
    if not isinstance(config, CloudConfig):
        remedy = "; make it one with `cloud-hf convert`" if config.model_type == "bert" else ""
        raise CheckpointError(f"a checkpoint of model type {config.model_type!r}, not 'cloud'{remedy}.", source=path)
    return config


def refuse_missing_weights(path: str, loaded: Mapping[str, Any], prefix: str = "", remedy: str = "") -> None:
    """Stop where transformers would go on with random weights.

    Args:
        path: Checkpoint that was loaded.
        loaded: What `from_pretrained(..., output_loading_info=True)` gives beside the model.
        prefix: Of the weights that must be there, e.g. `bert.`; the others may be new.
        remedy: What to do, a sentence.

    Raises:
        CheckpointError: Weights are missing or of another shape.
    """
    absent = [*loaded["missing_keys"], *(key[0] for key in loaded.get("mismatched_keys") or ())]
    missing = sorted(name for name in absent if name.startswith(prefix))
    if missing:
        raise missing_weights(path, missing, "encoder weights" if prefix == ENCODER else "weights", remedy)


@dataclass
class ForeignCheckpoint:
    """What a checkpoint that is not ours holds.

    Attributes:
        source: Where it came from, for messages.
        weights: Name to tensor, as stored.
        config: Fields of its config file; empty if there is none.
        config_source: The config file; None if there is none.
        extras: What a `.pth` file holds beside the weights, e.g. `mu` and `std`.
        words: Its vocabulary in the order of the ids; None if no vocabulary lies beside the weights.
    """

    source: str
    weights: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    config_source: Path | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    words: list[str] | None = None


def read_foreign(source: str, config: str | None = None) -> ForeignCheckpoint:
    """Read weights, config and vocabulary of a checkpoint. Pickles are read with `weights_only=True`: no code runs.

    Args:
        source: A folder, a `.safetensors`, `.bin`, `.pth` or `.pt` file, or a Hub id `owner/name[/folder]`.
        config: A config file, JSON or YAML, to be used instead of the one beside the weights.

    Raises:
        CheckpointError: Something is missing, damaged, or holds more than tensors and numbers.
    """
    path = Path(source)
    with loading(source):
        path = path if path.exists() else _download(source)
    file = _weight_file(path, source) if path.is_dir() else path
    content = _read_file(file)
    weights: Any = next((content[key] for key in ("model_state_dict", "state_dict") if key in content), content)
    extras = {} if weights is content else {key: value for key, value in content.items() if value is not weights}
    bad = [name for name, value in weights.items() if not isinstance(value, Tensor)] if _is_named(weights) else [file]
    if bad or not weights:
        raise CheckpointError(f"holds no named tensors{f' ({bad[0]!r} is none)' if bad else ''}.", source=str(file))
    beside = PAPER_CONFIGS if file.suffix in (".pth", ".pt") else ("config.json",)
    configs = [name for name in beside if (file.parent / name).is_file()]
    config_file = Path(config) if config else file.parent / configs[0] if len(configs) == 1 else None
    return ForeignCheckpoint(
        source,
        dict(weights),
        read_fields(config_file) if config_file else {},
        config_file,
        extras,
        _read_words(file.parent),
    )


def _download(source: str) -> Path:
    parts = Path(source).parts
    if Path(source).is_absolute() or len(parts) < 2 or source.startswith(".") or Path(source).suffix in PICKLES:
        raise CheckpointError("there is no such file or folder, and a Hub id has the form 'owner/name'.", source=source)
    below = "/".join(parts[2:])
    patterns = [f"{below}/{name}".lstrip("/") for name in ("*.safetensors", "*.bin", "*.json", "vocab.txt")]
    try:
        folder = Path(snapshot_download("/".join(parts[:2]), allow_patterns=patterns)) / below
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"there is no such file or folder here, and nothing came from the Hub ({first_line(error)}).", source=source
        ) from error
    if not folder.is_dir():
        raise CheckpointError(f"the repository has no folder {below!r}.", source=source)
    return folder


def _weight_file(folder: Path, source: str) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", *PICKLES))
    if names:
        raise CheckpointError(f"no {WEIGHT_FILES[0]}; give one of its files: {', '.join(names)}.", source=source)
    folders = sorted(path.parent.name for path in folder.glob("*/config.json"))
    remedy = f" itself; give one of its folders: {', '.join(folders)}" if folders else ""
    raise CheckpointError(f"the folder holds no weights ({' or '.join(WEIGHT_FILES[::2])}){remedy}.", source=source)


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _read_file(file: Path) -> dict[str, Any]:
    """Tensors of one file, or of the files that an index lists."""
    if file.name.endswith(".index.json"):
        names = read_fields(file).get("weight_map", {}).values()
        shards = [_read_file(file.parent / Path(name).name) for name in dict.fromkeys(names)]
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    if file.suffix == ".safetensors":
        with loading(str(file)):
            return dict(load_file(file))
    if file.suffix not in PICKLES:
        raise CheckpointError("weights are a .safetensors, .bin, .pth or .pt file, or a folder.", source=str(file))
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        lines = [line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
        reason = lines[0].strip() if lines else first_line(error)
        raise CheckpointError(
            f"not read, since it is damaged or holds more than tensors and numbers ({reason[:300]}). "
            "Nothing in it was run.",
            source=str(file),
        ) from error
    if not _is_named(content):
        raise CheckpointError(f"holds a {type(content).__name__}, not named tensors.", source=str(file))
    return dict(content)


def read_fields(file: Path) -> dict[str, Any]:
    """Read a JSON or YAML file with fields at the top level."""
    try:
        text = file.read_text(encoding="utf-8")
        fields = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"cannot be read ({one_line(error, None)}).", source=str(file)) from error
    if not _is_named(fields):
        raise CheckpointError("holds no named fields.", source=str(file))
    return dict(fields)


def _read_words(folder: Path) -> list[str] | None:
    """Words by their ids, from the tokenizer's files."""
    ids: dict[str, int] = {}
    if (folder / "vocab.txt").is_file():
        with loading(str(folder / "vocab.txt")):
            words = (folder / "vocab.txt").read_text(encoding="utf-8").split()
        ids = {word: index for index, word in enumerate(words)}
        if (folder / "added_tokens.json").is_file():
            ids |= read_fields(folder / "added_tokens.json")
    elif (folder / "tokenizer.json").is_file():
        vocabulary = read_fields(folder / "tokenizer.json").get("model", {}).get("vocab", {})
        ids = vocabulary if isinstance(vocabulary, dict) else {}
    return sorted(ids, key=lambda word: ids[word]) or None


def check_output_folder(path: str | os.PathLike[str], overwrite: bool = False, source: str = "") -> Path:
    """Find out before the work that its result cannot be written, and return the folder's absolute path.

    Args:
        path: A folder that does not exist or is empty.
        overwrite: Allow a folder with a checkpoint in it.
        source: What the work reads, which must not be replaced.

    Raises:
        CheckpointError: The path is taken, is no folder, or lies where nothing can be written.
    """
    folder = Path(path).absolute()
    with loading(str(path)):
        above = next((parent for parent in folder.parents if parent.exists()), Path("/"))
        if folder.exists() and not folder.is_dir():
            raise CheckpointError("is a file; give the name of a folder.", source=str(path))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise CheckpointError(f"{above} is not a folder that can be written to.", source=str(path))
        if folder.is_dir() and any(folder.iterdir()):
            if not overwrite:
                reason = "the folder is not empty; give another one, or `overwrite=True`."
                raise CheckpointError(reason, source=str(path), flag="overwrite")
            read = Path(source).resolve()
            if source and (folder.resolve() == read or folder.resolve() in read.parents):
                raise CheckpointError(f"holds {source}, which would be lost; give another folder.", source=str(path))
            if not (folder / "config.json").is_file():
                raise CheckpointError("the folder holds no checkpoint, so it is not overwritten.", source=str(path))
    return folder


@contextmanager
def new_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path` that takes its place at the end, or vanishes after an error.

    Raises:
        CheckpointError: As `check_output_folder`, or the writing failed.
    """
    folder = check_output_folder(path, overwrite)
    with files.new_folder(folder, error=CheckpointError) as aside:
        yield aside

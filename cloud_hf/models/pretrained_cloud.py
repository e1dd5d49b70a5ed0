"""Loading, saving and resizing of every CLOUD model. Flat: ships as Hub remote code."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.dynamic_module_utils import custom_object_save
from transformers.models.bert.modeling_bert import BertPreTrainedModel

from .chemistry_tables import VOCAB_SIZE
from .configuration_cloud import AUTO_MAP, LOADED_TASK, TASK, CloudConfig
from .embeddings_cloud import ChemistryEmbedding, OrbitReader
from .errors import CheckpointError, CloudError, missing_weights
from .heads_cloud import OLDER_NAMES
from .pipeline_cloud import CrystalPropertyPipeline
from .saving_cloud import PushedWithCard, complete

__all__ = ["CloudPreTrainedModel", "rename_older_weights"]

ENCODER_WEIGHTS = (
    r"(members\.\d+\.)?(bert\.)?"
    r"(encoder\.layer|embeddings\.(word|position|token_type)_embeddings|embeddings\.LayerNorm)\b"
)
"""Names of the weights that every encoder has."""


class CloudPreTrainedModel(PushedWithCard, BertPreTrainedModel):
    """Weight initialisation, loading, saving and resizing of every CLOUD model."""

    config: CloudConfig  # type: ignore[assignment]  # has the fields that the base class reads of a BertConfig
    config_class = CloudConfig
    base_model_prefix = "bert"
    predicts: ClassVar[bool] = False
    """Whether it has a head of properties, which the pipeline serves."""
    _keys_to_ignore_on_load_unexpected = [r"\bpooler\.", r"\bposition_ids$", r"^cls\.", r"^members\."]  # noqa: RUF012

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        output_loading_info: bool = False,
        key_mapping: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load as `PreTrainedModel` does, but never an encoder whose weights are not all there.

        A head that the checkpoint lacks is new, as for fine-tuning, and transformers warns of it.

        Raises:
            CheckpointError: The checkpoint lacks encoder weights, which would be random.
        """
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            key_mapping=OLDER_NAMES | (key_mapping or {}),
            **kwargs,
        )
        missing = sorted(name for name in loaded[1]["missing_keys"] if re.match(ENCODER_WEIGHTS, name))
        if missing:
            raise missing_weights(str(pretrained_model_name_or_path), missing, "encoder weights")
        return loaded if output_loading_info else loaded[0]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ChemistryEmbedding | OrbitReader):
            module.initialise()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Any] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save as `PreTrainedModel` does, with the code of every Auto class and of the pipeline, whole or not at all.

        Files are written aside and take their places when all of them are complete; an error leaves the folder as it
        was. With the package a model card and the records of the weights follow.

        Args:
            save_directory: Folder; made if it is not there.
            is_main_process: Whether this process writes what all processes share.
            state_dict: Weights in place of the model's own.
            push_to_hub: Push when it is saved; see `PushedWithCard.save_pretrained`.
            **kwargs: See `PreTrainedModel.save_pretrained`.

        Raises:
            CheckpointError: `save_directory` is a file.
        """
        if push_to_hub:  # saves by way of this method, then pushes
            super().save_pretrained(
                save_directory, is_main_process=is_main_process, state_dict=state_dict, push_to_hub=True, **kwargs
            )
            return
        options: dict[str, Any] = {"save_original_format": False, "state_dict": state_dict} | kwargs
        self.config.auto_map = (getattr(self.config, "auto_map", None) or {}) | AUTO_MAP
        kind = self._own_class()
        if self.predicts:
            module = kind.__module__.rpartition(".")[2]
            self.config.auto_map["AutoModelForSequenceClassification"] = f"{module}.{kind.__name__}"
        self.config.name_pipeline(TASK if self.predicts else None)
        try:
            if not is_main_process or options.get("distributed_checkpoint"):  # nothing, or all in one folder together
                super().save_pretrained(save_directory, is_main_process=is_main_process, **options)
                return
            with _aside(Path(save_directory), options.get("variant")) as aside:
                super().save_pretrained(aside, **options)
                if any(aside.iterdir()):  # it is another process of those that share a model that writes
                    self._add_code(aside, kind)
        finally:
            self.config.name_pipeline(LOADED_TASK if self.predicts else None)
        if Path(save_directory).is_dir():
            complete(Path(save_directory), self)

    def _own_class(self) -> type[Any]:
        """The class of this folder of modules that the model is of, or derives from."""
        here = __name__.rpartition(".")[0]
        return next(kind for kind in type(self).__mro__ if kind.__module__.rpartition(".")[0] == here)

    def _add_code(self, folder: Path, kind: type[Any]) -> None:
        architectures = self.config.architectures or []
        if kind.__name__ not in architectures:  # of a user's subclass, which Auto classes do not know
            self.config.architectures = [*architectures, kind.__name__]
            self.config.save_pretrained(folder)
        for code in (kind, CrystalPropertyPipeline):
            custom_object_save(code, folder)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Resize as `PreTrainedModel` does, in all members of an ensemble, and the tables of elements and sites.

        New words are neither elements nor Wyckoff words.

        Raises:
            CloudError: Words that chemistry inputs look up would be lost.
        """
        if self.config.reads_chemistry and new_num_tokens is not None and new_num_tokens < VOCAB_SIZE:
            raise CloudError(
                f"new_num_tokens is {new_num_tokens}: this model looks up the elements and sites of {VOCAB_SIZE} words "
                "(element_descriptors, site_multiplicity or pooling), so that no fewer are possible."
            )
        for member in getattr(self, "members", []):
            member.bert.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        embeddings = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        for module in self.modules():
            if isinstance(module, OrbitReader):
                module.resize(embeddings.num_embeddings)
        return embeddings


def rename_older_weights(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give weights with older names in a state dict that torch loads today's names (a load_state_dict pre-hook)."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        new = name.removeprefix(prefix)
        for pattern, replacement in OLDER_NAMES.items():
            new = re.sub(pattern, replacement, new)
        if prefix + new != name:
            state_dict[prefix + new] = state_dict.pop(name)


@contextmanager
def _aside(folder: Path, variant: str | None) -> Iterator[Path]:
    """Give a new folder whose files take their places in `folder` at the end, or vanish after an error.

    Other files in `folder` stay, unlike with `cloud_hf.files.new_folder`, which does not travel either.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError("is a file; give the name of a folder to save in.", source=str(folder))
    existed = folder.is_dir()
    within = folder if existed else folder.parent
    within.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-" if folder.name else ".saving-", dir=within))
    try:
        yield aside
        if not any(aside.iterdir()):
            return
        if not existed and not folder.exists():
            aside.chmod(0o777 & ~_umask())
            aside.rename(folder)
            return
        written = sorted(aside.iterdir(), key=lambda path: path.name == "config.json")  # it makes a checkpoint: last
        if any(path.name.startswith("model") for path in written):
            _remove_weights(folder, variant, {path.name for path in written})
        for path in written:
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            else:
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_weights(folder: Path, variant: str | None, kept: set[str]) -> None:
    """Remove the weights of an earlier save that the new ones do not replace: loading would prefer or mix them."""
    middle = f"\\.{re.escape(variant)}" if variant else ""
    weights = re.compile(rf"model{middle}(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index{middle}\.json")
    for path in folder.iterdir():
        if path.is_file() and weights.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

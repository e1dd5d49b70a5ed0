"""What every push to the Hub carries beside the saved files: a model card, the records, the pipeline's code."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from cloud_hf.checkpoints.cards import CARD_FILE, HEADS, is_empty, is_generated, write_card
from cloud_hf.checkpoints.records import (
    METRICS_FILE,
    PRETRAINING_FILE,
    TRAINING_DATA_FILE,
    carry_records,
    source_folder,
)
from cloud_hf.files import write_text
from cloud_hf.models.conformal import CALIBRATION_FILE
from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline

__all__ = ["TASK", "add_pipeline", "carry_cards", "explained"]

TASK = "crystal-property"

CUSTOM_PIPELINES = {
    TASK: {
        "impl": "pipeline_cloud.CrystalPropertyPipeline",
        "pt": ["AutoModelForSequenceClassification"],
        "type": "text",
    }
}
"""What `config.json` says so that `pipeline(model=..., trust_remote_code=True)` finds task and code."""

COMPLETED = {CARD_FILE, CALIBRATION_FILE, METRICS_FILE, PRETRAINING_FILE, TRAINING_DATA_FILE, "config.json"}
"""Files that are uploaded even if saving did not change them."""


def add_pipeline(folder: Path) -> None:
    """Give a saved property model the code of its pipeline, so that processes without the package know its task."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not set(HEADS) & set(config.get("architectures") or []):
        return
    custom_object_save(CrystalPropertyPipeline, folder)
    if config.get("custom_pipelines") != CUSTOM_PIPELINES:
        config["custom_pipelines"] = CUSTOM_PIPELINES
        write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", path)


def carry_cards(kind: type) -> None:
    """Let every push of a class (config, tokenizer, model, pipeline) carry card, records and pipeline.

    All pushes of transformers end in one method, which is extended here rather than in the modules that travel with
    the models: those need no cards.
    """
    upload: Callable[..., Any] = kind._upload_modified_files  # type: ignore[attr-defined]

    @wraps(upload)
    def upload_with_card(
        self: Any, working_dir: Any, repo_id: str, files_timestamps: dict[str, float], **arguments: Any
    ) -> Any:
        _complete(self, Path(working_dir), repo_id, arguments.get("token"))
        known = {name: time for name, time in files_timestamps.items() if name not in COMPLETED}
        with explained(repo_id):
            return upload(self, working_dir, repo_id, known, **arguments)

    kind._upload_modified_files = upload_with_card  # type: ignore[attr-defined]


@contextmanager
def explained(repo_id: str) -> Iterator[None]:
    """Add to the error of a failed push what became of the repository; the error keeps its type."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"The push to {repo_id} failed. A commit on the Hub is whole or absent: the repository keeps its previous "
            "one, and local files are as they were. Mend the cause and push again."
        )
        raise


def _complete(pushed: Any, folder: Path, repo_id: str, token: Any) -> None:
    """Put into the folder that is about to be uploaded what it lacks."""
    card = folder / CARD_FILE
    model = getattr(pushed, "model", pushed)
    is_model = isinstance(model, PreTrainedModel)
    source, same = None, False
    if is_model:
        source = source_folder(model.name_or_path, getattr(model.config, "_commit_hash", None))
        add_pipeline(folder)
        same = carry_records(source, folder)
    text = card.read_text(encoding="utf-8") if card.is_file() else _remote_card(repo_id, token)
    if text is not None and (not is_generated(text) or (not is_model and not is_empty(text))):
        return  # the user's card, or one that tells more than a config or tokenizer could
    own = source / CARD_FILE if source and same else None
    if own and own.is_file() and not is_generated(own.read_text(encoding="utf-8")):
        shutil.copyfile(own, card)
    else:
        write_card(folder, repo_id=repo_id)


def _remote_card(repo_id: str, token: Any) -> str | None:
    try:
        return ModelCard.load(repo_id, token=token, ignore_metadata_errors=True).content
    except EntryNotFoundError:
        return None

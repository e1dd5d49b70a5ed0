"""What saved folders and pushes to the Hub carry beside the weights: a model card and the records of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from transformers import PreTrainedModel

from cloud_hf.checkpoints.cards import CARD_FILE, is_empty, is_generated, write_card
from cloud_hf.checkpoints.records import carry_records, source_folder
from cloud_hf.files import copy_file

__all__ = ["complete", "explained", "push"]


def complete(folder: Path, model: PreTrainedModel, online: bool = False) -> None:
    """Put beside saved weights the records that belong to exactly these, and a model card.

    A card that a user wrote stays, and goes with the weights it was written for.

    Args:
        folder: Holds the saved weights.
        model: The model they are of, which knows where it was loaded from.
        online: Fetch records that the Hub's cache does not hold.
    """
    source = source_folder(model.name_or_path, getattr(model.config, "_commit_hash", None), online)
    theirs = source / CARD_FILE if carry_records(source, folder) and source else None
    if theirs and theirs.is_file() and not is_generated(theirs.read_text(encoding="utf-8")):
        if not (folder / CARD_FILE).is_file() or is_generated((folder / CARD_FILE).read_text(encoding="utf-8")):
            copy_file(theirs, folder / CARD_FILE)
    else:
        write_card(folder)


def push(
    pushed: Any,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str | None = "50GB",
    tags: list[str] | None = None,
) -> CommitInfo:
    """Save a config, tokenizer, model or pipeline aside, add its card, and upload all in one commit.

    See `cloud_hf.models.saving_cloud.PushedWithCard.push_to_hub`.
    """
    api = HfApi(token=token)
    with explained(repo_id), TemporaryDirectory() as name:
        folder = Path(name)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        pushed.save_pretrained(folder, max_shard_size=max_shard_size)
        model = getattr(pushed, "model", pushed)
        if isinstance(model, PreTrainedModel):
            complete(folder, model, online=True)
        if getattr(pushed, "calibration", None) is not None:  # of a pipeline: it may not be that of the records
            pushed.calibration.save(folder)
        _settle_card(folder, repo_id, _remote_card(api, repo_id), isinstance(model, PreTrainedModel), tags or [])
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or f"Upload {type(pushed).__name__}",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )


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


def _settle_card(folder: Path, repo_id: str, remote: str | None, is_model: bool, tags: list[str]) -> None:
    """Leave in the folder the card that the repository shall have."""
    path = folder / CARD_FILE
    mine = path.read_text(encoding="utf-8") if path.is_file() else None
    by_hand = mine is not None and not is_generated(mine)
    if remote is not None and (not is_generated(remote) or by_hand or not (is_model or is_empty(remote))):
        # a user's card, or one that tells more than a config or a tokenizer could
        path.write_text(mine if by_hand and is_generated(remote) and mine else remote, encoding="utf-8")
    elif not by_hand:
        if remote is not None:  # its licence, data sets and tags go on
            path.write_text(remote, encoding="utf-8")
        write_card(folder, repo_id=repo_id)
    if tags:
        card = ModelCard.load(path, ignore_metadata_errors=True)
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *tags]))
        card.save(path)


def _remote_card(api: HfApi, repo_id: str) -> str | None:
    try:
        return Path(api.hf_hub_download(repo_id, CARD_FILE)).read_text(encoding="utf-8")
    except EntryNotFoundError:
        return None

"""Saving and pushing: what this package adds to transformers. Flat: ships as Hub remote code.

Every push is one commit. Where the package is installed it carries a model card and the records of the weights.
"""

import os
from pathlib import Path
from typing import Any

__all__ = ["PushedWithCard", "complete", "write_whole"]

PUSH_OPTIONS = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")


class PushedWithCard:
    """Mixed into configuration, tokenizer, models and pipeline, before the class of transformers."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does; `push_to_hub=True` then pushes as `push_to_hub` does.

        Args:
            save_directory: Folder; made if it is not there.
            *args: As the class of transformers takes them.
            **kwargs: The same; with `push_to_hub=True` also `repo_id` (default: the folder's name) and what
                `push_to_hub` takes.
        """
        push = kwargs.pop("push_to_hub", False)
        if not push:
            return super().save_pretrained(save_directory, *args, **kwargs)
        repo_id = kwargs.pop("repo_id", None) or Path(save_directory).name
        options = {name: kwargs.pop(name) for name in PUSH_OPTIONS if name in kwargs}
        result = self.save_pretrained(save_directory, *args, **kwargs)
        self.push_to_hub(repo_id, **options)
        return result

    def push_to_hub(
        self,
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
    ) -> Any:
        """Push everything that loading needs in one commit; see `PushToHubMixin.push_to_hub` for the arguments.

        With the package a model card goes along, unless the repository has one that a user wrote, and the records of
        exactly these weights.

        Returns:
            The commit (`huggingface_hub.CommitInfo`).

        Raises:
            Exception: Of `huggingface_hub`, with a note that says what became of the repository.
        """
        options: dict[str, Any] = {
            "commit_message": commit_message, "commit_description": commit_description, "private": private,
            "token": token, "revision": revision, "create_pr": create_pr, "max_shard_size": max_shard_size,
            "tags": tags,
        }  # fmt: skip
        hub = _package()
        return super().push_to_hub(repo_id, **options) if hub is None else hub.push(self, repo_id, **options)


def complete(folder: Path, model: Any) -> None:
    """Put beside saved weights what only the package can write: a model card and the records of the weights."""
    hub = _package()
    if hub is not None:
        hub.complete(folder, model)


def _package() -> Any:
    """The package's module for cards and records; None where only the code of the Hub is there."""
    try:
        from cloud_hf.checkpoints import hub
    except ImportError:
        return None
    return hub


def write_whole(text: str, path: Path) -> None:
    """Write a text file that is whole or not there, whenever the process ends.

    `cloud_hf.files` does this for the package; what travels to the Hub has to do without it.
    """
    aside = path.with_name(f".{path.stem}.aside-{os.getpid()}{path.suffix}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a rename that reaches the disk before the content would leave an empty file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)

"""`PublishingTrainer`: what a run writes for readers, the model card and the pipeline's code, and what it pushes."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer import TRAINING_ARGS_NAME

from cloud_hf.checkpoints.cards import CARD_FILE, is_generated, write_card
from cloud_hf.checkpoints.hub import explained
from cloud_hf.errors import CheckpointError, first_line
from cloud_hf.files import copy_file

__all__ = ["PublishingTrainer"]


class PublishingTrainer(Trainer):
    """`Trainer` whose folders and pushes carry a model card and the code that their weights need, and no pickle."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer` does, but without the pickle of arguments, and with the card under its name on the Hub."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir or ".")
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            write_card(folder, repo_id=self.hub_model_id)

    def create_model_card(self, license: str | None = None, tags: Any = None, dataset: Any = None, **_: Any) -> None:  # type: ignore[override]
        """Write the model card of the output folder; of `Trainer`'s arguments only these three have a place there."""
        if self.is_world_process_zero():
            write_card(
                self.args.output_dir or ".",
                repo_id=self.hub_model_id,
                license=license,
                tags=[tags] if isinstance(tags, str) else tags,
                datasets=[dataset] if isinstance(dataset, str) else dataset or (),
            )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push as `Trainer` does during training, with the code and the card that the weights need."""
        output, checkpoint = Path(self.args.output_dir or "."), Path(checkpoint_folder)
        if self.is_world_process_zero():
            for path in checkpoint.glob("*.py"):
                copy_file(path, output / path.name)
            present = output / CARD_FILE
            if not present.is_file() or is_generated(present.read_text(encoding="utf-8")):
                copy_file(checkpoint / CARD_FILE, present)
        super()._push_from_checkpoint(checkpoint_folder)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Push as `Trainer` does; the error of a failed push says what became of the repository."""
        with explained(self.hub_model_id or self.args.hub_model_id or str(self.args.output_dir)):
            result = super().push_to_hub(*args, **kwargs)
            if self.hub_model_id and kwargs.get("blocking", True) and self.is_world_process_zero():
                api = HfApi(token=kwargs.get("token") or self.args.hub_token)
                revision = kwargs.get("revision") or self.args.hub_revision
                if api.file_exists(self.hub_model_id, TRAINING_ARGS_NAME, revision=revision):
                    # pushes during training brought it
                    api.delete_file(TRAINING_ARGS_NAME, self.hub_model_id, revision=revision)
        return result

    def publish(self) -> None:
        """Write the card of the finished result, and push it all if `push_to_hub` is set.

        Raises:
            CheckpointError: The push failed; the result in the output folder is whole.
        """
        self.create_model_card()
        if not self.args.push_to_hub:
            return
        try:
            self.push_to_hub()
        except Exception as error:
            causes = [error, error.__cause__] if error.__cause__ else [error]
            reason = ": ".join(first_line(cause) for cause in causes)
            raise CheckpointError(
                f"The result could not be pushed to {self.hub_model_id} ({reason}). It is whole in "
                f"{self.args.output_dir}, and the repository keeps its previous commit; push it with "
                f"`hf upload {self.hub_model_id} {self.args.output_dir}`."
            ) from error
